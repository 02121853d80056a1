"""Workers that die, fall silent or never come: replaced, and each job answered once."""

import threading

import pytest

from fedprune.common.errors import FedPruneError, StorageError

pytest.importorskip("ray")
from ray.exceptions import RayActorError, RayTaskError

from fedprune.simulations.engines import pool as pool_module
from fedprune.simulations.engines.pool import Pool

DIES, HANGS, RAISES, ABSENT = "dies", "hangs", "raises", "absent"
FULL = "full"


class Call:
    """A call of an actor: its value, the error that it raises, or nothing yet."""

    def __init__(self, value=None, *, error=None, done=True):
        self.value, self.error, self.done = value, error, done


class Ping:
    """A ping, which is answered as soon as its process runs."""

    error = None

    def __init__(self, actor):
        self.actor, self.value = actor, f"{actor.number} on host"

    @property
    def done(self):
        return not self.actor.stopped


class Method:
    def __init__(self, call):
        self.remote = call


class Actor:
    """A worker with a fate for each of its jobs; after the last it lives on."""

    def __init__(self, number, fates):
        self.number, self.fates = number, list(fates)
        self.dead, self.stopped, self.played = ABSENT in fates, False, []
        self.ping, self.play = Method(self._ping), Method(self._play)

    def _ping(self):
        if self.dead:
            return Call(error=RayActorError())
        return Ping(self)

    def _play(self, data):
        self.played.append(data)
        fate = self.fates.pop(0) if self.fates else ""
        if fate == HANGS:
            self.stopped = True
            return Call(done=False)
        if fate == DIES or self.dead:
            self.dead = True
            return Call(error=RayActorError())
        if fate == RAISES:
            return Call(error=RayTaskError("play", "no module", ImportError("x")))
        if fate == FULL:
            return Call(error=RayTaskError("play", "a traceback", StorageError("full")))
        return Call(b"answer to " + data)


class FakeRay:
    """Ray, as far as a pool uses it: ``fates`` of its actors, in order.

    New actors come up once as many as ``kills`` have been killed.
    """

    def __init__(self, fates):
        self.fates, self.actors, self.killed = list(fates), [], []
        self.kills = 0

    def options(self, **resources):
        assert resources == {"num_cpus": 1, "num_gpus": 0.5}
        return self

    def remote(self, packed):
        assert packed == b"app"
        fates = self.fates.pop(0) if self.fates else ()
        self.actors.append(Actor(len(self.actors), fates))
        self.actors[-1].stopped = len(self.killed) < self.kills
        return self.actors[-1]

    def wait(self, calls, *, timeout):
        assert timeout >= 0
        return [call for call in calls if call.done], None

    def get(self, call):
        assert call.done
        if call.error is not None:
            raise call.error
        return call.value

    def kill(self, actor):
        actor.dead = True
        self.killed.append(actor.number)
        for one in self.actors if len(self.killed) == self.kills else ():
            one.stopped = False

    def is_initialized(self):
        return True


@pytest.fixture
def started(monkeypatch):
    """Return a maker of pools on a fake Ray."""
    monkeypatch.setattr(pool_module, "_POLL_S", 0.0)

    def make(*fates, count=1):
        ray = FakeRay(fates)
        monkeypatch.setattr(pool_module, "ray", ray)
        monkeypatch.setattr(pool_module, "_ACTOR", ray)
        pool = Pool(count, 0.5)
        pool.start(b"app")
        return pool, ray

    return make


def test_a_job_is_answered_by_a_worker_that_stays(started):
    pool, ray = started()
    assert [pool.play("j", data) for data in (b"1", b"2")] == [
        b"answer to 1",
        b"answer to 2",
    ]
    (actor,) = ray.actors
    assert actor.played == [b"1", b"2"]
    assert pool.losses() == []


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        (DIES, "its process or its node ended"),
        (HANGS, "it did not respond for 60 s"),
    ],
)
def test_a_lost_worker_is_killed_replaced_and_told_and_its_job_is_played_once_more(
    started, fate, reason
):
    pool, ray = started([fate])
    assert pool.play("j1", b"1") == b"answer to 1"
    assert ray.killed == [0]
    assert [actor.played for actor in ray.actors] == [[b"1"], [b"1"]]
    (loss,) = pool.losses()
    assert (loss.job, loss.worker, loss.reason) == ("j1", "0 on host", reason)
    assert pool.losses() == []
    assert pool.play("j2", b"2") == b"answer to 2"
    assert ray.actors[1].played == [b"1", b"2"]


def test_a_worker_that_dies_between_two_jobs_is_replaced_too(started):
    pool, ray = started()
    pool.play("j1", b"1")
    ray.actors[0].dead = True
    assert pool.play("j2", b"2") == b"answer to 2"
    assert [loss.job for loss in pool.losses()] == ["j2"]


@pytest.mark.parametrize("how", ["dead", "stopped"])
def test_workers_that_end_while_they_are_idle_are_no_fault_of_a_job(started, how):
    pool, ray = started(count=6)
    pool.play("j1", b"1")
    for actor in ray.actors:
        setattr(actor, how, True)
    ray.kills = 6
    assert pool.play("j2", b"2") == b"answer to 2"
    assert ray.killed == [5, 4, 3, 2, 1, 0]
    assert len(pool.losses()) == 6
    assert [actor.played for actor in ray.actors if b"2" in actor.played] == [[b"2"]]


def test_a_job_is_not_dealt_for_ever_where_no_worker_stays(started, monkeypatch):
    pool, ray = started(count=2)
    ping = ray.wait

    def wait(calls, *, timeout):
        for actor in ray.actors if timeout else ():
            actor.dead = True  # it came up, and ends before it is sent a job
            calls[0].error = RayActorError()
        return ping(calls, timeout=timeout)

    monkeypatch.setattr(ray, "wait", wait)
    with pytest.raises(FedPruneError, match="no worker stays until it is sent a job"):
        pool.play("j", b"1")
    assert len(pool.losses()) == 6
    assert all(actor.played == [] for actor in ray.actors)


def test_a_worker_that_answers_pings_may_take_any_time(started, monkeypatch):
    pool, ray = started([HANGS])
    real, waits = ray.wait, []

    def wait(calls, *, timeout):
        if timeout:
            waits.append(timeout)
            actor = ray.actors[0]
            actor.stopped = False  # it answers pings, and plays on
            if len(waits) == 1000:
                calls[0].done, calls[0].value = True, b"late"
        return real(calls, timeout=timeout)

    monkeypatch.setattr(ray, "wait", wait)
    assert pool.play("j", b"1") == b"late"
    assert pool.losses() == []
    assert len(waits) == 1000


def test_a_job_that_ends_every_worker_ends_the_run_and_says_so(started):
    pool, ray = started(*[[DIES]] * 4)
    with pytest.raises(FedPruneError, match="has ended 4 workers, the last one 3 on"):
        pool.play("j", b"1")
    assert len(pool.losses()) == 4
    assert len(ray.actors) == 5


def test_what_a_job_raises_is_no_loss_and_the_worker_stays(started):
    pool, ray = started([RAISES])
    with pytest.raises(RayTaskError):
        pool.play("j", b"1")
    assert pool.play("j", b"2") == b"answer to 2"
    assert len(ray.actors) == 1
    assert pool.losses() == []


def test_a_disk_that_fails_is_told_without_a_traceback(started):
    pool, ray = started([FULL])
    with pytest.raises(StorageError, match=r"^full$") as caught:
        pool.play("j", b"1")
    assert not isinstance(caught.value, RayTaskError)
    assert len(ray.actors) == 1
    assert pool.losses() == []


def test_workers_that_end_before_they_are_there_are_started_again(started):
    pool, ray = started([ABSENT], [ABSENT])
    assert pool.play("j", b"1") == b"answer to 1"
    assert [actor.played for actor in ray.actors] == [[], [], [b"1"]]
    assert pool.losses() == []


def test_without_any_worker_the_run_ends_in_one_line(started, monkeypatch):
    pool, _ = started(*[[ABSENT]] * 1000)
    now = iter(range(0, 100_000, 50))
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: next(now))
    pool._last_alive = 0
    with pytest.raises(FedPruneError, match="no worker is left") as caught:
        pool.play("j", b"1")
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


def test_a_pool_that_ends_kills_all_and_plays_no_more(started):
    pool, ray = started(count=3)
    pool.play("j", b"1")
    pool.end()
    assert sorted(ray.killed) == [0, 1, 2]
    with pytest.raises(FedPruneError, match="the run is ending"):
        pool.play("j", b"2")
    assert len(ray.actors) == 3


def test_all_bytes_that_move_are_counted_also_those_in_vain(started):
    pool, _ = started([DIES], count=2)
    app, sent, answered = len(b"app"), len(b"12345"), len(b"answer to 12345")
    pool.play("j", b"12345")
    total = pool.moved()
    lost = len(pool.losses())
    assert total == app * (2 + lost) + sent * (1 + lost) + answered
    assert pool.moved() == 0


def test_two_threads_never_share_a_worker(started, monkeypatch):
    pool, ray = started(count=2)
    real = ray.wait
    both = threading.Barrier(2, timeout=10)

    def wait(calls, *, timeout):
        if timeout:
            both.wait()
        return real(calls, timeout=timeout)

    monkeypatch.setattr(ray, "wait", wait)
    threads = [threading.Thread(target=pool.play, args=("j", b"1")) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(actor.played for actor in ray.actors) == [[b"1"], [b"1"]]
