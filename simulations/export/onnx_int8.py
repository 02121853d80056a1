"""Static post-training quantisation of an ONNX file to int8, with its accuracy.

Weights are int8 per channel, activations uint8 per tensor, their ranges measured on
calibration data (training examples).  onnxruntime runs the file; the speed-up depends
on the processor: without VNNI, DOT or AMX it may be slower than float32.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedprune.common.data.examples import Examples
from fedprune.common.errors import DataError, FedPruneError
from fedprune.common.system.atomic import write_bytes_atomic

Array = NDArray[np.float32]
Runner = Callable[[Array], Array]

CALIBRATION_EXAMPLES = 256
_BATCH = 32


def quantise_onnx(source: Path, target: Path, calibration: Sequence[Array]) -> None:
    """Write an int8 version of an ONNX file.

    Args:
        source: The float32 file.
        target: Path of the int8 file, written atomically.
        calibration: Batches of inputs, float32[n, ...], at least one.

    Raises:
        DataError: If there is no calibration data.
        FedPruneError: If onnxruntime cannot quantise the file.
    """
    if not calibration:
        msg = "there is no calibration data; int8 needs training examples"
        raise DataError(msg)
    quantization: Any = import_module("onnxruntime.quantization")
    shape_inference: Any = import_module("onnxruntime.quantization.shape_inference")
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder, _silent():
        prepared, written = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        try:
            shape_inference.quant_pre_process(str(source), str(prepared))
            quantization.quantize_static(
                str(prepared),
                str(written),
                _reader(quantization, prepared, calibration),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:
            msg = f"onnxruntime cannot quantise this network: {error}"
            raise FedPruneError(msg) from error
        write_bytes_atomic(target, written.read_bytes())


def _reader(quantization: Any, model: Path, batches: Sequence[Array]) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return the reader of the calibration batches."""
    runtime: Any = import_module("onnxruntime")
    session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Iterates over the batches."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next batch, None at the end."""
            batch = next(self.left, None)
            return None if batch is None else {name: batch}

    return Reader()


def input_batches(examples: Examples, limit: int) -> list[Array]:
    """Return up to ``limit`` inputs in batches of 32, float32[n, ...]."""
    count = min(len(examples), limit)
    return [
        examples.batch(np.arange(start, min(start + _BATCH, count)))[0].numpy()
        for start in range(0, count, _BATCH)
    ]


def torch_runner(model: nn.Module) -> Runner:
    """Return a function that runs a torch network on a batch."""

    def run(batch: Array) -> Array:
        with torch.no_grad():
            found: Array = model(torch.from_numpy(batch)).numpy()
        return found

    return run


def accuracy(runner: Runner, examples: Examples) -> float:
    """Return the share of examples that a runner classifies correctly, in [0, 1].

    Raises:
        DataError: If there is no example.
    """
    if len(examples) == 0:
        msg = "there is no test example to measure the accuracy on"
        raise DataError(msg)
    right = 0
    for start in range(0, len(examples), _BATCH):
        places = np.arange(start, min(start + _BATCH, len(examples)))
        inputs, targets = examples.batch(places)
        found = runner(inputs.numpy()).argmax(axis=1)
        right += int((found == targets.numpy()).sum())
    return right / len(examples)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread, so that times and sums are reproducible."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silence the advice of onnxruntime on the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
