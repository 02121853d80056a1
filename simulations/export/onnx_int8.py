"""Static post-training quantisation of an ONNX file to int8.

Weights are int8 per channel, activations uint8 per tensor, their ranges measured on
calibration data (training examples).  Weights use 7 bits, -64..64: processors without
VNNI add two products in 16 bits, which 8 bits overflow without a word (record 0095).
onnxruntime runs the file; the speed-up depends on the processor: without VNNI, DOT or
AMX it may be slower than float32.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprune.common.data.examples import Examples
from fedprune.common.errors import DataError, FedPruneError
from fedprune.common.system.atomic import write_bytes_atomic

Named = Mapping[str, NDArray[Any]]

CALIBRATION_EXAMPLES = 256
_BATCH = 32


def quantise_onnx(source: Path, target: Path, calibration: Sequence[Named]) -> None:
    """Write an int8 version of an ONNX file.

    Args:
        source: The float32 file.
        target: Path of the int8 file, written atomically.
        calibration: Batches of named inputs, at least one.

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
                reduce_range=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
        except Exception as error:
            msg = f"onnxruntime cannot quantise this network: {error}"
            raise FedPruneError(msg) from error
        write_bytes_atomic(target, written.read_bytes())


def _reader(quantization: Any, model: Path, batches: Sequence[Named]) -> Any:  # noqa: ANN401 - onnxruntime has no types
    """Return the reader of the calibration batches."""
    runtime: Any = import_module("onnxruntime")
    session = runtime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    known = {item.name for item in session.get_inputs()}

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Iterates over the batches."""

        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Named | None:
            """Return the next batch, None at the end."""
            batch = next(self.left, None)
            if batch is None:
                return None
            return {name: item for name, item in batch.items() if name in known}

    return Reader()


def input_batches(examples: Examples, limit: int) -> list[Any]:
    """Return the inputs of up to ``limit`` examples in batches of 32."""
    count = min(len(examples), limit)
    return [
        examples.batch(np.arange(start, min(start + _BATCH, count))).inputs
        for start in range(0, count, _BATCH)
    ]


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
