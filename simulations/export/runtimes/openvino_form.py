"""A network in OpenVINO's form: ``NAME.xml`` and ``NAME.bin`` beside it.

It is made of the ONNX file, so preprocessing, free batch size, and int8 as nodes of
quantisation are those of the ONNX file.  ``openvino.convert_model`` is not used: it
reports its use to its makers, and ``Core.read_model`` does not.
"""

import tempfile
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.text import first_line, not_installed
from fedprune.simulations.export.onnx_file import NamedRunner

ENDING = ".xml"
WEIGHTS = ".bin"

# One thread, like the torch network that it is compared with, and in its precision:
# on a processor with bfloat16 OpenVINO would compute in that.
_PLACE = {
    "INFERENCE_NUM_THREADS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,  # the core may be another process's
}


def need_openvino() -> None:
    """Refuse when OpenVINO is absent.

    Raises:
        ConfigError: With the command that installs it.
    """
    if find_spec("openvino") is None:
        raise ConfigError(not_installed("OpenVINO", "openvino", "openvino"))


def check_weights(target: Path) -> None:
    """Refuse weights beside which no network lies: they are of something else.

    Args:
        target: ``NAME.xml``, an existing one is replaced with its weights.

    Raises:
        ConfigError: If ``NAME.bin`` is there and ``NAME.xml`` is not.
    """
    weights = target.with_suffix(WEIGHTS)
    if weights.exists() and not target.exists():
        msg = f"{weights} is there, and no {target.name} that it belongs to; want "
        msg += "another name, or move it away"
        raise ConfigError(msg)


def write_openvino(source: Path, target: Path, facts: Mapping[str, str]) -> int:
    """Write an ONNX file in OpenVINO's form, with float32 weights as they are.

    Args:
        source: The ONNX file.
        target: ``NAME.xml``; ``NAME.bin`` is written first.
        facts: Metadata, stored as ``rt_info`` below ``fedprune``.

    Returns:
        The bytes of both files.

    Raises:
        ConfigError: If OpenVINO is missing.
        FedPruneError: If it cannot read the file.
    """
    need_openvino()
    openvino: Any = import_module("openvino")
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        written = Path(folder) / f"network{ENDING}"
        try:
            network = openvino.Core().read_model(str(source))
            for key, value in facts.items():
                network.set_rt_info(value, ["fedprune", key])
            openvino.save_model(network, str(written), compress_to_fp16=False)
        except Exception as error:
            msg = f"OpenVINO cannot read this network: {first_line(error)}"
            raise FedPruneError(msg) from error
        weights = written.with_suffix(WEIGHTS).read_bytes()
        form = written.read_bytes()
    write_bytes_atomic(target.with_suffix(WEIGHTS), weights)
    write_bytes_atomic(target, form)
    return len(form) + len(weights)


def openvino_bytes(source: Path) -> int:
    """Return the bytes of an ONNX file in OpenVINO's form."""
    with tempfile.TemporaryDirectory(prefix="fedprune-") as folder:
        return write_openvino(source, Path(folder) / f"network{ENDING}", {})


def openvino_runner(path: Path) -> NamedRunner:
    """Return a function that runs a file on named inputs, on one thread of the CPU.

    Args:
        path: ``NAME.xml`` beside its weights, or an ONNX file.

    Raises:
        ConfigError: If OpenVINO is missing.
        FedPruneError: If it cannot load the file.
    """
    need_openvino()
    openvino: Any = import_module("openvino")
    try:
        network = openvino.Core().compile_model(str(path), "CPU", _PLACE)
    except Exception as error:
        msg = f"{path}: OpenVINO cannot load it: {first_line(error)}"
        raise FedPruneError(msg) from error
    known = {name for item in network.inputs for name in item.names}

    def run(inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        given = {name: item for name, item in inputs.items() if name in known}
        try:
            found = network(given)
        except Exception as error:
            msg = f"{path}: OpenVINO cannot run it: {first_line(error)}"
            raise FedPruneError(msg) from error
        return [np.array(found[item]) for item in network.outputs]

    return run
