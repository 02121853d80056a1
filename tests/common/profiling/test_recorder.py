"""Activities exclude each other and add up; without a recorder nothing counts."""

import gc
import threading
import time
from itertools import count

import pytest

from fedprune.common.profiling.activities import Activity, Profile, Spent, Tally
from fedprune.common.profiling.plain import profile_in, profile_out
from fedprune.common.profiling.recorder import (
    Recorder,
    absorb,
    active_recorder,
    during,
    timed,
)
from fedprune.common.profiling.sampler import cpu_clock, stack_of

BUSY_S = 0.4  # CPU seconds of a busy function: many samples


class Hands:
    """Clocks that are moved by hand: CPU seconds, and seconds of the wall."""

    def __init__(self, cpu=0.0):
        self.cpu, self.wall = cpu, 100.0

    def __call__(self):
        return self.cpu, self.wall

    def move(self, cpu, wall):
        self.cpu += cpu
        self.wall += wall


def test_an_inner_activity_takes_its_time_out_of_the_outer_one():
    hands = Hands()
    recorder = Recorder(Activity.OTHER, clocks=hands)
    with recorder.active():
        hands.move(1.0, 2.0)
        with during(Activity.SELECTION):
            hands.move(4.0, 5.0)
            with during(Activity.STORING):
                hands.move(0.5, 8.0)
            hands.move(2.0, 2.0)
        hands.move(0.25, 0.25)
    assert recorder.take().spent == {
        Activity.OTHER: Spent(calls=0, cpu_s=1.25, wall_s=2.25),
        Activity.SELECTION: Spent(calls=1, cpu_s=6.0, wall_s=7.0),
        Activity.STORING: Spent(calls=1, cpu_s=0.5, wall_s=8.0),
    }


def test_all_activities_together_are_the_whole_time():
    hands, steps = Hands(), count(1)
    recorder = Recorder(Activity.OTHER, clocks=hands)
    with recorder.active():
        for activity in Activity:
            hands.move(next(steps), next(steps))
            with during(activity):
                hands.move(next(steps), next(steps))
    total = recorder.take().total
    assert (total.cpu_s, 100.0 + total.wall_s) == (hands.cpu, hands.wall)
    assert total.calls == len(Activity)


def test_an_error_ends_its_activity():
    hands = Hands()
    recorder = Recorder(Activity.OTHER, clocks=hands)

    @timed(Activity.ENCODING)
    def fails():
        """Fail after a second."""
        hands.move(1.0, 1.0)
        raise KeyError

    with recorder.active():
        with pytest.raises(KeyError):
            fails()
        hands.move(3.0, 3.0)
    spent = recorder.take().spent
    assert spent[Activity.ENCODING] == Spent(calls=1, cpu_s=1.0, wall_s=1.0)
    assert spent[Activity.OTHER] == Spent(calls=0, cpu_s=3.0, wall_s=3.0)
    assert fails.__doc__ == "Fail after a second."


def test_what_was_taken_is_not_counted_again_and_what_is_open_goes_on():
    hands = Hands()
    recorder = Recorder(Activity.IDLE, clocks=hands)
    with recorder.active(), during(Activity.JOBS):
        hands.move(1.0, 1.0)
        first = recorder.take()
        hands.move(2.0, 2.0)
        second = recorder.take()
    assert first.of(Activity.JOBS) == Spent(calls=1, cpu_s=1.0, wall_s=1.0)
    assert second.of(Activity.JOBS) == Spent(calls=0, cpu_s=2.0, wall_s=2.0)


def test_the_cpu_time_before_a_recording_can_be_counted():
    hands = Hands(cpu=7.0)
    spent = Recorder(Activity.IDLE, clocks=hands, before=Activity.STARTING).take().spent
    assert spent[Activity.STARTING] == Spent(calls=1, cpu_s=7.0)
    assert Recorder(Activity.IDLE, clocks=hands).take().total.cpu_s == 0.0


def test_nothing_is_recorded_without_a_recorder_or_in_another_thread():
    hands = Hands()
    recorder = Recorder(Activity.OTHER, clocks=hands)

    def elsewhere():
        assert active_recorder() is None
        with during(Activity.TRAINING):
            hands.move(1.0, 1.0)

    with during(Activity.TRAINING):
        hands.move(1.0, 1.0)
    absorb(Profile(spent={Activity.DATA: Spent(cpu_s=1.0)}))
    with recorder.active():
        assert active_recorder() is recorder
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert active_recorder() is None
    assert Activity.TRAINING not in recorder.take().spent
    assert recorder.others == Profile()


def test_profiles_of_other_processes_add_up():
    one = Profile(
        spent={Activity.DATA: Spent(calls=1, cpu_s=0.5, wall_s=1.0)},
        stacks={("clients", "data", "f"): 0.25, ("clients", "data", "g"): 0.25},
    )
    recorder = Recorder(Activity.OTHER)
    with recorder.active():
        absorb(one)
        absorb(None)
        absorb(Profile(stacks={("clients", "data", "g"): 0.5}))
    assert recorder.others == Profile(
        spent=one.spent,
        stacks={("clients", "data", "f"): 0.25, ("clients", "data", "g"): 0.75},
    )
    assert Tally().profile == Profile()


def busy():
    """Use the CPU for a while."""
    end = time.thread_time() + BUSY_S
    while time.thread_time() < end:
        sum(range(1000))


def test_samples_name_the_activity_and_the_functions_below_it():
    recorder = Recorder(Activity.OTHER, sampled=True)
    before = time.thread_time()
    with recorder.active():
        with during(Activity.SCORING):
            busy()
        time.sleep(0.1)  # costs nothing
    spent = time.thread_time() - before
    stacks = recorder.take().stacks
    name = f"{__name__}.busy"
    below = sum(s for stack, s in stacks.items() if stack[:3] == (*SCORING, name))
    assert BUSY_S / 2 < below <= spent
    assert sum(stacks.values()) <= spent
    assert recorder.take().stacks == {}


SCORING = ("clients", "scoring")


def test_a_sampler_ends_with_its_block():
    names = {thread.name for thread in threading.enumerate()}
    assert "sampler" not in names
    recorder = Recorder(Activity.OTHER, sampled=True)
    for _ in range(2):  # a worker is recorded once a job
        with recorder.active():
            assert "sampler" in {thread.name for thread in threading.enumerate()}
        assert "sampler" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("collects", [True, False])
def test_the_stack_of_a_thread_is_whole_and_collection_is_as_before(collects):
    before = gc.isenabled()
    ready, ended = threading.Event(), threading.Event()

    def outer():
        inner()

    def inner():
        ready.set()
        ended.wait()

    thread = threading.Thread(target=outer)
    thread.start()
    ready.wait()
    try:
        (gc.enable if collects else gc.disable)()
        names = [frame.f_code.co_name for frame in stack_of(thread.ident)]
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
        ended.set()
        thread.join()
    assert names[0] == "_bootstrap"
    assert names.index("outer") + 1 == names.index("inner")
    assert stack_of(thread.ident) == []


def test_the_clock_of_a_thread_is_its_own():
    found = []

    def waits(clock):
        found.append(clock())

    spent = cpu_clock(threading.get_ident())
    before = spent()
    busy()
    assert spent() - before >= BUSY_S
    thread = threading.Thread(target=lambda: waits(time.thread_time))
    thread.start()
    thread.join()
    assert found[0] < BUSY_S


def test_a_profile_comes_back_from_plain_values():
    profile = Profile(
        spent={
            Activity.TRAINING: Spent(calls=3, cpu_s=0.125, wall_s=1e9),
            Activity.IDLE: Spent(),
        },
        stacks={("clients", "data", "ç"): 0.5, ("clients", "ç", "ç"): 1.5},
    )
    plain = profile_out(profile)
    assert profile_in(plain) == profile
    assert plain[1] == ["clients", "data", "ç"]  # each name once


def test_data_and_teacher_count_as_training():
    spent = {
        Activity.DATA: Spent(cpu_s=1.0),
        Activity.TEACHER: Spent(cpu_s=2.0),
        Activity.TRAINING: Spent(cpu_s=4.0),
        Activity.ENCODING: Spent(cpu_s=8.0),
        Activity.OPENING: Spent(cpu_s=16.0),
        Activity.DECODING: Spent(cpu_s=32.0),
    }
    assert Profile(spent=spent).beside_training == (7.0, 24.0)
