"""Noise in place of clients: what leaves a round, and that it is still of use."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_federation import ask_all, make_setting, make_task, start

from fedprune.common.messages import Phase
from fedprune.common.privacy.hiding import Privacy
from fedprune.common.privacy.noise import NoiseKey
from fedprune.common.privacy.spending import Spending, releases_of
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.finish import finish_round
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.steps.private import (
    hide_clients,
    withhold_clients,
    without_rare,
)

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
KEY = NoiseKey(bytes(range(32)))
BASE = {"privacy__epsilon": 8.0, "run__controls": [], "privacy__clip": 0.5}


def privacy(config, multiplier):
    spending = Spending(
        epsilon=8.0, delta=1e-5, multiplier=multiplier, releases=releases_of(config)
    )
    return Privacy(key=KEY, spending=spending, clip=config.privacy.clip)


class Round:
    """One round's answers, exact."""

    def __init__(self, root, multiplier=1e-9, *, private=True, **changes):
        self.task = make_task(**(BASE | changes if private else changes))
        self.privacy = privacy(self.task.config, multiplier)
        self.run_spec = replace(make_setting(self.task), privacy=self.privacy)
        self.state = replace(start(self.task, self.run_spec), cursor=CUTTING)
        self.work = plan_round(self.state, self.run_spec)
        self.exact = ask_all(self.work, self.task, root)

    def hidden(self, multiplier=None):
        chosen = self.privacy
        if multiplier is not None:
            chosen = privacy(self.task.config, multiplier)
        return hide_clients(self.exact, self.work, self.state.statistics, chosen)


def test_every_client_weighs_the_same_and_is_clipped(tmp_path):
    played = Round(tmp_path, privacy__clip=0.01)
    assert {a.max_weight for a in played.work.request.assignments} == {1}
    assert played.work.request.max_norm == 0.01
    assert not played.work.request.individual_updates
    for record in played.exact.accepted:
        assert record.factor * record.norm <= 0.01 * (1 + 1e-6)


def test_all_records_say_the_same_and_nothing_of_one_client(tmp_path):
    hidden = Round(tmp_path).hidden(1.0)
    first, *others = hidden.accepted
    for other in others:
        assert replace(other, client_id="") == replace(
            first,
            client_id="",
            bytes_down=other.bytes_down,
            bytes_up=other.bytes_up,
            bytes_fixed=other.bytes_fixed,
        )
    assert first.covariances is None
    assert hidden.individual_updates == ()


def test_with_hardly_any_noise_the_means_are_those_of_the_clients(tmp_path):
    played = Round(tmp_path)
    hidden = played.hidden()
    np.testing.assert_allclose(
        hidden.total.delta_sum, played.exact.total.delta_sum, atol=2
    )
    shown, exact = hidden.accepted[0], played.exact.accepted
    losses = [record.loss for record in exact]
    assert shown.loss == pytest.approx(np.mean(losses), abs=1e-3)
    metrics = [r.validation.metric_sum / r.validation.count for r in exact]
    assert shown.validation.metric_sum == pytest.approx(np.mean(metrics), abs=1e-3)
    votes = [r.importance / r.importance.sum() for r in exact]
    np.testing.assert_allclose(shown.importance, np.mean(votes, axis=0), atol=1e-4)


def test_moments_are_pooled_as_those_of_all_examples(tmp_path):
    played = Round(tmp_path)
    means = np.stack([r.statistics.mean for r in played.exact.accepted])
    variances = np.stack([r.statistics.variance for r in played.exact.accepted])
    pooled = means.mean(axis=0)
    spread = (variances + means**2).mean(axis=0) - pooled**2
    near = replace(played.exact.accepted[0].statistics, mean=pooled, variance=spread)
    hidden = hide_clients(played.exact, played.work, near, played.privacy)
    shown = hidden.accepted[0].statistics
    np.testing.assert_allclose(shown.mean, pooled, atol=1e-3)
    np.testing.assert_allclose(shown.variance, spread, rtol=1e-2)


def test_the_noise_has_the_planned_size_on_every_entry(tmp_path):
    played = Round(tmp_path)
    noise = played.hidden(2.0).total.delta_sum - played.exact.total.delta_sum
    wanted = 2.0 * played.task.config.privacy.clip * 2.0**24
    assert noise.std() == pytest.approx(wanted, rel=0.1)
    assert np.count_nonzero(noise) > 0.99 * len(noise)


def test_entries_that_no_client_may_send_have_no_noise(tmp_path):
    changes = {"update__choice": "shared", "update__update_density": 0.25}
    played = Round(tmp_path, **changes)
    known = played.work.side_info.mask
    noised = played.hidden(2.0).total.delta_sum
    assert not noised[~known].any()
    assert np.count_nonzero(noised[known]) > 0.99 * np.count_nonzero(known)


def test_a_client_moves_what_is_shown_by_no_more_than_its_bounds(tmp_path):
    """One client with absurd figures: the exact part moves by a bounded amount."""
    played = Round(tmp_path)
    first = played.exact.accepted[0]
    absurd = replace(
        first,
        loss=1e30,
        validation=replace(first.validation, loss_sum=1e30, metric_sum=-1e30),
        statistics=replace(
            first.statistics,
            mean=np.full_like(first.statistics.mean, 4e3),
            variance=np.full_like(first.statistics.variance, 6e4),
        ),
        importance=np.geomspace(1, 1e30, len(first.importance)).astype(np.float32),
    )
    records = tuple(
        absurd if r.client_id == first.client_id else r for r in played.exact.records
    )
    forged = replace(played.exact, records=records)
    count = len(played.exact.accepted)
    before = played.hidden().accepted[0]
    after = hide_clients(forged, played.work, None, played.privacy).accepted[0]
    assert abs(after.loss - before.loss) <= 4.0 / count * 1.01
    moved = np.linalg.norm(after.importance - before.importance)
    assert moved <= 2.0 / count * 1.01
    size = 2 * len(before.statistics.mean)
    offset = after.statistics.mean - before.statistics.mean
    assert np.linalg.norm(offset) <= 2 * 0.5 * np.sqrt(size) / count * 1.01


def test_a_round_of_hidden_answers_ends_like_any_other(tmp_path):
    played = Round(tmp_path)
    hidden = played.hidden()
    after, report = finish_round(played.state, played.work, hidden, played.run_spec)
    assert after.round == 1
    assert report.choice is not None
    assert report.check is None


def test_a_failed_attempt_shows_nothing(tmp_path):
    played = Round(tmp_path)
    blank = withhold_clients(played.exact)
    assert not blank.total.delta_sum.any()
    for record in blank.records:
        assert record.status is Status.ACCEPTED
        assert (record.loss, record.norm) == (0.0, 0.0)
        assert record.importance is record.validation is record.statistics is None


def test_entries_of_few_senders_do_not_count(tmp_path):
    changes = {
        "privacy__senders": 2,
        "rounds__minimum": 2,
        "update__update_density": 0.3,
        "update__choice": "magnitude",
    }
    played = Round(tmp_path, private=False, **changes)
    assert played.work.request.individual_updates
    counts = np.zeros(played.work.spec.size, dtype=int)
    for one in played.exact.individual_updates:
        counts[one.delta.indices] += 1
    kept = without_rare(played.exact, played.work, 2).total.delta_sum
    assert (counts == 1).any()
    assert not kept[counts < 2].any()
    assert kept[counts >= 2].any()
