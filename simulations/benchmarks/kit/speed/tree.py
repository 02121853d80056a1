"""CPU seconds of a process and all its descendants, also of those that have ended."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedprune.simulations.benchmarks.kit.fleet import descendants

Key = tuple[int, int]  # process id and the time of its start: ids are used again
_HZ = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name in brackets.
_PARENT, _OWN, _REAPED, _START = 1, slice(11, 13), slice(13, 15), 19
_IDLE = slice(3, 5)  # idle and iowait in the first line of /proc/stat


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Figures of one process at one reading.

    Attributes:
        parent: Process id of its parent.
        own: Ticks that it has used, all threads.
        reaped: Ticks of descendants that have ended and were waited for.
    """

    parent: int
    own: int
    reaped: int

    @property
    def ticks(self) -> int:
        """Ticks that only this process still accounts for."""
        return self.own + self.reaped


Reading = Mapping[Key, Seen]


class TreeClock:
    """CPU seconds of a process tree, which never run backwards.

    Linux forgets what a process used that ended without being waited for, as Ray's
    workers do.  So what was seen of it at the last reading is kept.  What it uses after
    its last reading is lost: read often.

    Args:
        root: Process id of the root.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._last: Reading = {}
        self._lost = 0
        self._sum = 0

    def seconds(self) -> float:
        """Read the tree; return the CPU seconds, user and system, since it began."""
        now = _read_tree(self._root, self._last)
        self._lost += lost_ticks(self._last, now)
        self._last = now
        found = self._lost + sum(seen.ticks for seen in now.values())
        self._sum = max(self._sum, found)
        return self._sum / _HZ


def lost_ticks(before: Reading, now: Reading) -> int:
    """Return the ticks of processes that ended between two readings unaccounted for.

    A process that ended is accounted for where its nearest living ancestor's reaped
    ticks have grown by what was seen of it.
    """
    parents = {pid: seen.parent for (pid, _), seen in before.items()}
    living = {key[0]: key for key in now if key in before}
    claims: Counter[int] = Counter()
    for key, seen in before.items():
        if key not in now:
            claims[_ancestor(seen.parent, parents, living)] += seen.ticks
    lost = 0
    for pid, claimed in claims.items():
        grown = 0
        if pid in living:
            key = living[pid]
            grown = now[key].reaped - before[key].reaped
        lost += max(0, claimed - grown)
    return lost


def own_pss_mb(pid: int) -> float:
    """Return the memory of one process, PSS in MB (10^6 bytes); 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0.0
    line = next((x for x in text.splitlines() if x.startswith("Pss:")), "Pss: 0")
    return int(line.split()[1]) * 1024 / 1e6


def busy_seconds() -> float:
    """Return the CPU seconds that the whole machine has been busy since its start."""
    line = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0]
    # Time of guests is part of user and nice already.
    ticks = [int(word) for word in line.split()[1:9]]
    return (sum(ticks) - sum(ticks[_IDLE])) / _HZ


def _ancestor(pid: int, parents: Mapping[int, int], living: Mapping[int, Key]) -> int:
    """Return the nearest ancestor that lives, from a process upwards; 0 = none."""
    passed: set[int] = set()
    while pid not in living and pid in parents and pid not in passed:
        passed.add(pid)
        pid = parents[pid]
    return pid if pid in living else 0


def _read_tree(root: int, before: Reading) -> dict[Key, Seen]:
    """Read a tree, and what lives of its last reading but has left it since."""
    found = _below(root)
    for key in before:
        if key not in found:
            read = _read(key[0])
            if read is not None and read[0] == key:  # the id is not used again
                found |= _below(key[0])
    return found


def _below(pid: int) -> dict[Key, Seen]:
    """Read a process and its descendants."""
    read = [_read(each) for each in (pid, *descendants(pid))]
    return dict(each for each in read if each is not None)


def _read(pid: int) -> tuple[Key, Seen] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    seen = Seen(
        parent=int(words[_PARENT]),
        own=sum(int(word) for word in words[_OWN]),
        reaped=sum(int(word) for word in words[_REAPED]),
    )
    return (pid, int(words[_START])), seen
