"""The guard of a cut: the clients' validation after it against that before it.

Checked at the end of the fine-tune rounds of a cut, on what the clients measured of
the last broadcast, each with its own moments of its weights:

* the loss, against the last broadcast before this cut (``prune.max_loss_increase``);
* the headline metric, against the last broadcast before the first cut
  (``prune.max_accuracy_drop``).

A limit is broken when the change exceeds it by more than two standard errors.  Only the
clients' validation parts are used.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fedprune.common.profiling.activities import Activity
from fedprune.common.profiling.recorder import timed
from fedprune.common.pruning.cost import shares
from fedprune.common.pruning.plan import rollback_plan
from fedprune.server.rounds.cut import budget_targets
from fedprune.server.rounds.cycle import (
    Cursor,
    after_rollback,
    after_stop,
    is_guarded,
    may_roll_back,
)
from fedprune.server.rounds.influence import ReportedLoss, pooled
from fedprune.server.rounds.records import (
    ClientRecord,
    Validations,
    Verdict,
    validations_of,
)
from fedprune.server.rounds.state import RunSpec, ServerState, Snapshot
from fedprune.server.rounds.steps.comparison import (
    Difference,
    compare_losses,
    compare_metrics,
)

_ERRORS = 2.0  # standard errors that count as noise
_SLACK = 0.05  # rise of the loss that is always allowed: nearly perfect networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Validation of a broadcast on all validation parts together.

    Attributes:
        loss: Mean loss of an example, or NaN without examples.
        accuracy: Share of correct answers, 0..1, or NaN without examples.
        count: Number of examples.
    """

    loss: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A figure before and after, and how much worse it may be.

    Attributes:
        found: The figure of the two broadcasts.
        worse: How much worse the later one is; negative = better.
        allowed: Largest ``worse`` that is accepted, >= 0; None = any.
    """

    found: Difference
    worse: float
    allowed: float | None

    @property
    def broken(self) -> bool:
        """True if it is worse than allowed by more than two standard errors."""
        if self.allowed is None:
            return False
        return self.worse - self.allowed > _ERRORS * self.found.error


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The guard's check of a cut, or of the final network.

    Attributes:
        loss: Loss against the network before this cut; None where no client measured
            one of the two.
        accuracy: Headline metric against the network before the first cut, or None.
        verdict: The decision.
    """

    loss: Change | None
    accuracy: Change | None
    verdict: Verdict = Verdict.KEPT

    @property
    def undone(self) -> bool:
        """True if the cut was taken back."""
        return self.verdict in {Verdict.ROLLED_BACK, Verdict.STOPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """The state after the guard.

    Attributes:
        state: The state; that before the cut where it was taken back.
        check: The check, or None where there was nothing to check.
        warning: One line where a limit is broken and the network stays, or the cuts
            stop; else "".
    """

    state: ServerState
    check: Check | None = None
    warning: str = ""


def pooled_score(records: Iterable[ClientRecord], multiple: float) -> Score:
    """Pool the validation of all accepted answers, each bounded around the median.

    Args:
        records: Answers; those without a validation part do not count.
        multiple: ``robust.max_weight``, which bounds the count of one client.
    """
    found = validations_of(records)
    figures = zip(found.losses, found.metrics, found.counts, strict=True)
    reported = [
        ReportedLoss(loss=float(x), metric=float(m), count=int(n))
        for x, m, n in figures
    ]
    mean = pooled(reported, multiple)
    if mean is None:
        return Score(loss=float("nan"), accuracy=float("nan"), count=0)
    return Score(loss=mean.loss, accuracy=mean.metric, count=mean.count)


@timed(Activity.PRUNING)
def guard(moved: ServerState, now: Snapshot, run_spec: RunSpec) -> Guarded:
    """Check the last cut at the end of its fine-tune rounds, and the final network.

    Args:
        moved: The state after the round's training.
        now: The network that the round sent, with its validations.
        run_spec: Limits and directions.
    """
    if run_spec.privacy is not None:  # its figures are noise for the most part
        return Guarded(state=moved)
    if moved.cursor.closing:
        return _final_check(moved, now, run_spec)
    before = _before_cut(moved, run_spec)
    if before is None:
        return Guarded(state=moved)
    check = check_cut(before, moved.dense or before, now, moved.cursor, run_spec)
    if check.verdict is Verdict.WARNED and check.loss is not None:
        return Guarded(state=moved, check=check, warning=_stays(moved, check.loss))
    if not check.undone:
        return Guarded(state=moved, check=check, warning=_unknown(check, run_spec))
    stops = check.verdict is Verdict.STOPPED
    undone = _roll_back(moved, before, run_spec, stops=stops)
    warning = _stopped(undone, check.accuracy, run_spec) if stops else ""
    return Guarded(state=undone, check=check, warning=warning)


def _before_cut(moved: ServerState, run_spec: RunSpec) -> Snapshot | None:
    """Return the network before a cut that is checked now, None without one.

    Fresh weights are worse at first, so a restart is not checked.
    """
    due = is_guarded(moved.cursor, run_spec.config.rounds) and not moved.restarted
    before = moved.previous
    if not due or before is None or np.all(before.plan.keep == moved.keep):
        return None
    return before


def check_cut(
    before: Snapshot,
    reference: Snapshot,
    now: Snapshot,
    cursor: Cursor,
    run_spec: RunSpec,
) -> Check:
    """Return the check of a cut.

    Without a validation of a broadcast nothing is known of it, and the cut is kept.

    Args:
        before: The last broadcast before this cut.
        reference: The last one before the first cut.
        now: The last broadcast after it.
        cursor: Place of this round: may the step still be halved?
        run_spec: Limits and directions.
    """
    prune = run_spec.config.prune
    loss = _loss_change(before, now, run_spec, prune.max_loss_increase)
    accuracy = _accuracy_change(reference, now, run_spec)
    found = Check(loss=loss, accuracy=accuracy)
    dropped = accuracy is not None and accuracy.broken
    if not dropped and not (loss is not None and loss.broken):
        return found
    if may_roll_back(cursor, run_spec.config.rounds):
        return replace(found, verdict=Verdict.ROLLED_BACK)
    return replace(found, verdict=Verdict.STOPPED if dropped else Verdict.WARNED)


def _final_check(moved: ServerState, now: Snapshot, run_spec: RunSpec) -> Guarded:
    """Check the final network against the one before the first cut; it stays."""
    limit = run_spec.config.prune.max_accuracy_drop
    if moved.dense is None or limit is None:
        return Guarded(state=moved)
    accuracy = _accuracy_change(moved.dense, now, run_spec)
    loss = _loss_change(moved.dense, now, run_spec, None)
    check = Check(loss=loss, accuracy=accuracy)
    if accuracy is None or not accuracy.broken:
        return Guarded(state=moved, check=check, warning=_unknown(check, run_spec))
    text = f"round {moved.round}: the final network breaks {_limit(accuracy)}"
    return Guarded(
        state=moved, check=replace(check, verdict=Verdict.WARNED), warning=text
    )


def _loss_change(
    before: Snapshot, now: Snapshot, run_spec: RunSpec, allowed: float | None
) -> Change | None:
    """Compare losses; ``allowed`` is a relative rise, and 0.05 on top of it.

    It is a share of the loss's magnitude: an own loss may be below 0.
    """
    pair = _both(before, now)
    multiple = run_spec.config.robust.max_weight
    found = compare_losses(*pair, multiple) if pair else None
    if found is None:
        return None
    most = None if allowed is None else abs(found.before) * allowed + _SLACK
    return Change(found=found, worse=found.rise, allowed=most)


def _accuracy_change(
    reference: Snapshot, now: Snapshot, run_spec: RunSpec
) -> Change | None:
    pair, higher = _both(reference, now), run_spec.higher_is_better
    multiple = run_spec.config.robust.max_weight
    found = compare_metrics(*pair, multiple, higher=higher) if pair else None
    if found is None:
        return None
    worse = -found.rise if higher else found.rise
    limit = run_spec.config.prune.max_accuracy_drop
    return Change(found=found, worse=worse, allowed=limit)


def _both(before: Snapshot, now: Snapshot) -> tuple[Validations, Validations] | None:
    """Return the validations of two broadcasts, or None where one has none."""
    if before.validations is None or now.validations is None:
        return None
    return before.validations, now.validations


def _roll_back(
    moved: ServerState, before: Snapshot, run_spec: RunSpec, *, stops: bool
) -> ServerState:
    """Return the state before the last cut: to cut less, or not at all."""
    rounds = run_spec.config.rounds
    back = after_stop(moved.cursor, rounds) if stops else after_rollback(moved.cursor)
    return replace(
        moved,
        plan=rollback_plan(run_spec.structure, moved.plan, before.plan),
        weights=before.weights,
        statistics=before.statistics,
        optimizer=before.optimizer,
        previous=None,
        norm=None,
        undone=moved.round,
        cursor=back,
        totals=replace(moved.totals, rollbacks=moved.totals.rollbacks + 1),
    )


def _unknown(check: Check, run_spec: RunSpec) -> str:
    """Return a line where there is a limit and no client measured, else ""."""
    limit = run_spec.config.prune.max_accuracy_drop
    if limit is None or check.accuracy is not None:
        return ""
    return (
        f"prune.max_accuracy_drop = {limit:g} is not checked: no client measured one "
        "of the two networks; want more examples a client, or more client.validation"
    )


def _stays(moved: ServerState, loss: Change) -> str:
    return (
        f"round {moved.round}: validation loss {loss.found.after:.4f} after the cut, "
        f"{loss.found.before:.4f} before it; the smallest step is reached, so it stays"
    )


def _stopped(undone: ServerState, accuracy: Change | None, run_spec: RunSpec) -> str:
    """Return the line on a budget that is not met, since the accuracy did not hold."""
    reached = shares(run_spec.structure, undone.keep, run_spec.latency)
    asked = budget_targets(run_spec.config)
    sizes = ", ".join(f"{k} {reached[k]:.4f} (asked {v:g})" for k, v in asked.items())
    why = _limit(accuracy) if accuracy is not None else "prune.max_accuracy_drop"
    return (
        f"round {undone.round}: budget not met: {sizes} is the smallest size that "
        f"holds; a smaller one breaks {why}, so no more is cut{_kept(run_spec)}"
    )


def _kept(run_spec: RunSpec) -> str:
    """Return a note where fresh weights were wanted after the last cut."""
    if run_spec.config.prune.restart != "fresh":
        return ""
    return '; its weights stay, whatever prune.restart = "fresh" says'


def _limit(accuracy: Change) -> str:
    found = accuracy.found
    return (
        f"prune.max_accuracy_drop = {accuracy.allowed:g}: {found.before:.4f} before "
        f"the first cut, {found.after:.4f} now (standard error {found.error:.4f})"
    )
