"""The commands about what is installed here: methods, doctor, version."""

from typing import Annotated

import typer

from fedprune.common.errors import ConfigError
from fedprune.common.version import __version__
from fedprune.server.cli import AsJson
from fedprune.simulations.runs.session import print_json

app = typer.Typer()


@app.command()
def methods(
    kind: Annotated[
        str, typer.Argument(metavar="[KIND]", help="One kind, or its key.")
    ] = "",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the table of the guide.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the methods that a configuration can name, and the inputs of your own."""
    from fedprune.simulations.inspection import methods as listing

    kinds = listing.kinds_of(kind)
    if as_json:
        print_json(listing.as_data(kinds))
        return
    lines = listing.as_markdown(kinds) if markdown else listing.as_text(kinds)
    for line in lines:
        print(line)


@app.command()
def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="Import the packages of extras, too.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing, only end with a code.")
    ] = False,
) -> None:
    """Check that this machine can run FedPrune, and print what is missing."""
    from fedprune.simulations.doctor import examine, render, usable

    checks = examine(full=full)
    if as_json:
        print_json(
            {"usable": usable(checks), "checks": [check.as_dict() for check in checks]}
        )
    elif not quiet:
        print(render(checks))
    if not usable(checks):
        raise typer.Exit(ConfigError.exit_code)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version; so does --version."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(__version__)
