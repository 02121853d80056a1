"""Late answers, used in the round in which they arrive: ``rounds.late = "use"``.

A late answer is a change of an earlier broadcast.  It counts where the network is still
the one that it trained (no cut, mask or codebook since) and its client has not been
asked again meanwhile: what that client sends then has the same residual in it.  Its
weight falls with the rounds that it is late.  As many count in a round as clients are
asked, the oldest first; the others wait.  Its votes, moments and losses do not
count: they are those of an earlier broadcast.

Source of the weight: Xie et al. 2019, arXiv:1903.03934 (polynomial staleness).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

from fedprune.common.aggregate import Accumulator
from fedprune.common.sparsity.shared import CODEBOOK
from fedprune.server.rounds.answers import Answers, summed
from fedprune.server.rounds.engine import RoundWork
from fedprune.server.rounds.influence import clip_factor, longest_norm, scaled_delta
from fedprune.server.rounds.state import RunSpec, ServerState
from fedprune.server.rounds.waiting.absence import back_at_once
from fedprune.server.rounds.waiting.late import LateUpdate, network_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The late answers at the end of a round.

    Attributes:
        used: Those that count in it, with the weight that they have now.
        unused: Those that arrived and are of no use any more.
        pending: Those that have not arrived.
    """

    used: tuple[LateUpdate, ...] = ()
    unused: tuple[LateUpdate, ...] = ()
    pending: tuple[LateUpdate, ...] = ()

    @property
    def arrived(self) -> tuple[LateUpdate, ...]:
        """All that arrived, in the order of the clients' ids."""
        return tuple(sorted((*self.used, *self.unused), key=lambda one: one.client_id))


def settle(
    pending: Sequence[LateUpdate], answers: Answers, work: RoundWork, staleness: float
) -> Settled:
    """Return which late answers count in a round, and which are still on their way.

    Args:
        pending: Those that were on their way before it.
        answers: Its answers.
        work: The round.
        staleness: ``rounds.staleness``.
    """
    now, most = work.plan.round, len(answers.records)
    earlier = _earlier(pending, answers)
    here = sorted(
        (one for one in earlier if one.away_s == 0.0),
        key=lambda one: (one.round, one.client_id),
    )
    useful = [one for one in here if _is_useful(one, work)]
    return Settled(
        used=tuple(
            replace(one, num_examples=_weight(one, now, staleness))
            for one in useful[:most]
        ),
        unused=tuple(one for one in here if one not in useful),
        pending=(
            *(one for one in earlier if one.away_s > 0.0),
            *useful[most:],
            *answers.awaited,
        ),
    )


def after_failure(
    pending: Sequence[LateUpdate], answers: Answers
) -> tuple[LateUpdate, ...]:
    """Return the late answers that the next attempt of a round may use."""
    return (*_earlier(pending, answers), *answers.awaited)


def _earlier(pending: Sequence[LateUpdate], answers: Answers) -> list[LateUpdate]:
    """Return the late answers of clients that were not asked again, as of now."""
    seconds = 0.0 if answers.closing is None else answers.closing.seconds
    asked = {record.client_id for record in answers.records}
    moved = [replace(one, away_s=max(one.away_s - seconds, 0.0)) for one in pending]
    return [one for one in (*moved, *answers.arrived) if one.client_id not in asked]


def _is_useful(one: LateUpdate, work: RoundWork) -> bool:
    """Return whether a late answer is a change of the network of this round."""
    settings = work.plan.settings
    trains = settings.epochs > 0 and settings.quantise != CODEBOOK
    return trains and one.network == network_of(work.plan)


def _weight(one: LateUpdate, round_: int, staleness: float) -> int:
    """Return the weight of a late answer in a round, in examples, >= 1."""
    factor = (1.0 + round_ - one.round) ** -staleness
    return max(int(one.num_examples * factor), 1)


def with_late(answers: Answers, late: Sequence[LateUpdate], work: RoundWork) -> Answers:
    """Return the answers with late ones in their sum, clipped as they are themselves.

    Args:
        answers: The round's own.
        late: Those that count in it (``Settled.used``).
        work: The round.
    """
    if not late:
        return answers
    total = Accumulator(work.spec.size, work.request.limits)
    total.merge(summed(answers, work))
    longest = work.request.max_norm
    if not isfinite(longest):
        longest = longest_norm(answers.accepted, work.robust.max_norm)
    for one in late:
        factor = clip_factor(one.norm, longest)
        total.add(scaled_delta(one.delta, factor), one.num_examples)
    return replace(answers, total=total, individual_updates=())


def released(before: ServerState, after: ServerState, run_spec: RunSpec) -> ServerState:
    """Return the state without the waiting for late answers that cannot count any more.

    They are those of another network, and in the closing round all.

    Args:
        before: The state before a round.
        after: The state after it.
        run_spec: What is the same in all rounds.
    """
    if run_spec.config.rounds.late != "use":
        return after
    same = after.plan is before.plan and after.mask is before.mask
    same = same and (after.restarted, after.undone) == (before.restarted, before.undone)
    if same and not after.cursor.closing:
        return after
    return replace(after, pending=(), absences=back_at_once(after.absences))
