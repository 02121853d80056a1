"""The command ``fedprune poc``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedprune.common.text import printable
from fedprune.server.cli import AsJson

if TYPE_CHECKING:
    from fedprune.server.runs.folder import RunFolder
    from fedprune.simulations.poc.folder import PocFolder

app = typer.Typer()


@app.command()
def poc(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where all files go.")
    ],
    clients: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Devices.  [default: 3]"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="As task.data.  [default: digits]"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace one key; repeatable."),
    ] = None,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, metavar="PORT", help="0 = a free one."),
    ] = 0,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the path of the run.")
    ] = False,
) -> None:
    """Try a server and devices on this machine; a second call goes on."""
    from fedprune.simulations.poc.trial import Trial, try_devices

    trial = Trial(
        directory=directory,
        clients=clients,
        data=data,
        overrides=tuple(set_ or ()),
        port=port,
    )
    folder, run, report = try_devices(trial, _silent if quiet or as_json else _show)
    if as_json:
        summary = json.loads(run.summary.read_bytes())
        places = {"directory": str(folder.path), "run": str(run.path)}
        print(json.dumps({**places, "report": str(report), **summary}, indent=2))
        return
    _end(folder, run, report, quiet=quiet)


def _end(folder: "PocFolder", run: "RunFolder", report: Path, *, quiet: bool) -> None:
    if quiet:
        print(run.path)
        return
    print(f"report: {report}")
    print(f"next, for real devices: {folder.instructions}")


def _show(line: str) -> None:
    print(printable(line, 20_000), flush=True)


def _silent(line: str) -> None:
    del line
