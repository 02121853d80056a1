"""One importance out of many: no client may own the cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import CONSENSUS
from fedprune.common.methods.registry import names
from fedprune.common.pruning.importance import normalise
from fedprune.server.rounds.cut import consensus, smooth

RULES = names(CONSENSUS)
UNITS = 40


def honest(count, seed=0, units=UNITS):
    """Return scores of clients that agree up to noise and scale."""
    rng = np.random.default_rng(seed)
    truth = rng.lognormal(sigma=1.5, size=units)
    return {
        f"client-{number:03d}": (truth * rng.lognormal(sigma=0.3, size=units)).astype(
            np.float32
        )
        for number in range(count)
    }


def agree(scores, rule):
    found = consensus(scores, dict.fromkeys(scores, 10), rule)
    assert found is not None
    return found


@pytest.mark.parametrize("rule", RULES)
@given(
    scale=st.floats(1e-20, 1e20),
    count=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_the_scale_of_a_client_changes_nothing(rule, scale, count, seed):
    scores = honest(count, seed, units=8)
    scaled = dict(scores)
    scaled["client-000"] = (scores["client-000"] * scale).astype(np.float32)
    np.testing.assert_allclose(agree(scaled, rule), agree(scores, rule), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 9))
def test_the_order_of_clients_is_irrelevant_to_the_last_bit(rule, random, count):
    scores = honest(count)
    pairs = list(scores.items())
    random.shuffle(pairs)
    assert agree(dict(pairs), rule).tobytes() == agree(scores, rule).tobytes()


@pytest.mark.parametrize("rule", RULES)
def test_a_client_whose_scores_are_all_zero_abstains(rule):
    scores = honest(5)
    silent = scores | {"client-999": np.zeros(UNITS, dtype=np.float32)}
    np.testing.assert_array_equal(agree(silent, rule), agree(scores, rule))


@pytest.mark.parametrize("rule", RULES)
def test_when_everybody_abstains_there_is_no_agreement(rule):
    zeros = {"a": np.zeros(3, np.float32), "b": np.zeros(3, np.float32)}
    assert consensus(zeros, {"a": 1, "b": 1}, rule) is None
    assert consensus({}, {}, rule) is None


@pytest.mark.parametrize(
    "result", ["None", "scores", "scores.sum(axis=1)", "scores[0] / 0.0", "0.5"]
)
def test_a_rule_of_ones_own_has_to_give_a_finite_number_for_each_channel(
    result, tmp_path
):
    path = tmp_path / "mine.py"
    path.write_text(
        "import numpy as np\n\n\ndef agree(scores):\n"
        f"    with np.errstate(all='ignore'):\n        return {result}\n"
    )
    scores = honest(3)
    with pytest.raises(ConfigError, match=r"mine.py:agree' returned .*want 40 finite"):
        agree(scores, f"{path}:agree")


def test_normalised_scores_sum_to_one_over_all_units_and_negatives_are_zero():
    found = normalise(np.float32([3.0, -5.0, 1.0]))
    assert found.tolist() == [0.75, 0.0, 0.25]
    assert normalise(np.float32([0.0, -1.0])).tolist() == [0.0, 0.0]


def test_the_moving_average_starts_with_the_first_and_then_shares():
    first, fresh = np.float32([1.0, 0.0]), np.float32([0.0, 1.0])
    assert smooth(None, first, 0.75).tolist() == [1.0, 0.0]
    assert smooth(first, fresh, 0.75).tolist() == [0.75, 0.25]
    assert smooth(first, fresh, 0.0).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("empty", [np.ones(UNITS), np.eye(UNITS)[3], np.zeros(UNITS)])
def test_scores_that_rank_nothing_abstain(rule, empty):
    scores = honest(4)
    wanted = agree(scores, rule)
    joined = scores | {"client-zzz": empty.astype(np.float32)}
    np.testing.assert_array_equal(agree(joined, rule), wanted)
    alone = {"client-zzz": empty.astype(np.float32)}
    assert consensus(alone, {"client-zzz": 10}, rule) is None


def test_a_single_unit_needs_no_ranking():
    one = {"client-000": np.ones(1, np.float32)}
    assert agree(one, "median").tolist() == [1.0]
