"""Loading a network from its files: tensors, plan and structure.

``load_model("run/model/final.safetensors")`` builds the uncut architecture by its
registered name, cuts it by the plan and writes the tensors into it.  Nothing is
unpickled, code that the file names runs only if it is this user's own
(``fedprune.common.trust``), and nothing is downloaded.  Plan and structure
come from the file itself (an export has both), else from ``plan.json`` and
``structure.json`` beside it or one folder above.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedprune.common.artifacts import (
    Tensors,
    description_metadata,
    read_description,
    read_input_shape,
    read_model_file,
    read_plan_file,
    write_model_file,
)
from fedprune.common.artifacts.packed_file import ENDING, build_packed, read_packed
from fedprune.common.codec import PackedModel
from fedprune.common.config import Config
from fedprune.common.description import Description
from fedprune.common.errors import (
    ConfigError,
    FedPruneError,
    IntegrityError,
    PayloadError,
)
from fedprune.common.models.capped import ByteLimit
from fedprune.common.models.factory import Factory, as_factory, checked_network
from fedprune.common.models.registry import build_model
from fedprune.common.pruning.plan import apply_plan, full_plan
from fedprune.common.spec import Mask, PrunePlan
from fedprune.common.structure.announced import at_most, size_limit
from fedprune.common.structure.structure import Structure
from fedprune.common.system.paths import as_path, check_model_path
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.common.tasks.own import load_task
from fedprune.common.tasks.task import Task
from fedprune.common.text import printable
from fedprune.common.trust import check_code, code_of_model
from fedprune.common.user_code import PYTHON, TASK_PREFIX, call_factory

KEEP_KEY = "keep"
STRUCTURE_KEY = "structure_json"
RUN_KEY = "run"

_COUNTER = "num_batches_tracked"


def write_network(  # noqa: PLR0913 - the parts of a file
    path: Path,
    model: nn.Module,
    task: LoadedTask,
    *,
    structure: Structure,
    plan: PrunePlan,
    run_id: str,
    description: Description,
    alone: bool = False,
) -> None:
    """Write a cut network: weights, moments, and every other buffer of its state.

    Law: ``load_model`` returns the same ``state_dict`` bit for bit, except the batches
    that batch norms have counted.

    Args:
        path: The file, conventionally ``*.safetensors``.
        model: The network, already cut.
        task: The task that it was trained for.
        structure: The original network.
        plan: The plan that it was cut by.
        run_id: Name of the run; written only where the network is code, so that
            equal networks are equal files.
        description: Label names and preprocessing.
        alone: Whether the file contains plan and structure too, as a device needs
            it; in a run folder they are files beside it.

    Raises:
        FedPruneError: If it cannot be written.
    """
    name = task.model_name
    metadata = {
        "plan": plan.digest.hex(),
        "structure": structure.digest.hex(),
        "model": name,
        "input_shape": json.dumps(list(task.input_shape)),
        "num_outputs": str(task.num_outputs),
        **description_metadata(description),
    }
    if code_of_model(name):
        metadata[RUN_KEY] = run_id
    if alone:
        metadata[KEEP_KEY] = np.packbits(plan.keep).tobytes().hex()
        metadata[STRUCTURE_KEY] = structure.to_json().decode()
    tensors = {
        name: value.cpu().numpy()
        for name, value in model.state_dict().items()
        if not is_counter(name)
    }
    write_model_file(path, tensors, metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Origin of an uncut network, and the limit on its size.

    Attributes:
        path: The file.
        factory: The caller's own function or task, or None.
        trust_code: Whether code that the file names runs even if not this user's.
        limit: Most bytes of the network.
    """

    path: Path
    factory: Factory | Task | None
    trust_code: bool
    limit: int


def load_model(
    path: Path | str,
    *,
    factory: Factory | Task | None = None,
    trust_code: bool = False,
    max_bytes: int | None = None,
) -> nn.Module:
    """Return the network in the file ``path``, in eval mode.

    Args:
        path: A model file of a run, or one that ``fedprune export`` wrote: also a
            ``.fpz``, whose weights are exactly those that were written.
        factory: Makes the uncut network: a function, or a task whose ``network`` it
            is; needed when Python code handed the run's network over.
        trust_code: Run the code that the file names even if no command of this user
            started its run here.
        max_bytes: Largest uncut network, in bytes; None = 256 MiB, or 64 bytes for
            each byte of a larger file.

    Raises:
        ConfigError: If an argument has a wrong type, or the architecture is unknown
            here, or is another user's code, or its code has changed.
        IntegrityError: If a file is damaged, the files contradict each other, or
            announce a larger network.
    """
    path = as_path(path, "a model file")
    check_model_path(path)
    file_bytes = path.stat().st_size if path.is_file() else 0
    own = factory if isinstance(factory, Task) else as_factory(factory, "factory")
    origin = _Origin(
        path=path,
        factory=own,
        trust_code=trust_code,
        limit=size_limit(file_bytes, _checked_limit(max_bytes)),
    )
    if path.suffix == ENDING:
        packed = read_packed(path, max_bytes)
        return build_packed(path, packed, _packed(origin, packed.model))
    tensors, metadata = read_model_file(path)
    structure = read_structure(path, metadata, max_bytes)
    keep = read_keep(path, metadata, structure)
    model = _dense(origin, metadata)
    apply_plan(model, structure, keep)
    _fill(path, model, tensors)
    return model.eval()


def describe_model(path: Path | str) -> Description:
    """Return label names and preprocessing of a network's file; nothing is built.

    Args:
        path: A ``.safetensors`` or ``.fpz`` file of a run, an export or a device.

    Raises:
        ConfigError: If it is a folder, or no path.
        IntegrityError: If the file is damaged.
    """
    path = as_path(path, "a model file")
    check_model_path(path)
    if path.suffix == ENDING:
        return read_packed(path).model.description
    _, metadata = read_model_file(path)
    return read_description(path, metadata)


def _checked_limit(max_bytes: object) -> int | None:
    if max_bytes is None or (type(max_bytes) is int and max_bytes > 0):
        return max_bytes
    found = printable(repr(max_bytes), 40)
    msg = f"max_bytes: found {found}; want bytes, an int above 0, or None"
    raise ConfigError(msg)


def read_structure(
    path: Path, metadata: Mapping[str, str], max_bytes: int | None = None
) -> Structure:
    """Return the structure of a model file.

    Args:
        path: The file.
        metadata: Its metadata.
        max_bytes: As for ``load_model``.

    Raises:
        IntegrityError: If it is missing, damaged, or another structure.
    """
    text = metadata.get(STRUCTURE_KEY)
    source = path if text is not None else _beside(path, "structure.json")
    try:
        data = source.read_bytes() if text is None else text.encode()
        file_bytes = path.stat().st_size
        structure = Structure.from_json(
            data, at_most(size_limit(file_bytes, max_bytes))
        )
    except PayloadError as error:
        msg = f"{source}: not a structure: {error}"
        raise IntegrityError(msg) from error
    if structure.digest.hex() != metadata["structure"]:
        msg = (
            f"{source}: structure {structure.digest.hex()}; "
            f"{path.name} wants {metadata['structure']}"
        )
        raise IntegrityError(msg)
    return structure


def read_keep(path: Path, metadata: Mapping[str, str], structure: Structure) -> Mask:
    """Return the keep mask of a model file, bool[units].

    Raises:
        IntegrityError: If the plan is missing, damaged, or another plan.
    """
    if KEEP_KEY in metadata:
        return _embedded(path, metadata[KEEP_KEY], structure)
    full = full_plan(structure)
    if metadata["plan"] == full.digest.hex():
        return full.keep  # an uncut network needs no plan
    source = _beside(path, "plan.json")
    plan: PrunePlan = read_plan_file(source)
    if plan.digest.hex() != metadata["plan"] or len(plan.keep) != structure.units:
        msg = (
            f"{source}: plan {plan.digest.hex()}; {path.name} wants {metadata['plan']}"
        )
        raise IntegrityError(msg)
    return plan.keep


def _embedded(path: Path, text: str, structure: Structure) -> Mask:
    try:
        bits = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    except ValueError:
        bits = np.zeros(0, dtype=np.uint8)
    flags = np.unpackbits(bits).astype(np.bool_)
    units = structure.units
    if len(bits) != (units + 7) // 8 or flags[units:].any():
        msg = f"{path}: metadata 'keep' holds {len(bits)} bytes for {units} units"
        raise IntegrityError(msg)
    return flags[:units]


def _beside(path: Path, name: str) -> Path:
    for folder in (path.parent, path.parent.parent):
        if (folder / name).is_file():
            return folder / name
    msg = f"{path}: no {name} beside it or one folder above; want the run's {name}"
    raise IntegrityError(msg)


def _dense(origin: _Origin, metadata: Mapping[str, str]) -> nn.Module:
    """Return the uncut network; its first weights are overwritten."""
    shape = read_input_shape(origin.path, metadata)
    outputs = int(metadata["num_outputs"])
    run = metadata.get(RUN_KEY, "")
    return _uncut(origin, metadata["model"], run, (shape, outputs))


def _packed(origin: _Origin, model: PackedModel) -> nn.Module:
    return _uncut(origin, model.name, model.run, (model.input_shape, model.num_outputs))


def _uncut(
    origin: _Origin, name: str, run: str, sizes: tuple[tuple[int, ...], int]
) -> nn.Module:
    """Return the uncut network of a name; sizes are input shape and outputs."""
    given = origin.factory
    if isinstance(given, Task) and given.has_own_network:
        return _of_task(given, sizes)
    if given is not None and not isinstance(given, Task):
        return call_factory(given)
    if name == PYTHON:
        msg = f"{origin.path}: Python code made its network; name that code: --use "
        msg += "FILE.py:NAME, a task or a function that makes the network (in Python "
        raise ConfigError(msg + "factory=MyTask() or factory=make_network)")
    code = code_of_model(name)
    named = {"model": code} if code else {}
    check_code(origin.path, run, named, trust_code=origin.trust_code)
    with ByteLimit(origin.limit, str(origin.path)):
        if name.startswith(TASK_PREFIX):
            return _of_task(load_task(code), sizes)
        return build_model(
            name, num_outputs=sizes[1], input_shape=sizes[0], seed=0, fetch=False
        )


def _of_task(own: Task, sizes: tuple[tuple[int, ...], int]) -> nn.Module:
    """Return the network of a task under the sizes that the file states."""
    config = Config()
    stated = {"input_shape": sizes[0], "outputs": sizes[1]}
    chosen = config.task.model_copy(update=stated)
    task = own.under(config.model_copy(update={"task": chosen}))
    return checked_network(task.network, f"{type(task).__name__}.network")


def is_counter(name: str) -> bool:
    """Return whether a tensor counts the batches that a norm has seen.

    It differs from device to device without effect, so no file has it.
    """
    return name.rpartition(".")[2] == _COUNTER


def _fill(path: Path, model: nn.Module, tensors: Tensors) -> None:
    """Write tensors into a network, all or none."""
    wanted = model.state_dict()
    needed = {name for name in wanted if not is_counter(name)}
    missing, unknown = sorted(needed - set(tensors)), sorted(set(tensors) - set(wanted))
    if missing or unknown:
        msg = f"{path}: tensors missing: {missing[:5]}; unknown: {unknown[:5]}"
        raise IntegrityError(msg)
    for name, array in tensors.items():
        if array.shape != tuple(wanted[name].shape):
            msg = (
                f"{path}: tensor '{name}' has shape {array.shape}; "
                f"the cut network takes {tuple(wanted[name].shape)}"
            )
            raise IntegrityError(msg)
        _check_type(path, name, array, wanted[name])
    try:
        with torch.no_grad():
            for name, array in tensors.items():
                wanted[name].copy_(torch.from_numpy(np.array(array)))
    except (TypeError, RuntimeError) as error:
        msg = f"{path}: its tensors do not fit the network: {error}"
        raise FedPruneError(msg) from error


def _check_type(path: Path, name: str, array: np.ndarray, wanted: torch.Tensor) -> None:
    """Refuse an integer for a float, and integers of another width: they may wrap."""
    found = torch.from_numpy(np.array(array)).dtype
    floats = found.is_floating_point and wanted.is_floating_point()
    if found != wanted.dtype and not floats:
        msg = f"{path}: tensor '{name}' has type {found}; want {wanted.dtype}"
        raise IntegrityError(msg)
