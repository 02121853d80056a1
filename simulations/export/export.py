"""Export of a run's final network as one file for a device, and its check.

``safetensors``: one file that ``fedprune.common.artifacts.load.load_model`` rebuilds
without the run: it has plan and structure too.  ``onnx``: one file with a free
batch size, for any ONNX runtime, with the preprocessing of stored inputs inside
(``onnx_facts.py``).  ``fpz``: quantised and entropy-coded (``packing.py``).  ``check``
runs the written file beside the torch network (``check.py``).
"""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedprune.common.artifacts import (
    LABELS_FILE,
    read_description,
    read_input_shape,
    read_model_file,
    write_labels,
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
from fedprune.common.description import Description, input_text
from fedprune.common.errors import ConfigError
from fedprune.common.models.factory import Factory
from fedprune.common.system.paths import check_output
from fedprune.common.tasks.loaded import PYTHON, LoadedTask
from fedprune.common.tasks.own import python_task
from fedprune.common.tasks.task import Task
from fedprune.server.devices.run_config import resume_command, run_config
from fedprune.server.runs.folder import RunFolder, read_json_object
from fedprune.simulations.export.check import (
    Bind,
    CheckInputs,
    OnnxNetwork,
    check_inputs,
    compare,
    headline,
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

FORMATS = ("safetensors", "onnx", "fpz")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        format_: "safetensors", "onnx" or "fpz".
        check: Run the written file too, and compare outputs, latency and throughput.
        int8: Quantise the ONNX file with the run's training examples; needs the data.
        raw: Leave the preprocessing out of the ONNX file.
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


@dataclass(frozen=True, kw_only=True)
class _Source:
    """The final network of a run; what takes time is loaded on first use.

    Attributes:
        folder: The run.
        path: Its model file.
        factory: Makes the uncut network, or the task, for runs of Python code.
        trust_code: As for ``export_run``.
    """

    folder: RunFolder
    path: Path
    factory: Factory | Task | None
    trust_code: bool

    def load(self, path: Path) -> nn.Module:
        """Return the network of a file of this run."""
        return load_model(path, factory=self.factory, trust_code=self.trust_code)

    @cached_property
    def model(self) -> nn.Module:
        """The network, in eval mode."""
        return self.load(self.path)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The metadata of its file."""
        return read_model_file(self.path)[1]

    @property
    def description(self) -> Description:
        """Label names and preprocessing."""
        return read_description(self.path, self.metadata)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input; () = it is not one tensor."""
        return read_input_shape(self.path, self.metadata)

    @cached_property
    def task(self) -> LoadedTask:
        """The task of the run; its code is checked."""
        given = self.factory if isinstance(self.factory, Task) else None
        factory = None if isinstance(self.factory, Task) else self.factory
        config = run_config(
            self.folder,
            trust_code=self.trust_code,
            factory=factory is not None,
            task=given is not None,
        )
        if config.task.use == PYTHON and given is None:
            raise ConfigError(python_task(self.folder.path, "factory=MyTask()"))
        return LoadedTask(config, factory, given)

    @cached_property
    def given(self) -> CheckInputs:
        """Inputs to run the network on."""
        return check_inputs(lambda: self.task, self.shape, self.description)

    @cached_property
    def summary(self) -> dict[str, object]:
        """The figures of the run, or none."""
        path = self.folder.summary
        return read_json_object(path) if path.is_file() else {}

    @property
    def metric(self) -> str:
        """Name of the headline metric."""
        return str(self.summary.get("metric") or "accuracy")


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
        interleaved), ``examples_per_s_torch`` and ``examples_per_s_exported`` (batch 1
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
    source = _Source(folder=folder, path=path, factory=factory, trust_code=trust_code)
    ending = f"int8.{format_}" if int8 else format_
    target = output or path.with_name(f"exported.{ending}")
    check_output(target, f".{format_}")
    measured = _WRITERS[format_](source, target, options)
    found: dict[str, object] = {
        "path": str(target),
        "format": format_,
        "bytes": target.stat().st_size,
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
        if getattr(options, name) and format_ != "onnx":
            msg = f"{name} is for ONNX, the format is {format_!r}; want 'onnx'"
            raise ConfigError(msg)
    if values and format_ != "fpz":
        msg = f"values are of fpz, the format is {format_!r}; leave --values out"
        raise ConfigError(msg)
    if options.finetune and (format_, values[:8]) != ("fpz", "codebook"):
        msg = f"fine-tuning is for fpz with a codebook; found {format_!r}, {values!r}"
        raise ConfigError(msg)


def _write_labels(source: _Source, target: Path) -> dict[str, object]:
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
    source: _Source, target: Path, options: ExportOptions, found: dict[str, object]
) -> dict[str, object]:
    """Return how the written file compares with the torch network."""
    new = _bind(source, target, options, inside=bool(found["preprocessing_inside"]))
    given = source.given
    if not found.get("free_lengths", True):
        given = replace(given, others=())
    compared = compare(torch_bind(source.model), new, given)
    rule = load_config(source.folder.config).prune.mask
    if rule.kind == "n:m" and options.format_ != "fpz":
        compared["mask"] = check_form(target, options.format_, rule.n, rule.m)
    return compared


def _bind(
    source: _Source, target: Path, options: ExportOptions, *, inside: bool
) -> Bind:
    if options.format_ != "onnx":
        return torch_bind(source.load(target))
    facts = source.description if inside else None
    return OnnxNetwork(target, source.model, facts).bind


def _write_onnx(
    source: _Source, target: Path, options: ExportOptions
) -> dict[str, object]:
    """Write an ONNX file; the network is quantised before preprocessing is added."""
    run_it = options.check or options.int8
    need("onnx", "onnxscript", *(["onnxruntime"] if run_it else []))
    with tempfile.TemporaryDirectory(prefix="fedprune-") as place:
        bare = Path(place) / "network.onnx"
        example, others = _example(source, options)
        is_free = write_onnx(source.model, example, bare, others)
        measured = _to_int8(source, bare) if options.int8 else {}
        metadata = finish_onnx(
            bare,
            target,
            source.description,
            measured=_metric(source, measured),
            raw=options.raw,
        )
    return {
        "input": metadata["input"],
        "preprocessing": metadata["preprocessing"],
        "preprocessing_inside": has_preprocessing(metadata, source.description),
        "free_lengths": is_free,
        **measured,
    }


def _example(source: _Source, options: ExportOptions) -> tuple[Any, tuple[Any, ...]]:
    """Return inputs to trace the network with, and some that may have other lengths.

    The data are loaded if they must be.
    """
    floats = source.description.stored in ("uint8", "float32")
    if floats and source.shape and not options.check and not options.int8:
        return torch.zeros(1, *source.shape), ()
    return source.given.first(2), source.given.others


def _metric(source: _Source, measured: dict[str, object]) -> dict[str, str]:
    """Return name and value of the headline metric of a file, where known."""
    keys = ("accuracy_final", "validation_accuracy_final")
    run = next((source.summary[k] for k in keys if k in source.summary), None)
    value = measured.get("accuracy_int8", run)
    if not isinstance(value, float):
        return {}
    return {"metric": source.metric, "metric_value": f"{value:.6f}"}


def _to_int8(source: _Source, path: Path) -> dict[str, object]:
    """Quantise an ONNX file in place; return sizes and accuracies."""
    task, before = source.task, path.stat().st_size
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
    source: _Source, target: Path, _: ExportOptions
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
    source: _Source, target: Path, options: ExportOptions
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


def _facts(source: _Source) -> dict[str, object]:
    """Return what a torch network takes."""
    shape = f"[n, {', '.join(map(str, source.shape))}]" if source.shape else ""
    return {
        "input": f"{input_text(source.description)} {shape}".strip(),
        "preprocessing": place_text(source.description, inside=False),
        "preprocessing_inside": False,
    }


_WRITERS = {
    "onnx": _write_onnx,
    "fpz": _write_fpz,
    "safetensors": _write_safetensors,
}
