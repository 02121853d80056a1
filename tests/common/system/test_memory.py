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


def output_of(code):
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def faults_of(first):
    return int(output_of(ARRAYS % first))


def test_a_trim_gives_back_what_was_freed_under_what_is_in_use():
    blocks = [bytearray(b"x") * (64 << 10) for _ in range(1600)]  # 100 MiB
    full = resident()
    del blocks[:-1]  # the last one lies above the hole
    trim_memory()
    assert full - resident() > 80 << 20
    assert blocks[0][0] == ord("x")


def test_spare_memory_is_given_back_once_it_is_more_than_is_kept(monkeypatch):
    # Resident bytes, and those in use, when it looks, and after a trim.
    levels = iter([1000, 700, 800, 801, 750, 850, 851, 700, 900, 900, 750])
    in_use = iter([0, 0, 0, 0, 0, 0, 0, 0, 101, 99, 50])
    trims, trimmed = [], []
    monkeypatch.setattr(memory, "_KEPT", 100)
    monkeypatch.setattr(memory, "_resident", lambda: next(levels))
    monkeypatch.setattr(memory, "_in_use", lambda: next(in_use))
    monkeypatch.setattr(memory, "trim_memory", lambda: trims.append(1))
    spare = SpareMemory()
    for _ in range(7):
        spare.bound()
        trimmed.append(len(trims))
    assert trimmed == [1, 1, 2, 2, 3, 3, 4]
    assert next(levels, None) is None


# Prints the growth after arrays were made, and after they were freed.
FREED = """
import numpy as np
from fedprune.common.system import memory
memory.keep_memory()
memory._KEPT = 50 << 20
spare = memory.SpareMemory()
before = memory._resident()
arrays = [np.ones(10 << 20, dtype=np.uint8) for _ in range(30)]
spare.bound()
print(memory._resident() - before >> 20)
del arrays[:-1]  # the last one lies above the hole
spare.bound()
print(memory._resident() - before >> 20)
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33"
)
def test_spare_memory_is_bounded_where_the_process_does_not_grow_again():
    # As where the deltas of a round wait one by one, and its sum alone in the next.
    made, left = (int(line) for line in output_of(FREED).split())
    assert made >= 290
    assert left < 100


def test_the_memory_of_this_process_is_what_the_system_says():
    assert memory._resident() == pytest.approx(resident(), rel=0.1)


def test_large_arrays_that_are_freed_are_kept_for_the_next_ones():
    # Large pages make faults fewer: what counts is that none of the four is made anew.
    kept = faults_of("keep_memory()")
    assert kept < 4 * SIZE // (2 << 20)
    assert faults_of("") > 2 * kept
