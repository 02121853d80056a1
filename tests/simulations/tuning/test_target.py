"""The target of a search: its grammar, and how far figures are from it."""

import math

import pytest

from fedprune.common.errors import ConfigError
from fedprune.simulations.tuning.target import NAMES, parse_target

FIGURES = dict.fromkeys(NAMES, 0.2)


def test_a_target_is_a_list_of_upper_bounds_in_one_order():
    found = parse_target(" latency<=0.4,accuracy_drop <= 5e-1 ,bytes<=0.01")
    assert found.bounds == {"accuracy_drop": 0.5, "latency": 0.4, "bytes": 0.01}
    assert str(found) == "accuracy_drop<=0.5, latency<=0.4, bytes<=0.01"
    assert str(parse_target(str(found))) == str(found)
    assert found.sizes == {"latency": 0.4}
    assert found.bounds_accuracy
    assert not parse_target("size<=1").bounds_accuracy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("NAME<=NUMBER", "accuracy_drop")),
        ("params<=0.3,", ("NAME<=NUMBER",)),
        ("params<0.3", ("NAME<=NUMBER",)),
        ("params=0.3", ("NAME<=NUMBER",)),
        ("params>=0.3", ("NAME<=NUMBER",)),
        ("params<=0.3<=0.4", ("NAME<=NUMBER",)),
        ("param<=0.3", ('found "param"', "did you mean 'params'")),
        ("accuracy<=0.3", ('found "accuracy"', "accuracy_drop")),
        ("params<=0", ('found "0"', "0 < share <= 1")),
        ("params<=30", ('found "30"', "0 < share <= 1")),
        ("params<=nan", ('found "nan"', "0 < share <= 1")),
        ("params<=much", ('found "much"', "0 < share <= 1")),
        ("accuracy_drop<=-1", ('found "-1"', "points")),
        ("accuracy_drop<=101", ('found "101"', "points")),
        ("accuracy_drop<=inf", ('found "inf"', "points")),
        ("size<=0.3,size<=0.4", ('"size" stands twice',)),
        ("a\x1b[31m<=1", ("\\x1b",)),
    ],
)
def test_a_wrong_target_is_one_line_with_what_where_and_how(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_target(text)
    said = str(caught.value)
    assert said.startswith("--target ")
    assert "\n" not in said
    assert "\x1b" not in said
    assert [word for word in words if word not in said] == []


def test_excess_is_in_points_of_accuracy_and_in_multiples_of_a_share():
    target = parse_target("accuracy_drop<=0.5, params<=0.1")
    assert target.excess(FIGURES | {"params": 0.1}) == 0.0
    assert target.excess(FIGURES | {"params": 0.25}) == pytest.approx(1.5)
    found = target.excess(FIGURES | {"accuracy_drop": 2.5, "params": 0.05})
    assert found == pytest.approx(2.0)
    assert target.excess({"params": 0.05}) == math.inf
    assert target.excess(FIGURES | {"accuracy_drop": None, "params": 0.1}) == math.inf
