"""Imports of the measuring processes, made once: they take longer than most networks.

This module is imported by the process that the measuring ones are forked from.
"""

import os
from contextlib import suppress
from importlib import import_module

import torch

from fedprune.common.models.zoo import import_torchvision

LIBRARIES = ("timm", "transformers", "torch_pruning", "torch.onnx", "onnxruntime")

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
torch.set_num_threads(1)
with suppress(ImportError):
    import_torchvision()
for _name in LIBRARIES:
    with suppress(ImportError):  # the network that needs it reports it
        import_module(_name)
import_module("fedprune.simulations.benchmarks.kit.coverage.measure")
