"""The space of a search, and the points that are drawn from it."""

import pytest
from helpers.small_runs import SMALL

from fedprune.common.config import load_config, penalty_of
from fedprune.simulations.tuning.sampler import Seen, next_point
from fedprune.simulations.tuning.space import (
    RESTART,
    WIDTHS,
    Choice,
    Space,
    has,
    starts_small,
)
from fedprune.simulations.tuning.target import parse_target


def space(target="accuracy_drop<=1, params<=0.4", **settings):
    base = load_config(None, SMALL | {"rounds.final": 8} | settings)
    return Space(base=base, target=parse_target(target))


def configured(of, point):
    settings = SMALL | {"rounds.final": 8} | of.settings(point)
    # The budget replaces that of the file as a whole.
    settings.pop("prune.budget.params", None)
    return load_config(None, settings)


def seen(point, cost, status="done"):
    return Seen(point=point, status=status, cost=cost, rungs={})


def drawn(of, count, cost):
    """Return the points of so many trials, each with the cost that a function gives."""
    found = []
    for _ in range(count):
        point = next_point(of, found, seed=3)
        found.append(seen(point, cost(point)))
    return [one.point for one in found]


def test_the_first_points_are_the_file_itself_and_a_small_start():
    of = space()
    own, small = of.first()
    assert not starts_small(own)
    assert starts_small(small)
    assert own["client.penalty"] == penalty_of(of.base) == "bn-l1+group"
    assert own["update.step_error"] == of.base.update.step_error
    base, config = of.base, configured(of, own)
    assert config.prune.budget.model_dump(exclude_none=True) == {"params": 0.4}
    assert config.client == base.client.model_copy(update={"penalty": "bn-l1+group"})
    assert config.rounds == base.rounds


def test_a_small_start_is_one_early_cut_and_fresh_weights_in_as_many_rounds():
    of = space(**{"rounds.warmup": 5})
    config = configured(of, of.first()[1])
    assert config.prune.restart == "fresh"
    assert (config.rounds.cuts, config.rounds.finetune, config.prune.step_cap) == (
        (1, 0, 1.0)
    )
    assert config.rounds.total == of.base.rounds.total == 17
    assert config.rounds.warmup == 1
    assert config.client.penalty == "none"


def test_a_small_start_takes_no_mask_of_fresh_weights():
    of = space(**{"prune.mask": {"kind": "unstructured"}})
    assert of.settings(of.first()[1])["prune.mask.begin"] == 2
    assert "prune.mask.begin" not in of.settings(of.first()[0])


@pytest.mark.parametrize(
    "settings",
    [{"prune.max_accuracy_drop": 0.1}, {"rounds.final": 0, "rounds.cuts": 1}],
)
def test_where_it_is_impossible_no_small_start_is_tried(settings):
    if "rounds.cuts" in settings:
        settings |= {"rounds.warmup": 0, "rounds.sparsify": 1, "rounds.finetune": 1}
    of = space(**settings)
    assert len(of.first()) == 1
    assert RESTART not in of.first()[0]
    assert all(not starts_small(p) for p in drawn(of, 8, lambda _: 1.0))


def test_sizes_of_the_target_are_the_budget_and_accuracy_lets_it_shrink():
    bounded = space("accuracy_drop<=1, size<=0.4, latency<=0.5")
    found = bounded.settings({WIDTHS: 0.5})["prune.budget"]
    assert found == {"bytes": 0.2, "latency": 0.25}
    of_file = space("accuracy_drop<=1")
    assert of_file.settings({WIDTHS: 2.5})["prune.budget"] == {"params": 1.0}
    assert of_file.settings({WIDTHS: 0.5})["prune.budget"] == {"params": 0.25}
    # Without a bound on accuracy less than the target is not asked for.
    sized = space("params<=0.3")
    assert all(WIDTHS not in p for p in drawn(sized, 8, lambda _: 1.0))
    assert sized.settings(sized.first()[0])["prune.budget"] == {"params": 0.3}
    assert space("bytes<=0.1").settings({})["prune.budget"] == {"params": 0.5}


def test_every_drawn_point_is_a_valid_configuration_of_the_space():
    of = space()
    points = drawn(of, 24, lambda point: point[WIDTHS])
    for point in points:
        configured(of, point)
        dimensions = {one.key: one for one in of.dimensions(point)}
        assert dimensions.keys() == point.keys()
        assert all(has(one, point[key]) for key, one in dimensions.items())
    assert {starts_small(point) for point in points} == {True, False}
    assert len({str(point) for point in points}) == 24


def test_the_sampler_learns_what_costs_less():
    of = space()
    points = drawn(of, 40, lambda point: point[WIDTHS])
    early = [point[WIDTHS] for point in points[2:10]]
    late = [point[WIDTHS] for point in points[-8:]]
    assert sum(late) / 8 < sum(early) / 8


def test_a_stopped_search_draws_the_points_that_it_would_have_drawn():
    of = space()
    points = drawn(of, 12, lambda point: point[WIDTHS])
    past = [seen(point, point[WIDTHS]) for point in points]
    again = [next_point(of, past[:n], seed=3) for n in range(12)]
    assert again == points
    assert [next_point(of, past[:n], seed=4) for n in range(2, 12)] != points[2:]


def test_trials_without_a_cost_are_worse_than_all_others():
    of = space()
    cheap = [seen(p, p[WIDTHS]) for p in drawn(of, 8, lambda _: 1.0)]
    bad = {**cheap[0].point, WIDTHS: 0.3}
    failed = [*cheap, *[seen(bad, None, "failed")] * 8]
    stopped = Seen(point=bad, status="stopped", rungs={4: 0.5})
    for past in (failed, [*cheap, stopped]):
        point = next_point(of, past, seed=0)
        assert dict(point) != bad


def test_a_name_of_the_user_is_part_of_the_space():
    of = space(**{"prune.importance": "fpgm", "client.strength": 3.0})
    (criterion,) = (d for d in of.dimensions({}) if d.key == "prune.importance")
    assert isinstance(criterion, Choice)
    assert criterion.values[-1] == "fpgm"
    own = of.first()[0]
    assert own["prune.importance"] == "fpgm"
    assert "client.strength" not in own  # outside of what is tried: it stays as it is
    points = drawn(of, 16, lambda p: float(p["prune.importance"] != "fpgm"))
    assert {p["prune.importance"] for p in points} >= {"fpgm", "l2"}
