"""Pooled covariances, and a cut that uses them."""

import re

import numpy as np
import pytest
import torch
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_config,
    make_setting,
    make_task,
    start,
    tiny_structure,
)
from torch import nn

from fedprune.common.errors import ConfigError
from fedprune.common.messages import Covariances
from fedprune.common.models.weights_file import save_weights
from fedprune.common.pruning.reconstruction.inputs import (
    MOST_CHANNELS,
    places,
    sizes,
)
from fedprune.common.pruning.remap import remap
from fedprune.common.structure.tracing.find import find_structure
from fedprune.server.rounds.cycle import is_cutting
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.steps import reconstruction as module
from fedprune.server.rounds.steps.reconstruction import (
    check_reconstruct,
    most_tell,
    pool_covariances,
    rebuilt_weights,
    reconstructs,
    what_hinders,
)
from fedprune.server.runs.trying import try_network

STRUCTURE = tiny_structure()
FULL = STRUCTURE.full()
LAYOUT = tuple(places(STRUCTURE, FULL))


def told(rows):
    """Return what a client tells that reads float[n, channels] at every input."""
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    alike = np.corrcoef(rows.T)[np.tril_indices(rows.shape[1], -1)]
    times = len(LAYOUT)
    return Covariances(
        mean=np.tile(mean, times).astype(np.float32),
        deviation=np.tile(deviation, times).astype(np.float32),
        correlation=np.tile(alike, times).astype(np.float32),
    )


def record(name, covariances, examples):
    return ClientRecord(
        client_id=name,
        status=Status.ACCEPTED,
        num_examples=examples,
        covariances=covariances,
    )


def some_rows(count, shift, seed):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(count, 8)) @ rng.normal(size=(8, 8))
    return mixed + shift


def test_pooled_clients_are_like_one_client_with_all_examples():
    parts = [some_rows(50, 0.5, 1), some_rows(150, -1.0, 2), some_rows(20, 3.0, 3)]
    records = [record(f"c{i}", told(p), len(p)) for i, p in enumerate(parts)]
    found = pool_covariances(records, LAYOUT, 0.0)
    wanted = told(np.concatenate(parts))
    for name in ("mean", "deviation", "correlation"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), rtol=1e-4, atol=1e-5
        )


def blank(covariances, place):
    """Return what a client tells that did not measure one input."""
    found = Covariances(
        mean=covariances.mean.copy(),
        deviation=covariances.deviation.copy(),
        correlation=covariances.correlation.copy(),
    )
    found.mean[place.channels] = found.deviation[place.channels] = 0.0
    found.correlation[place.pairs] = 0.0
    return found


@pytest.mark.parametrize("multiple", [0.0, 3.0])
def test_a_client_that_did_not_measure_an_input_has_no_part_in_it(multiple):
    seen = [told(some_rows(50, 0.1 * i, i)) for i in range(5)]
    blind = [blank(told(some_rows(400, 9.0, 9 + i)), LAYOUT[0]) for i in range(4)]
    records = [record(f"c{i}", one, 50) for i, one in enumerate([*seen, *blind])]
    found = pool_covariances(records, LAYOUT, multiple)
    alone = pool_covariances(records[:5], LAYOUT, multiple)
    first = LAYOUT[0]
    assert found.deviation[first.channels].all()
    for name in ("mean", "deviation"):
        got, want = getattr(found, name), getattr(alone, name)
        np.testing.assert_array_equal(got[first.channels], want[first.channels])
    np.testing.assert_array_equal(
        found.correlation[first.pairs], alone.correlation[first.pairs]
    )


def worst_lie():
    """Return numbers within all bounds of a message that would make weights huge."""
    channels, pairs = sizes(STRUCTURE, FULL)
    deviation = np.full(channels, 65504.0, np.float32)
    deviation[::2] = 6e-8
    return Covariances(
        mean=np.full(channels, 65504.0, np.float32),
        deviation=deviation,
        correlation=np.ones(pairs, np.float32),
    )


@pytest.mark.parametrize("multiple", [0.0, 3.0])
@pytest.mark.parametrize(
    ("tell", "abstain", "enough"),
    [
        (1, 9, False),  # a liar among clients of one class
        (2, 8, False),
        (5, 5, False),
        (6, 4, True),
        (2, 1, False),  # two have no majority
        (3, 1, True),
        (2, 0, True),
        (1, 0, True),
    ],
)
def test_most_clients_must_tell_of_an_input(tell, abstain, enough, multiple):
    honest = told(some_rows(50, 0.5, 1))
    records = [record(f"a{i}", honest, 50) for i in range(tell)]
    silent = [record(f"b{i}", None, 50) for i in range(abstain)]
    assert most_tell(records + silent) == enough
    blind = [record(f"b{i}", blank(honest, LAYOUT[0]), 50) for i in range(abstain)]
    for others in (silent, blind):
        found = pool_covariances(records + others, LAYOUT, multiple)
        assert found.deviation[LAYOUT[0].channels].any() == enough


def test_a_client_that_tells_alone_does_not_change_the_weights(tmp_path):
    task = make_task(prune__reconstruct=True, prune__step_cap=0.5)
    run_spec = make_setting(task)
    state = start(task, run_spec)
    new = FULL.copy()
    new[[1, 3, 9]] = False
    records = [record(f"c{i}", None, 50) for i in range(3)]
    lie = record("x", worst_lie(), 50)
    assert np.array_equal(
        rebuilt_weights(state, new, [*records, lie], run_spec), state.weights
    )


def test_one_liar_among_ten_adds_little_to_the_error_of_a_rebuilt_layer(tmp_path):
    task = make_task(prune__reconstruct=True, prune__step_cap=0.5)
    run_spec = make_setting(task)
    state = start(task, run_spec)
    new = FULL.copy()
    new[[1, 3, 9]] = False
    rng = np.random.default_rng(4)
    mix = rng.normal(size=(8, 8))
    rows = [
        rng.normal(size=(100, 8)) @ mix + 0.3 * rng.normal(size=8) for _ in range(9)
    ]
    honest = [record(f"c{i}", told(part), 100) for i, part in enumerate(rows)]
    start_, columns = 0, new[:8]
    for tensor in STRUCTURE.spec(FULL).tensors:
        if tensor.name == "fc.weight":
            break
        start_ += tensor.size
    part = slice(start_, start_ + tensor.size)
    bias = slice(part.stop, part.stop + tensor.shape[0])
    given = np.concatenate(rows)

    def error(weights, left):
        weight = weights[part].reshape(tensor.shape)[:, left]
        found = given[:, left] @ weight.T + weights[bias]
        whole = given @ state.weights[part].reshape(tensor.shape).T
        return float(np.square(found - whole - state.weights[bias]).mean())

    plain = error(state.weights, columns)
    fair = error(rebuilt_weights(state, new, honest, run_spec), columns)
    records = [*honest, record("x", worst_lie(), 100)]
    attacked = error(rebuilt_weights(state, new, records, run_spec), columns)
    assert fair < 0.7 * plain
    assert attacked < 0.9 * plain


def test_an_input_is_pooled_in_blocks_of_pairs(monkeypatch):
    parts = [some_rows(50, 0.2 * i, i) for i in range(4)]
    records = [record(f"c{i}", told(p), len(p)) for i, p in enumerate(parts)]
    whole = pool_covariances(records, LAYOUT, 3.0)
    monkeypatch.setattr(module, "_BLOCK", 5)
    found = pool_covariances(records, LAYOUT, 3.0)
    np.testing.assert_array_equal(found.correlation, whole.correlation)


class Wide(nn.Module):
    """An inner layer of many channels."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(16, width)
        self.second = nn.Linear(width, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x.flatten(1))))


def wide(width, **changes):
    settings = {"prune__reconstruct": True, "rounds__cuts": 1} | changes
    task = make_task(lambda: Wide(width), **settings)
    model = task.build_model()
    return task, find_structure(model.eval(), torch.zeros(2, 1, 4, 4))


def test_an_answer_that_would_be_too_long_is_refused_at_the_start():
    task, structure = wide(64, update__max_bytes=4200)
    with pytest.raises(ConfigError, match=r"^prune\.reconstruct: ") as refused:
        check_reconstruct(task.config, structure)
    text = str(refused.value)
    assert "4288 of them" in text  # 2 bytes * (2 * 64 + 64 * 63 / 2)
    assert "'second' 64" in text
    assert "prune.reconstruct = false" in text
    with pytest.raises(ConfigError, match=r"^prune\.reconstruct: "):
        try_network(task, task.build_model())
    enough = int(re.search(r"at least (\d+)", text).group(1))
    assert (
        check_reconstruct(wide(64, update__max_bytes=enough)[0].config, structure) == ()
    )
    off, _ = wide(64, update__max_bytes=4200, prune__reconstruct=False)
    assert check_reconstruct(off.config, structure) == ()


NOISE = {
    "privacy__local_noise": 0.1,
    "update__stateless": True,
    "run__controls": [],
}


@pytest.mark.parametrize(
    ("width", "settings", "wanted", "reason"),
    [
        (64, {}, True, ""),
        (64, {"task__weights": ""}, False, ""),
        (64, {"task__weights": "", "prune__reconstruct": True}, True, ""),
        (64, {"prune__reconstruct": False}, False, ""),
        (64, {"prune__restart": "fresh"}, False, "draws weights anew"),
        (64, NOISE, False, "noise hides the clients"),
        # Devices may have noise of their own.
        (64, {"update__stateless": True}, False, "may hide themselves"),
        (64, {"update__max_bytes": 4200}, False, "do not fit update.max_bytes"),
        (256, {}, False, "more bytes than the network has"),
        (256, {"prune__reconstruct": True}, True, ""),
        (MOST_CHANNELS + 8, {}, False, "none of them reads channels"),
    ],
)
def test_pretrained_weights_are_rebuilt_where_that_is_cheap(
    width, settings, wanted, reason
):
    defaults = {"prune__reconstruct": "auto", "task__weights": "a.safetensors"}
    _, structure = wide(width)
    config = make_task(Wide, **(defaults | settings)).config
    assert reconstructs(config, structure) is wanted
    if config.prune.reconstruct == "auto":
        assert check_reconstruct(config, structure) == ()
    if reason:
        assert reason in what_hinders(config, structure)


def test_clients_of_pretrained_weights_tell_covariances_before_the_cut(tmp_path):
    path = tmp_path / "wide.safetensors"
    save_weights(path, Wide(64), {})
    for weights in (str(path), ""):
        settings = {"task__weights": weights, "prune__reconstruct": "auto"}
        task, structure = wide(64, **settings)
        run_spec = make_setting(task, structure)
        state = start(task, run_spec)
        assert not plan_round(state, run_spec).plan.settings.covariances
        folder = tmp_path / ("pretrained" if weights else "fresh")
        state = forward_to(state, run_spec, task, folder, before_cut)
        found = plan_round(state, run_spec).plan.settings.covariances
        assert found == bool(weights)
        told = try_network(task, task.build_model()).reach
        text = "no penalty, the layers behind a cut are rebuilt: 4288 bytes more"
        assert (f"from pretrained weights: {text}" in told) == bool(weights)


def test_the_estimate_of_an_answer_is_near(tmp_path):
    task, structure = wide(256, update__update_density=0.25)
    run_spec = make_setting(task, structure)
    state = forward_to(start(task, run_spec), run_spec, task, tmp_path, before_cut)
    answers = ask_all(plan_round(state, run_spec), task, tmp_path)
    longest = max(one.bytes_up for one in answers.accepted)
    tight, _ = wide(256, update__update_density=0.25, update__max_bytes=longest // 2)
    with pytest.raises(ConfigError) as refused:
        check_reconstruct(tight.config, structure)
    enough = int(re.search(r"at least (\d+)", str(refused.value)).group(1))
    assert 0.95 * longest <= enough <= 1.15 * longest


def test_a_network_that_cannot_be_rebuilt_is_cut_all_the_same(tmp_path):
    task, structure = wide(MOST_CHANNELS + 8, prune__step_cap=0.5)
    (line,) = check_reconstruct(task.config, structure)
    assert "prune.reconstruct changes nothing" in line
    run_spec = make_setting(task, structure)
    state = forward_to(start(task, run_spec), run_spec, task, tmp_path, before_cut)
    work = plan_round(state, run_spec)
    answers = ask_all(work, task, tmp_path)
    assert len(answers.accepted) == len(work.request.assignments)
    after, _ = finish_round(state, work, answers, run_spec)
    assert after.keep.sum() < state.keep.sum()


def test_one_liar_moves_the_pool_no_further_than_honest_clients_reach():
    honest = [told(some_rows(100, 0.1 * i, 7)) for i in range(6)]
    channels, pairs = sizes(STRUCTURE, FULL)
    lie = Covariances(
        mean=np.full(channels, 6e4, np.float32),
        deviation=np.full(channels, 6e4, np.float32),
        correlation=np.ones(pairs, np.float32),
    )
    records = [record(f"c{i}", one, 100) for i, one in enumerate([*honest, lie])]
    found = pool_covariances(records, LAYOUT, 3.0)
    reach = np.stack([one.mean for one in honest])
    spread = 3 * 1.4826 * np.median(np.abs(reach - np.median(reach, axis=0)), axis=0)
    assert np.all(found.mean <= np.median(reach, axis=0) + spread + 0.5)
    assert np.abs(found.correlation).max() <= 1.0
    assert found.deviation.max() < 20.0


def before_cut(cursor):
    return is_cutting(cursor, make_config().rounds)


def a_cut(tmp_path, *, reconstruct):
    """Return the state before the first cut, after it, and the answers of its round."""
    task = make_task(prune__reconstruct=reconstruct, prune__step_cap=0.5)
    run_spec = make_setting(task)
    state = forward_to(start(task, run_spec), run_spec, task, tmp_path, before_cut)
    work = plan_round(state, run_spec)
    answers = ask_all(work, task, tmp_path)
    after, report = finish_round(state, work, answers, run_spec)
    assert report.choice is not None
    return state, after, answers


@pytest.mark.slow
def test_a_cut_round_asks_and_rebuilds(tmp_path):
    before, plain, _ = a_cut(tmp_path / "a", reconstruct=False)
    _, after, answers = a_cut(tmp_path / "b", reconstruct=True)
    assert all(r.covariances is not None for r in answers.accepted)
    assert np.array_equal(plain.keep, after.keep)
    assert not np.array_equal(plain.weights, after.weights)
    changed, start_ = set(), 0
    for tensor in STRUCTURE.spec(after.keep).tensors:
        part = slice(start_, start_ + tensor.size)
        start_ += tensor.size
        if not np.array_equal(plain.weights[part], after.weights[part]):
            changed.add(tensor.name)
    readers = {place.read.tensor for place in LAYOUT}
    assert changed
    assert changed <= readers | {"fc.bias"}
    assert before.keep.sum() > after.keep.sum()


def test_rounds_without_a_cut_ask_for_no_covariances(tmp_path):
    task = make_task(prune__reconstruct=True)
    run_spec = make_setting(task)
    work = plan_round(start(task, run_spec), run_spec)
    assert not work.plan.settings.covariances
    assert work.request.covariances == (0, 0)
    answers = ask_all(work, task, tmp_path)
    assert all(r.covariances is None for r in answers.accepted)


def test_layers_that_are_frozen_stay_as_they_are(tmp_path):
    task = make_task(prune__reconstruct=True, task__freeze=["fc"])
    run_spec = make_setting(task)
    state = forward_to(start(task, run_spec), run_spec, task, tmp_path, before_cut)
    work = plan_round(state, run_spec)
    after, _ = finish_round(state, work, ask_all(work, task, tmp_path), run_spec)
    old = remap(state.weights, STRUCTURE, state.keep, after.keep)
    spec = STRUCTURE.spec(after.keep)
    sizes_ = [tensor.size for tensor in spec.tensors]
    ends = np.cumsum(sizes_)
    for tensor, end in zip(spec.tensors, ends, strict=True):
        if tensor.name.startswith("fc."):
            part = slice(int(end) - tensor.size, int(end))
            assert np.array_equal(after.weights[part], old[part])
