"""Checkpoints: whole, or refused, named and replaced by the one before."""

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.states import state_from_bytes, state_to_bytes
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.errors import IntegrityError
from fedprune.common.messages import Phase, Statistics
from fedprune.common.spec import PrunePlan, WeightMask
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.ledger import ClientLedger, Ledgers
from fedprune.server.rounds.records import Validations, validations_of
from fedprune.server.rounds.state import (
    OptimizerState,
    SentBroadcast,
    ServerState,
    Snapshot,
    Totals,
)
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.runs import checkpoint, parts
from fedprune.server.runs.checkpoint import Checkpoints

IDENTITY = "a" * 32


def floats(seed, size):
    return np.random.default_rng(seed).normal(size=size).astype(np.float32)


def make_plan(seed, *, rollback=False):
    keep = np.random.default_rng(seed).random(13) < 0.6
    parent = bytes([seed]) * 16
    return PrunePlan(structure=b"s" * 16, keep=keep, parent=parent, rollback=rollback)


def make_statistics(seed):
    mean = floats(seed, 5)
    return Statistics(
        num_examples=seed, mean=mean, variance=mean**2, running=floats(seed + 1, 3)
    )


def make_validations(seed):
    rng = np.random.default_rng(seed)
    return Validations(
        clients=("a", "b", "c"),
        losses=rng.exponential(size=3),
        metrics=rng.random(3),
        counts=np.array([3, 1, seed], dtype=np.int64),
    )


def make_state(round_):
    """Return a state in which no field has its default."""
    return ServerState(
        round=round_,
        cursor=Cursor(
            phase=Phase.FINETUNE,
            index=2,
            cycle=3,
            progress=0.1 + 0.2,
            step=1 / 3,
            before=0.1,
            final=True,
            closing=True,
            done=True,
        ),
        plan=make_plan(1, rollback=True),
        weights=floats(round_, 50),
        statistics=make_statistics(7),
        importance=floats(3, 13),
        dense=Snapshot(
            round=2,
            plan=make_plan(4),
            weights=floats(6, 70),
            digest=b"e" * 16,
            statistics=make_statistics(9),
            validations=make_validations(11),
        ),
        previous=Snapshot(
            round=4,
            plan=make_plan(2),
            weights=floats(4, 60),
            digest=b"d" * 16,
            statistics=make_statistics(8),
            validations=make_validations(12),
            optimizer=OptimizerState(momentum=floats(8, 60)),
        ),
        zero_shares=(0.1, 0.25),
        ledgers=Ledgers.of(
            {
                "b": ClientLedger(
                    acknowledged=3, structure=True, teacher=b"t" * 16, held=2
                ),
                "a": ClientLedger(acknowledged=0, structure=False, mask=True),
            }
        ),
        sent=(
            SentBroadcast(round=3, keep=make_plan(5).keep, full=b"\0\xff whole"),
            SentBroadcast(round=5, keep=make_plan(1).keep, full=bytes(range(256))),
        ),
        totals=Totals(**{f.name: n for n, f in enumerate(fields(Totals), start=1)}),
        mask=WeightMask(plan=b"m" * 16, keep=floats(5, 50) > 0.0, parent=b"n" * 16),
        norm=0.1 + 0.2,
        restarted=2,
        undone=3,
        absences={"a": Lateness(rounds=1), "b": Lateness(rounds=3, back=9)},
        pace=(0.1 + 0.2, 60.0),
        optimizer=OptimizerState(momentum=floats(9, 50), variance=floats(10, 50) ** 2),
    )


def assert_same(found, wanted):
    """Compare two values field by field, arrays bit by bit."""
    assert type(found) is type(wanted)
    if isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype
        assert found.tobytes() == wanted.tobytes()
    elif hasattr(wanted, "__dataclass_fields__"):
        for field in fields(wanted):
            assert_same(getattr(found, field.name), getattr(wanted, field.name))
    elif isinstance(wanted, dict | tuple):
        keys = range(len(wanted)) if isinstance(wanted, tuple) else list(wanted)
        assert (range(len(found)) if isinstance(found, tuple) else list(found)) == keys
        for key in keys:
            assert_same(found[key], wanted[key])
    elif wanted != wanted:  # noqa: PLR0124 - not a number
        assert found != found  # noqa: PLR0124
    else:
        assert found == wanted


def test_every_field_of_a_state_comes_back():
    state = make_state(5)
    for field in fields(ServerState):
        default = {"round": 0, "plan": None, "weights": None, "cursor": None}
        assert getattr(state, field.name) is not default.get(field.name)
    data = state_to_bytes(state, IDENTITY)
    assert_same(state_from_bytes(data, IDENTITY, "x"), state)


def test_a_state_without_optional_fields_comes_back():
    state = ServerState(
        round=1,
        cursor=Cursor(phase=Phase.WARMUP),
        plan=make_plan(1),
        weights=floats(1, 9),
    )
    data = state_to_bytes(state, IDENTITY)
    assert_same(state_from_bytes(data, IDENTITY, "x"), state)


def test_a_teacher_without_a_validation_comes_back():
    state = make_state(5)
    none = replace(state.previous, validations=None, statistics=None)
    empty = validations_of(())
    state = replace(state, previous=none, dense=replace(none, validations=empty))
    data = state_to_bytes(state, IDENTITY)
    assert_same(state_from_bytes(data, IDENTITY, "x"), state)


def test_validations_of_other_clients_than_the_header_names_are_refused():
    state = make_state(5)
    wrong = replace(make_validations(1), clients=("a", "b"))
    state = replace(state, dense=replace(state.dense, validations=wrong))
    with pytest.raises(IntegrityError, match="has validations of other clients"):
        state_from_bytes(state_to_bytes(state, IDENTITY), IDENTITY, "x")


def write(folder, *rounds, run="main", identity=IDENTITY):
    checkpoints = Checkpoints(folder, run, identity)
    for round_ in rounds:
        checkpoints.write(make_state(round_))
    return checkpoints


def path_of(folder, round_, run="main"):
    return folder / f"{run}-round-{round_:05d}.safetensors"


def test_a_run_without_checkpoints_starts_from_the_beginning(tmp_path):
    found = Checkpoints(tmp_path / "none", "main", IDENTITY).restore()
    assert (found.state, found.refused) == (None, ())


def test_the_newest_checkpoint_is_restored(tmp_path):
    found = write(tmp_path, 1, 2, 3).restore()
    assert_same(found.state, make_state(3))
    assert found.refused == ()


def test_only_three_files_of_a_run_stay(tmp_path):
    write(tmp_path, 1, 2, 3, 4, 5)
    write(tmp_path, 1, run="dense")
    names = sorted(path.name for path in tmp_path.glob("main-round-*"))
    assert names == [path_of(tmp_path, n).name for n in (3, 4, 5)]
    assert path_of(tmp_path, 1, "dense").exists()


def test_main_and_control_do_not_see_each_other(tmp_path):
    write(tmp_path, 1, 2)
    control = write(tmp_path, 1, run="dense")
    assert control.restore().state.round == 1


def damage(path, how):
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
        return
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    path.write_bytes({"truncated": data[:-7], "flipped": bytes(flipped)}[how])


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_the_one_before_a_damaged_checkpoint_is_used_and_it_is_said(tmp_path, how):
    checkpoints = write(tmp_path, 1, 2, 3)
    damage(path_of(tmp_path, 3), how)
    found = checkpoints.restore()
    assert_same(found.state, make_state(2))
    (why,) = found.refused
    assert "main-round-00003.safetensors" in why


def test_every_damaged_checkpoint_is_named(tmp_path):
    checkpoints = write(tmp_path, 1, 2, 3)
    damage(path_of(tmp_path, 3), "flipped")
    damage(path_of(tmp_path, 2), "truncated")
    found = checkpoints.restore()
    assert found.state.round == 1
    assert ["00003" in found.refused[0], "00002" in found.refused[1]] == [True, True]


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(tmp_path):
    checkpoints = write(tmp_path, 1, 2, 3, 4)
    for round_ in (2, 3, 4):
        damage(path_of(tmp_path, round_), "flipped")
    with pytest.raises(IntegrityError, match=r"can be used: .*00004"):
        checkpoints.restore()


@pytest.mark.slow
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_checkpoint_is_noticed(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("run")
    checkpoints = write(folder, 1, 2)
    path = path_of(folder, 2)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(bytes(data))
    assert checkpoints.restore().state.round == 1


@pytest.mark.slow
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_any_changed_byte_of_the_journal_is_survived(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("run")
    checkpoints = write(folder, 1, 2, 3)
    journal = folder / "main-journal.jsonl"
    data = bytearray(journal.read_bytes())
    data[int(place * len(data))] = value
    journal.write_bytes(bytes(data))
    state = checkpoints.restore().state
    assert state is not None
    assert_same(state, make_state(state.round))


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(IntegrityError, match="belongs to another configuration"):
        Checkpoints(tmp_path, "main", "b" * 32).restore()


def test_a_checkpoint_of_another_version_is_refused():
    data = state_to_bytes(make_state(1), IDENTITY)
    other = data.replace(b"fedprune-checkpoint/5", b"fedprune-checkpoint/9")
    with pytest.raises(IntegrityError, match=r"of this version \(fed.*/9, want fed"):
        state_from_bytes(other, IDENTITY, "x")


@pytest.mark.parametrize("data", [b"", b"{}", bytes(100), b"\2" + bytes(7) + b"{}"])
def test_what_is_no_checkpoint_is_refused_by_name(data):
    with pytest.raises(IntegrityError, match="file-x is no"):
        state_from_bytes(data, IDENTITY, "file-x")


def test_a_torn_last_line_was_never_acknowledged(tmp_path):
    checkpoints = write(tmp_path, 1, 2)
    journal = tmp_path / "main-journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    found = checkpoints.restore()
    assert_same(found.state, make_state(1))
    assert found.refused == ()


def test_a_line_behind_a_torn_one_counts(tmp_path):
    checkpoints = write(tmp_path, 1, 2)
    journal = tmp_path / "main-journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    checkpoints.write(make_state(2))
    assert_same(checkpoints.restore().state, make_state(2))
    last = journal.read_text().splitlines()[-1]
    assert json.loads(last)["round"] == 2


def test_a_file_without_its_line_was_never_written(tmp_path):
    checkpoints = write(tmp_path, 1)
    data = state_to_bytes(make_state(3), IDENTITY)
    path_of(tmp_path, 3).write_bytes(data)
    assert checkpoints.restore().state.round == 1


def test_a_round_that_is_written_again_counts_as_it_is_now(tmp_path):
    checkpoints = write(tmp_path, 1, 2, 3)
    damage(path_of(tmp_path, 3), "flipped")
    assert checkpoints.restore().state.round == 2
    again = replace(make_state(3), zero_shares=(0.5,))
    checkpoints.write(again)
    found = checkpoints.restore()
    assert_same(found.state, again)
    assert found.refused == ()


# Lines that JSON can read and no server has written.
HOSTILE_LINES = {
    "an object for a round": '{"round": {"a": 1}, "file": "x", "sha256": "y"}',
    "a list for a round": '{"round": [1], "file": "x", "sha256": "y"}',
    "a number for a digest": '{"round": 9, "file": "main-round-00009.safetensors"}',
    "a path for a file": '{"round": 9, "file": "../../etc/passwd", "sha256": "y"}',
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "nesting": "[" * 100_000,
}


@pytest.mark.parametrize("line", HOSTILE_LINES.values(), ids=HOSTILE_LINES)
def test_a_hostile_line_of_the_journal_is_passed_over(tmp_path, line):
    kept = Checkpoints(tmp_path, "main", IDENTITY)
    state = make_state(3)
    kept.write(state)
    with (tmp_path / "main-journal.jsonl").open("a") as file:
        file.write(f"{line}\n")
    found = Checkpoints(tmp_path, "main", IDENTITY).restore()
    assert found.state is not None
    assert found.state.round == state.round
    assert all("main-journal.jsonl" in why for why in found.refused)


def test_a_journal_of_hostile_lines_only_is_refused_in_one_line(tmp_path):
    lines = [line for line in HOSTILE_LINES.values() if "[[" not in line]
    (tmp_path / "main-journal.jsonl").write_text("\n".join(lines))
    with pytest.raises(IntegrityError, match=r"no checkpoint .* start a new run$"):
        Checkpoints(tmp_path, "main", IDENTITY).restore()


def part_files(folder, run="main"):
    return {path.name for path in folder.glob(f"{run}-part-*")}


def named_parts(state):
    """Return how many different parts a state has."""
    same = state.dense is not None and state.dense is state.previous
    snapshots = [s for s in (state.dense, state.previous) if s is not None]
    return 1 + len(state.sent) + len(snapshots) - same


def large_states():
    """Yield the states of a run with broadcasts of 40 kB and weights of 100 kB."""
    sent, dense = (), None
    for round_ in range(1, 13):
        full = np.random.default_rng(round_).bytes(40_000)
        one = SentBroadcast(round=round_, keep=make_plan(5).keep, full=full)
        sent = (*sent, one)[-8:]
        state = make_state(round_)
        if round_ == 3:
            dense = replace(state.dense, weights=floats(1, 25_000), optimizer=None)
        yield replace(
            state,
            weights=floats(round_, 25_000),
            optimizer=None,
            sent=sent,
            dense=dense,
            previous=dense,
        )


@pytest.fixture
def written(monkeypatch):
    """Return the list of (file name, bytes) of every file that is written."""
    found = []
    for module in (checkpoint, parts):

        def write(path, data, **options):
            found.append((path.name, len(data)))
            write_bytes_atomic(path, data, **options)

        monkeypatch.setattr(module, "write_bytes_atomic", write)
    return found


def test_a_round_writes_what_it_changed_and_nothing_again(tmp_path, written):
    checkpoints = Checkpoints(tmp_path, "main", IDENTITY)
    sizes = {}
    for state in large_states():
        written.clear()
        checkpoints.write(state)
        sizes[state.round] = sum(size for _, size in written)
    # The weights and the new broadcast; in round 3 the dense network as well, once.
    small = 5_000  # headers, plans, statistics
    weights, broadcast = 100_000, 40_000
    for round_, size in sizes.items():
        wanted = weights + broadcast + (weights if round_ == 3 else 0)
        assert wanted <= size <= wanted + small, round_
    assert_same(checkpoints.restore().state, state)


def test_parts_stay_as_long_as_a_checkpoint_names_them(tmp_path):
    checkpoints = Checkpoints(tmp_path, "main", IDENTITY)
    for state in large_states():
        checkpoints.write(state)
    # Two checkpoints before the last one name two older broadcasts.
    assert len(part_files(tmp_path)) == named_parts(state) + 2
    for round_ in (12, 11):
        damage(path_of(tmp_path, round_), "flipped")
    assert checkpoints.restore().state.round == 10


def test_parts_of_another_run_stay(tmp_path):
    write(tmp_path, 1, run="dense")
    before = part_files(tmp_path, "dense")
    write(tmp_path, 1, 2, 3, 4, 5)
    assert part_files(tmp_path, "dense") == before != set()


def test_the_newest_stay_above_a_number_of_five_digits(tmp_path):
    checkpoints = write(tmp_path, 99_997, 99_998, 99_999, 100_000, 100_001)
    assert checkpoints.restore().state.round == 100_001
    kept = {path.name for path in tmp_path.glob("main-round-*")}
    assert kept == {path_of(tmp_path, n).name for n in (99_999, 100_000, 100_001)}


def test_what_a_crash_left_behind_is_removed_by_the_next_checkpoint(tmp_path):
    write(tmp_path, 1)
    (tmp_path / f"main-part-{'0' * 64}.safetensors").write_bytes(b"left behind")
    checkpoints = write(tmp_path, 2)
    assert f"main-part-{'0' * 64}.safetensors" not in part_files(tmp_path)
    assert_same(checkpoints.restore().state, make_state(2))


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_a_checkpoint_with_a_damaged_part_is_refused_and_it_is_said(tmp_path, how):
    states = list(large_states())
    checkpoints = Checkpoints(tmp_path, "main", IDENTITY)
    for state in states[:5]:
        checkpoints.write(state)
    before = part_files(tmp_path)
    checkpoints.write(states[5])
    (new,) = part_files(tmp_path) - before
    damage(tmp_path / new, how)
    found = checkpoints.restore()
    assert_same(found.state, states[4])
    (why,) = found.refused
    assert "main-round-00006.safetensors" in why
    assert new in why
    # A process that continues from there writes the part again, and does not trust it.
    again = Checkpoints(tmp_path, "main", IDENTITY)
    again.restore()
    again.write(states[5])
    found = again.restore()
    assert_same(found.state, states[5])
    assert found.refused == ()


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_process_that_ends_at_any_step_leaves_a_whole_state(tmp_path, monkeypatch):
    states = list(large_states())
    steps = 0

    def step(call):
        def counted(*given, **options):
            nonlocal steps
            steps -= 1
            if steps == 0:
                raise Killed
            return call(*given, **options)

        return counted

    monkeypatch.setattr(checkpoint, "write_bytes_atomic", step(write_bytes_atomic))
    monkeypatch.setattr(parts, "write_bytes_atomic", step(write_bytes_atomic))
    monkeypatch.setattr(checkpoint, "_append_line", step(checkpoint._append_line))
    monkeypatch.setattr(Path, "unlink", step(Path.unlink))
    ended = []
    for place in range(1, 8):
        folder = tmp_path / str(place)
        checkpoints = Checkpoints(folder, "main", IDENTITY)
        steps = 0
        for state in states[:10]:
            checkpoints.write(state)
        steps = place
        try:
            checkpoints.write(states[10])
        except Killed:
            ended.append(place)
        steps = 0
        new = Checkpoints(folder, "main", IDENTITY)
        found = new.restore()
        assert found.refused == ()
        assert_same(found.state, states[10 if found.state.round == 11 else 9])
        for state in states[found.state.round :]:
            new.write(state)
        assert_same(Checkpoints(folder, "main", IDENTITY).restore().state, states[-1])
        assert len(part_files(folder)) == named_parts(states[-1]) + 2
    # The part, the file, the line, and the removal of the oldest file and part.
    assert ended == [1, 2, 3, 4, 5]
