"""Memory under glibc: what is kept, and what is given back."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from fedprune.common.system import memory
from fedprune.common.system.memory import SpareMemory, trim_memory

ROLLUP = Path("/proc/self/smaps_rollup")
HAS_TRIM = ROLLUP.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")
PAGE = 4096
SIZE = 64 << 20  # more than glibc keeps by itself
# Prints the page faults of making an array a number of times.
ARRAYS = f"""
import resource
import numpy as np
from fedprune.common.system.memory import keep_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
%s
np.ones({SIZE}, dtype=np.uint8)
before = faults()
for _ in range(4):
    np.ones({SIZE}, dtype=np.uint8)
print(faults() - before)
"""

pytestmark = pytest.mark.skipif(not HAS_TRIM, reason="needs glibc and /proc")


def resident():
    (line,) = [x for x in ROLLUP.read_text().splitlines() if x.startswith("Rss:")]
    return 1024 * int(line.split()[1])


def faults_of(first):
    done = subprocess.run(
        [sys.executable, "-c", ARRAYS % first],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    return int(done.stdout)


def test_a_trim_gives_back_what_was_freed_under_what_is_in_use():
    blocks = [bytearray(b"x") * (64 << 10) for _ in range(1600)]  # 100 MiB
    full = resident()
    del blocks[:-1]  # the last one lies above the hole
    trim_memory()
    assert full - resident() > 80 << 20
    assert blocks[0][0] == ord("x")


def test_spare_memory_is_given_back_once_the_process_has_grown(monkeypatch):
    # Resident bytes when it looks, and after a trim.
    levels = iter([1000, 700, 800, 801, 750, 850, 851, 700])
    trims, trimmed = [], []
    monkeypatch.setattr(memory, "_KEPT", 100)
    monkeypatch.setattr(memory, "_resident", lambda: next(levels))
    monkeypatch.setattr(memory, "trim_memory", lambda: trims.append(1))
    spare = SpareMemory()
    for _ in range(5):
        spare.bound()
        trimmed.append(len(trims))
    assert trimmed == [1, 1, 2, 2, 3]
    assert next(levels, None) is None


def test_the_memory_of_this_process_is_what_the_system_says():
    assert memory._resident() == pytest.approx(resident(), rel=0.1)


def test_large_arrays_that_are_freed_are_kept_for_the_next_ones():
    # Large pages make faults fewer: what counts is that none of the four is made anew.
    kept = faults_of("keep_memory()")
    assert kept < 4 * SIZE // (2 << 20)
    assert faults_of("") > 2 * kept
