"""Export of a run's final network as one file for a device, and its check.

``safetensors``: one file that ``fedprune.common.artifacts.load.load_model`` rebuilds
without the run: it has plan and structure too.  ``onnx``: one file with a free
batch size, for any ONNX runtime.  ``fpz``: quantised and entropy-coded
(``packing.py``).  ``check`` runs the written file beside the torch network.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fedprune.common.artifacts import (
    read_input_shape,
    read_model_file,
    write_model_file,
)
from fedprune.common.artifacts.load import (
    KEEP_KEY,
    STRUCTURE_KEY,
    load_model,
    read_keep,
    read_structure,
)
from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError
from fedprune.common.system.paths import check_output
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.devices.run_config import run_config
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.export.mask_form import check_form
from fedprune.simulations.export.onnx_file import (
    Array,
    Runner,
    onnx_runner,
    write_onnx,
)
from fedprune.simulations.export.onnx_int8 import (
    CALIBRATION_EXAMPLES,
    accuracy,
    input_batches,
    one_thread,
    quantise_onnx,
    torch_runner,
)
from fedprune.simulations.export.packing import accuracies, write_fpz

FORMATS = ("safetensors", "onnx", "fpz")
_CHECK_BATCHES = (1, 7)  # the batch size is free, so more than one is tried
_LATENCY_RUNS = 60
_WARM_RUNS = 5
_THROUGHPUT_BATCH = 32


def export_run(  # noqa: PLR0913 - one keyword for each option of the command
    run: Path,
    *,
    format_: str,
    check: bool = False,
    int8: bool = False,
    values: str = "",
    finetune: int = 0,
    output: Path | None = None,
    factory: Callable[[], nn.Module] | None = None,
    trust_code: bool = False,
) -> dict[str, object]:
    """Write the final network of a run for a device.

    Args:
        run: The run folder.
        format_: "safetensors", "onnx" or "fpz".
        check: Run the written file too, and compare outputs, latency and throughput.
        int8: Quantise the ONNX file with the run's training examples; needs the data.
        values: Of "fpz": "grid" (also if empty), "float32", "codebook1" to
            "codebook6".
        finetune: Epochs of training examples that the values of a codebook are
            fine-tuned for, >= 0; needs the data.
        output: The file; by default ``model/exported.<ending>`` in the run folder.
        factory: Makes the uncut network, for runs whose network came from Python.
        trust_code: Run the code that the folder names even if no command of this user
            started the run (``fedprune.common.trust``).

    Returns:
        ``path, format, bytes, params``; with ``check`` also ``max_difference`` (to
        the torch network, on random input), ``max_output`` (the largest output there,
        for comparison), ``latency_ms_torch`` and ``latency_ms_exported`` (batch 1, one
        thread, medians, interleaved), ``examples_per_s_torch`` and
        ``examples_per_s_exported`` (batch 1 and 32); with ``int8`` also
        ``bytes_float32``, ``accuracy_float32`` and ``accuracy_int8`` on the test split
        (classification only); of a "fpz" also ``values``, ``max_change`` of a weight,
        ``accuracy_float32`` and ``accuracy_fpz``, after fine-tuning ``loss_codebook``
        and ``loss_finetuned`` on the training examples; of a run under an n:m mask
        ``mask`` (in how many tensors the file has its form).

    Raises:
        ConfigError: If options do not go together, an extra is missing, the file
            cannot be written there, the run has no final network yet, or names
            untrusted code.
        IntegrityError: If a file of the run is broken.
        FedPruneError: If it cannot be exported.
    """
    _check_options(format_, values, int8=int8, finetune=finetune)
    folder = RunFolder.open(run)
    source = folder.model / "final.safetensors"
    if not source.is_file():
        msg = f"{run} has no final network yet; finish it: fedprune simulate --resume"
        raise ConfigError(msg)
    load = partial(load_model, factory=factory, trust_code=trust_code)
    ending = f"int8.{format_}" if int8 else format_
    target = output or source.with_name(f"exported.{ending}")
    check_output(target, f".{format_}")
    model = load(source)
    measured: dict[str, object] = {}

    def task() -> LoadedTask:
        named = factory is not None
        return LoadedTask(
            run_config(folder, trust_code=trust_code, factory=named), factory
        )

    if format_ == "onnx":
        write_onnx(model, torch.zeros(1, *_shape(source)), target)
        measured = _to_int8(task(), target) if int8 else {}
    elif format_ == "fpz":
        whole = task()
        measured = write_fpz(
            source,
            target,
            values=values or "grid",
            task=whole,
            finetune=finetune,
            load=load,
        )
        measured |= accuracies(source, target, task=whole, load=load)
    else:
        _write_safetensors(source, target)
    found: dict[str, object] = {
        "path": str(target),
        "format": format_,
        "bytes": target.stat().st_size,
        "params": sum(weight.numel() for weight in model.parameters()),
        **measured,
    }
    if check:
        runner = (
            onnx_runner(target) if format_ == "onnx" else torch_runner(load(target))
        )
        found |= _compare(torch_runner(model), runner, _shape(source))
        rule = load_config(folder.config).prune.mask
        if rule.kind == "n:m" and format_ != "fpz":
            found["mask"] = check_form(target, format_, rule.n, rule.m)
    return found


def _check_options(format_: str, values: str, *, int8: bool, finetune: int) -> None:
    """Refuse options that do not go together."""
    if format_ not in FORMATS:
        wanted = ", ".join(f'"{name}"' for name in FORMATS)
        msg = f'--format: found "{format_}", want one of {wanted}'
        raise ConfigError(msg)
    if int8 and format_ != "onnx":
        msg = f"int8 is for ONNX, the format is {format_!r}; want 'onnx'"
        raise ConfigError(msg)
    if values and format_ != "fpz":
        msg = f"values are of fpz, the format is {format_!r}; leave --values out"
        raise ConfigError(msg)
    if finetune and (format_, values[:8]) != ("fpz", "codebook"):
        msg = f"fine-tuning is for fpz with a codebook; found {format_!r}, {values!r}"
        raise ConfigError(msg)


def _to_int8(task: LoadedTask, target: Path) -> dict[str, object]:
    """Quantise an ONNX file in place; return sizes and accuracies."""
    before = target.stat().st_size
    plain = onnx_runner(target)
    quantise_onnx(target, target, input_batches(task.sample, CALIBRATION_EXAMPLES))
    found: dict[str, object] = {"bytes_float32": before}
    if task.config.task.loss == "cross-entropy":
        found["accuracy_float32"] = accuracy(plain, task.test)
        found["accuracy_int8"] = accuracy(onnx_runner(target), task.test)
    return found


def _shape(source: Path) -> tuple[int, ...]:
    _, metadata = read_model_file(source)
    return read_input_shape(source, metadata)


def _write_safetensors(source: Path, target: Path) -> None:
    """Write the model file again, with plan and structure inside."""
    tensors, metadata = read_model_file(source)
    structure = read_structure(source, metadata)
    keep = read_keep(source, metadata, structure)
    inside = {
        KEEP_KEY: np.packbits(keep).tobytes().hex(),
        STRUCTURE_KEY: structure.to_json().decode(),
    }
    write_model_file(target, tensors, {**metadata, **inside})


def _compare(known: Runner, new: Runner, shape: Sequence[int]) -> dict[str, object]:
    """Return the largest difference of two networks, and their latencies."""
    rng = np.random.default_rng(0)
    worst = largest = 0.0
    for size in _CHECK_BATCHES:
        batch = rng.standard_normal((size, *shape), dtype=np.float32)
        wanted = known(batch)
        worst = max(worst, float(np.abs(wanted - new(batch)).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    one = rng.standard_normal((1, *shape), dtype=np.float32)
    many = rng.standard_normal((_THROUGHPUT_BATCH, *shape), dtype=np.float32)
    with one_thread():
        torch_ms, new_ms = _latencies(known, new, one)
        torch_many, new_many = _latencies(known, new, many)
    return {
        "max_difference": worst,
        "max_output": largest,
        "latency_ms_torch": torch_ms,
        "latency_ms_exported": new_ms,
        "examples_per_s_torch": _rates(torch_ms, torch_many),
        "examples_per_s_exported": _rates(new_ms, new_many),
    }


def _rates(one_ms: float, many_ms: float) -> dict[str, float]:
    """Return examples per second by batch size."""
    return {
        "batch 1": round(1e3 / max(one_ms, 1e-6), 1),
        f"batch {_THROUGHPUT_BATCH}": round(
            1e3 * _THROUGHPUT_BATCH / max(many_ms, 1e-6), 1
        ),
    }


def _latencies(first: Runner, second: Runner, batch: Array) -> tuple[float, float]:
    """Return median milliseconds of two runners, measured in turns."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(_WARM_RUNS + _LATENCY_RUNS):
        for runner, times in zip((first, second), taken, strict=True):
            started = time.perf_counter()
            runner(batch)
            if turn >= _WARM_RUNS:
                times.append(time.perf_counter() - started)
    one, two = (round(1e3 * float(np.median(times)), 4) for times in taken)
    return one, two
