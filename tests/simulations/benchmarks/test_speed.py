"""The benchmark of speed: CPU of process trees, turns, ratios over pairs; no times."""

import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from fedprune.common import codec
from fedprune.common.config import Config, load_config
from fedprune.common.errors import ConfigError, FedPruneError
from fedprune.simulations.benchmarks import speed
from fedprune.simulations.benchmarks.kit.rows import RowStore
from fedprune.simulations.benchmarks.kit.science.rows import shown
from fedprune.simulations.benchmarks.kit.speed import (
    codec_row,
    round_rows,
    state_row,
    sum_row,
    timed,
)
from fedprune.simulations.benchmarks.kit.speed.figures import over_pairs
from fedprune.simulations.benchmarks.kit.speed.opponent import Opponent
from fedprune.simulations.benchmarks.kit.speed.pairs import ratios, take_turns
from fedprune.simulations.benchmarks.kit.speed.systems import ours
from fedprune.simulations.benchmarks.kit.speed.systems.floor import (
    fill,
    flat,
    train_clients,
)
from fedprune.simulations.benchmarks.kit.speed.tree import Seen, TreeClock, lost_ticks
from fedprune.simulations.benchmarks.kit.speed.work import Work, perceptron

BURN = "sum(i * i for i in range(10**6))"
# A system that says "." after each round, and whose work is done by a child.
SYSTEM = f"""
import os, subprocess, sys
reading, writing = map(int, os.environ["FEDPRUNE_TURNS"].split(","))
while True:
    subprocess.run([sys.executable, "-c", "{BURN}"], check=True)
    os.write(writing, b".")
    if not os.read(reading, 1):
        break
"""


def seen(parent, own, reaped=0):
    return Seen(parent=parent, own=own, reaped=reaped)


def turns(**seconds):
    """Return a piece in which systems spent CPU seconds, one a turn."""
    return {
        "turns": {
            name.replace("_", "-"): [
                {"cpu": cpu, "wall": cpu / 2, "others": 0.0, "pss": 100.0 + cpu}
                for cpu in each
            ]
            for name, each in seconds.items()
        }
    }


def test_nothing_is_lost_of_a_process_that_was_waited_for():
    before = {(1, 0): seen(0, 5), (2, 0): seen(1, 7, 1)}
    now = {(1, 0): seen(0, 6, 9)}
    assert lost_ticks(before, now) == 0


def test_what_was_seen_of_a_process_without_a_parent_that_waits_is_kept():
    before = {(1, 0): seen(0, 5, 4), (2, 0): seen(1, 7, 1), (3, 0): seen(1, 2)}
    now = {(1, 0): seen(0, 6, 6)}  # has waited for process 3 only
    assert lost_ticks(before, now) == 8


def test_a_grandchild_is_accounted_for_by_the_nearest_ancestor_that_lives():
    before = {(1, 0): seen(0, 5), (2, 0): seen(1, 3), (3, 0): seen(2, 10)}
    assert lost_ticks(before, {(1, 0): seen(0, 5, 13)}) == 0
    assert lost_ticks(before, {(1, 0): seen(0, 5, 3)}) == 10
    assert lost_ticks(before, {}) == 18


def test_an_id_that_is_used_again_is_another_process():
    before = {(1, 0): seen(0, 5), (2, 10): seen(1, 7)}
    now = {(1, 0): seen(0, 5), (2, 99): seen(1, 1)}
    assert lost_ticks(before, now) == 7


@pytest.mark.slow
def test_a_tree_counts_children_that_live_and_those_that_have_ended():
    code = f"import subprocess, sys, time; {BURN}; "
    code += f"subprocess.run([sys.executable, '-c', '{BURN}']); "
    waits = f"{BURN}; import sys; sys.stdin.read()"
    code += f"subprocess.Popen([sys.executable, '-c', '{waits}'], "
    code += "stdin=subprocess.PIPE); print('x', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        clock, alone = TreeClock(process.pid), TreeClock(os.getpid())
        end = time.monotonic() + 60
        first = clock.seconds()
        while clock.seconds() == first and time.monotonic() < end:
            time.sleep(0.05)  # the child that lives has not burnt a tick yet
        assert clock.seconds() > first > 0
        assert alone.seconds() >= clock.seconds()
        # Ended and waited for: the whole tree is part of this process's figures.
        process.kill()
        last = clock.seconds()
        assert clock.seconds() >= last >= first
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "system"
    path.mkdir()
    (path / "__init__.py").touch()
    (path / "__main__.py").write_text(SYSTEM)
    return path


@pytest.mark.slow
def test_systems_take_turns_and_the_work_of_their_children_is_counted(
    tmp_path, script, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with (
        Opponent("a", script.name, (), tmp_path / "a.log") as a,
        Opponent("b", script.name, (), tmp_path / "b.log") as b,
    ):
        warm = [one.first().cpu for one in (a, b)]
        raw = take_turns([a, b], 2)
    assert {name: len(each) for name, each in raw["turns"].items()} == {"a": 2, "b": 2}
    for each in raw["turns"].values():
        assert all(turn["cpu"] > 0 and turn["pss"] > 0 for turn in each)
        assert all(0 <= turn["others"] <= 1 for turn in each)
    spent = [t["cpu"] for each in raw["turns"].values() for t in each]
    assert raw["cpu_seconds"] >= sum(spent) + sum(warm) - 0.1  # each is rounded


@pytest.mark.slow
def test_a_system_that_dies_is_an_error_with_its_last_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dying.py").write_text("raise SystemExit('no data')")
    with (
        Opponent("floor", "dying", (), tmp_path / "log") as dying,
        pytest.raises(FedPruneError, match="floor ended with 1: no data"),
    ):
        dying.first()


def test_a_ratio_is_that_of_whole_cycles_and_its_range_that_of_the_pairs():
    found = {
        "pair-0": turns(ours=[3.0, 1.0], floor=[1.0, 1.0]),  # not the mean of 3 and 1
        "pair-1": turns(ours=[2.0, 1.0], floor=[1.0, 2.0]),
        "pair-2": turns(ours=[1.0, 5.0], floor=[1.0, 1.0]),
    }
    assert ratios(found, "ours", "floor") == [2.0, 1.0, 3.0]
    figures = round_rows._epoch(Work(clients=2, images=32)).figures(found)
    (figure,) = [one for one in figures if one.name.endswith("ours / floor")]
    assert (figure.value, figure.low, figure.high) == (2.0, 1.0, 3.0)
    assert figure.met is None  # one pair meets 1.35, two do not
    assert "1 to 3 in 3 pairs" in figure.detail
    assert len(figures) == 1  # no figure of systems that did not take part


def test_one_pair_decides_about_no_goal():
    assert over_pairs("x", [0.5], "", goal="<= 1").met is None
    assert over_pairs("x", [0.5, 0.6, 0.7], "", goal="<= 1").met is True
    assert over_pairs("x", [1.5, 1.6, 1.7], "", goal="<= 1").met is False


def test_the_exponent_and_the_memory_are_those_of_the_numbers_of_clients():
    raw = turns(ours_10=[1.0], ours_100=[2.0, 4.0], ours_1000=[30.0, 30.0], floor=[15])
    assert round_rows.exponent(raw, 100, 1000) == pytest.approx(1.0)
    raw = turns(ours_10=[1.0], ours_100=[3.0], ours_1000=[300.0], floor=[150.0])
    assert round_rows.exponent(raw, 100, 1000) == pytest.approx(2.0)
    by_name = {f.name: f for f in round_rows.rows()[2].figures({"pair-0": raw})}
    assert by_name["many: CPU, ours-1000 / floor"].value == 2.0
    memory = by_name["many: memory of the driver, 1000 / 10 clients"]
    assert memory.value == pytest.approx(400 / 101)


@pytest.mark.parametrize(("images", "held"), [(600, 666), (64, 71), (32, 35), (63, 69)])
def test_as_many_images_train_as_the_workload_says(images, held):
    work = Work(clients=3, images=images)
    assert work.held == held
    # As the product splits them: max(1, floor(share * n)) validate.
    assert held - max(1, int(0.1 * held)) == images
    assert work.steps == math.ceil(images / 32)


def test_the_two_modes_of_ours_are_the_default_and_its_dense_control(tmp_path):
    work = Work(clients=3, images=32)
    (tmp_path / "fedprune.toml").write_text(work.toml(tmp_path / "data.npz"))
    on, dense = (ours.configuration(tmp_path, mode) for mode in ("on", "dense"))
    default = Config()
    for section in ("update", "prune", "broadcast", "distill", "robust"):
        assert getattr(on, section) == getattr(default, section)
    assert on.client.penalty == default.client.penalty
    cycle = on.rounds.sparsify + on.rounds.finetune
    assert (on.rounds.warmup, cycle, on.rounds.cuts) == (1, work.rounds, 4)
    assert (dense.update.update_density, dense.update.values) == (1.0, "float32")
    assert (dense.rounds.cuts, dense.client.penalty) == (0, "none")
    for config in (on, dense):
        # A round with fewer answers would be cheaper: it fails.
        assert config.rounds.minimum == config.rounds.cohort == 3
        assert config.run.controls == ()


@pytest.mark.slow
def test_the_parts_of_a_run_are_timed_and_their_functions_put_back():
    settings = [
        'task.model="mlp"',
        "task.clients=2",
        "rounds.cohort=2",
        "rounds.minimum=2",
        "client.epochs=1",
    ]
    before = codec.encode_update
    found = timed.timed_run(load_config(None, settings), 2)
    assert codec.encode_update is before
    assert len(found.seconds) == 2
    for parts in found.seconds:
        coded = (parts[name] for name in ("selection", "encode", "decode", "train"))
        assert all(seconds > 0 for seconds in coded)
        inside = parts["train"] + parts["selection"] + parts["encode"]
        assert parts["client"] >= inside
    update, side_info = found.sent
    assert update.delta.size == side_info.layout.size > 0


def test_the_large_network_has_eleven_million_weights():
    assert sum(w.numel() for w in perceptron().parameters()) == 11_050_710


def test_the_floor_averages_what_clients_trained_each_from_the_same_weights():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 2), torch.nn.Flatten(), torch.nn.Linear(12, 2)
    ).to(memory_format=torch.channels_last)
    weights = flat(model).clone()
    data = [(torch.rand(4, 1, 3, 3), torch.randint(2, (4,))) for _ in range(2)]
    alone = []
    for one in data:
        total = torch.full_like(weights, 9.0)
        train_clients(model, weights, total, [one], 1.0, 4)
        alone.append(total)
    both = torch.empty_like(weights)
    train_clients(model, weights, both, data, 0.5, 4)
    assert not torch.equal(alone[0], alone[1])
    assert torch.allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)
    layout = model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert layout  # filling a network keeps its memory format
    fill(model, weights)
    assert torch.equal(flat(model), weights)


def test_coding_and_bookkeeping_leave_out_the_passes_of_the_network():
    seconds = {
        "train": 1.0,
        "selection": 0.1,
        "encode": 0.2,
        "decode": 0.4,
        "network": 0.5,
        "client": 2.0,
    }
    assert codec_row.coding(seconds) == pytest.approx(0.7)
    assert codec_row.beside_training(seconds) == pytest.approx(0.5)


def test_the_row_of_sums_is_measured_stored_and_shown(tmp_path):
    words = ["sum", "--small", "--pairs", "1", "--work", str(tmp_path)]
    assert speed.main(words) == 0
    store = RowStore(tmp_path)
    raw = store.find("sum-pair-0")
    assert raw["settings"] == {"weights": 110_000, "entries": 5_300}
    raw |= {"copy": 0.5, "dense": 2.0, "sparse": 5.3e-5}
    by_name = {f.name: f.value for f in sum_row.figures({"pair-0": raw})}
    assert by_name["sum: dense / copy of the float32 weights"] == 4.0
    name = "sum: sparse, per entry that is not zero"
    assert by_name[name] == pytest.approx(10.0)


def test_a_row_that_was_not_run_says_so(tmp_path):
    for row in speed.rows().values():
        (head,) = shown(row, range(3), RowStore(tmp_path))
        assert head.value == 0
        assert head.detail.startswith("not run; ")


def test_pieces_name_what_they_are_measured_with():
    few = speed.rows(small=True)
    for row in speed.rows().values():
        large, small = row.pieces([0])[0], few[row.name].pieces([0])[0]
        assert large.name == small.name
        # A small piece in the folder of the others is refused by its settings.
        assert large.settings != small.settings


@pytest.mark.parametrize(
    "words", [["--pairs", "0"], ["--small"], ["--small", "--pairs", "1"]]
)
def test_options_that_would_measure_nothing_are_refused(words, capsys):
    assert speed.main(words) == ConfigError.exit_code
    assert "want" in capsys.readouterr().err


def test_the_state_row_scales_what_was_written_and_shows_its_worst():
    disk = {"bytes": 14 * 20_000_000, "generations": 14, "clients": 8, "rounds": 11}
    disk |= {"estimate": 14 * 21_000_000, "estimate_of_many": 21_000_000_000}
    found = {"disk-0": disk, "many-0": {"peak": 1_500_000_000, "rounds": 3, "spent": 9}}
    found["many-1"] = {"peak": 2_500_000_000, "rounds": 3, "spent": 9}
    residuals, estimate, memory = state_row.figures(found)
    assert residuals.value == pytest.approx(1060 * 20_000_000 / 1e9)
    assert residuals.met is True
    assert estimate.value == pytest.approx(5.0)
    assert memory.value == 2.5
    assert memory.met is False


@pytest.mark.slow
def test_residuals_that_are_written_take_what_was_estimated(tmp_path):
    found = state_row.written(2, 2, "mlp")
    assert found["generations"] == 2 * (1 + state_row.IN_FLIGHT)
    assert found["estimate"] == pytest.approx(found["bytes"], rel=0.05)


@pytest.mark.slow
def test_the_memory_of_a_command_is_its_own_and_not_that_of_who_starts_it():
    held = np.ones(600 << 20, dtype=np.uint8)  # far more than a list of words takes
    assert 0 < state_row._process("--version")["peak"] < held.nbytes
