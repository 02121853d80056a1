"""The benchmark of comparisons: intervals by hand, stored pieces, what is shown."""

import json
import math

import numpy as np
import pytest

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.simulations.benchmarks import science
from fedprune.simulations.benchmarks.kit.harness import Figure, verdict
from fedprune.simulations.benchmarks.kit.rows import Interval, RowStore
from fedprune.simulations.benchmarks.kit.science import rows
from fedprune.simulations.benchmarks.kit.science.intervals import (
    interval,
    pack,
    paired,
    unpack,
)
from fedprune.simulations.benchmarks.kit.science.rows import Piece, Row
from fedprune.simulations.benchmarks.kit.science.votes import row as votes
from fedprune.simulations.benchmarks.results import read_results, render

T_OF_3 = 4.3027  # 97.5 % of Student's t with two degrees of freedom


def test_the_mean_of_a_difference_is_the_mean_over_seeds_of_the_mean_over_examples():
    found = interval([[0, 0, 0, 1], [1, 1]])
    assert found.mean == pytest.approx((0.25 + 1.0) / 2)
    assert found.low <= found.mean <= found.high
    assert found.seeds == 2


def test_equal_differences_have_an_interval_of_length_zero():
    found = interval([[0.5, 0.5], [0.5, 0.5, 0.5]])
    assert (found.low, found.high) == pytest.approx((0.5, 0.5))


@pytest.mark.slow
def test_figures_of_many_seeds_have_about_the_interval_of_students_t():
    values = np.random.default_rng(1).normal(2.0, 3.0, 30)
    found = interval([[value] for value in values])
    half = 2.0452 * values.std(ddof=1) / math.sqrt(30)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)
    assert (found.low + found.high) / 2 == pytest.approx(values.mean(), abs=0.1 * half)


def test_three_seeds_have_an_interval_no_shorter_than_students_t_by_a_tenth():
    values = [1.0, 2.0, 3.0]
    found = interval([[value] for value in values])
    assert found.high - found.low > 0.9 * 2 * T_OF_3 / math.sqrt(3)


def test_one_seed_says_nothing_about_others():
    found = interval([np.ones(1000)])
    assert (found.mean, found.low, found.high) == (1.0, -math.inf, math.inf)
    shown = rows.figure("x", found, goal=">= 0")
    assert shown.met is None
    assert verdict(shown.met, shown.goal) == "not resolved"


@pytest.mark.slow
def test_the_noise_of_few_examples_widens_the_interval():
    rng = np.random.default_rng(2)
    many, few = ([rng.normal(0, 1, n) for _ in range(3)] for n in (4000, 40))
    same = [one - one.mean() for one in many], [one - one.mean() for one in few]
    wide = [interval(one).high for one in same]
    assert wide[1] > 3 * wide[0] > 0.0


def test_few_seeds_stretch_the_noise_of_seeds_and_not_that_of_examples():
    values = np.random.default_rng(4).normal(0, 1, 1000)
    found = interval([values] * 3, same_examples=True)
    half = 1.96 * values.std() / math.sqrt(1000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.08)


def test_examples_that_all_seeds_share_are_drawn_once():
    # Their noise does not average out over the seeds: here by sqrt(3).
    noise = np.random.default_rng(3).normal(0, 1, 200)
    shared = interval([noise] * 3, same_examples=True)
    apart = interval([noise] * 3)
    assert (shared.high - shared.low) / (apart.high - apart.low) > 1.4


def test_equal_data_have_equal_intervals():
    data = [[0.1, 0.4, 0.2], [0.3, 0.3, 0.1]]
    assert interval(data) == interval(data)
    assert interval(data, same_examples=True) == interval(data, same_examples=True)


@pytest.mark.parametrize("data", [[], [[]], [[1.0], []]])
def test_nothing_has_no_interval(data):
    with pytest.raises(ValueError, match="want the differences of one seed or more"):
        interval(data)


def test_differences_are_paired_by_seed_and_example():
    first = {0: np.array([True, False, True]), 2: np.array([True])}
    second = {0: np.array([True, True, False]), 1: np.array([True])}
    (found,) = paired(first, second)
    assert found.tolist() == [0.0, -1.0, 1.0]
    with pytest.raises(IntegrityError, match="seed 0 has 3 and 1 examples"):
        paired(first, {0: np.array([True])})


@pytest.mark.parametrize("count", [0, 1, 8, 13])
def test_stored_examples_are_read_as_they_were(count):
    right = np.random.default_rng(count).random(count) > 0.5
    stored = json.loads(json.dumps(pack(right)))
    assert unpack(stored).tolist() == right.tolist()


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"count": 9, "bits": "AA=="},
        {"count": -1, "bits": ""},
        {"count": True, "bits": "AA=="},
        {"count": 3, "bits": "?"},
    ],
)
def test_bits_that_do_not_fit_are_refused(forged):
    with pytest.raises(IntegrityError, match="measure them again"):
        unpack(forged)


@pytest.mark.parametrize(
    ("low", "high", "met"), [(0.1, 2.0, True), (-2.0, -0.1, False), (-1.0, 2.0, None)]
)
def test_a_goal_is_resolved_by_both_ends_of_an_interval(low, high, met):
    found = rows.figure(
        "x", Interval(mean=0.5, low=low, high=high, seeds=3), goal="> 0"
    )
    assert found.met is met


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("2", [0, 1]), ("3,5", [3, 5]), ("7,", [7]), (" 1 , 2 ", [1, 2])],
)
def test_seeds_are_a_list_or_their_number(text, seeds):
    assert science.read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "a", "1,1", "-1", "1.5", ","])
def test_other_seeds_are_refused(text):
    with pytest.raises(ConfigError, match="--seeds is"):
        science.read_seeds(text)


def row_of(measured):
    def work(seed):
        measured.append(seed)
        return {"value": seed}

    def pieces(seeds):
        return [
            Piece(name=f"a-{s}", settings={"seed": s}, work=lambda s=s: work(s))
            for s in seeds
        ]

    def figures(found):
        values = [[raw["value"]] for raw in found.values()]
        return [rows.figure("toy: value", interval(values))]

    return Row(name="toy", budget="no time", pieces=pieces, figures=figures)


@pytest.fixture
def toy(monkeypatch):
    measured = []
    monkeypatch.setattr(science, "ROWS", {"toy": row_of(measured)})
    return measured


def test_a_row_is_measured_where_it_is_named_and_each_piece_once(toy, tmp_path, capsys):
    arguments = ["--work", str(tmp_path / "work")]
    assert science.main(arguments) == 0
    assert "not run; no time" in capsys.readouterr().out.replace("\n", " ")
    assert toy == []
    assert science.main(["toy", *arguments, "--seeds", "2"]) == 0
    assert science.main(["toy", *arguments, "--seeds", "0,1,4"]) == 0
    assert toy == [0, 1, 4]
    stored = json.loads((tmp_path / "work" / "toy-a-4.json").read_bytes())
    assert {"commit", "cpu", "cpu_seconds", "settings", "value"} <= {*stored}
    assert stored["settings"] == {"seed": 4}


def test_a_piece_of_other_settings_is_refused(toy, tmp_path, capsys):
    arguments = ["toy", "--work", str(tmp_path), "--seeds", "1"]
    science.main(arguments)
    path = tmp_path / "toy-a-0.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 7'))
    for words in (arguments, arguments[1:]):
        assert science.main(words) == IntegrityError.exit_code
        assert "toy-a-0.json was measured with other" in capsys.readouterr().err


def test_a_row_of_which_some_pieces_are_there_says_how_many(toy, tmp_path):
    work, file = tmp_path / "work", tmp_path / "science.json"
    science.main(["toy", "--work", str(work), "--seeds", "2"])
    science.main(["--work", str(work), "--seeds", "3", "--json", str(file)])
    (found,) = read_results(tmp_path)
    head = found["figures"][0]
    assert head["value"] == 2
    assert head["detail"].startswith("n = 2 of 3; ")
    assert found["figures"][1]["value"] == 0.5
    assert "toy: value" in render([found])


def test_stored_pieces_beside_the_results_are_no_results(toy, tmp_path):
    science.main(["toy", "--work", str(tmp_path / "science"), "--seeds", "1"])
    assert list((tmp_path / "science").glob("*.json"))
    assert read_results(tmp_path) == []


def test_the_page_counts_goals_that_are_not_resolved(tmp_path):
    found = Interval(mean=1.0, low=-1.0, high=3.0, seeds=3)
    one = rows.figure("x", found, goal=">= 0")
    result = {"benchmark": "science", "commit": "c", "cpu": "", "seconds": 1.0}
    shown = {"name": "x", "value": 1.0, "unit": "", "reference": "", "goal": one.goal}
    result |= {"versions": {}, "figures": [shown | {"met": one.met, "detail": ""}]}
    page = render([result])
    assert "0 of 0 goals met, 1 not resolved." in page
    assert "| not resolved |" in page


def test_the_commit_of_a_piece_is_that_of_the_code_that_ran(tmp_path, monkeypatch):
    from fedprune.simulations.benchmarks.kit import rows as kit

    monkeypatch.setattr(kit, "commit", lambda: "first")
    store = RowStore(tmp_path)
    monkeypatch.setattr(kit, "commit", lambda: "second")
    assert store.get("x", dict)["commit"] == "first"
    assert store.find("y") is None


def test_each_piece_of_the_votes_has_a_name_of_its_own():
    names = [piece.name for piece in votes.pieces([0, 1, 2])]
    assert len(set(names)) == len(names)


def test_an_interval_of_a_figure_is_stored_with_it():
    figure = Figure(name="x", value=1.0, low=0.5, high=2.0, goal=">= 0.4")
    assert figure.met is True
