"""The command ``fedprune tune``.

Nothing heavy is imported before it is needed, so that help is quick.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from fedprune.common.config import load_config
from fedprune.common.data.places import check_early
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.system.memory import keep_memory
from fedprune.common.text import LONGEST_LINE, printable
from fedprune.server.cli import AsJson
from fedprune.simulations.tuning.target import parse_target

if TYPE_CHECKING:
    from fedprune.simulations.tuning.record import Record

app = typer.Typer()

_TRIALS = 20

_EXAMPLE = """
\b
fedprune init
fedprune tune fedprune.toml --target "accuracy_drop<=0.5, params<=0.3"
fedprune tune --resume runs/2026-11-29T10-00-00-tune-1a2b     # after Ctrl-C
fedprune tune --resume runs/2026-11-29T10-00-00-tune-1a2b --trials 40
fedprune simulate runs/2026-11-29T10-00-00-tune-1a2b/recommended.toml
"""


@app.command(epilog=_EXAMPLE)
def tune(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Configuration.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME<=X,...",
            help="accuracy_drop (points); params, flops, latency, size, bytes.",
        ),
    ] = "",
    trials: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, metavar="N", help="Trials in all, else 20."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace one key; repeatable."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder for the search.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Go on with a stopped search.")
    ] = None,
    ray_address: Annotated[
        str, typer.Option(metavar="A", help="A Ray cluster: HOST:PORT, or auto.")
    ] = "",
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Run code that DIR names.")
    ] = False,
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print only the path of recommended.toml."),
    ] = False,
) -> None:
    """Search for the settings that meet a target, by validation data alone."""
    from fedprune.simulations.tuning.sampler import check_sampler

    check_sampler()
    keep_memory()
    if resume is None:
        folder, record = _new(file, target, trials or _TRIALS, set_ or [], output)
    elif file or target or set_ or output:
        message = "--resume uses the search's own configuration and target; want no "
        message += "FILE.toml, --target, --set or --output beside it"
        raise ConfigError(message)
    else:
        folder, record = resume, _opened(resume, trials, trust_code=trust_code)
    show = "json" if as_json else "path" if quiet else "table"
    say = _say if show == "table" else _silent
    say(f"search: {folder}")
    record = _searched(folder, record, say, ray_address, trust_code=trust_code)
    _show(folder, record, show)


def _new(
    file: Path | None,
    target: str,
    trials: int,
    overrides: list[str],
    output: Path | None,
) -> "tuple[Path, Record]":
    """Check what a new search is given, and make its folder."""
    if not target:
        message = 'want a target, such as --target "accuracy_drop<=0.5, params<=0.3"'
        raise ConfigError(message)
    wanted = parse_target(target)
    config = load_config(file, overrides)
    check_early(config)
    from fedprune.simulations.tuning.folder import check_base, new_folder

    check_base(config)
    return new_folder(config, wanted, trials, output)


def _opened(folder: Path, trials: int | None, *, trust_code: bool) -> "Record":
    from fedprune.simulations.tuning.folder import open_folder

    return open_folder(folder, trials, trust_code=trust_code)


def _searched(
    folder: Path,
    record: "Record",
    say: Callable[[str], None],
    ray_address: str,
    *,
    trust_code: bool,
) -> "Record":
    """Run what is left of a search."""
    from fedprune.simulations.engines.ray_address import reachable
    from fedprune.simulations.runs.session import Interrupted
    from fedprune.simulations.tuning.search import Search

    search = Search(
        folder=folder,
        record=record,
        say=say,
        ray_address=reachable(ray_address),
        trust_code=trust_code,
    )
    try:
        return search.run()
    except KeyboardInterrupt as error:
        message = (
            f"interrupted; go on with: fedprune tune --resume {quote(str(folder))}"
        )
        raise Interrupted(message) from error


def _show(folder: Path, record: "Record", show: str) -> None:
    """Print the result of a search.

    Raises:
        FedPruneError: If it has none, as no trial came to its end.
    """
    from fedprune.simulations.runs.session import print_json
    from fedprune.simulations.tuning.folder import RECOMMENDED
    from fedprune.simulations.tuning.shown import print_search

    if record.recommended is None:
        why = next((one.reason for one in record.trials if one.reason), "")
        message = f"no trial of {folder} has come to its end; the first one: {why}"
        raise FedPruneError(message)
    if show == "json":
        print_json({"directory": str(folder), **record.model_dump(mode="json")})
    elif show == "path":
        print(folder / RECOMMENDED)
    else:
        print()
        print_search(folder, record)
    if show != "table" and not record.meets_target:
        print(f"warning: {record.advice}", file=sys.stderr)


def _say(line: str) -> None:
    print(printable(line, LONGEST_LINE), flush=True)


def _silent(line: str) -> None:
    del line
