"""A profile as plain values, for a message: names once, stacks by number."""

from typing import Any

from fedprune.common.profiling.activities import Activity, Profile, Spent


def profile_out(profile: Profile) -> list[object]:
    """Return a profile as plain values."""
    names: dict[str, int] = {}
    stacks = [
        [[names.setdefault(name, len(names)) for name in stack], cpu_s]
        for stack, cpu_s in profile.stacks.items()
    ]
    spent = [
        [activity.name, one.calls, one.cpu_s, one.wall_s]
        for activity, one in profile.spent.items()
    ]
    return [spent, list(names), stacks]


def profile_in(row: list[Any]) -> Profile:
    """Return the profile of plain values, which a worker of our own wrote."""
    spent, names, stacks = row
    return Profile(
        spent={
            Activity[name]: Spent(calls=calls, cpu_s=cpu_s, wall_s=wall_s)
            for name, calls, cpu_s, wall_s in spent
        },
        stacks={
            tuple(names[number] for number in stack): cpu_s for stack, cpu_s in stacks
        },
    )
