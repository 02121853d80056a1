"""Bytes of integers coded by NNCodec; run by an interpreter of its own, never imported.

NNCodec 2.1.3 needs another numpy than we do, so ``make rival-nncodec`` builds it an
environment of its own.  ``PYTHON nncodec_script.py FOLDER`` reads the arrays
"update/NAME" and "base/NAME", little-endian int32 in ``integers.bin`` with their names
and shapes in ``index.json``, and prints one line of JSON: the bytes of the updates
alone, and with the base known to both ends (its temporal contexts), each decoded and
compared before it is counted.
"""

import json
import sys
import types
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import override

# Imported at the top of NNCodec for its model zoo and its Flower client, and not used
# to code integers.
_UNUSED = (
    "torchvision", "torchvision.datasets", "torchvision.transforms",
    "torchvision.models", "cv2", "torchmetrics", "ptflops", "flwr", "flwr.client",
    "flwr.common", "flwr.server", "flwr.server.strategy", "pandas", "sklearn",
    "sklearn.metrics", "wandb", "sentencepiece",
)  # fmt: skip
_OPTIONS: dict[str, Any] = {
    "bitstream_path": None,
    "return_bitstream": True,
    "row_skipping": True,
    "param_opt": True,
}
Array = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
Arrays = dict[str, Array]


class _Named(type):
    """The type of a class that has a class of any name in it."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)


class _Anything(types.ModuleType):
    """A module in which every name is a class with any arguments."""

    @override
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _stub(name)


def _stub(name: str) -> type:
    return _Named(name, (), {"__init__": lambda self, *a, **k: None})


def main(path: str) -> None:
    """Encode the arrays of the folder and print the bytes."""
    for name in _UNUSED:
        sys.modules[name] = _Anything(name)
    nnc = import_module("nncodec.nnc")
    arrays = _read(Path(path))
    update, base = _part(arrays, "update/"), _part(arrays, "base/")
    print(json.dumps({"alone": _alone(nnc, update), "base": _based(nnc, update, base)}))


def _read(folder: Path) -> Arrays:
    flat = np.fromfile(folder / "integers.bin", dtype="<i4").astype(np.int32)
    found: Arrays = {}
    start = 0
    for name, shape in json.loads((folder / "index.json").read_text("utf-8")).items():
        end = start + int(np.prod(shape))
        found[name] = flat[start:end].reshape(shape)
        start = end
    return found


def _part(arrays: Arrays, start: str) -> Arrays:
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def _alone(nnc: types.ModuleType, update: Arrays) -> int:
    data = nnc.compress(dict(update), compress_differences=False, **_OPTIONS)
    _compare(nnc.decompress(data), update)
    return len(data)


def _based(nnc: types.ModuleType, update: Arrays, base: Arrays) -> int:
    sender, receiver = _empty(), _empty()
    first = nnc.compress(
        dict(base),
        compress_differences=False,
        tca=False,
        approx_param_base=sender,
        update_base_param=True,
        **_OPTIONS,
    )
    data = nnc.compress(
        dict(update),
        compress_differences=True,
        tca=True,
        approx_param_base=sender,
        **_OPTIONS,
    )
    nnc.decompress(first, approx_param_base=receiver, update_base_param=True)
    _compare(nnc.decompress(data, approx_param_base=receiver), update)
    return len(data)


def _empty() -> dict[str, Any]:
    return {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}}


def _compare(found: Mapping[str, Array], update: Arrays) -> None:
    for name, values in update.items():
        if not np.array_equal(np.asarray(found[name]).reshape(values.shape), values):
            sys.exit(f"NNCodec lost {name}")


if __name__ == "__main__":
    main(sys.argv[1])
