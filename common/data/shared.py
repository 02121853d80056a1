"""Data sets in files that several processes of one machine map into memory."""

import json
from pathlib import Path

from fedprune.common.data.examples import ArrayExamples, Dataset
from fedprune.common.data.npz import read_npz, write_npz
from fedprune.common.data.pages import mapping_of
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.paths import make_folder

_PARTS = ("train", "test")
_ARRAYS, _FACTS = "data.npz", "data.json"


def is_mapped(dataset: Dataset) -> bool:
    """Return whether the inputs are in a file already that is mapped into memory.

    Examples that are no arrays are: each process opens their source for itself.
    """
    if not isinstance(dataset.train, ArrayExamples):
        return True
    return mapping_of(dataset.train.inputs) is not None


def write_shared(dataset: Dataset, folder: Path) -> None:
    """Write the arrays of a data set to a folder, for ``read_shared``.

    Raises:
        FedPruneError: If the folder cannot be written.
    """
    make_folder(folder)
    train = dataset.train
    assert isinstance(train, ArrayExamples)  # noqa: S101 - others are mapped already
    facts = {
        "num_outputs": dataset.num_outputs,
        "input_shape": list(dataset.input_shape),
        "name": dataset.name,
        "label_names": list(dataset.label_names),
        "owners": list(dataset.owners),
        "remarks": list(dataset.remarks),
        "offset": train.offset,
        "scale": train.scale,
    }
    arrays = {
        f"{short}_{name}": getattr(getattr(dataset, name), kind)
        for name in _PARTS
        for short, kind in (("x", "inputs"), ("y", "targets"))
    }
    write_npz(folder / _ARRAYS, arrays)
    write_json_atomic(folder / _FACTS, facts)


def read_shared(folder: Path) -> Dataset | None:
    """Return a data set whose inputs are mapped; None where the folder is not there."""
    path = folder / _FACTS
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    raw = read_npz(folder / _ARRAYS)
    scaling = {"offset": facts["offset"], "scale": facts["scale"]}
    parts: dict[str, ArrayExamples] = {
        name: ArrayExamples(
            inputs=getattr(raw, f"x_{name}"),
            targets=getattr(raw, f"y_{name}"),
            **scaling,
        )
        for name in _PARTS
    }
    return Dataset(
        train=parts["train"],
        test=parts["test"],
        num_outputs=facts["num_outputs"],
        input_shape=tuple(facts["input_shape"]),
        name=facts["name"],
        label_names=tuple(facts["label_names"]),
        owners=tuple(facts["owners"]),
        remarks=tuple(facts["remarks"]),
    )
