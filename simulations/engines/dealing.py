"""Dealing a round: small jobs, the longest first, each to the next worker that is free.

A job is a list of clients that one worker plays.  Small jobs level the load and lose
little with a worker that ends; each one moves the round's broadcast down and a sum of
the network's size up.  Both the sum and the training grow with the network, so that the
examples of a job alone say whether it is worth its traffic.
"""

from collections.abc import Mapping, Sequence

from fedprune.server.rounds.engine import Assignment

_MOST_JOBS = 8  # of one worker in a round
# Examples times epochs: an estimate by LeNet-5, some twenty times as long as the move.
_WORTHWHILE = 2000


def deal(
    assignments: Sequence[Assignment],
    costs: Mapping[str, int],
    workers: int,
    *,
    epochs: int,
    most: int,
) -> list[tuple[Assignment, ...]]:
    """Deal a round's clients into jobs, longest first; each client is in one of them.

    Every worker gets as many jobs, 1..8, as leave 2000 examples times epochs to each;
    more where their answers would not fit into one message.

    Args:
        assignments: Assignments of the asked clients.
        costs: Client id -> estimated cost: its number of examples.
        workers: Number of workers, >= 1.
        epochs: Passes over the examples, >= 0.
        most: Clients of a job whose answers fit into one message, >= 1.

    Returns:
        Non-empty jobs, at most one for each client; equal ones in a fixed order.
    """
    examples = sum(costs.get(one.client_id, 0) for one in assignments)
    worth = examples * epochs // (workers * _WORTHWHILE)
    hands = assign(assignments, costs, workers * min(max(worth, 1), _MOST_JOBS))
    jobs = [
        hand[start : start + most]
        for hand in hands
        for start in range(0, len(hand), most)
    ]
    return sorted(jobs, key=lambda job: -_load(job, costs))


def assign(
    assignments: Sequence[Assignment], costs: Mapping[str, int], hands: int
) -> list[tuple[Assignment, ...]]:
    """Distribute assignments to hands: longest first onto the lightest, each once.

    Args:
        assignments: Assignments of the asked clients.
        costs: Client id -> estimated cost, for example its number of examples.
        hands: Number of lists.

    Returns:
        At most ``hands`` non-empty lists.
    """
    loads = [0] * hands
    dealt: list[list[Assignment]] = [[] for _ in range(hands)]
    ranked = sorted(
        assignments, key=lambda o: (-costs.get(o.client_id, 0), o.client_id)
    )
    for assignment in ranked:
        lightest = loads.index(min(loads))
        loads[lightest] += costs.get(assignment.client_id, 0) + 1
        dealt[lightest].append(assignment)
    return [tuple(hand) for hand in dealt if hand]


def _load(job: Sequence[Assignment], costs: Mapping[str, int]) -> int:
    return sum(costs.get(one.client_id, 0) + 1 for one in job)
