"""The sentences of README.md on options are those of the commands."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fedprune.simulations.cli import app, plain_command

APP = plain_command(app)
TEXT = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


def commands(root: click.Command) -> Iterator[click.Command]:
    """Yield all commands below a command."""
    if isinstance(root, click.Group):
        for below in root.commands.values():
            yield from commands(below)
    else:
        yield root


@pytest.mark.parametrize("option", ["--json", "--quiet"])
def test_all_commands_but_those_that_the_page_names_take_an_option(option):
    (names,) = re.findall(
        rf"[Aa]ll (?:commands of `fedprune` )?but ([^;.]*) take\s`{option}`", TEXT
    )
    found = {
        one.name
        for one in commands(APP)
        if not any(option in param.opts for param in one.params)
    }
    assert {*re.findall(r"`(\w[\w-]*)`", names)} == found


def test_every_command_stands_in_the_table():
    table = TEXT.partition("## Commands")[2].partition("\n## ")[0]
    named = {*re.findall(r"[`,] ?`?(?:fedprune )?([a-z][\w-]*(?: split)?)", table)}
    known = {one.name.replace("split", "data split") for one in commands(APP)}
    assert known - named == set()
