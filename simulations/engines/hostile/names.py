"""The hostile clients of a federation, and a check of their attack before a run."""

from collections.abc import Sequence
from math import ceil

from fedprune.common.config import Attack
from fedprune.common.errors import ConfigError
from fedprune.common.methods.registry import OFF
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.engines.hostile.poisoning import poisoner_of

_CLOSE = 1e-9  # 0.07 of 100 clients are 7, not 8


def hostile_names(clients: Sequence[str], attack: Attack) -> tuple[str, ...]:
    """Return the names of the hostile clients: the last ones, rising.

    >>> hostile_names(["a", "b", "c"], Attack(kind="noise", clients=0.5))
    ('b', 'c')

    Args:
        clients: All clients.
        attack: The attack; none is hostile without one.
    """
    if attack.kind == OFF:
        return ()
    count = int(attack.clients)
    if attack.clients < 1.0:
        count = max(ceil(attack.clients * len(clients) - _CLOSE), 1)
    return tuple(sorted(clients)[-count:])


def check_attack(task: LoadedTask) -> str:
    """Check before a run that its attack can happen; return one line about it, or "".

    Raises:
        ConfigError: If there are not as many clients, or the data cannot be poisoned.
    """
    attack = task.config.attack
    if attack.kind == OFF:
        return ""
    if attack.clients > len(task.clients):
        msg = f"attack.clients is {attack.clients:g}, and {task.name} has "
        msg += f"{len(task.clients)} clients; want at most as many"
        raise ConfigError(msg)
    names = hostile_names(task.clients, attack)
    poison = poisoner_of(task)
    if poison is not None:
        poison(names[0], task.client_data(names[0]))
    told = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    text = f"attack.kind is '{attack.kind}': {told}, {len(names)} of "
    text += f"{len(task.clients)} clients, hostile from round {attack.from_round} on"
    return text
