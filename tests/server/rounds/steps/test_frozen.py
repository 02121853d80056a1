"""Frozen modules over a whole federation: what stays as it was, bit by bit."""

import numpy as np
import pytest
import torch
from helpers.tiny_federation import (
    Tiny,
    ask_all,
    make_setting,
    make_task,
    tiny_structure,
)

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Statistics
from fedprune.common.models.flat import get_weights
from fedprune.common.models.training import first_statistics, is_inside
from fedprune.common.pruning.plan import full_plan
from fedprune.common.pruning.remap import remap, remap_moments
from fedprune.common.spec import TensorSpec
from fedprune.server.rounds.cycle import first_cursor
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.state import new_state
from fedprune.server.rounds.steps.frozen import keep_moments, keep_values
from fedprune.server.runs.loop import sendable
from fedprune.server.runs.trying import try_network

FROZEN = ["conv1", "bn1"]


def pretrained():
    """Return a network whose moments are not those of a fresh one."""
    model = Tiny()
    for norm in (model.bn, model.bn1, model.bn2):
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)
    return model


def entries(spec, modules=FROZEN):
    """Return the entries of frozen weights, bool[weights]."""
    return np.concatenate(
        [np.full(t.size, is_inside(t.name, modules)) for t in spec.tensors]
    )


class Federation:
    """A federation with frozen modules, run to its end."""

    def __init__(self, root, **changes):
        self.task = make_task(pretrained, task__freeze=FROZEN, **changes)
        self.run_spec = make_setting(self.task)
        structure = self.run_spec.structure
        model = self.task.build_model()
        self.start = new_state(
            structure,
            get_weights(model),
            first_cursor(self.task.config.rounds),
            full_plan(structure),
            first_statistics(model, FROZEN),
        )
        self.snapshots = []
        state = self.start
        while not state.cursor.done:
            work = plan_round(state, self.run_spec)
            answers = ask_all(work, self.task, root)
            assert len(answers.accepted) == 4
            state, report = finish_round(state, work, answers, self.run_spec)
            self.snapshots.append(report.measured)
        self.end = state


@pytest.mark.parametrize("optimizer", ["none", "adam"])
@pytest.mark.parametrize("values", ["float32", "step"])
def test_without_cuts_frozen_weights_and_moments_end_with_the_bits_of_the_start(
    tmp_path, optimizer, values
):
    federation = Federation(
        tmp_path,
        rounds__cuts=0,
        broadcast__values="float32",
        update__values=values,
        server__optimizer=optimizer,
        server__lr=0.01 if optimizer == "adam" else 1.0,
    )
    before, after = federation.start, federation.end
    kept = entries(federation.run_spec.structure.spec(after.keep))
    final = sendable(after, federation.run_spec)
    assert final.weights[kept].tobytes() == before.weights[kept].tobytes()
    assert (final.weights[~kept] != before.weights[~kept]).mean() > 0.9
    for snapshot in (final, *federation.snapshots):
        found, first = snapshot.statistics, before.statistics
        assert found.mean[8:16].tobytes() == first.mean[8:16].tobytes()
        assert found.variance[8:16].tobytes() == first.variance[8:16].tobytes()
    assert not np.array_equal(final.statistics.mean[:8], before.statistics.mean[:8])


def test_on_a_grid_they_differ_by_its_rounding_only(tmp_path):
    federation = Federation(tmp_path, rounds__cuts=0)
    before, after = federation.start, federation.end
    spec = federation.run_spec.structure.spec(after.keep)
    kept = entries(spec)
    # The server's own weights are exact; what it sends lies on the grid.
    assert after.weights[kept].tobytes() == before.weights[kept].tobytes()
    final = sendable(after, federation.run_spec)
    off = np.abs(final.weights - before.weights)[kept]
    assert 0.0 < off.max() < 0.02 * np.abs(before.weights[kept]).max()


@pytest.mark.slow
def test_frozen_channels_are_cut_and_the_others_stay(tmp_path):
    federation = Federation(tmp_path, broadcast__values="float32", client__strength=3.0)
    before, after, structure = federation.start, federation.end, tiny_structure()
    assert not after.keep[8:].all()  # channels that conv1 makes
    full = structure.full()
    wanted = remap(before.weights, structure, full, after.keep)
    kept = entries(structure.spec(after.keep))
    assert kept.any()
    assert after.weights[kept].tobytes() == wanted[kept].tobytes()
    first = remap_moments(before.statistics.mean, structure, full, after.keep)
    widths = [int(part.sum()) for part in (after.keep[:8], after.keep[8:])]
    middle = slice(widths[0], sum(widths))
    assert after.statistics.mean[middle].tobytes() == first[middle].tobytes()


def test_what_clients_send_of_frozen_weights_is_dropped():
    spec = tiny_structure().spec(tiny_structure().full())
    before = np.full(spec.size, -0.0, dtype=np.float32)
    after = np.ones(spec.size, dtype=np.float32)
    kept = keep_values(before, after, spec.tensors, FROZEN)
    frozen = entries(spec)
    assert kept[frozen].tobytes() == before[frozen].tobytes()
    assert (kept[~frozen] == 1.0).all()
    assert keep_values(before, after, spec.tensors, ()) is after


def test_running_buffers_of_frozen_modules_stay_and_the_others_move():
    buffers = (
        TensorSpec(name=f"{FROZEN[0]}.scale", shape=(2,)),
        TensorSpec(name="free.scale", shape=()),
    )
    before, after = np.float32([1, 2, 3]), np.float32([7, 8, 9])
    assert keep_values(before, after, buffers, FROZEN).tolist() == [1, 2, 9]


def test_measured_moments_without_first_ones_are_taken():
    none = np.zeros(0, np.float32)
    running = np.float32([1.0])
    before = Statistics(num_examples=1, mean=none, variance=none, running=running)
    measured = Statistics(num_examples=3, mean=running, variance=running)
    assert keep_moments(before, measured, None, None, FROZEN) is measured


def test_measured_moments_of_frozen_norms_are_dropped():
    structure = tiny_structure()
    zeros, ones = np.zeros(24, np.float32), np.ones(24, np.float32)
    before = Statistics(num_examples=1, mean=zeros, variance=zeros)
    measured = Statistics(num_examples=9, mean=ones, variance=ones)
    full = structure.full()
    found = keep_moments(before, measured, structure, full, FROZEN)
    assert found.num_examples == 9
    assert found.mean.tolist() == [1.0] * 8 + [0.0] * 8 + [1.0] * 8
    assert keep_moments(before, None, structure, full, FROZEN) is None
    assert keep_moments(before, measured, structure, full, ()) is measured
    assert keep_moments(None, measured, structure, full, FROZEN) is measured


def test_a_run_with_an_impossible_freeze_does_not_start():
    for names, message in ((["cnv1"], "did you mean 'conv1'"), ([*"x"], "has bn")):
        task = make_task(task__freeze=names)
        with pytest.raises(ConfigError, match=f"task.freeze: .*{message}"):
            try_network(task, task.build_model())


def test_a_loss_that_only_frozen_weights_move_is_refused_before_the_run():
    class Spare(Tiny):
        def __init__(self):
            super().__init__()
            self.spare = torch.nn.Linear(2, 2)

    everything = [name for name, _ in Tiny().named_children()]
    task = make_task(Spare, task__freeze=everything)
    with pytest.raises(ConfigError, match="does not depend on any weight"):
        try_network(task, task.build_model())
