"""The command line of simulations: simulate, inspect, report, export, doctor.

Nothing heavy is imported before a command needs it, so that help is quick and an edge
install works without Ray.  Results go to standard output, errors to standard error,
in one line, with the exit code of their class.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from inspect import unwrap
from pathlib import Path
from typing import Annotated

import click
import typer
import typer.core
from typer.main import get_command
from typer.models import ArgumentInfo
from typer.utils import get_params_from_function

from fedprune.client.cli import app as device_commands
from fedprune.common.config import expand_sweep, load_config
from fedprune.common.data.places import check_source
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.system.memory import keep_memory
from fedprune.common.text import one_line
from fedprune.common.version import __version__
from fedprune.server.cli import WATCH_AT, AsJson, Watch, WatchAt
from fedprune.server.cli import app as server_commands
from fedprune.simulations.engines.ray_address import reachable
from fedprune.simulations.hub.cli import app as hub_commands
from fedprune.simulations.installed import app as commands_of_installation
from fedprune.simulations.poc.cli import app as poc_commands
from fedprune.simulations.runs import session
from fedprune.simulations.runs.session import print_json, print_rows
from fedprune.simulations.scaffold.cli import app as scaffold_commands
from fedprune.simulations.tuning.command import app as tune_commands

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train together, prune together, ship a small model.",
)

for _part in (
    server_commands,
    device_commands,
    poc_commands,
    hub_commands,
    scaffold_commands,
    tune_commands,
    commands_of_installation,
):
    app.registered_commands += _part.registered_commands

data_commands = typer.Typer(help="Data for devices.")
app.add_typer(data_commands, name="data")

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace one key; repeatable."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path.")]
QuietPaths = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the paths.")
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", help="Run code that a file or folder names.")
]
Use = Annotated[
    str, typer.Option(metavar="FILE.py:NAME", help="Your own task or network.")
]


def _say_version(wanted: bool) -> None:  # noqa: FBT001 - as click calls it
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Hold the options of the program itself."""


# By default Flower reports its use and looks for updates.
_NO_CALLS_HOME = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_INTERRUPTED = 130


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become one line.

    Args:
        arguments: The words after the program's name.
    """
    for name, value in _NO_CALLS_HOME.items():
        os.environ.setdefault(name, value)
    try:
        code = plain_command(app)(
            list(arguments) or ["--help"], "fedprune", standalone_mode=False
        )
    except FedPruneError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _of_system(error)
    except click.ClickException as error:
        return _fail(_usage(error), ConfigError.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        return _fail("interrupted", _INTERRUPTED)
    return code if isinstance(code, int) else 0


def _of_system(error: OSError) -> int:
    """Print an error of the operating system that no command has put into words."""
    why = error.strerror or str(error)
    if error.filename is None:  # a full disk or device, rather than a wrong path
        return _fail(f"cannot read or write: {why}", FedPruneError.exit_code)
    if isinstance(error, PermissionError):
        # Services run as users of their own, often not the one of this command.
        why = "not allowed to this user"
    return _fail(f"{why}: {os.fsdecode(error.filename)}", ConfigError.exit_code)


def _fail(message: str, code: int) -> int:
    # It may contain names and reasons from a file of another user.
    print(f"error: {one_line(message)}", file=sys.stderr)
    return code


def _usage(error: click.ClickException) -> str:
    """Return the error of the call, and the command for its help."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "fedprune"
    return f"{error.format_message().rstrip('.')}; see {command} --help"


@app.command()
def simulate(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Configuration.")
    ] = None,
    set_: Set = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="A list of values = a run for each.")
    ] = False,
    engine: Annotated[
        str, typer.Option(metavar="ray|inprocess", help="Replaces run.engine.")
    ] = "",
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Replaces run.workers.")
    ] = None,
    ray_address: Annotated[
        str, typer.Option(metavar="A", help="A Ray cluster: HOST:PORT, or auto.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(metavar="S", help="Replaces run.seed.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where its time went.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume a stopped run.")
    ] = None,
    watch: Watch = False,
    watch_at: WatchAt = WATCH_AT,
    use: Use = "",
    trust_code: TrustCode = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a federation on this machine or on a Ray cluster."""
    keep_memory()
    short = {"run.engine": engine or None, "run.workers": workers, "run.seed": seed}
    short["run.profile"] = "true" if profile else None
    overrides = list(set_ or [])
    if resume is None:
        short["task.use"] = use or None
    given = {key: value for key, value in short.items() if value is not None}
    overrides += [f"{key}={value}" for key, value in given.items()]
    typed = {f"--set {k}={v}": f"--{k.partition('.')[2]} {v}" for k, v in given.items()}
    show = "json" if as_json else "path" if quiet else "table"
    at = watch_at if watch else ""
    if resume is not None:
        if file is not None or overrides or sweep:
            message = (
                "--resume uses the run's own configuration; want no FILE.toml, "
                "--set, --sweep, --engine, --workers, --seed or --profile beside it"
            )
            raise ConfigError(message)
        address = reachable(ray_address)
        session.resume_one(
            resume, address, show, use=use, trust_code=trust_code, watch=at
        )
    elif sweep:
        with session.as_typed(typed):
            configs = expand_sweep(file, overrides)
        if not configs[0][0]:
            message = (
                "--sweep: no key has a list of values; want one, such as --set "
                '"run.seed=[0, 1]", or no --sweep'
            )
            raise ConfigError(message)
        session.run_sweep(configs, reachable(ray_address), show, watch=at)
    else:
        with session.as_typed(typed):
            config = load_config(file, overrides)
        session.run_one(config, reachable(ray_address), show, watch=at)


@app.command()
def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="RUN|FILE...", help="Run folders, models, their files."),
    ],
    as_json: AsJson = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Print only the paths, if all are whole."),
    ] = False,
) -> None:
    """Show the content of runs, of models, and of all that a run leaves."""
    from fedprune.simulations.inspection.artifacts import (
        inspect_path,
        refuse_damage,
        render,
    )

    found = [inspect_path(path) for path in paths]
    if as_json:
        print_json(found if len(found) > 1 else found[0])
    elif quiet:  # those before a broken one are not printed: all are read first
        refuse_damage(found)
        print("\n".join(str(path) for path in paths))
    else:
        print("\n\n".join(map(render, found)))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of the report.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an HTML report that needs no network.

    It is report.html in the folder of one run, comparison.html beside the first of
    several; --output says another place.
    """
    from fedprune.server.report import write_report

    path = write_report(runs, output)
    if as_json:
        print_json({"report": str(path)})
    else:
        print(path if quiet else f"wrote {path}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="safetensors|onnx|openvino|fpz", help="File format."
        ),
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Compare outputs and latency.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise with the run's training data.")
    ] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave the preprocessing out.")
    ] = False,
    values: Annotated[
        str, typer.Option(metavar="KIND", help="Of fpz: grid, float32, codebook5.")
    ] = "",
    finetune_codebook: Annotated[
        int,
        typer.Option(min=0, max=1000, metavar="EPOCHS", help="Train its values first."),
    ] = 0,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File of the model.")
    ] = None,
    use: Use = "",
    trust_code: TrustCode = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the final model of a run for a device."""
    from fedprune.common.tasks.own import load_given
    from fedprune.simulations.export.export import export_run
    from fedprune.simulations.export.table import export_lines

    written = export_run(
        run,
        format_=format_,
        check=check,
        int8=int8,
        raw=raw,
        values=values,
        finetune=finetune_codebook,
        output=output,
        factory=load_given(use) if use else None,
        trust_code=trust_code,
    )
    if as_json:
        print_json(written)
        return
    lines = export_lines(written)
    for line in lines[:1] if quiet else lines:
        print(line)


@app.command()
def profile(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE.toml]", help="Configuration.")
    ] = None,
    set_: Set = None,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="File of the table.")
    ] = Path("latency.json"),
    runtime: Annotated[
        str, typer.Option(metavar="torch|onnxruntime", help="Runtime of the layers.")
    ] = "torch",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure each layer of the network at each width on this machine."""
    from fedprune.simulations.export.latency_table import profile_task

    found = profile_task(load_config(file, set_ or []), output, runtime)
    if as_json:
        print_json(found)
    else:
        print_rows(found, quiet=quiet)


@data_commands.command()
def split(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where they go.")],
    data: Annotated[str, typer.Option(metavar="SOURCE", help="As task.data.")],
    clients: Annotated[int, typer.Option(min=1, metavar="N", help="Files.")],
    size: Annotated[
        int, typer.Option(min=0, metavar="PIXELS", help="Resize images; 0 = do not.")
    ] = 0,
    partition: Annotated[
        str,
        typer.Option(
            metavar="iid|dirichlet|quantity|shards", help="Kind of partition."
        ),
    ] = "dirichlet",
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of the split.")] = 0,
    as_json: AsJson = False,
    quiet: QuietPaths = False,
) -> None:
    """Write one npz file for each device."""
    check_source(data, "")
    from fedprune.simulations.split import split_data

    files = split_data(
        data, directory, clients=clients, size=size, kind=partition, seed=seed
    )
    if as_json:
        print_json({"files": [str(path) for path in files]})
        return
    for path in files:
        print(path)
    if not quiet:
        print("next, on each device: fedprune client FILE.toml --data npz:FILE ...")
        print("a device may not have every class: set task.outputs, task.input_shape")


def plain_command(app: typer.Typer) -> click.Command:
    """Return the command of an app, with plain brackets and the help of arguments."""
    typer.core.HAS_RICH = False
    root = get_command(app)
    for command in _commands(root):
        # Click lists arguments and names near commands itself, and so does typer.
        vars(command)["format_arguments"] = lambda _context, _formatter: None
        vars(command)["suggest_commands"] = False
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
    found = get_params_from_function(unwrap(command.callback))
    return {
        name: meta.default.help
        for name, meta in found.items()
        if isinstance(meta.default, ArgumentInfo)
    }
