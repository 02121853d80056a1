"""The restart: fresh weights for the network of the last cut (``prune.restart``).

The plan is what the cuts were for; the rounds that remain train it from the start, with
a learning-rate schedule of their own.  All that belongs to the old weights goes with
them: optimiser state, running values, the broadcasts that changes are encoded against,
and the clients' residuals of the rounds before, which ``TrainSettings.since`` drops.
The teacher stays.  The guard does not check this cut: fresh weights are worse at first.
"""

from dataclasses import replace

from fedprune.common.messages import Statistics
from fedprune.common.structure.structure import Structure
from fedprune.common.tasks.fresh import FreshNetwork
from fedprune.server.rounds.cut import no_cut_follows
from fedprune.server.rounds.cycle import is_cutting, is_last_cut
from fedprune.server.rounds.state import RunSpec, ServerState
from fedprune.server.rounds.steps.frozen import keep_moments, keep_values


def restart(before: ServerState, after: ServerState, run_spec: RunSpec) -> ServerState:
    """Return the state with fresh weights if its round ended with the last cut.

    Args:
        before: The state at the end of the round, its cursor still on it.
        after: The same state with the cursor on the next round.
        run_spec: The run, with the function that draws a network.
    """
    config, draw = run_spec.config, run_spec.draw
    if config.prune.restart != "fresh" or draw is None:
        return after
    met = no_cut_follows(before, run_spec)
    cutting = is_cutting(before.cursor, config.rounds)
    if not (cutting and is_last_cut(after.cursor, met=met)):
        return after
    fresh, frozen = draw(after.keep), config.task.freeze
    tensors = run_spec.structure.spec(after.keep).tensors
    return replace(
        after,
        weights=keep_values(after.weights, fresh.weights, tensors, frozen),
        statistics=_first(after, fresh, run_spec.structure, frozen),
        optimizer=None,
        sent=(),
        norm=None,
        restarted=after.round,
    )


def _first(
    after: ServerState,
    fresh: FreshNetwork,
    structure: Structure,
    frozen: tuple[str, ...],
) -> Statistics | None:
    """Return the statistics of a fresh network; frozen modules keep their own."""
    found, old = fresh.statistics, after.statistics
    if found is None or old is None:
        return found
    found = keep_moments(old, found, structure, after.keep, frozen)
    if found is None or not len(found.running):
        return found
    running = structure.spec(after.keep).running
    return replace(
        found, running=keep_values(old.running, found.running, running, frozen)
    )
