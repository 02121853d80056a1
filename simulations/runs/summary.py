"""Final figures of a run, and its network files."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.common.artifacts import (
    LABELS_FILE,
    encode_tensors,
    write_labels,
    write_plan_file,
)
from fedprune.common.artifacts.load import write_network
from fedprune.common.config import ControlName
from fedprune.common.data.examples import Batch
from fedprune.common.pruning.cost import count_cost
from fedprune.common.pruning.latency import LatencyTable
from fedprune.common.pruning.plan import full_plan
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.loaded import LoadedTask, run_network
from fedprune.server.rounds.cut import budget_used, within_budget
from fedprune.server.rounds.records import Status
from fedprune.server.rounds.state import Snapshot, model_sha256
from fedprune.server.runs.events import (
    DENSE,
    MAIN,
    CutRolledBack,
    Event,
    LateArrived,
    NetworkCut,
    OfRound,
    RoundFinished,
    RunStarted,
    of_kind,
    of_run,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.server.runs.record.answered import outcomes
from fedprune.server.runs.record.remarks import remarks_of
from fedprune.server.runs.record.spent import privacy_figures
from fedprune.simulations.runs.controls import control_figures, verdict_figures
from fedprune.simulations.runs.equal_accuracy import equal_accuracy
from fedprune.simulations.runs.evaluate import Evaluator, evaluator_of

_LATENCY_RUNS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The final networks of a run.

    Attributes:
        final: The pruned one, as every client received it.
        before_cut: The last broadcast before the first cut; None without cuts.
        controls: Those of the controls, keyed by their names.
    """

    final: Snapshot
    before_cut: Snapshot | None
    controls: Mapping[ControlName, Snapshot]

    @property
    def named(self) -> dict[str, Snapshot]:
        """All of them by the names of their files."""
        found: dict[str, Snapshot] = {"final": self.final}
        if self.before_cut is not None:
            found["before_cut"] = self.before_cut
        found.update({str(name): one for name, one in self.controls.items()})
        return found


def build(task: LoadedTask, structure: Structure, snapshot: Snapshot) -> nn.Module:
    """Return the network of a snapshot in eval mode."""
    model = ModelCache(task).network(
        structure, snapshot.plan.keep, snapshot.weights, snapshot.statistics
    )
    return model.eval().cpu()


def write_models(
    task: LoadedTask, structure: Structure, folder: RunFolder, networks: Networks
) -> None:
    """Write every network, the plan of the final one, and the names of the classes."""
    description = task.describe()
    for name, snapshot in networks.named.items():
        write_network(
            folder.model / f"{name}.safetensors",
            build(task, structure, snapshot),
            task,
            structure=structure,
            plan=snapshot.plan,
            run_id=folder.run_id,
            description=description,
            # plan.json is the run's: a control has another one.
            alone=name in networks.controls and name != DENSE,
        )
    write_labels(folder.model / LABELS_FILE, description)
    write_plan_file(folder.plan, networks.final.plan, structure)


def summarise(
    task: LoadedTask,
    structure: Structure,
    folder: RunFolder,
    events: Sequence[Event],
    networks: Networks,
    table: LatencyTable | None,
) -> dict[str, object]:
    """Return the figures of ``summary.json``; byte counts are lengths of messages."""
    final = networks.final
    rounds = of_run(events, RoundFinished)
    # One that failed on its way has rounds, and no network.
    ended = DENSE in networks.controls
    control = of_run(events, RoundFinished, DENSE) if ended else []
    equal = equal_accuracy(rounds, control, higher_is_better=task.higher_is_better)
    cuts = of_run(events, NetworkCut)
    rollbacks = of_run(events, CutRolledBack)
    dense_cost = count_cost(structure, full_plan(structure).keep)
    cost = count_cost(structure, final.plan.keep)
    evaluate = evaluator_of(task, structure)
    tested = _tested(events, evaluate, final)
    controls = control_figures(structure, events, networks.controls, evaluate)
    dense_ms, final_ms = latency(task, structure, final)
    used = budget_used(structure, task.config, table, final.plan.keep)
    shares = [cut.zero_share for cut in cuts if cut.zero_share is not None]
    fixed = sum(event.bytes_fixed for event in rounds)
    accepted = sum(event.accepted for event in rounds)
    counts = outcomes(events, MAIN)
    return {
        **tested,
        "accuracy_control": controls.get(DENSE, {}).get("accuracy"),
        "accuracy_before_cut": cuts[0].accuracy_before if cuts else None,
        "accuracy_after_cut": accuracy_after_cut(events),
        "recall_final": evaluate.recall(final) if evaluate else None,
        "recall_control": evaluate.recall(networks.controls[DENSE])
        if evaluate and ended
        else None,
        "params_dense": dense_cost.params,
        "params_final": cost.params,
        "flops_dense": 2 * dense_cost.macs,
        "flops_final": 2 * cost.macs,
        "weight_density": round(float(np.mean(final.weights != 0.0)), 6),
        "budget_used": {kind: round(share, 4) for kind, share in used.items()},
        "budget_met": within_budget(structure, task.config, table, final.plan.keep),
        "bytes_up": sum(event.bytes_up for event in rounds),
        "bytes_down": sum(event.bytes_down for event in rounds),
        "bytes_up_control": sum(e.bytes_up for e in control) if control else None,
        "bytes_down_control": sum(e.bytes_down for e in control) if control else None,
        "equal_accuracy": asdict(equal) if equal else None,
        "controls": controls,
        "verdict": verdict_figures(
            events,
            [*controls],
            str(tested["metric"]),
            higher_is_better=task.higher_is_better,
        ),
        "bytes_fixed_up": fixed,
        "bytes_fixed_per_message": round(fixed / max(accepted, 1), 1),
        "bytes_simulation": sum(event.bytes_simulation for event in rounds),
        "model_bytes_dense": _dense_bytes(task),
        "model_bytes_final": (folder.model / "final.safetensors").stat().st_size,
        "latency_ms_dense": dense_ms,
        "latency_ms_final": final_ms,
        "cuts": len(cuts) - len(rollbacks),
        "rollbacks": len(rollbacks),
        "zero_share_broadcast": sum(shares) / len(shares) if shares else None,
        "zero_shares": shares,
        "rounds": len(rounds),
        "clients": len(task.clients),
        "seed": task.config.run.seed,
        "privacy": privacy_figures(events),
        "refused": counts[Status.REFUSED.value],
        "failed": counts[Status.FAILED.value],
        "late": counts[Status.LATE.value],
        "late_used": sum(len(one.used) for one in of_run(events, LateArrived)),
        "virtual_seconds": sum(event.virtual_seconds or 0.0 for event in rounds),
        "warnings": remarks_of(events),
        "model_sha256": model_sha256(final),
        "seconds": 0.0,
    }


def _tested(
    events: Sequence[Event], evaluate: Evaluator | None, final: Snapshot
) -> dict[str, object]:
    """Return the figures of the final network on the test data, None without them."""
    keys = ("accuracy_final", "backdoor_success", "loss_final")
    if evaluate is None:
        started = next(of_kind(events, RunStarted), None)
        name = started.metric if started is not None else "accuracy"
        return {"metric": name, "metrics_final": {}, **dict.fromkeys(keys)}
    found = evaluate.evaluate(final)
    figures = (found.headline, evaluate.backdoor_success(final), found.loss)
    return {
        "metric": found.metric,
        "metrics_final": found.means,
        **dict(zip(keys, figures, strict=True)),
    }


def _standing(events: Sequence[Event]) -> list[NetworkCut]:
    """Return the cuts that stand: a rollback takes back the last one that did."""
    found: list[NetworkCut] = []
    for event in of_run(events, OfRound):
        if isinstance(event, NetworkCut):
            found.append(event)
        elif isinstance(event, CutRolledBack):
            found.pop()
    return found


def accuracy_after_cut(events: Sequence[Event]) -> float | None:
    """Return the accuracy of the first broadcast after the last cut that stands.

    That broadcast is the network right after the cut, with moments of its own.
    """
    cuts = _standing(events)
    if not cuts:
        return None
    rounds, following = of_run(events, RoundFinished), cuts[-1].round + 1
    return next((e.accuracy for e in rounds if e.round == following), None)


def _dense_bytes(task: LoadedTask) -> int:
    """Return the size of the uncut network's safetensors file."""
    state = task.build_model().state_dict()
    return len(encode_tensors({k: v.numpy() for k, v in state.items()}, {}))


def latency(
    task: LoadedTask, structure: Structure, final: Snapshot
) -> tuple[float, float]:
    """Return batch-1 latency in ms of the dense and the final network.

    One thread, the two interleaved, median of 60 runs each: both see the same machine.
    """
    dense = task.build_model().eval()
    small = build(task, structure, final)
    torch.set_num_threads(1)
    example = Batch(task.example(), None).rows(slice(1)).inputs
    times: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for number in range(_LATENCY_RUNS + 5):
            for model, taken in zip((dense, small), times, strict=True):
                started = time.perf_counter()
                run_network(model, example)
                if number >= 5:  # noqa: PLR2004 - the first runs warm caches up
                    taken.append(time.perf_counter() - started)
    return tuple(round(1e3 * float(np.median(t)), 4) for t in times)  # type: ignore[return-value]
