"""The codec's inner loops, compiled: the same bits as the numpy ones, in less time.

``kernels()`` is what this process runs: the compiled library, or None for numpy, which
is the reference and stands in where there is no library.  ``FEDPRUNE_CODER`` = "numpy"
or "native" decides instead of the default.
"""

from fedprune.common.native.choice import describe, kernels
from fedprune.common.native.interface import Pool, RunModel
from fedprune.common.native.library import Kernels

__all__ = ["Kernels", "Pool", "RunModel", "describe", "kernels"]
