"""Own tasks on three devices over TLS: the model of the same run in this process."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedprune.common.config import load_config
from fedprune.simulations.benchmarks.kit import resnet20
from fedprune.simulations.benchmarks.kit.fleet import Fleet
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, RowStore
from fedprune.simulations.benchmarks.kit.tasks.own import EXAMPLE
from fedprune.simulations.experiments import FOLDER
from fedprune.simulations.runs.run import run

_CLIENTS = 3
_LIMIT_S = 1800.0
_CONFIG = """\
[task]
use = "{use}"
weights = "{weights}"
clients = 3
outputs = {outputs}
[rounds]
warmup = 1
sparsify = 1
finetune = 1
cuts = 1
final = 0
cohort = 3
minimum = 3
[client]
epochs = 1
lr = 0.01
penalty = "group"
[prune]
budget = {{ params = 0.7 }}
width_multiple = 1
[run]
controls = []
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A task on devices.

    Attributes:
        name: Name of the row.
        use: As ``task.use``.
        outputs: As ``task.outputs``.
        names: Names of its natural clients; () = a device trains on its part of the
            data.
        weights: As ``task.weights``.
    """

    name: str
    use: str
    outputs: int
    names: Sequence[str] = ()
    weights: str = ""


def on_devices(store: RowStore) -> list[Figure]:
    """Return whether devices reach the model of the run in this process."""
    weights = resnet20.weights_file()
    rows = [
        _Row(
            name="own-everything",
            use=f"{EXAMPLE}:Shops",
            outputs=2,
            names=("corner", "harbour", "market"),
        )
    ]
    if weights is not None:
        vision = f"{(FOLDER / 'vision.py').resolve()}:FewImages"
        row = _Row(
            name="pretrained-vision", use=vision, outputs=10, weights=str(weights)
        )
        rows.append(row)
    return [_figure(store, row) for row in rows]


def _figure(store: RowStore, row: _Row) -> Figure:
    found = store.get(f"devices-{row.name}", lambda: _run(row))
    same = found["model_sha256"] == found["in_process"]
    lost = found["refused"] + found["failed"]
    return Figure(
        name=f"devices: {row.name} differs from the run in process",
        value=int(not same) + lost,
        goal="== 0",
        detail=f"{_CLIENTS} SuperNodes over TLS, {found['rounds']} rounds, "
        f"parameters {found['params_final']} of {found['params_dense']}, {lost} "
        "answers refused or failed; model_sha256 "
        f"{found['model_sha256'][:12]} and {found['in_process'][:12]}",
    )


def _run(row: _Row) -> Raw:
    with tempfile.TemporaryDirectory(
        prefix="fedprune-tasks-", ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        config = folder / "fedprune.toml"
        config.write_text(
            _CONFIG.format(use=row.use, outputs=row.outputs, weights=row.weights),
            encoding="utf-8",
        )
        local = {"run.engine": "inprocess", "run.dir": str(folder / "local")}
        same = run(load_config(config, local)).summary
        with Fleet(
            folder=folder,
            config=config,
            sources=[""] * _CLIENTS,
            shares=not row.names,
            names=row.names,
        ) as fleet:
            summary = fleet.run(_LIMIT_S, lambda _: None)
    keys = (
        *("model_sha256", "rounds", "refused", "failed"),
        *("params_dense", "params_final"),
    )
    return {key: summary[key] for key in keys} | {"in_process": same["model_sha256"]}
