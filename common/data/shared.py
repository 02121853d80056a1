"""Data sets in files that several processes of one machine map into memory."""

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from fedprune.common.data.examples import ArrayExamples, Dataset
from fedprune.common.errors import FedPruneError
from fedprune.common.system.paths import make_folder

_PARTS = ("train", "test")
_FACTS = "data.json"


def is_mapped(dataset: Dataset) -> bool:
    """Return whether the inputs are in a file already that is mapped into memory."""
    base: Any = dataset.train.inputs
    while base is not None:
        if isinstance(base, np.memmap | mmap.mmap):
            return True
        base = getattr(base, "base", None)
    return False


def write_shared(dataset: Dataset, folder: Path) -> None:
    """Write the arrays of a data set to a folder, for ``read_shared``.

    Raises:
        FedPruneError: If the folder cannot be written.
    """
    make_folder(folder)
    facts = {
        "num_outputs": dataset.num_outputs,
        "input_shape": list(dataset.input_shape),
        "name": dataset.name,
        "label_names": list(dataset.label_names),
        "owners": list(dataset.owners),
        "remarks": list(dataset.remarks),
        "offset": dataset.train.offset,
        "scale": dataset.train.scale,
    }
    try:
        for name in _PARTS:
            part: ArrayExamples = getattr(dataset, name)
            np.save(folder / f"{name}_inputs.npy", part.inputs, allow_pickle=False)
            np.save(folder / f"{name}_targets.npy", part.targets, allow_pickle=False)
        (folder / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
    except OSError as error:
        msg = f"cannot write the data for the workers to {folder}: {error}"
        raise FedPruneError(msg) from error


def read_shared(folder: Path) -> Dataset | None:
    """Return a data set whose inputs are mapped; None where the folder is not there."""
    path = folder / _FACTS
    if not path.is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    parts = {}
    for name in _PARTS:
        parts[name] = ArrayExamples(
            inputs=_mapped(folder / f"{name}_inputs.npy"),
            targets=_mapped(folder / f"{name}_targets.npy"),
            offset=facts["offset"],
            scale=facts["scale"],
        )
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


def _mapped(path: Path) -> Any:  # noqa: ANN401 - of any type
    return np.lib.format.open_memmap(path, mode="r")  # refuses Python objects
