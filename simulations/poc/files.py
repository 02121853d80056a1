"""The files of a proof of concept: configuration, certificates, keys, data parts."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import rmtree

from fedprune.common.config import Config, load_config, toml_value
from fedprune.common.data.examples import Dataset
from fedprune.common.data.places import check_source
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import FedPruneError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.server.devices.certs import make_certificates
from fedprune.simulations.poc.folder import PocFolder, Settings, keep_settings
from fedprune.simulations.split import split_dataset

_DAYS = 365
_OF_THIS_MACHINE = {("task", "data_dir")}
_FOLDS = 5  # of a data set with one split, as a run draws them by its seed
# Twelve rounds, so that a first look takes a minute or two.
_ROUNDS = {"warmup": 2, "sparsify": 1, "finetune": 1, "cuts": 3, "final": 4}
_HEAD = """\
# A federation of {clients} devices, made by fedprune poc.  The server and the devices
# read the same file: of its own copy a device takes [task] and [device] only.
# "fedprune init --devices" writes all keys with their help.
"""
_INSTRUCTIONS = """\
# From this machine to real devices

`fedprune poc` has run a server and {clients} devices here.  For real ones:

1. Make a certificate with the server's name, here; the keys of the devices stay:

   ```sh
   fedprune certs {certs} --host fed.example.org
   ```

2. Copy `fedprune.toml`, and `certs` without `ca.key`, to the server, and start it:

   ```sh
   fedprune serve fedprune.toml --tls certs --listen 0.0.0.0:8000
   ```

3. Copy `fedprune.toml`, and the folder of its keys as `keys`, to each device.  There:

{devices}

What `data` holds was dealt out for the trial: a real device has data of its own, which
`--data` names.  `ca.key` signs certificates: keep it off the server and the devices.
`server`, `devices`, `logs` and `runs` belong to the trial: leave them here.
"""
_DEVICE = """\
   ```sh
   # certs/clients/{name}
   fedprune client fedprune.toml --server fed.example.org:8000 --id {name} \\
       --data npz:mine.npz --tls keys
   ```
"""


def make_files(folder: PocFolder, settings: Settings) -> bool:
    """Make the files that are missing; what is there, maybe changed, stays.

    Returns:
        Whether any was missing.

    Raises:
        ConfigError: If data, overrides or folder cannot be used.
        DataError: If the data cannot be read.
    """
    if all(path.exists() for path in _wanted(folder, settings)):
        return False
    is_new = not folder.path.exists()
    try:
        _make(folder, settings)
    except FedPruneError:
        if is_new:  # another call may want other settings
            rmtree(folder.path, ignore_errors=True)
        raise
    return True


def _make(folder: PocFolder, settings: Settings) -> None:
    check_source(settings.data, "")
    seed = _config(settings, {}).run.seed  # refuses a wrong override at once
    dataset = _dataset(settings, seed)
    config = _config(settings, _known(dataset))
    keep_settings(folder, settings)
    make_certificates(folder.certs, [], settings.ids, _DAYS)
    split_dataset(
        dataset,
        folder.data,
        clients=settings.clients,
        rule=config.task.partition,
        seed=seed,
    )
    texts = {
        folder.instructions: _instructions(folder, settings.ids),
        folder.config: _HEAD.format(clients=settings.clients) + _chosen(config),
    }
    for path, text in texts.items():
        if not path.exists():
            write_bytes_atomic(path, text.encode())


def _dataset(settings: Settings, seed: int) -> Dataset:
    keys = _config(settings, {}).task
    return load_dataset(settings.data, data_dir="", fold=seed % _FOLDS, keys=keys)


def _known(dataset: Dataset) -> dict[str, object]:
    """Return what the data say of the task, so that a server needs none."""
    known: dict[str, object] = {
        "task.outputs": dataset.num_outputs,
        "task.input_shape": tuple(dataset.input_shape),
    }
    if dataset.regression:
        known["task.loss"] = "mse"
    if len(dataset.input_shape) == 1:
        known["task.model"] = "mlp"
    return known


def _wanted(folder: PocFolder, settings: Settings) -> Iterator[Path]:
    yield from (folder.settings, folder.config, folder.instructions)
    for name in settings.ids:
        yield folder.examples(name)
        yield folder.keys(name) / "node.key"


def _config(settings: Settings, known: dict[str, object]) -> Config:
    """Return the configuration; what the user replaces wins over what is known."""
    count = settings.clients
    values: dict[str, object] = {
        "task.data": settings.data,
        "task.clients": count,
        **{f"rounds.{key}": value for key, value in _ROUNDS.items()},
        "rounds.cohort": count,
        "rounds.minimum": max(1, count - 1),
        **known,
    }
    texts = [f"{key}={toml_value(value)}" for key, value in values.items()]
    replaced = {text.partition("=")[0].strip() for text in settings.overrides}
    kept = [text for text in texts if text.partition("=")[0] not in replaced]
    return load_config(None, [*kept, *settings.overrides])


def _chosen(config: Config) -> str:
    """Return the keys that are set, as TOML."""
    sections = []
    for name in Config.model_fields:
        section = getattr(config, name)
        lines = [
            f"{key} = {toml_value(value)}"
            for key, value in section
            if key in section.model_fields_set and (name, key) not in _OF_THIS_MACHINE
        ]
        if lines:
            sections.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _instructions(folder: PocFolder, names: Sequence[str]) -> str:
    devices = "\n".join(_DEVICE.format(name=name) for name in names)
    return _INSTRUCTIONS.format(clients=len(names), certs=folder.certs, devices=devices)
