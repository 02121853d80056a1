"""The cores that this process may use."""

import os


def own_cores() -> int:
    """Return their number, >= 1: under ``taskset`` or Slurm not all of the machine."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
