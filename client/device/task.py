"""The task of a real device: its own data, evaluations, and the final network."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import nn
from typing_extensions import override

from fedprune.client.device.node import (
    CLIENT_ID,
    EVALUATIONS,
    FINAL,
    SHARE,
    device_config,
    parse_share,
)
from fedprune.client.rounds.measure import validate
from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common import codec
from fedprune.common.artifacts import LABELS_FILE, write_labels
from fedprune.common.artifacts.load import write_network
from fedprune.common.config import load_methods
from fedprune.common.data.partition import partition
from fedprune.common.dry_run import dry_run, dry_run_others, first_batch
from fedprune.common.errors import DataError
from fedprune.common.methods.kinds import NATURAL
from fedprune.common.pruning.plan import check_plan
from fedprune.common.spec import Indices, PrunePlan, digest_of
from fedprune.common.system.atomic import storing
from fedprune.common.tasks.check_data import check_data, data_remarks
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.trust import named_code, record_code

_KEPT_RUNS = 2


@dataclass(frozen=True)
class DeviceTask(LoadedTask):
    """The task of one device: the data of one client.

    Attributes:
        client_id: Its client id.
        share: (k, n): it trains on part k of n of its data source; None = on all.
    """

    client_id: str = ""
    share: tuple[int, int] | None = None

    @override
    @cached_property
    def clients(self) -> tuple[str, ...]:
        """The one client."""
        return (self.client_id,)

    @property
    @override
    def natural(self) -> bool:
        """True if the device asks its data for those of its client id."""
        task = self.task
        kind = self.config.task.partition.kind
        return self.share is None and (task.has_own_data or kind == NATURAL)

    @override
    @cached_property
    def parts(self) -> dict[str, Indices]:
        """Indices of its training examples."""
        if self.share is None:
            return {self.client_id: np.arange(len(self.train))}
        number, count = self.share
        split = self.config.task.partition
        parts = partition(
            self.labels(),
            kind=split.kind,
            clients=count,
            seed=self.config.run.seed,
            alpha=split.alpha,
            classes_per_client=split.classes,
        )
        return {self.client_id: parts[number]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The evaluation of a network on the device's own test part.

    Attributes:
        time: Seconds since 1970.
        plan: Digest of the network's prune plan.
        params: Number of its weights.
        examples: Examples of the test part.
        loss: Mean loss.
        accuracy: Mean headline metric, such as the share classified correctly.
    """

    time: float
    plan: str
    params: int
    examples: int
    loss: float
    accuracy: float


def device_task(node: Mapping[str, object]) -> DeviceTask:
    """Return the task of a node from its own configuration; the server sends none.

    Raises:
        ConfigError: If its configuration is not usable.
    """
    return DeviceTask(
        device_config(node),
        client_id=str(node[CLIENT_ID]),
        share=parse_share(str(node.get(SHARE) or "")),
    )


def note_plan(
    root: Path, task: LoadedTask, plan: PrunePlan, model: nn.Module
) -> Evaluation:
    """Evaluate a network on the device's own test part; append one line to its log.

    Args:
        root: Folder of the device's state.
        task: The device's task.
        plan: The network's prune plan.
        model: The network, with batch-norm moments that belong to its weights.
    """
    found = validate(model, task.test, task)
    count = max(found.count, 1)
    line = Evaluation(
        time=round(time.time(), 3),
        plan=plan.digest.hex(),
        params=sum(weight.numel() for weight in model.parameters()),
        examples=found.count,
        loss=found.loss_sum / count,
        accuracy=found.metric_sum / count,
    )
    root.mkdir(parents=True, exist_ok=True)
    path, text = root / EVALUATIONS, json.dumps(asdict(line)) + "\n"
    with storing(path, len(text)), path.open("a", encoding="utf-8") as file:
        file.write(text)
    return line


def take_final(
    root: Path, cache: ModelCache, structure_json: bytes, blob: bytes
) -> Evaluation:
    """Store the final network of a run as a model file with plan and structure.

    Returns:
        Its evaluation on the device's own test part.

    Raises:
        PayloadError: If structure and network do not fit each other.
        FedPruneError: If the file cannot be written.
    """
    structure = cache.structure(digest_of(structure_json), structure_json)
    broadcast = codec.decode_broadcast(blob)
    check_plan(structure, broadcast.plan)
    spec = structure.spec(broadcast.plan.keep)
    weights = codec.decode_weights(broadcast.weights, spec)
    codec.check_weights(weights, broadcast.digest)
    model = cache.network(structure, broadcast.plan.keep, weights, broadcast.statistics)
    root.mkdir(parents=True, exist_ok=True)
    run_id = f"client-{cache.task.clients[0]}"
    description = cache.task.describe()
    write_network(
        root / FINAL,
        model.eval(),
        cache.task,
        structure=structure,
        plan=broadcast.plan,
        run_id=run_id,
        description=description,
        alone=True,
    )
    write_labels(root / LABELS_FILE, description)
    # This device's own configuration named it; now its own file does.
    record_code(run_id, named_code(cache.task.config))
    return note_plan(root, cache.task, broadcast.plan, model)


def drop_old_runs(root: Path, current: str) -> None:
    """Remove the state of earlier runs but the last, which may still be resumed."""
    others = sorted(
        (path for path in root.glob("main-*") if path.name != current),
        key=lambda path: path.stat().st_mtime,
    )
    for path in others[: max(0, len(others) - (_KEPT_RUNS - 1))]:
        shutil.rmtree(path, ignore_errors=True)


def try_device(task: DeviceTask) -> tuple[str, ...]:
    """Train a batch of the device's data in a dry run, before it joins.

    Returns:
        One warning a line for each allowed but unusual property.

    Raises:
        DataError: If it has no example for this client, or the examples do not fit
            its configuration.
        ConfigError: If the source does not exist, or the network does not fit.
    """
    if task.sizes[task.client_id] == 0:
        msg = (
            f"client {task.client_id} has no example of {task.config.task.data}; want "
        )
        msg += "another --id, --partition or --data"
        raise DataError(msg)
    load_methods(task.config)
    task.describe()
    check_data(task)  # a single class on one device is usual: no remark
    model = task.build_model()
    found = dry_run(task, model, first_batch(task))
    dry_run_others(task, model)
    return (*data_remarks(task), *found.remarks)
