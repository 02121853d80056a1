"""Export of a run's final network as one file for a device, and its check.

``safetensors``: one file that ``fedprune.common.artifacts.load.load_model`` rebuilds
without the run: it has plan and structure too.  ``onnx``: one file with a free
batch size, for any ONNX runtime, with the preprocessing of stored inputs inside
(``onnx_facts.py``).  ``openvino``: the same in that runtime's form (``runtimes/``).
``fpz``: quantised and entropy-coded (``packing.py``).  ``check`` runs the written file
beside the torch network (``check.py``).
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedprune.common.artifacts import (
    LABELS_FILE,
    read_model_file,
    write_labels,
    write_model_file,
)
from fedprune.common.artifacts.load import (
    KEEP_KEY,
    STRUCTURE_KEY,
    read_keep,
    read_structure,
)
from fedprune.common.config import load_config
from fedprune.common.description import input_text
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.models.factory import Factory
from fedprune.common.system.paths import check_output
from fedprune.common.tasks.task import Task
from fedprune.server.devices.run_config import resume_command
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.export.check import (
    Bind,
    OnnxNetwork,
    compare,
    headline,
    latencies,
    torch_bind,
)
from fedprune.simulations.export.mask_form import check_form
from fedprune.simulations.export.onnx_facts import (
    finish_onnx,
    has_preprocessing,
    place_text,
)
from fedprune.simulations.export.onnx_file import need, write_onnx
from fedprune.simulations.export.onnx_int8 import (
    CALIBRATION_EXAMPLES,
    input_batches,
    quantise_onnx,
)
from fedprune.simulations.export.packing import accuracies, write_fpz
from fedprune.simulations.export.runtimes.openvino_form import (
    ENDING,
    check_weights,
    need_openvino,
    openvino_bytes,
    openvino_runner,
    write_openvino,
)
from fedprune.simulations.export.source import Source

FORMATS = ("safetensors", "onnx", "openvino", "fpz")
Size = Callable[[Path], int]  # bytes of an ONNX file in the form that is written
_OF_ONNX = ("onnx", "openvino")  # OpenVINO's form is made of the ONNX file
_MOST_EPOCHS = 1000  # of fine-tuning: a wrong number would never end


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        format_: "safetensors", "onnx", "openvino" or "fpz".
        check: Run the written file too, and compare outputs, latency and throughput.
        int8: Quantise with the run's training examples ("onnx", "openvino"); needs the
            data.
        raw: Leave the preprocessing out of the file (the same).
        values: Of "fpz": "grid" (also if empty), "float32", "codebook1" to
            "codebook6".
        finetune: Epochs of training examples that the values of a codebook are
            fine-tuned for, >= 0; needs the data.
    """

    format_: str
    check: bool = False
    int8: bool = False
    raw: bool = False
    values: str = ""
    finetune: int = 0


def export_run(  # noqa: PLR0913 - one keyword for each option of the command
    run: Path,
    *,
    format_: str,
    check: bool = False,
    int8: bool = False,
    raw: bool = False,
    values: str = "",
    finetune: int = 0,
    output: Path | None = None,
    factory: Factory | Task | None = None,
    trust_code: bool = False,
) -> dict[str, object]:
    """Write the final network of a run for a device, and the names of its classes.

    Args:
        run: The run folder.
        format_: As ``ExportOptions.format_``.
        check: As ``ExportOptions.check``.
        int8: As ``ExportOptions.int8``.
        raw: As ``ExportOptions.raw``.
        values: As ``ExportOptions.values``.
        finetune: As ``ExportOptions.finetune``.
        output: The file; by default ``model/exported.<ending>`` in the run folder.
        factory: Makes the uncut network, or the task, for runs of Python code.
        trust_code: Run the code that the folder names even if no command of this user
            started the run (``fedprune.common.trust``).

    Returns:
        ``path, format, bytes, params, input, preprocessing, labels, metric`` and,
        where there are labels, ``labels_file``; of ONNX ``free_lengths`` (whether it
        takes the lengths that differ between examples); with ``check`` also
        ``checked_on`` (the inputs: examples of the run where they can be loaded),
        ``max_difference`` (to the torch network), ``max_output`` (the largest output
        there, for comparison),
        ``latency_ms_torch`` and ``latency_ms_exported`` (batch 1, one thread, medians,
        interleaved), of OpenVINO ``latency_ms_dense`` and ``latency_ms_pruned`` (both
        by OpenVINO), ``examples_per_s_torch`` and ``examples_per_s_exported`` (batch 1
        and 32); with ``int8`` also ``bytes_float32``, ``accuracy_float32`` and
        ``accuracy_int8`` (headline metric on the test split); of a "fpz" also
        ``values``, ``max_change`` of a weight, ``accuracy_float32`` and
        ``accuracy_fpz``, after fine-tuning ``loss_codebook`` and ``loss_finetuned`` on
        the training examples; of a run under an n:m mask ``mask`` (in how many tensors
        the file has its form).

    Raises:
        ConfigError: If options do not go together, an extra is missing, the file
            cannot be written there, the run has no final network yet, or names
            untrusted code.
        IntegrityError: If a file of the run is broken.
        FedPruneError: If it cannot be exported.
    """
    options = ExportOptions(
        format_=format_,
        check=check,
        int8=int8,
        raw=raw,
        values=values,
        finetune=finetune,
    )
    _check_options(options)
    folder = RunFolder.open(run)
    path = folder.model / "final.safetensors"
    if not path.is_file():
        msg = f"{run} has no final network yet; finish it: {resume_command(run)}"
        raise ConfigError(msg)
    source = Source(folder=folder, path=path, factory=factory, trust_code=trust_code)
    ending = ENDING if format_ == "openvino" else f".{format_}"
    target = output or path.with_name(f"exported{'.int8' if int8 else ''}{ending}")
    check_output(target, ending)
    measured = _WRITERS[format_](source, target, options)
    found: dict[str, object] = {
        "path": str(target),
        "format": format_,
        "bytes": bytes_of(target),
        "params": sum(weight.numel() for weight in source.model.parameters()),
        "metric": source.metric,
        **measured,
        **_write_labels(source, target),
    }
    return found | _checked(source, target, options, found) if check else found


def _check_options(options: ExportOptions) -> None:
    """Refuse options that do not go together."""
    format_, values = options.format_, options.values
    if format_ not in FORMATS:
        wanted = ", ".join(f'"{name}"' for name in FORMATS)
        msg = f'--format: found "{format_}", want one of {wanted}'
        raise ConfigError(msg)
    for name in ("int8", "raw"):
        if getattr(options, name) and format_ not in _OF_ONNX:
            msg = f"{name} is for ONNX and OpenVINO, the format is {format_!r}; want "
            msg += "'onnx' or 'openvino'"
            raise ConfigError(msg)
    if values and format_ != "fpz":
        msg = f"values are of fpz, the format is {format_!r}; leave --values out"
        raise ConfigError(msg)
    if not 0 <= options.finetune <= _MOST_EPOCHS:
        msg = (
            f"found {options.finetune} epochs of fine-tuning; want 0 to {_MOST_EPOCHS}"
        )
        raise ConfigError(msg)
    _check_finetune(options)


def _check_finetune(options: ExportOptions) -> None:
    """Refuse to fine-tune a codebook in a file that has none."""
    if not options.finetune:
        return
    wanted = {}
    if options.format_ != "fpz":
        wanted["--format fpz"] = f'"{options.format_}"'
    if not options.values.startswith("codebook"):
        found = f'"{options.values}"' if options.values else "none"
        wanted["--values codebook5"] = found
    if wanted:
        msg = f"--finetune-codebook: want {' and '.join(wanted)} beside it, found "
        raise ConfigError(msg + " and ".join(wanted.values()))


def _write_labels(source: Source, target: Path) -> dict[str, object]:
    """Write the names of the classes beside a file, under a name of their own.

    In the run's own folder they are ``labels.json``; elsewhere the exports of several
    runs may lie in one folder.
    """
    names = source.description.labels
    own = target.parent.resolve() == source.folder.model.resolve()
    path = target.with_name(LABELS_FILE if own else f"{target.stem}.{LABELS_FILE}")
    if not write_labels(path, source.description):
        return {"labels": []}
    return {"labels": list(names), "labels_file": path.name}


def _checked(
    source: Source, target: Path, options: ExportOptions, found: dict[str, object]
) -> dict[str, object]:
    """Return how the written file compares with the torch network."""
    new = _bind(source, target, options, inside=bool(found["preprocessing_inside"]))
    given = source.given
    if not found.get("free_lengths", True):
        given = replace(given, others=())
    compared = compare(torch_bind(source.model), new, given)
    if options.format_ == "openvino":
        compared |= _beside_dense(source, new, options)
    rule = load_config(source.folder.config).prune.mask
    if rule.kind == "n:m" and options.format_ in ("safetensors", "onnx"):
        compared["mask"] = check_form(target, options.format_, rule.n, rule.m)
    return compared


def _bind(
    source: Source, target: Path, options: ExportOptions, *, inside: bool
) -> Bind:
    if options.format_ not in _OF_ONNX:
        return torch_bind(source.load(target))
    facts = source.description if inside else None
    run = openvino_runner(target) if options.format_ == "openvino" else None
    return OnnxNetwork(target, source.model, facts, run).bind


def _beside_dense(
    source: Source, new: Bind, options: ExportOptions
) -> dict[str, object]:
    """Return the latencies of the uncut float32 network and of the file, in turns.

    Without the data of the run its uncut network may not be known: then there are none.
    """
    try:
        dense = source.task.build_model().eval()
    except FedPruneError:
        return {}
    example, others = _example(source, options)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        path = Path(place) / "dense.onnx"
        write_onnx(dense, example, path, others)
        network = OnnxNetwork(path, dense, run=openvino_runner(path))
        old_ms, new_ms = latencies(network.bind, new, source.given.first(1))
    return {"latency_ms_dense": old_ms, "latency_ms_pruned": new_ms}


def _write_onnx(
    source: Source, target: Path, options: ExportOptions
) -> dict[str, object]:
    """Write an ONNX file; the network is quantised before preprocessing is added."""
    run_it = options.check or options.int8
    need("onnx", "onnxscript", *(["onnxruntime"] if run_it else []))
    found, _ = _write_with_facts(source, target, options, bytes_of)
    return found


def _write_openvino(
    source: Source, target: Path, options: ExportOptions
) -> dict[str, object]:
    """Write the ONNX file, and of it OpenVINO's form; accuracies are of that."""
    need("onnx", "onnxscript", *(["onnxruntime"] if options.int8 else []))
    need_openvino()
    check_weights(target)
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        path = Path(place) / "network.onnx"
        found, metadata = _write_with_facts(source, path, options, openvino_bytes)
        found["bytes"] = write_openvino(path, target, metadata)
    if options.int8:
        facts = source.description if found["preprocessing_inside"] else None
        run = openvino_runner(target)
        network = OnnxNetwork(target, source.model, facts, run)
        found["accuracy_int8"] = headline(network, source.task, source.task.test)
    return found


def bytes_of(path: Path) -> int:
    """Return the bytes of a file."""
    return path.stat().st_size


def _write_with_facts(
    source: Source, target: Path, options: ExportOptions, size: Size
) -> tuple[dict[str, object], dict[str, str]]:
    """Write an ONNX file; return what is known of it, and its metadata."""
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        bare = Path(place) / "network.onnx"
        example, others = _example(source, options)
        is_free = write_onnx(source.model, example, bare, others)
        measured = _to_int8(source, bare, size) if options.int8 else {}
        metadata = finish_onnx(
            bare,
            target,
            source.description,
            measured=_metric(source, measured),
            raw=options.raw,
        )
    found: dict[str, object] = {
        "input": metadata["input"],
        "preprocessing": metadata["preprocessing"],
        "preprocessing_inside": has_preprocessing(metadata, source.description),
        "free_lengths": is_free,
        **measured,
    }
    return found, metadata


def _example(source: Source, options: ExportOptions) -> tuple[Any, tuple[Any, ...]]:
    """Return inputs to trace the network with, and some that may have other lengths.

    The data are loaded if they must be.
    """
    floats = source.description.stored in ("uint8", "float32")
    if floats and source.shape and not options.check and not options.int8:
        return torch.zeros(1, *source.shape), ()
    return source.given.first(2), source.given.others


def _metric(source: Source, measured: dict[str, object]) -> dict[str, str]:
    """Return name and value of the headline metric of a file, where known."""
    keys = ("accuracy_final", "accuracy_delivered", "validation_accuracy_final")
    run = next((x for x in map(source.summary.get, keys) if x is not None), None)
    value = measured.get("accuracy_int8", run)
    if not isinstance(value, float):
        return {}
    return {"metric": source.metric, "metric_value": f"{value:.6f}"}


def _to_int8(source: Source, path: Path, size: Size) -> dict[str, object]:
    """Quantise an ONNX file in place; return sizes and accuracies."""
    task, before = source.task, size(path)
    plain = OnnxNetwork(path, source.model)
    score = headline(plain, task, task.test)
    batches = input_batches(task.sample, CALIBRATION_EXAMPLES)
    quantise_onnx(path, path, [plain.named(inputs) for inputs in batches])
    return {
        "bytes_float32": before,
        "accuracy_float32": score,
        "accuracy_int8": headline(OnnxNetwork(path, source.model), task, task.test),
    }


def _write_safetensors(
    source: Source, target: Path, _: ExportOptions
) -> dict[str, object]:
    """Write the model file again, with plan and structure inside."""
    tensors, metadata = read_model_file(source.path)
    structure = read_structure(source.path, metadata)
    keep = read_keep(source.path, metadata, structure)
    inside = {
        KEEP_KEY: np.packbits(keep).tobytes().hex(),
        STRUCTURE_KEY: structure.to_json().decode(),
    }
    write_model_file(target, tensors, {**metadata, **inside})
    return _facts(source)


def _write_fpz(
    source: Source, target: Path, options: ExportOptions
) -> dict[str, object]:
    measured = write_fpz(
        source.path,
        target,
        values=options.values or "grid",
        task=source.task,
        finetune=options.finetune,
        load=source.load,
    )
    measured |= accuracies(source.path, target, task=source.task, load=source.load)
    return _facts(source) | measured


def _facts(source: Source) -> dict[str, object]:
    """Return what a torch network takes."""
    shape = f"[n, {', '.join(map(str, source.shape))}]" if source.shape else ""
    return {
        "input": f"{input_text(source.description)} {shape}".strip(),
        "preprocessing": place_text(source.description, inside=False),
        "preprocessing_inside": False,
    }


_WRITERS = {
    "onnx": _write_onnx,
    "openvino": _write_openvino,
    "fpz": _write_fpz,
    "safetensors": _write_safetensors,
}
