"""The command line of a server of real devices: certs, serve, submit, stop, status."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.text import printable

if TYPE_CHECKING:
    from fedprune.server.devices.superlink import Link
    from fedprune.server.runs.folder import RunFolder

app = typer.Typer()

State = Annotated[
    Path, typer.Option("--state", metavar="DIR", help="The server's own folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one key; repeatable."),
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Serve a live page to a browser here.")
]
WatchAt = Annotated[
    str, typer.Option(metavar="HOST:PORT", help="Address of --watch; port 0 = any.")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run code that RUN names.")
]
STATE = Path("fedprune-server")
WATCH_AT = "127.0.0.1:0"


@app.command()
def certs(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Their folder.")],
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="The server's name or address; repeatable."),
    ] = None,
    client: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="A client that gets a key; repeatable."),
    ] = None,
    days: Annotated[
        int, typer.Option(min=1, max=36500, metavar="N", help="How long it is valid.")
    ] = 365,
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print only the paths, of files that are new."
        ),
    ] = False,
) -> None:
    """Make certificates and node keys; a second call adds clients."""
    from fedprune.server.devices.certs import certificate_lines, make_certificates

    written = make_certificates(directory, host or [], client or [], days)
    if as_json:
        print(json.dumps({"written": [str(path) for path in written]}, indent=2))
        return
    for path in written:
        print(path)
    if not quiet:
        for line in certificate_lines(directory, written, client or []):
            print(line)


@app.command()
def serve(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Run this, then end.")
    ] = None,
    set_: Set = None,
    tls: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder made by fedprune certs.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No encryption, no node keys.")
    ] = False,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Address for clients.")
    ] = "0.0.0.0:8000",
    metrics: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Prometheus endpoint.")
    ] = "",
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume a stopped run.")
    ] = None,
    watch: Watch = False,
    watch_at: WatchAt = WATCH_AT,
    trust_code: TrustCode = False,
    state: State = STATE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Serve real devices; with FILE.toml or --resume run that and end with it."""
    from fedprune.server.devices.service import Service, new_folder
    from fedprune.server.devices.status import current_run
    from fedprune.server.live import watching
    from fedprune.server.runs.trying import try_config

    _check_resume(resume, file, set_)
    _check_json(as_json=as_json, one_run=bool(file or resume or set_))
    if _show_finished(resume, as_json=as_json, quiet=quiet):
        return
    goes_on = _resumed(resume, state.resolve(), trust_code=trust_code)
    link = _link(tls, insecure=insecure, listen=listen, state=state)
    config = None
    if file is not None or set_:
        config = load_config(file, set_ or [])
        try_config(config)
    with (
        watching(wanted=watch, at=watch_at) as page,
        Service(link, metrics=metrics, quiet=quiet or as_json) as service,
    ):
        if page is not None:
            page.follow(lambda: current_run(link.state))
        if config is not None:
            folder = new_folder(config, link.state)
        elif goes_on is not None:
            folder = goes_on
        else:
            service.wait()
            return
        summary = service.carry_out(folder)
    if as_json:
        print(json.dumps({"directory": str(folder.path), **summary}, indent=2))
        return
    for name, value in ({} if quiet else summary).items():
        print(f"{name}: {printable(value)}")
    print(folder.path if quiet else f"run: {folder.path}")


def _check_resume(
    resume: Path | None, file: Path | None, set_: list[str] | None
) -> None:
    if resume is not None and (file is not None or set_):
        message = (
            "--resume uses the run's own configuration; want no FILE.toml and "
            "no --set beside it"
        )
        raise ConfigError(message)


def _check_json(*, as_json: bool, one_run: bool) -> None:
    if as_json and not one_run:
        message = (
            "--json prints the result of one run; want FILE.toml or --resume RUN "
            "beside it (fedprune status --json lists all)"
        )
        raise ConfigError(message)


def _show_finished(resume: Path | None, *, as_json: bool, quiet: bool) -> bool:
    """Print the result of a finished run and return True, else return False."""
    from fedprune.server.runs.finished import finished_summary
    from fedprune.server.runs.folder import RunFolder

    folder = None if resume is None else RunFolder.open(resume)
    summary = None if folder is None else finished_summary(folder)
    if folder is None or summary is None:
        return False
    if as_json:
        print(json.dumps({"directory": str(resume), **summary}, indent=2))
    else:
        more = "" if quiet else " has finished already; nothing was changed"
        print(f"{resume}{more}")
        if not quiet and folder.report.is_file():
            print(f"report: {folder.report}")
    return True


def _resumed(
    resume: Path | None, state: Path, *, trust_code: bool
) -> "RunFolder | None":
    """Return the stopped run to resume, admitted to the server of ``state``."""
    from fedprune.server.devices.run_config import admit
    from fedprune.server.runs.folder import RunFolder

    if resume is None:
        return None
    return admit(RunFolder.open(resume), state, trust_code=trust_code)


def _link(tls: Path | None, *, insecure: bool, listen: str, state: Path) -> "Link":
    """Return the link that the options describe."""
    from fedprune.common.system.ports import free_port
    from fedprune.server.devices.certs import CertFolder
    from fedprune.server.devices.preflight import check_certificates
    from fedprune.server.devices.superlink import Link, parse_address

    if (tls is None) != insecure:
        message = "want --tls DIR (fedprune certs DIR), or --insecure, and not both"
        raise ConfigError(message)
    host, port = parse_address("--listen", listen)
    if tls is not None:
        for line in check_certificates(CertFolder(tls)):
            print(f"warning: {printable(line)}", file=sys.stderr)
        tls = tls.resolve()
    else:
        print(
            "warning: --insecure: anyone who reaches this port can read and change all "
            "messages and pose as any client",
            file=sys.stderr,
        )
    return Link(
        state=state.resolve(), host=host, port=port, control=free_port(), tls=tls
    )


@app.command()
def submit(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Configuration.")
    ] = None,
    set_: Set = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume a stopped run.")
    ] = None,
    trust_code: TrustCode = False,
    state: State = STATE,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Start a run on a running server; also registers new client keys."""
    from fedprune.common.flower.run_config import refuse_code
    from fedprune.server.devices.service import new_folder
    from fedprune.server.devices.superlink import live_link
    from fedprune.server.runs.trying import try_config

    _check_resume(resume, file, set_)
    if _show_finished(resume, as_json=as_json, quiet=quiet):
        return
    config = load_config(file, set_ or [])
    refuse_code(config, file, "submit --set")
    goes_on = _resumed(resume, state.resolve(), trust_code=trust_code)
    link = live_link(state.resolve())
    if goes_on is None:
        try_config(config)
    link.register()
    folder = goes_on or new_folder(config, link.state)
    number = link.submit(folder.path)
    if as_json:
        print(json.dumps({"directory": str(folder.path), "number": number}))
    else:
        print(folder.path if quiet else f"run {number}: {folder.path}")


@app.command()
def stop(
    number: Annotated[
        int | None, typer.Argument(metavar="[NUMBER]", help="Default: all runs.")
    ] = None,
    state: State = STATE,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print nothing.")
    ] = False,
) -> None:
    """Stop a run; its checkpoints stay for submit --resume."""
    from fedprune.server.devices.superlink import live_link

    link = live_link(state.resolve())
    wanted = [number] if number is not None else link.running()
    for each in wanted:
        link.stop(each)
    if as_json:
        print(json.dumps({"stopped": wanted}))
    elif not quiet:
        print(f"stopped: {', '.join(map(str, wanted)) or 'nothing was running'}")


@app.command()
def status(
    state: State = STATE,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the health of a server or client."),
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the address.")
    ] = False,
) -> None:
    """Show the server's runs and clients; --check is for health checks."""
    from fedprune.common.system.claim import own_state
    from fedprune.common.system.processes import is_alive
    from fedprune.server.devices.status import lines, survey
    from fedprune.server.devices.superlink import live_link

    if check:
        state = own_state(state)
        if not is_alive(state):
            message = (
                f"the service of {state} is not running, or not completely; its "
                f"logs: {state / 'logs'}"
            )
            raise FedPruneError(message)
        if as_json:
            print(json.dumps({"state": str(state), "healthy": True}))
        return
    link = live_link(state.resolve())
    if quiet:
        print(link.address)
        return
    found = survey(link)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    print(f"server {link.address}")
    for line in lines(found):
        print(f"  {printable(line)}")


@app.command()
def privacy(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Configuration.")
    ] = None,
    set_: Set = None,
    epsilon: Annotated[
        float | None, typer.Option(metavar="E", help="Replaces privacy.epsilon.")
    ] = None,
    delta: Annotated[
        float | None, typer.Option(metavar="D", help="Replaces privacy.delta.")
    ] = None,
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="Print only the noise multiplier of the deltas."
        ),
    ] = False,
) -> None:
    """Plan the noise of a run under differential privacy."""
    from fedprune.server.runs.record import spent

    found = spent.planned_figures(load_config(file, set_ or []), epsilon, delta)
    if as_json:
        print(json.dumps(found, indent=2))
    elif quiet:
        print(f"{found[spent.MULTIPLIER]:.4g}")
    else:
        for line in spent.planned_lines(found):
            print(line)
