"""``plan.json``: the prune plan of a network, with the kept units of each group."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedprune.common.artifacts.model_file import read_digest
from fedprune.common.errors import IntegrityError
from fedprune.common.spec import Mask, PrunePlan
from fedprune.common.structure.structure import Structure
from fedprune.common.system.atomic import write_json_atomic
from fedprune.common.system.json_file import read_json
from fedprune.common.text import printable

PLAN_FORMAT = "fedprune-plan/1"

_KEYS = (
    "format",
    "structure",
    "digest",
    "parent",
    "rollback",
    "units",
    "keep",
    "groups",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupKept:
    """The units that a plan keeps of one pruning group.

    Attributes:
        name: Name of the group.
        of: Its channels in the original network.
        channels: The kept ones, numbered 0..of-1 within the group, rising.
    """

    name: str
    of: int
    channels: tuple[int, ...]

    @property
    def kept(self) -> int:
        """Number of kept channels."""
        return len(self.channels)


def write_plan_file(path: Path, plan: PrunePlan, structure: Structure) -> None:
    """Write a plan, with a human-readable list of the kept units of each group.

    ``dropped`` names the blocks that it drops, where there are any.

    Raises:
        FedPruneError: If the file cannot be written.
    """
    groups = {}
    for group in structure.groups:
        kept = np.flatnonzero(plan.keep[group.units])
        groups[group.name] = {
            "kept": len(kept),
            "of": len(group.units),
            "channels": kept.tolist(),
        }
    value = {
        "format": PLAN_FORMAT,
        "structure": plan.structure.hex(),
        "digest": plan.digest.hex(),
        "parent": plan.parent.hex(),
        "rollback": plan.rollback,
        "units": len(plan.keep),
        "keep": np.packbits(plan.keep).tobytes().hex(),
        "groups": groups,
    }
    dropped = structure.dropped(plan.keep)
    if dropped:
        value["dropped"] = list(dropped)
    write_json_atomic(path, value)


def read_plan_file(path: Path) -> PrunePlan:
    """Read the plan that ``write_plan_file`` wrote.

    Raises:
        IntegrityError: If the file is not a plan, or its digest is not that of its
            content.
    """
    value = _read(path)
    plan = PrunePlan(
        structure=read_digest(path, "structure", value["structure"]),
        keep=_keep(path, value),
        parent=read_digest(path, "parent", value["parent"]) if value["parent"] else b"",
        rollback=value["rollback"] is True,
    )
    if plan.digest != read_digest(path, "digest", value["digest"]):
        msg = f"{path}: the plan is not the one that was written (digest differs)"
        raise IntegrityError(msg)
    return plan


def read_plan_groups(path: Path) -> tuple[GroupKept, ...]:
    """Return the units that a plan file keeps of each group.

    Raises:
        IntegrityError: If the file is not a plan, or its groups contradict its
            bitmap.
    """
    plan, value = read_plan_file(path), _read(path)
    try:
        groups = tuple(
            GroupKept(
                name=name,
                of=_count(entry["of"]),
                channels=tuple(_count(channel) for channel in entry["channels"]),
            )
            for name, entry in value["groups"].items()
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: groups are not name -> kept, of, channels: {error}"
        raise IntegrityError(msg) from error
    kept, units = sum(group.kept for group in groups), sum(g.of for g in groups)
    if (kept, units) != (int(plan.keep.sum()), len(plan.keep)):
        msg = (
            f"{path}: the groups keep {kept} of {units} channels; "
            f"the bitmap keeps {int(plan.keep.sum())} of {len(plan.keep)}"
        )
        raise IntegrityError(msg)
    return groups


def read_plan_dropped(path: Path) -> tuple[str, ...]:
    """Return the blocks that a plan file drops, as noted in it.

    Raises:
        IntegrityError: If the file is not a plan, or they are not a list of names.
    """
    found = _read(path).get("dropped", [])
    if not isinstance(found, list) or not all(isinstance(x, str) for x in found):
        shown = printable(repr(found), 80)
        msg = f"{path}: dropped is {shown}; want a list of module names"
        raise IntegrityError(msg)
    return tuple(found)


def _read(path: Path) -> dict[str, Any]:
    value = read_json(path, "a plan")
    if not isinstance(value, dict) or value.get("format") != PLAN_FORMAT:
        msg = f"{path}: not a plan; want a JSON object of format {PLAN_FORMAT!r}"
        raise IntegrityError(msg)
    missing = [key for key in _KEYS if key not in value]
    if missing:
        msg = f"{path}: the plan lacks {', '.join(missing)}"
        raise IntegrityError(msg)
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        msg = f"found {printable(repr(value), 40)}; want a count"
        raise ValueError(msg)
    return value


def _keep(path: Path, value: dict[str, Any]) -> Mask:
    units = value["units"]
    try:
        bits = bytes.fromhex(value["keep"])
    except (TypeError, ValueError):
        bits = b""
    if type(units) is not int or len(bits) != (units + 7) // 8:
        shown = printable(repr(units), 40)
        msg = f"{path}: keep holds {len(bits)} bytes for {shown} units"
        raise IntegrityError(msg)
    flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(np.bool_)
    if flags[units:].any():
        msg = f"{path}: padding bits of keep are set; want {units} units"
        raise IntegrityError(msg)
    return flags[:units]
