"""Pooled covariances, and a cut that uses them."""

import numpy as np
from helpers.tiny_federation import (
    ask_all,
    forward_to,
    make_config,
    make_setting,
    make_task,
    start,
    tiny_structure,
)

from fedprune.common.messages import Covariances
from fedprune.common.pruning.reconstruction.inputs import places, sizes
from fedprune.common.pruning.remap import remap
from fedprune.server.rounds.cycle import is_cutting
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import ClientRecord, Status
from fedprune.server.rounds.steps.reconstruction import pool_covariances

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


def test_a_client_that_did_not_measure_an_input_has_no_part_in_it():
    rows = some_rows(50, 0.5, 1)
    blind = told(some_rows(400, 9.0, 2))
    first = LAYOUT[0]
    for part in (blind.mean, blind.deviation):
        part[first.channels] = 0.0
    blind.correlation[first.pairs] = 0.0
    found = pool_covariances(
        [record("a", told(rows), 50), record("b", blind, 400)], LAYOUT, 0.0
    )
    alone = told(rows)
    np.testing.assert_allclose(
        found.mean[first.channels], alone.mean[first.channels], rtol=1e-5
    )
    np.testing.assert_allclose(
        found.correlation[first.pairs], alone.correlation[first.pairs], atol=1e-6
    )


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
