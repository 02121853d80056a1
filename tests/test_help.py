"""Output of ``--help``: brackets as they are, arguments with their help."""

import click
import pytest

from fedprune.simulations.cli import app, plain_command, run_command_line


def paths(command, words=()):
    """Return the words of a command and of all below it."""
    yield words
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from paths(below, (*words, name))


COMMANDS = list(paths(plain_command(app)))


def help_of(capsys, *words):
    assert run_command_line([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_all_commands_are_looked_at():
    assert {("serve",), ("client",), ("data", "split"), ()} <= set(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_help_has_an_escaped_bracket(capsys, words):
    said = help_of(capsys, *words)
    assert said.startswith("Usage: fedprune")
    assert "\\" not in said


def test_defaults_and_what_is_required_stand_in_brackets(capsys):
    assert "[default: 0.0.0.0:8000]" in help_of(capsys, "serve")
    assert "The server's address.  [required]" in help_of(capsys, "client")
    assert "[required]" in help_of(capsys, "data", "split")


def test_arguments_have_their_help(capsys):
    assert help_of(capsys, "serve").lower().count("arguments:") == 1
    assert "[FILE.toml]  Run this, then end." in help_of(capsys, "serve")
    assert "[NUMBER]  Default: all runs." in help_of(capsys, "stop")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_argument_is_listed_once(capsys, words):
    command = plain_command(app)
    for word in words:
        command = command.commands[word]
    usage, *listed = help_of(capsys, *words).splitlines()
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    for name in (str(argument.metavar) for argument in arguments):
        assert usage.split().count(name) == 1
        assert [line.split()[:1] for line in listed].count([name]) == 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_argument_and_option_says_what_it_is(words):
    command = plain_command(app)
    for word in words:
        command = command.commands[word]
    params = [p for p in command.params if p.name != "help"]
    assert [p.name for p in params if not p.help] == []


def quiet_help(words):
    command = plain_command(app)
    for word in words:
        command = command.commands[word]
    found = [p.help for p in command.params if p.name == "quiet"]
    return found[0] if found else ""


# What ``--quiet`` leaves of each command's output; the tests of the commands show it.
QUIET = {
    "certs": "the paths, of files that are new",
    "serve": "the path",
    "submit": "the path",
    "stop": "nothing",
    "status": "the address",
    "privacy": "the noise multiplier",
    "run-model": "predictions",
    "poc": "the path of the run",
    "push": "the commit; of a dry run nothing",
    "pull": "the paths",
    "init": "the paths",
    "tune": "the path of recommended.toml",
    "doctor": "nothing",
    "simulate": "the path",
    "inspect": "the paths, if all are whole",
    "report": "the path",
    "export": "the path",
    "profile": "the path",
    "data split": "the paths",
}


def test_the_help_of_quiet_says_what_each_command_prints():
    found = {" ".join(words): quiet_help(words) for words in COMMANDS}
    found = {name: said for name, said in found.items() if said}
    assert found.keys() == QUIET.keys()
    assert [n for n, what in QUIET.items() if what not in found[n].lower()] == []


def test_the_version_stands_in_the_help(capsys):
    said = help_of(capsys)
    assert "--version" in said
    assert "  version " in said
