"""Accuracy that quantised files lose, with and without rounds that train for them.

The row that this is for, not measured yet: a pretrained ResNet-20 on CIFAR-10 at 50 %
of its FLOPs loses at most 0.5 points in its int8 file with one distilled round of int8,
and in its codebook file likewise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedprune.simulations.export.export import export_run
from fedprune.simulations.runs.api import simulate

BITS = 3
FORMS: Mapping[str, Mapping[str, object]] = {
    "plain": {"quantise.kind": "none"},
    "int8, no teacher": {"quantise.kind": "int8", "quantise.distill": 0.0},
    "int8": {"quantise.kind": "int8"},
    "codebook": {"quantise.kind": "codebook", "quantise.bits": BITS},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Accuracies of one run and of its files, 0..1, on the test split.

    Attributes:
        form: Key of ``FORMS``.
        seed: Seed of the run.
        exact: Of the network as the run ends with it.
        int8: Of its int8 ONNX file, by onnxruntime.
        codebook: Of its ``.fpz`` file with codebooks of ``2**BITS`` values.
    """

    form: str
    seed: int
    exact: float
    int8: float
    codebook: float


def measure(folder: Path, settings: Mapping[str, object], form: str, seed: int) -> Loss:
    """Run one form and export both files.

    Args:
        folder: Parent of the run's folder.
        settings: The configuration of all forms.
        form: Key of ``FORMS``.
        seed: Seed of the run.
    """
    places = {"run.dir": str(folder), "run.seed": seed, "run.controls": []}
    run = simulate(config={**settings, **places, **FORMS[form]}).directory
    onnx = export_run(run, format_="onnx", int8=True, trust_code=True)
    packed = export_run(run, format_="fpz", values=f"codebook{BITS}", trust_code=True)
    exact, int8 = onnx["accuracy_float32"], onnx["accuracy_int8"]
    coded = packed["accuracy_fpz"]
    return Loss(
        form=form,
        seed=seed,
        exact=float(str(exact)),
        int8=float(str(int8)),
        codebook=float(str(coded)),
    )
