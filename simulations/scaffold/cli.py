"""The commands for a new project: init, schema."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from fedprune.common.errors import ConfigError
from fedprune.server.cli import AsJson
from fedprune.simulations.runs.session import print_json

app = typer.Typer()

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the paths.")]


@app.command()
def init(
    directory: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Where they go.")
    ] = Path(),
    template: Annotated[
        str,
        typer.Option(
            metavar="vision|text|tabular|devices", help="Runs as it is written."
        ),
    ] = "",
    devices: Annotated[
        bool, typer.Option("--devices", help="For a server and real devices.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write fedprune.toml and my_task.py: a project to start from."""
    from fedprune.simulations.scaffold import find_template, write_project

    if devices and template not in ("", "devices"):
        message = f"--devices is --template devices, and --template {template} is "
        message += "another one; want one of them"
        raise ConfigError(message)
    chosen = find_template(template or ("devices" if devices else ""))
    files = write_project(directory, chosen)
    if as_json:
        print_json({"files": [str(path) for path in files]})
        return
    for path in files:
        print(path if quiet else f"wrote {path}")
    if not quiet:
        print(f"next: {chosen.next.format(quote(str(files[0])))}")


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file for it.")
    ] = None,
) -> None:
    """Print the JSON schema of fedprune.toml, for editors."""
    from fedprune.common.system.atomic import write_bytes_atomic
    from fedprune.common.system.paths import check_output
    from fedprune.simulations.scaffold import schema_text

    if output is None:
        print(schema_text(), end="")
        return
    check_output(output, ".json")
    write_bytes_atomic(output, schema_text().encode())
    print(f"wrote {output}")
