"""Recording of a whole run: the driver's own time, and what its workers hand over."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fedprune.common.profiling.activities import Activity, Profile, Spent, Tally
from fedprune.common.profiling.recorder import Recorder, active_recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProfile:
    """Profile of a run.

    Attributes:
        driver: What this process spent; with an engine in this process, the clients
            too.
        workers: What the workers spent, all together; empty without workers.
    """

    driver: Profile
    workers: Profile

    def of(self, activity: Activity) -> Spent:
        """Return what an activity took, wherever it ran."""
        return self.driver.of(activity) + self.workers.of(activity)

    @property
    def beside_training(self) -> tuple[float, float]:
        """CPU seconds of the clients' local training, and of their other work."""
        every = Tally()
        every.add(self.driver)
        every.add(self.workers)
        return every.profile.beside_training

    @property
    def total(self) -> Spent:
        """All activities of all processes together."""
        return self.driver.total + self.workers.total


@contextmanager
def recording(*, wanted: bool) -> Iterator[Recorder | None]:
    """Record this thread while the block runs; a recording under way goes on.

    Args:
        wanted: Whether anything is recorded; without it None is yielded.
    """
    under_way = active_recorder()
    if not wanted or under_way is not None:
        yield under_way
        return
    recorder = Recorder(Activity.OTHER, sampled=True)
    with recorder.active():
        yield recorder


def run_profile(recorder: Recorder) -> RunProfile:
    """Return what a recorder has found since it was asked last."""
    return RunProfile(driver=recorder.take(), workers=recorder.others)
