"""Rows with hostile clients: accuracy lost against the same run with honest ones.

``attacks`` has one hostile client of ten and every attack, ``colluders`` two and the
attacks on deltas, ``scorers`` four and those on the importance.  Every aggregation rule
stands beside the default, *tight*: the default one with ``robust.max_weight = 1`` and
``robust.max_norm = 1.25``, and *plain*: dense FedAvg without a bound on any client, by
the same code.  ``alie``, ``ipm`` and ``mimic`` know the deltas of all clients.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from fedprune.common.methods.attack import BACKDOOR
from fedprune.common.methods.kinds import ATTACK
from fedprune.common.methods.registry import OFF, methods
from fedprune.simulations.benchmarks.kit.harness import Figure
from fedprune.simulations.benchmarks.kit.rows import Raw, over_seeds, spread_text
from fedprune.simulations.benchmarks.kit.science.rows import Found, Piece, Row, figure
from fedprune.simulations.benchmarks.kit.trust.cases import (
    DEFAULT,
    PLAIN,
    TIGHT,
    Case,
    boost,
    measured,
    on_deltas,
    on_scores,
    rules,
)

Cases = Callable[[], Sequence[Case]]

_BOTH = ("lenet", "norm")
_SPLITS = ("iid", "dirichlet")
# Row, attack and rule of the smoke test beside all attacks against the defaults.
_ALSO = {
    ("attacks", "sign-flip", PLAIN),
    ("colluders", "sign-flip", DEFAULT),
    ("scorers", "scores-bury", DEFAULT),
}


def rows(*, smoke: bool = False) -> list[Row]:
    """Return the rows; for a smoke test with the small network and few cases."""
    found = (
        ("attacks", "40 CPU hours", _attacks),
        ("colluders", "20 CPU hours", _colluders),
        ("scorers", "3 CPU hours", _scorers),
        ("backdoor", "2 CPU hours", _backdoors),
    )
    return [
        _row(name, budget, partial(_chosen, name, cases, smoke=smoke))
        for name, budget, cases in found
    ]


def _row(name: str, budget: str, cases: Cases) -> Row:
    return Row(
        name=name,
        budget=budget,
        pieces=partial(_pieces, cases),
        figures=partial(_figures, name, cases),
    )


def _chosen(row: str, cases: Cases, *, smoke: bool) -> Sequence[Case]:
    """Return the cases of a row, each once and after its honest one."""
    found = [one for one in cases() if not smoke or _in_smoke(row, one)]
    return list(dict.fromkeys(pair for one in found for pair in (one.honest, one)))


def _in_smoke(row: str, case: Case) -> bool:
    """Return whether a case is cheap and says much."""
    if case.network != "norm" or case.split != "iid":
        return False
    if row == "attacks" and case.rule == DEFAULT:
        return True
    return (row, case.attack, case.rule) in _ALSO


def _attacks() -> Sequence[Case]:
    return [
        _against(attack, 1, network, split, rule)
        for network in _BOTH
        for split in _SPLITS
        for attack in methods(ATTACK)
        for rule in (rules() if attack in on_deltas() else (DEFAULT, PLAIN))
        if rule != PLAIN or attack not in on_scores()
    ]


def _colluders() -> Sequence[Case]:
    return [
        _against(attack, 2, network, split, rule)
        for network in _BOTH
        for split in _SPLITS
        for attack in on_deltas()
        for rule in rules()
    ]


def _scorers() -> Sequence[Case]:
    return [
        _against(attack, 4, network, "iid", DEFAULT)
        for network in _BOTH
        for attack in on_scores()
    ]


def _backdoors() -> Sequence[Case]:
    return [
        replace(_against(BACKDOOR, 1, network, "iid", rule), scale=scale)
        for network in _BOTH
        for rule in rules()
        for scale in (0.0, boost(BACKDOOR, 1))
    ]


def _against(attack: str, hostile: int, network: str, split: str, rule: str) -> Case:
    return Case(
        network=network,
        split=split,
        rule=rule,
        attack=attack,
        hostile=hostile,
        scale=boost(attack, hostile),
    )


def _pieces(cases: Cases, seeds: Sequence[int]) -> list[Piece]:
    return [
        Piece(
            name=f"{case.name}-{seed}",
            settings={**case.settings, "seed": seed},
            work=partial(measured, case, seed),
        )
        for seed in seeds
        for case in cases()
    ]


def _figures(row: str, cases: Cases, found: Found) -> list[Figure]:
    """Return accuracy, accuracy lost, and success of the backdoors, of each case."""
    shown: list[Figure] = []
    for case in cases():
        raws = _by_seed(case, found)
        if case.attack == OFF:
            shown += _accuracy(row, case, raws.values())
        else:
            shown += _lost(row, case, raws, _by_seed(case.honest, found))
            shown += _success(row, case, raws.values())
    return shown


def _by_seed(case: Case, found: Found) -> dict[str, Raw]:
    """Return what was measured of a case, by seed."""
    start = f"{case.name}-"
    return {
        name.removeprefix(start): raw
        for name, raw in found.items()
        if name.startswith(start) and name.removeprefix(start).isdigit()
    }


def _accuracy(row: str, case: Case, raws: Iterable[Raw]) -> list[Figure]:
    values = [100 * float(raw["accuracy_final"]) for raw in raws]
    if not values:
        return []
    name = f"{row}: {_label(case)}, accuracy"
    note = spread_text(values)
    return [figure(name, over_seeds(values), unit="%", note=note)]


def _lost(
    row: str, case: Case, raws: dict[str, Raw], honest: dict[str, Raw]
) -> list[Figure]:
    pairs = [(honest[seed], raws[seed]) for seed in raws if seed in honest]
    lost = [100 * (float(a["accuracy_final"]) - b["accuracy_final"]) for a, b in pairs]
    if not lost:
        return []
    return [
        figure(
            f"{row}: {_label(case)}, accuracy lost",
            over_seeds(lost),
            unit="points",
            goal=_goal(row, case),
            note=f"{spread_text(lost)}; {_ends([b for _, b in pairs])}",
        )
    ]


def _success(row: str, case: Case, raws: Iterable[Raw]) -> list[Figure]:
    found = [raw["backdoor_success"] for raw in raws]
    values = [100 * float(one) for one in found if one is not None]
    if not values:
        return []
    name = f"{row}: {_label(case)}, success of the backdoor"
    return [figure(name, over_seeds(values), unit="%", note=spread_text(values))]


def _label(case: Case) -> str:
    """Return a case in words."""
    data = "LeNet-5" if case.network == "lenet" else "batch norm"
    split = "IID" if case.split == "iid" else "Dirichlet 0.5"
    words = {DEFAULT: "defaults", PLAIN: "plain FedAvg", TIGHT: "tighter bounds"}
    rule = words.get(case.rule, case.rule)
    who = "honest" if case.attack == OFF else f"{case.hostile} of 10 {case.attack}"
    strength = f" x {case.scale:g}" if case.scale else ""
    return f"{data}, {split}, {who}{strength}, {rule}"


def _goal(row: str, case: Case) -> str:
    """Return the goal of the accuracy that the defaults lose, where there is one."""
    iid = case.split == "iid"
    if case.rule != DEFAULT:
        return ""
    if row == "attacks":
        return "<= 1" if iid else "<= 2"
    if row == "colluders":
        return "<= 4" if iid else ""
    return "<= 1" if row == "scorers" else ""


def _ends(raws: Sequence[Raw]) -> str:
    failed = [str(raw["ended"]) for raw in raws if "ended" in raw]
    rounds = ", ".join(str(raw.get("rounds", "-")) for raw in raws)
    back = sum(int(raw.get("rollbacks", 0)) for raw in raws)
    text = f"rounds {rounds}; {back} rollbacks"
    return f"{text}; {len(failed)} runs ended: {failed[0]}" if failed else text
