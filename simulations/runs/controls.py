"""The controls of a simulated run: one federation after another, on one engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedprune.common.config import Config, ControlName
from fedprune.common.errors import ConfigError, DataError, RoundError
from fedprune.common.pruning.cost import count_cost, flops
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.spec import Mask, PrunePlan
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.fresh import FreshNetwork
from fedprune.server.rounds.state import Snapshot
from fedprune.server.runs.controls.names import in_order, kind_of, of_equal_bytes
from fedprune.server.runs.controls.plans import plan_of, uniform_keep
from fedprune.server.runs.controls.rounds import Fit, fit_rounds
from fedprune.server.runs.controls.settings import at_reached_size, control_config
from fedprune.server.runs.controls.verdict import (
    Verdict,
    closing_metrics,
    compare,
    verdict_of,
)
from fedprune.server.runs.events import (
    MAIN,
    CutRolledBack,
    Event,
    NetworkCut,
    NetworkRestarted,
    RoundFinished,
    of_run,
)
from fedprune.simulations.runs.evaluate import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The network that a control starts from; None = that of the run.

    Attributes:
        plan: Its prune plan.
        network: Its weights and statistics.
    """

    plan: PrunePlan
    network: FreshNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A finished run, as its controls need it.

    Attributes:
        config: Its configuration.
        structure: The original network.
        latency: Latency table of the budget, or None.
        final: Its final network.
        draw: Draws the network that keeps a mask with fresh weights.
        events: Returns the events so far.
        warn: Logs a line about a control.
    """

    config: Config
    structure: Structure
    latency: LatencyTable | None
    final: Snapshot
    draw: Callable[[Mask], FreshNetwork]
    events: Callable[[], Sequence[Event]]
    warn: Callable[[ControlName, str], None]


Federate = Callable[[ControlName, Config, Start | None], Snapshot]


def run_controls(compared: Compared, federate: Federate) -> dict[ControlName, Snapshot]:
    """Run every control and return the final networks, keyed by their names.

    What a control needs is derived from the events before it: a resumed run derives it
    again, and passes over the controls that have ended.  One that fails, as a network
    that diverges, is left out with a warning, and so is the one that it measures: the
    run's own figures are there.
    """
    config = at_reached_size(
        compared.config,
        compared.structure,
        compared.latency,
        compared.final.plan.keep,
    )
    found: dict[ControlName, Snapshot] = {}
    for name in in_order(config.run.controls):
        if of_equal_bytes(name) and _sibling(name) not in found:
            compared.warn(name, f"control {name} is left out: {kind_of(name)} failed")
            continue
        try:
            fit = fit_of(name, compared.events())
            chosen = control_config(name, config, fit.rounds)
            found[name] = federate(name, chosen, _start(name, config, compared))
        except (ConfigError, DataError, RoundError) as error:
            compared.warn(name, f"control {name} failed and is left out: {error}")
    return found


def fit_of(name: ControlName, events: Sequence[Event]) -> Fit:
    """Return the length of a control: the run's rounds, or what its bytes allow."""
    rounds = len(of_run(events, RoundFinished))
    if not of_equal_bytes(name):
        return Fit(rounds=rounds)
    sibling = _sibling(name)
    cuts = of_run(events, NetworkCut, sibling)
    spent = [e.bytes_up + e.bytes_down for e in of_run(events, RoundFinished, sibling)]
    ours = sum(e.bytes_up + e.bytes_down for e in of_run(events, RoundFinished))
    return fit_rounds(spent, max((cut.round for cut in cuts), default=1), ours, rounds)


def _sibling(name: ControlName) -> ControlName:
    """Return the control of equal rounds of the same kind."""
    (found,) = (one for one in in_order([name]) if one == kind_of(name))
    return found


def _start(name: ControlName, config: Config, compared: Compared) -> Start | None:
    """Return the fresh network of a control, or None where it starts like the run."""
    structure = compared.structure
    final = compared.final.plan.keep
    if kind_of(name) == "scratch":
        keep = final
    elif kind_of(name) == "uniform":
        keep = uniform_keep(structure, config, compared.latency, final)
    else:
        return None
    return Start(plan=plan_of(structure, keep), network=compared.draw(keep))


def control_figures(
    structure: Structure,
    events: Sequence[Event],
    networks: Mapping[ControlName, Snapshot],
    evaluate: Evaluator | None,
) -> dict[str, dict[str, object]]:
    """Return the figures of each control; accuracy and loss are those on test data."""
    found: dict[str, dict[str, object]] = {}
    for name, snapshot in networks.items():
        rounds = of_run(events, RoundFinished, name)
        tested = evaluate.evaluate(snapshot) if evaluate is not None else None
        cost = count_cost(structure, snapshot.plan.keep)
        fit = fit_of(name, events)
        found[name] = {
            "accuracy": tested.headline if tested is not None else None,
            "loss": tested.loss if tested is not None else None,
            "params": cost.params,
            "flops": flops(cost),
            "rounds": len(rounds),
            "bytes_up": sum(event.bytes_up for event in rounds),
            "bytes_down": sum(event.bytes_down for event in rounds),
            "capped": fit.capped,
            "over": fit.over,
        }
    return found


def verdict_figures(
    events: Sequence[Event],
    names: Sequence[str],
    metric: str,
    *,
    higher_is_better: bool,
) -> dict[str, object] | None:
    """Return the verdict as figures of ``summary.json``; None without a comparison."""
    ours = closing_metrics(events, MAIN)
    # A control that does not fit into the bytes is no comparison at equal bytes.
    fits = {name: fit_of(name, events) for name in in_order(names)}
    fitting = [name for name, fit in fits.items() if not fit.over]
    pairs = [
        compare(
            name,
            ours,
            closing_metrics(events, name),
            higher_is_better=higher_is_better,
        )
        for name in fitting
    ]
    found = [one for one in pairs if one is not None]
    if not found:
        return None
    standing = len(of_run(events, NetworkCut)) - len(of_run(events, CutRolledBack))
    return _as_figures(
        verdict_of(
            found,
            metric,
            restarted=bool(of_run(events, NetworkRestarted)),
            smaller=standing > 0,
            capped=[name for name, fit in fits.items() if fit.capped],
        )
    )


def _as_figures(verdict: Verdict) -> dict[str, object]:
    return {
        "equal_size": verdict.equal_size,
        "equal_bytes": verdict.equal_bytes,
        "pick": verdict.pick,
        "advice": verdict.advice,
        "comparisons": {
            one.control: {
                "own": one.run_value,
                "control": one.control_value,
                "difference": one.difference,
                "standard_error": one.standard_error,
                "clients": one.clients,
                "paired": one.paired,
                "outcome": one.outcome,
            }
            for one in verdict.comparisons
        },
    }
