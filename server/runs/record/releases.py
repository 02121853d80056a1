"""Releases of a run under differential privacy, noted on the disk before they leave.

A stopped run plays its last round again.  With the same answers the sums have the same
noise, and nothing more is told.  Answers of devices may be others (who was late, what a
GPU adds up): then what the events told before was one release more.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from fedprune.common.parsing import parse_json
from fedprune.common.privacy.spending import Release
from fedprune.common.system.atomic import storing
from fedprune.common.system.paths import open_to_append
from fedprune.server.rounds.answers import Answers

_DIGEST_BYTES = 16


class Releases:
    """The releases of one run, each counted once however often it is repeated.

    Args:
        folder: Folder of the run's checkpoints.
        run: "main", part of the file name.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._path = folder / f"{run}-releases.jsonl"
        self._known = set(self._read())

    def note(self, round_: int, hidden: Answers) -> None:
        """Write down what a round releases, before it does.

        Args:
            round_: The round.
            hidden: Its answers, with noise: what is public soon.
        """
        found = [(round_, kind.value, mark) for kind, mark in _marks(hidden)]
        fresh = [one for one in found if one not in self._known]
        if not fresh:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # On lines of their own, even behind one that a crash has torn.
        data = b"".join(b"\n" + json.dumps(one).encode() for one in fresh)
        with storing(self._path, len(data)), open_to_append(self._path) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._known.update(fresh)

    def counts(self) -> Mapping[Release, int]:
        """Return the releases of each quantity so far."""
        found = Counter(kind for _, kind, _ in self._known)
        return {release: found[release.value] for release in Release}

    def _read(self) -> Iterator[tuple[int, str, str]]:
        if not self._path.exists():
            return
        for line in self._path.read_bytes().split(b"\n"):
            try:
                round_, kind, mark = parse_json(line)
                one = int(round_), str(kind), str(mark)
            except (ValueError, TypeError):
                continue  # empty, or torn: nothing of it was released
            yield one


def _marks(hidden: Answers) -> Iterator[tuple[Release, str]]:
    """Yield each quantity that is released, and a digest of its noised values."""
    if not hidden.accepted:
        return
    shown, total = hidden.accepted[0], hidden.total
    if total.delta_sum.any():
        yield Release.DELTA, _digest(total.delta_sum.tobytes())
    yield Release.FIGURES, _digest(repr((shown.loss, shown.validation)).encode())
    if shown.importance is not None:
        yield Release.SCORES, _digest(shown.importance.tobytes())
    told = shown.statistics
    if told is not None:
        yield Release.MOMENTS, _digest(told.mean.tobytes() + told.variance.tobytes())


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
