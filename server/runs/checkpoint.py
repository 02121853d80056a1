"""Checkpoints: the server's state after each round, written so that no crash loses it.

One safetensors file a round, written beside and renamed, then one line in
``journal.jsonl`` with its SHA-256.  A file without its line was never written; a line
whose file does not match is refused, naming the file, and the one before it is used.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprune.common.errors import IntegrityError
from fedprune.common.messages import Phase, Statistics
from fedprune.common.parsing import parse_json
from fedprune.common.spec import PrunePlan, WeightMask
from fedprune.common.system.atomic import write_bytes_atomic
from fedprune.common.system.paths import open_to_append
from fedprune.common.text import error_line
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.records import Validations
from fedprune.server.rounds.state import (
    ClientLedger,
    OptimizerState,
    SentBroadcast,
    ServerState,
    Snapshot,
    Totals,
)

_KEPT = 3  # files of a run that stay: the last one and two to fall back on
_FORMAT = "fedprune-checkpoint/4"

# Every error that the bytes of a file can cause in its reader.
_BROKEN = (
    *(SafetensorError, LookupError, ValueError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The state that a run is resumed from, and the checkpoints refused.

    Attributes:
        state: The newest state that is whole, or None for a run without one.
        refused: One line for each newer checkpoint that was not, and why.
    """

    state: ServerState | None
    refused: tuple[str, ...]


class Checkpoints:
    """The checkpoints of one run in a folder.

    Args:
        folder: Their folder; made when needed.
        run: "main" or the name of a control: part of the file names.
        identity: Digest of the configuration; a checkpoint of another one is refused.
    """

    def __init__(self, folder: Path, run: str, identity: str) -> None:
        self._folder = folder
        self._run = run
        self._identity = identity
        self._journal = folder / f"{run}-journal.jsonl"

    def write(self, state: ServerState) -> None:
        """Write a checkpoint and drop the oldest."""
        self._folder.mkdir(parents=True, exist_ok=True)
        data = state_to_bytes(state, self._identity)
        path = self._path(state.round)
        write_bytes_atomic(path, data)
        line = {
            "round": state.round,
            "file": path.name,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        _append_line(self._journal, json.dumps(line))
        for old in sorted(self._folder.glob(f"{self._run}-round-*.safetensors"))[
            :-_KEPT
        ]:
            old.unlink(missing_ok=True)

    def restore(self) -> Restored:
        """Return the newest whole state, and why newer ones were refused.

        Raises:
            IntegrityError: If there are checkpoints and none can be used.
        """
        refused: list[str] = []
        for line in self._lines():
            try:
                state = self._read(line)
            except IntegrityError as error:
                refused.append(str(error))
                continue
            return Restored(state=state, refused=tuple(refused))
        if refused:
            msg = f"no checkpoint in {self._folder} can be used: {refused[0]}"
            raise IntegrityError(msg)
        return Restored(state=None, refused=())

    def _path(self, round_: int) -> Path:
        return self._folder / f"{self._run}-round-{round_:05d}.safetensors"

    def _lines(self) -> Iterator[object]:
        """Yield the values of the journal's lines, newest first, each round once."""
        try:
            text = self._journal.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        seen: set[object] = set()
        for row in reversed(text.splitlines()):
            try:
                line = parse_json(row)
            except ValueError:
                continue  # A torn last line: its checkpoint was never acknowledged.
            # By its text: the value of a damaged line may be of any type.
            name = str(line.get("round")) if isinstance(line, dict) else row
            if name not in seen:
                seen.add(name)
                if len(seen) > _KEPT:
                    return
                yield line

    def _read(self, line: object) -> ServerState:
        """Return the state that a line of the journal names."""
        found = line if isinstance(line, dict) else {}
        number, sha256 = found.get("round"), found.get("sha256")
        if not isinstance(number, int) or not isinstance(sha256, str):
            msg = f"{self._journal.name} holds a line that names no checkpoint"
            raise IntegrityError(msg)
        path = self._path(number)
        if found.get("file") != path.name:
            msg = f"{self._journal.name} names another file for round {number}"
            raise IntegrityError(msg)
        try:
            data = path.read_bytes()
        except OSError as error:
            msg = f"checkpoint {path.name} cannot be read: {error.strerror}"
            raise IntegrityError(msg) from error
        if hashlib.sha256(data).hexdigest() != sha256:
            msg = f"checkpoint {path.name} is truncated or changed: SHA-256 differs"
            raise IntegrityError(msg)
        return state_from_bytes(data, self._identity, path.name)


def _append_line(path: Path, line: str) -> None:
    with open_to_append(path) as file:
        # On a line of its own, even behind one that a crash has torn.
        file.write((("\n" if _is_torn(path) else "") + line + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def _is_torn(path: Path) -> bool:
    data = path.read_bytes()
    return bool(data) and not data.endswith(b"\n")


def state_to_bytes(state: ServerState, identity: str) -> bytes:
    """Return a state as one safetensors file with JSON in its metadata."""
    arrays: Arrays = {"weights": state.weights}
    header: dict[str, Any] = {
        "round": state.round,
        "cursor": {**asdict(state.cursor), "phase": state.cursor.phase.value},
        "plan": _plan_out(state.plan, "plan", arrays),
        "zero_shares": list(state.zero_shares),
        "known": {
            c: [k.acknowledged, k.structure, k.teacher.hex(), k.held]
            for c, k in state.ledgers.items()
        },
        "totals": asdict(state.totals),
        "norm": state.norm,
    }
    if state.importance is not None:
        arrays["importance"] = state.importance
    if state.restarted:
        header["restarted"] = state.restarted
    header |= _mask_out(state, arrays)
    header |= _optimizer_out(state.optimizer, "optimizer", arrays)
    header["statistics"] = _statistics_out(state.statistics, "statistics", arrays)
    header["dense"] = _snapshot_out(state.dense, "dense", arrays)
    header["previous"] = _snapshot_out(state.previous, "previous", arrays)
    header["sent"] = _sent_out(state.sent, arrays)
    metadata = {"format": _FORMAT, "config": identity, "state": json.dumps(header)}
    return save(arrays, metadata)


def state_from_bytes(data: bytes, identity: str, name: str) -> ServerState:
    """Read a state back.

    Raises:
        IntegrityError: If it is not a checkpoint of this configuration.
    """
    try:
        arrays = load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = parse_json(data[8 : 8 + size]).get("__metadata__", {})
        if metadata.get("format") != _FORMAT:
            found = metadata.get("format")
            msg = f"{name} is not a checkpoint of this version ({found})"
            raise IntegrityError(msg)
        if metadata.get("config") != identity:
            msg = f"{name} belongs to another configuration; resume with that one"
            raise IntegrityError(msg)
        return _state_in(parse_json(metadata["state"]), arrays)
    except _BROKEN as error:
        msg = f"{name} is not a whole checkpoint: {error_line(error)}"
        raise IntegrityError(msg) from error


def _state_in(header: dict[str, Any], arrays: Arrays) -> ServerState:
    cursor = {**header["cursor"], "phase": Phase(header["cursor"]["phase"])}
    ledgers = {
        c: ClientLedger(acknowledged=a, structure=s, teacher=bytes.fromhex(t), held=h)
        for c, (a, s, t, h) in header["known"].items()
    }
    return ServerState(
        round=header["round"],
        cursor=Cursor(**cursor),
        plan=_plan_in(header["plan"], "plan", arrays),
        weights=arrays["weights"],
        statistics=_statistics_in(header["statistics"], "statistics", arrays),
        importance=arrays.get("importance"),
        dense=_snapshot_in(header["dense"], "dense", arrays),
        previous=_snapshot_in(header["previous"], "previous", arrays),
        zero_shares=tuple(header["zero_shares"]),
        ledgers=ledgers,
        totals=Totals(**header["totals"]),
        norm=None if header["norm"] is None else float(header["norm"]),
        sent=_sent_in(header["sent"], arrays),
        mask=_mask_in(header.get("mask"), arrays),
        mask_holders=frozenset(header.get("mask_holders", ())),
        optimizer=_optimizer_in(header, "optimizer", arrays),
        restarted=int(header.get("restarted", 0)),
    )


def _sent_out(sent: tuple[SentBroadcast, ...], arrays: Arrays) -> list[int]:
    for one in sent:
        arrays[f"sent.{one.round}.keep"] = one.keep.astype(np.uint8)
        arrays[f"sent.{one.round}.full"] = np.frombuffer(one.full, dtype=np.uint8)
    return [one.round for one in sent]


def _sent_in(rounds: list[int], arrays: Arrays) -> tuple[SentBroadcast, ...]:
    return tuple(
        SentBroadcast(
            round=number,
            keep=arrays[f"sent.{number}.keep"].astype(bool),
            full=arrays[f"sent.{number}.full"].tobytes(),
        )
        for number in rounds
    )


def _mask_out(state: ServerState, arrays: Arrays) -> dict[str, Any]:
    """Return nothing without a mask: the file then has no entry for one."""
    mask = state.mask
    if mask is None:
        return {}
    arrays["mask.keep"] = mask.keep.astype(np.uint8)
    names = {"plan": mask.plan.hex(), "parent": mask.parent.hex()}
    return {"mask": names, "mask_holders": sorted(state.mask_holders)}


def _mask_in(header: dict[str, Any] | None, arrays: Arrays) -> WeightMask | None:
    if header is None:
        return None
    return WeightMask(
        plan=bytes.fromhex(header["plan"]),
        keep=arrays["mask.keep"].astype(np.bool_),
        parent=bytes.fromhex(header["parent"]),
    )


def _optimizer_out(
    state: OptimizerState | None, name: str, arrays: Arrays
) -> dict[str, Any]:
    """Return nothing without a state: the file then has no entry for one."""
    if state is None:
        return {}
    arrays[f"{name}.momentum"] = state.momentum
    if state.variance is not None:
        arrays[f"{name}.variance"] = state.variance
    return {"optimizer": True}


def _optimizer_in(
    header: dict[str, Any], name: str, arrays: Arrays
) -> OptimizerState | None:
    if not header.get("optimizer"):
        return None
    return OptimizerState(
        momentum=arrays[f"{name}.momentum"], variance=arrays.get(f"{name}.variance")
    )


def _plan_out(plan: PrunePlan, name: str, arrays: Arrays) -> dict[str, Any]:
    arrays[f"{name}.keep"] = plan.keep.astype(np.uint8)
    return {
        "structure": plan.structure.hex(),
        "parent": plan.parent.hex(),
        "rollback": plan.rollback,
    }


def _plan_in(header: dict[str, Any], name: str, arrays: Arrays) -> PrunePlan:
    return PrunePlan(
        structure=bytes.fromhex(header["structure"]),
        keep=arrays[f"{name}.keep"].astype(bool),
        parent=bytes.fromhex(header["parent"]),
        rollback=bool(header["rollback"]),
    )


def _statistics_out(
    statistics: Statistics | None, name: str, arrays: Arrays
) -> int | None:
    if statistics is None:
        return None
    arrays[f"{name}.mean"] = statistics.mean
    arrays[f"{name}.variance"] = statistics.variance
    if len(statistics.running):
        arrays[f"{name}.running"] = statistics.running
    return statistics.num_examples


def _statistics_in(count: int | None, name: str, arrays: Arrays) -> Statistics | None:
    if count is None:
        return None
    return Statistics(
        num_examples=count,
        mean=arrays[f"{name}.mean"],
        variance=arrays[f"{name}.variance"],
        running=arrays.get(f"{name}.running", np.zeros(0, dtype=np.float32)),
    )


def _validations_out(
    validations: Validations | None, name: str, arrays: Arrays
) -> list[str] | None:
    """Return the ids of the clients, or None; their figures are arrays."""
    if validations is None:
        return None
    for part in ("losses", "metrics", "counts"):
        arrays[f"{name}.validations.{part}"] = getattr(validations, part)
    return list(validations.clients)


def _validations_in(
    clients: list[str] | None, name: str, arrays: Arrays
) -> Validations | None:
    if clients is None:
        return None
    parts = ("losses", "metrics", "counts")
    found = {part: arrays[f"{name}.validations.{part}"] for part in parts}
    if any(array.shape != (len(clients),) for array in found.values()):
        msg = f"'{name}' has validations of other clients"
        raise ValueError(msg)
    return Validations(clients=tuple(clients), **found)


def _snapshot_out(
    snapshot: Snapshot | None, name: str, arrays: Arrays
) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    arrays[f"{name}.weights"] = snapshot.weights
    return {
        "round": snapshot.round,
        "plan": _plan_out(snapshot.plan, f"{name}.plan", arrays),
        "digest": snapshot.digest.hex(),
        "statistics": _statistics_out(
            snapshot.statistics, f"{name}.statistics", arrays
        ),
        "validated": _validations_out(snapshot.validations, name, arrays),
        **_optimizer_out(snapshot.optimizer, f"{name}.optimizer", arrays),
    }


def _snapshot_in(
    header: dict[str, Any] | None, name: str, arrays: Arrays
) -> Snapshot | None:
    if header is None:
        return None
    return Snapshot(
        round=header["round"],
        plan=_plan_in(header["plan"], f"{name}.plan", arrays),
        weights=arrays[f"{name}.weights"],
        digest=bytes.fromhex(header["digest"]),
        statistics=_statistics_in(header["statistics"], f"{name}.statistics", arrays),
        validations=_validations_in(header["validated"], name, arrays),
        optimizer=_optimizer_in(header, f"{name}.optimizer", arrays),
    )
