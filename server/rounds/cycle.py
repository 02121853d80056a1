"""The cycle of rounds as a state machine: phase and number of the next round.

::

    warmup x W  ->  [ sparsify x S  ->  cut  ->  finetune x F ] ...  ->  final x E
            ->  closing

The closing round trains nothing: clients receive the final network and measure its
batch-norm statistics and its validation loss.

The last warmup round scores too: the first sparsify phase needs the targets of its
penalty.

The cut is a step at the end of the last sparsify round.  ``progress`` runs from 0 to
1 along the schedule; each accepted cut moves it by ``step``.  The guard may roll a cut
back: then ``step`` is halved and the cut is tried again.  Below a quarter of the first
step the guard only warns of the loss, so the run ends within its budget; a broken
limit on the accuracy ends the cuts there (``after_stop``), above it.
"""

from dataclasses import dataclass, replace
from math import ceil

from fedprune.common.config import Quantise, Rounds
from fedprune.common.messages import Phase

_SMALLEST_STEP = 0.25  # of the first step
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The place of the next round in the cycle.

    Attributes:
        phase: Phase of the next round.
        index: Number of the round within its phase, from 1.
        cycle: Cuts made so far that were not rolled back, >= 0.
        progress: Position on the schedule of the last accepted cut, 0..1.
        step: Amount by which the next cut moves ``progress``, 0 < step <= 1.
        before: Position on the schedule before the last cut.
        final: Whether the finetune rounds are the final ones.
        closing: Whether the next round is the closing one.
        done: Whether no round is left.
    """

    phase: Phase
    index: int = 1
    cycle: int = 0
    progress: float = 0.0
    step: float = 1.0
    before: float = 0.0
    final: bool = False
    closing: bool = False
    done: bool = False

    @property
    def target(self) -> float:
        """Position on the schedule that the next cut aims at."""
        reached = self.progress + self.step
        return 1.0 if reached > 1.0 - _CLOSE else reached


def first_cursor(rounds: Rounds) -> Cursor:
    """Return the cursor of a new run."""
    step = 1.0 / max(rounds.cuts, 1)
    cursor = Cursor(phase=Phase.WARMUP, step=step)
    return cursor if rounds.warmup > 0 else _after_warmup(cursor, rounds)


def is_previewing(cursor: Cursor, rounds: Rounds) -> bool:
    """Return whether the next round scores without a cut: the last of the warmup."""
    warm = cursor.phase is Phase.WARMUP and cursor.index == rounds.warmup
    return warm and rounds.cuts > 0


def is_cutting(cursor: Cursor, rounds: Rounds) -> bool:
    """Return whether the next round scores and ends with a cut."""
    return cursor.phase is Phase.SPARSIFY and cursor.index == rounds.sparsify


def is_last_cut(after: Cursor, *, met: bool) -> bool:
    """Return whether no further cut follows one that has just been made.

    Args:
        after: Place of the round after the cut.
        met: Whether the network is within its budget.
    """
    return met and after.progress >= 1.0 - _CLOSE


def is_guarded(cursor: Cursor, rounds: Rounds) -> bool:
    """Return whether the guard checks the last cut at the end of the next round."""
    tuning = cursor.phase is Phase.FINETUNE and not cursor.final
    return tuning and cursor.index == rounds.finetune


def is_frozen(cursor: Cursor, rounds: Rounds) -> bool:
    """Return whether batch-norm statistics are frozen: the last third of the end.

    Source: FixBN, Zhong et al. 2023, arXiv:2303.06530.
    """
    last = rounds.final - ceil(rounds.final / 3)
    return cursor.final and not cursor.closing and cursor.index > last


def is_quantising(cursor: Cursor, rounds: Rounds, quantise: Quantise) -> bool:
    """Return whether the next round trains the network as it will be quantised."""
    if quantise.kind == "none" or not cursor.final or cursor.closing:
        return False
    return cursor.index > rounds.final - quantise.rounds


def is_coded(cursor: Cursor, rounds: Rounds, quantise: Quantise) -> bool:
    """Return whether the next broadcast lies on a codebook; the last one does too."""
    if quantise.kind != "codebook":
        return False
    return cursor.closing or is_quantising(cursor, rounds, quantise)


def after_round(cursor: Cursor, rounds: Rounds, *, met: bool) -> Cursor:
    """Return the cursor after a round without a rollback.

    Args:
        cursor: Place of the finished round.
        rounds: Lengths of the phases.
        met: Whether the network is within its budget.
    """
    if cursor.phase is Phase.WARMUP:
        if cursor.index < rounds.warmup:
            return replace(cursor, index=cursor.index + 1)
        return _after_warmup(cursor, rounds)
    if cursor.phase is Phase.SPARSIFY:
        if cursor.index < rounds.sparsify:
            return replace(cursor, index=cursor.index + 1)
        cut = replace(
            cursor,
            phase=Phase.FINETUNE,
            index=0,
            cycle=cursor.cycle + 1,
            # A network within its budget is not cut further: the schedule is over.
            progress=1.0 if met else cursor.target,
            before=cursor.progress,
        )
        return _after_finetune(cut, rounds, met=met)
    return _after_finetune(cursor, rounds, met=met)


def rounds_left(cursor: Cursor, rounds: Rounds, *, cuts: int = 0) -> int:
    """Return the rounds from a place to the end, if all goes by the schedule.

    It goes so if no further cut is rolled back and the last one meets the budget.

    Args:
        cursor: Place of the next round.
        rounds: Lengths of the phases.
        cuts: Fewest cuts that the budget still needs, as far as is known.
    """
    count = 0
    while not cursor.done:
        cutting = is_cutting(cursor, rounds)
        cuts -= cutting
        met = cuts <= 0 and (not cutting or cursor.target >= 1.0 - _CLOSE)
        cursor, count = after_round(cursor, rounds, met=met), count + 1
    return count


def after_rollback(cursor: Cursor) -> Cursor:
    """Return the cursor that tries the last cut again with half the step."""
    return replace(
        cursor,
        phase=Phase.SPARSIFY,
        index=1,
        cycle=cursor.cycle - 1,
        progress=cursor.before,
        step=cursor.step / 2,
    )


def after_stop(cursor: Cursor, rounds: Rounds) -> Cursor:
    """Return the cursor that takes the last cut back and begins the final rounds."""
    return _final(
        replace(cursor, cycle=cursor.cycle - 1, progress=cursor.before), rounds
    )


def may_roll_back(cursor: Cursor, rounds: Rounds) -> bool:
    """Return whether the step can still be halved."""
    return cursor.step / 2 >= _SMALLEST_STEP / max(rounds.cuts, 1) - _CLOSE


def _after_warmup(cursor: Cursor, rounds: Rounds) -> Cursor:
    if rounds.cuts > 0:
        return replace(cursor, phase=Phase.SPARSIFY, index=1)
    return _final(cursor, rounds)


def _after_finetune(cursor: Cursor, rounds: Rounds, *, met: bool) -> Cursor:
    if cursor.closing:
        return replace(cursor, done=True)
    last = rounds.final if cursor.final else rounds.finetune
    if cursor.index < last:
        return replace(cursor, index=cursor.index + 1)
    if cursor.final:
        return replace(cursor, closing=True, index=cursor.index + 1)
    if is_last_cut(cursor, met=met):
        return _final(cursor, rounds)
    return replace(cursor, phase=Phase.SPARSIFY, index=1)


def _final(cursor: Cursor, rounds: Rounds) -> Cursor:
    closing = rounds.final == 0
    return replace(cursor, phase=Phase.FINETUNE, index=1, final=True, closing=closing)
