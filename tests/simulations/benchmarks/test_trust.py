"""The trust benchmark: its cases, its stored pieces and the figures of them."""

import json

import pytest

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, RoundError
from fedprune.common.methods.kinds import AGGREGATION, ATTACK
from fedprune.common.methods.registry import methods
from fedprune.simulations.benchmarks import trust
from fedprune.simulations.benchmarks.kit.trust import attack_rows, cases, cost_row
from fedprune.simulations.benchmarks.kit.trust.cases import Case, measured
from fedprune.simulations.benchmarks.kit.trust.networks import norm_net


@pytest.fixture
def fake(monkeypatch):
    """Measure at once: an attack costs 5 points, plain FedAvg 50 more."""

    def found(case, seed):
        accuracy = 0.9 + seed / 100 - 0.05 * (case.attack != "none")
        accuracy -= 0.5 * (case.rule == "plain" and case.attack != "none")
        success = 0.25 if case.attack == "backdoor" else None
        return {
            "accuracy_final": accuracy,
            "backdoor_success": success,
            "rounds": 11,
            "rollbacks": 0,
            "bytes_up": 100 + case.bounds,
            "bytes_down": 99,
            "seconds": 2.0 + case.bounds,
        }

    for module in (attack_rows, cost_row):
        monkeypatch.setattr(module, "measured", found)


def run(tmp_path, *words):
    target = tmp_path / "figures.json"
    places = ("--work", str(tmp_path / "work"), "--json", str(target))
    assert trust.main([*words, *places]) == 0
    return {f["name"]: f for f in json.loads(target.read_bytes())["figures"]}


@pytest.mark.slow
def test_figures_are_paired_with_the_honest_run_of_the_same_seed(tmp_path, fake):
    found = run(tmp_path, "attacks", "--only", "norm-iid-", "--seeds", "3")
    head = "attacks: batch norm, IID, "
    accuracy = found[f"{head}honest, defaults, accuracy"]
    assert accuracy["value"] == pytest.approx(91)
    lost = found[f"{head}1 of 10 sign-flip, defaults, accuracy lost"]
    assert (lost["value"], lost["goal"], lost["met"]) == (
        pytest.approx(5),
        "<= 1",
        False,
    )
    plain = found[f"{head}1 of 10 sign-flip, plain FedAvg, accuracy lost"]
    assert (plain["value"], plain["goal"]) == (pytest.approx(55), "")
    success = found[f"{head}1 of 10 backdoor x 10, defaults, success of the backdoor"]
    assert success["value"] == pytest.approx(25)
    assert found["colluders: pieces measured"]["value"] == 0


def test_the_cost_is_that_of_the_bounds_alone(tmp_path, fake):
    found = run(tmp_path, "cost", "--seeds", "0,1")
    head = "cost: lenet, dirichlet, "
    assert found[f"{head}accuracy lost"]["value"] == pytest.approx(0)
    assert found[f"{head}bytes more"]["value"] == pytest.approx(100 / 199)
    assert found[f"{head}CPU more"]["value"] == pytest.approx(50)


def test_the_smoke_test_has_every_attack_against_the_defaults(tmp_path, fake):
    wanted = {
        "attacks": len(methods(ATTACK)) + 3,
        "colluders": 2,
        "scorers": 2,
        "backdoor": 0,
        "cost": 1,
    }
    found = run(tmp_path, "--smoke", *wanted)
    counted = {name: found[f"{name}: pieces measured"]["value"] for name in wanted}
    assert counted == wanted


def test_every_rule_stands_beside_the_defaults():
    names = {piece.name for piece in trust.rows()["colluders"].pieces([0])}
    for rule in (*methods(AGGREGATION), "plain"):
        assert f"norm-dirichlet-ipm-{rule}-2-hostile-0" in names
        assert f"norm-dirichlet-none-{rule}-0" in names


@pytest.mark.slow
@pytest.mark.parametrize("smoke", [False, True])
def test_every_case_is_a_valid_configuration_with_a_name_of_its_own(smoke):
    for row in [*attack_rows.rows(smoke=smoke), cost_row.row(smoke=smoke)]:
        pieces = row.pieces([0, 1])
        assert len({piece.name for piece in pieces}) == len(pieces)
        for piece in pieces:
            for settings in (
                piece.settings.get("bounded", piece.settings),
                piece.settings.get("unbounded", {}),
            ):
                load_config(None, {k: v for k, v in settings.items() if k != "seed"})


def test_plain_federated_averaging_has_no_bound_and_trains_as_long():
    plain, ours = (
        load_config(None, Case(network="norm", split="iid", rule=rule).settings)
        for rule in ("plain", "mean")
    )
    robust = plain.robust
    assert (robust.max_norm, robust.max_weight, robust.max_moment) == (0, 0, 0)
    assert plain.rounds.total == ours.rounds.total
    assert plain.update.update_density == 1


def test_attacks_that_need_others_know_all_of_them():
    for attack, wanted in (("ipm", True), ("sign-flip", False)):
        case = Case(network="norm", split="iid", attack=attack)
        assert case.settings["attack.omniscient"] is wanted


def test_a_run_that_ends_early_lost_everything_and_a_wrong_key_is_an_error(monkeypatch):
    def ends(error):
        def ended(*_):
            raise error

        return ended

    case = Case(network="norm", split="iid")
    monkeypatch.setattr(cases, "ended", ends(RoundError("too few")))
    found = measured(case, 0)
    assert (found["accuracy_final"], found["ended"]) == (0.0, "too few")
    monkeypatch.setattr(cases, "ended", ends(ConfigError("wrong")))
    with pytest.raises(ConfigError, match="wrong"):
        measured(case, 0)


def test_the_network_with_batch_norm_fits_its_images():
    assert sum(w.numel() for w in norm_net(10, (1, 14, 14)).parameters()) == 7738
