"""Help texts as they were written, in spite of the typer that Flower holds back.

typer 0.20 escapes the brackets of ``[required]`` wherever rich is installed, also when
it is told not to use rich, and with click 8.5 it loses the help of arguments.
"""

import inspect
from collections.abc import Iterator

import click
import typer.core
from typer.main import get_command
from typer.models import ArgumentInfo
from typer.utils import get_params_from_function


def plain_command(app: typer.Typer) -> click.Command:
    """Return the command of an app, with plain brackets and the help of arguments."""
    typer.core.HAS_RICH = False
    root = get_command(app)
    for command in _commands(root):
        written = _argument_help(command)
        for param in command.params:
            if isinstance(param, typer.core.TyperArgument):
                param.help = written.get(str(param.name))
    return root


def _commands(root: click.Command) -> Iterator[click.Command]:
    yield root
    if isinstance(root, click.Group):
        for command in root.commands.values():
            yield from _commands(command)


def _argument_help(command: click.Command) -> dict[str, str | None]:
    if command.callback is None:
        return {}
    found = get_params_from_function(inspect.unwrap(command.callback))
    return {
        name: meta.default.help
        for name, meta in found.items()
        if isinstance(meta.default, ArgumentInfo)
    }
