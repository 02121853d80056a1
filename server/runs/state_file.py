"""A server state as bytes: one file for what every round changes, parts for the rest.

Broadcasts, the networks before cuts and the clients' ids stay as they are for many
rounds.  They are *parts*, which a state names by the digest of their bytes, so that
they are written once (``server/runs/parts.py``).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from math import inf
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedprune.common.errors import IntegrityError
from fedprune.common.messages import Phase, SparseDelta, Statistics
from fedprune.common.parsing import parse_json
from fedprune.common.spec import PrunePlan, WeightMask
from fedprune.common.text import error_line
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.influence import delta_norm
from fedprune.server.rounds.ledger import Columns, Ledgers
from fedprune.server.rounds.records import Validations
from fedprune.server.rounds.state import (
    OptimizerState,
    SentBroadcast,
    ServerState,
    Snapshot,
    Totals,
)
from fedprune.server.rounds.waiting.absence import Lateness
from fedprune.server.rounds.waiting.late import LateUpdate

_FORMAT = "fedprune-checkpoint/5"

# Every error that the bytes of a file can cause in its reader.
_BROKEN = (
    *(SafetensorError, LookupError, ValueError, TypeError, AttributeError),
    *(OverflowError, RecursionError),
)

Arrays = dict[str, NDArray[Any]]
T = TypeVar("T")


class PartStore(Protocol):
    """Keeps the parts of states by the digest of their bytes."""

    def put(self, value: T, encode: Callable[[T], bytes]) -> str:
        """Keep the bytes of a value, and return their name."""

    def get(self, name: str) -> bytes:
        """Return bytes by their name; IntegrityError = missing or changed."""


def state_to_bytes(state: ServerState, identity: str, parts: PartStore) -> bytes:
    """Return a state as one safetensors file with JSON in its metadata.

    Args:
        state: The state.
        identity: Digest of the configuration.
        parts: Takes what the file names.
    """
    arrays: Arrays = {"weights": state.weights}
    header: dict[str, Any] = {
        "round": state.round,
        "cursor": {**asdict(state.cursor), "phase": state.cursor.phase.value},
        "plan": _plan_out(state.plan, "plan", arrays),
        "zero_shares": list(state.zero_shares),
        "ledger": _ledger_out(state.ledgers.columns, arrays),
        "totals": asdict(state.totals),
        "norm": state.norm,
    }
    header |= _waiting_out(state) | _pending_out(state.pending, arrays)
    if state.importance is not None:
        arrays["importance"] = state.importance
    header |= {
        name: round_
        for name, round_ in (("restarted", state.restarted), ("undone", state.undone))
        if round_
    }
    header |= _mask_out(state, arrays)
    header |= _optimizer_out(state.optimizer, "optimizer", arrays)
    header["statistics"] = _statistics_out(state.statistics, "statistics", arrays)
    metadata = {"format": _FORMAT, "config": identity, "state": json.dumps(header)}
    metadata["parts"] = json.dumps(_parts_out(state, parts))
    return save(arrays, metadata)


def state_from_bytes(
    data: bytes, identity: str, name: str, parts: PartStore
) -> ServerState:
    """Read a state back.

    Args:
        data: Bytes of the file.
        identity: As for ``state_to_bytes``.
        name: Name of the file, for errors.
        parts: Has what the file names.

    Raises:
        IntegrityError: If it is not a checkpoint of this configuration, or a part of
            it is missing or changed.
    """
    try:
        arrays, metadata = load(data), text_of(data)
        if metadata.get("format") != _FORMAT:
            found = metadata.get("format")
            msg = f"{name} is not a checkpoint of this version ({found}, want "
            msg += f"{_FORMAT}); manifest.json names the version that can resume it"
            raise IntegrityError(msg)
        if metadata.get("config") != identity:
            msg = f"{name} belongs to another configuration, or to another key of the "
            msg += "noise (privacy.key); resume with that one"
            raise IntegrityError(msg)
        named = parse_json(metadata["parts"])
        return _state_in(parse_json(metadata["state"]), arrays, named, parts)
    except _BROKEN as error:
        msg = f"{name} is not a whole checkpoint: {error_line(error)}"
        raise IntegrityError(msg) from error


def part_names(header: bytes) -> frozenset[str]:
    """Return the names of the parts in a file's JSON header; of any other bytes none.

    Args:
        header: The file's bytes behind the first 8, as many as these say.
    """
    try:
        named = parse_json(parse_json(header)["__metadata__"]["parts"])
        sent = [str(name) for name in named["sent"]]
        lasting = [named[one] for one in ("clients", "dense", "previous")]
        return frozenset(sent + [str(name) for name in lasting if name is not None])
    except _BROKEN:
        return frozenset()


def text_of(data: bytes) -> dict[str, Any]:
    """Return the texts in the header of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    found: dict[str, Any] = parse_json(data[8 : 8 + size]).get("__metadata__", {})
    return found


def _parts_out(state: ServerState, parts: PartStore) -> dict[str, Any]:
    return {
        "clients": parts.put(state.ledgers.clients, _clients_out),
        "dense": _maybe(state.dense, parts),
        "previous": _maybe(state.previous, parts),
        "sent": [parts.put(one, _sent_out) for one in state.sent],
    }


def _maybe(snapshot: Snapshot | None, parts: PartStore) -> str | None:
    return None if snapshot is None else parts.put(snapshot, _snapshot_out)


def _state_in(
    header: dict[str, Any], arrays: Arrays, named: dict[str, Any], parts: PartStore
) -> ServerState:
    cursor = {**header["cursor"], "phase": Phase(header["cursor"]["phase"])}
    dense, previous = (
        None if named[one] is None else _snapshot_in(parts.get(named[one]))
        for one in ("dense", "previous")
    )
    clients = _clients_in(parts.get(named["clients"]))
    state = ServerState(
        round=header["round"],
        cursor=Cursor(**cursor),
        plan=_plan_in(header["plan"], "plan", arrays),
        weights=arrays["weights"],
        statistics=_statistics_in(header["statistics"], "statistics", arrays),
        importance=arrays.get("importance"),
        dense=dense,
        previous=previous,
        zero_shares=tuple(header["zero_shares"]),
        ledgers=Ledgers(clients, _ledger_in(header["ledger"], arrays)),
        totals=Totals(**header["totals"]),
        norm=None if header["norm"] is None else float(header["norm"]),
        sent=tuple(_sent_in(parts.get(name)) for name in named["sent"]),
        mask=_mask_in(header.get("mask"), arrays),
        optimizer=_optimizer_in(header, "optimizer", arrays),
        restarted=int(header.get("restarted", 0)),
        undone=int(header.get("undone", 0)),
        absences={c: Lateness(**one) for c, one in header.get("absences", {}).items()},
        pace=tuple(float(seconds) for seconds in header.get("pace", ())),
    )
    return _pending_in(header.get("pending", []), state, arrays)


def _waiting_out(state: ServerState) -> dict[str, Any]:
    """Return the clients that were late and the pace, each if there is any."""
    absences = {client: asdict(one) for client, one in state.absences.items()}
    found: dict[str, Any] = {"absences": absences, "pace": list(state.pace)}
    return {name: value for name, value in found.items() if value}


def _pending_out(pending: Sequence[LateUpdate], arrays: Arrays) -> dict[str, Any]:
    """Return nothing without late answers: the file then has no entry for any."""
    lines = []
    for number, one in enumerate(pending):
        arrays[f"pending.{number}.indices"] = one.delta.indices
        arrays[f"pending.{number}.values"] = one.delta.values
        line = {name: getattr(one, name) for name in _OF_PENDING}
        lines.append({**line, "network": one.network.hex()})
    return {"pending": lines} if lines else {}


def _pending_in(
    lines: list[dict[str, Any]], state: ServerState, arrays: Arrays
) -> ServerState:
    """Return the state with its late answers, which are of its own network."""
    found = tuple(
        _late_in(line, f"pending.{number}", state, arrays)
        for number, line in enumerate(lines)
    )
    if len({one.client_id for one in found}) < len(found):
        msg = "a client has two late answers"
        raise ValueError(msg)
    return replace(state, pending=found)


def _late_in(
    line: dict[str, Any], name: str, state: ServerState, arrays: Arrays
) -> LateUpdate:
    given = {key: line[key] for key in _OF_PENDING}
    counts = [line[key] for key in ("round", "num_examples", "bytes_up", "bytes_fixed")]
    client, away = line["client_id"], line["away_s"]
    fits = all(type(count) is int and count >= 0 for count in counts)
    fits = fits and 1 <= line["round"] <= state.round and line["num_examples"] >= 1
    fits = fits and type(away) is float and 0.0 <= away < inf
    fits = fits and type(line["residual_lost"]) is bool and type(client) is str
    if not fits or client not in (state.ledgers.places or {client}):
        msg = f"'{name}' is no late answer of round {state.round}"
        raise ValueError(msg)
    delta = _delta_in(len(state.weights), name, arrays)
    network = bytes.fromhex(line["network"])
    return LateUpdate(**given, network=network, delta=delta, norm=delta_norm(delta))


def _delta_in(size: int, name: str, arrays: Arrays) -> SparseDelta:
    indices, values = arrays[f"{name}.indices"], arrays[f"{name}.values"]
    right = indices.dtype == np.int64 and values.dtype == np.float32
    right = right and indices.ndim == 1 and values.shape == indices.shape
    rises = right and bool(np.all(indices[1:] > indices[:-1]))
    inside = rises and (not len(indices) or 0 <= indices[0] <= indices[-1] < size)
    if not (inside and bool(np.all(np.isfinite(values)))):
        msg = f"'{name}' is no delta of {size} entries"
        raise ValueError(msg)
    return SparseDelta(size=size, indices=indices, values=values)


_OF_PENDING = (
    *("client_id", "round", "num_examples", "bytes_up", "bytes_fixed"),
    *("residual_lost", "away_s"),
)
_COLUMNS = {
    "acknowledged": np.uint32,
    "held": np.uint32,
    "flags": np.uint8,
    "teacher": np.uint16,
}


def _ledger_out(columns: Columns, arrays: Arrays) -> list[str]:
    """Return the digests of the teachers; the figures of the clients are arrays."""
    for name in _COLUMNS:
        arrays[f"ledger.{name}"] = getattr(columns, name)
    return [digest.hex() for digest in columns.teachers]


def _ledger_in(teachers: list[str], arrays: Arrays) -> Columns:
    found = {name: arrays[f"ledger.{name}"] for name in _COLUMNS}
    for name, kind in _COLUMNS.items():
        if found[name].dtype != kind:
            msg = f"'{name}' of the ledger is {found[name].dtype}"
            raise ValueError(msg)
    digests = tuple(bytes.fromhex(digest) for digest in teachers)
    return Columns(**found, teachers=digests)


def _mask_out(state: ServerState, arrays: Arrays) -> dict[str, Any]:
    """Return nothing without a mask: the file then has no entry for one."""
    mask = state.mask
    if mask is None:
        return {}
    arrays["mask.keep"] = mask.keep.astype(np.uint8)
    return {"mask": {"plan": mask.plan.hex(), "parent": mask.parent.hex()}}


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
    validations: Validations | None, arrays: Arrays
) -> list[str] | None:
    """Return the ids of the clients, or None; their figures are arrays."""
    if validations is None:
        return None
    for part in ("losses", "metrics", "counts"):
        arrays[f"validations.{part}"] = getattr(validations, part)
    return list(validations.clients)


def _validations_in(clients: list[str] | None, arrays: Arrays) -> Validations | None:
    if clients is None:
        return None
    parts = ("losses", "metrics", "counts")
    found = {part: arrays[f"validations.{part}"] for part in parts}
    if any(array.shape != (len(clients),) for array in found.values()):
        msg = "a network has validations of other clients"
        raise ValueError(msg)
    return Validations(clients=tuple(clients), **found)


def _snapshot_out(snapshot: Snapshot) -> bytes:
    arrays: Arrays = {"weights": snapshot.weights}
    header = {
        "round": snapshot.round,
        "plan": _plan_out(snapshot.plan, "plan", arrays),
        "digest": snapshot.digest.hex(),
        "statistics": _statistics_out(snapshot.statistics, "statistics", arrays),
        "validated": _validations_out(snapshot.validations, arrays),
        **_optimizer_out(snapshot.optimizer, "optimizer", arrays),
    }
    return _part_out(header, arrays)


def _snapshot_in(data: bytes) -> Snapshot:
    header, arrays = _part_in(data)
    return Snapshot(
        round=header["round"],
        plan=_plan_in(header["plan"], "plan", arrays),
        weights=arrays["weights"],
        digest=bytes.fromhex(header["digest"]),
        statistics=_statistics_in(header["statistics"], "statistics", arrays),
        validations=_validations_in(header["validated"], arrays),
        optimizer=_optimizer_in(header, "optimizer", arrays),
    )


def _sent_out(sent: SentBroadcast) -> bytes:
    full = np.frombuffer(sent.full, dtype=np.uint8)
    arrays: Arrays = {"keep": sent.keep.astype(np.uint8), "full": full}
    return _part_out({"round": sent.round}, arrays)


def _sent_in(data: bytes) -> SentBroadcast:
    header, arrays = _part_in(data)
    return SentBroadcast(
        round=header["round"],
        keep=arrays["keep"].astype(bool),
        full=arrays["full"].tobytes(),
    )


def _clients_out(clients: tuple[str, ...]) -> bytes:
    return json.dumps(clients).encode()


def _clients_in(data: bytes) -> tuple[str, ...]:
    return tuple(str(client) for client in parse_json(data))


def _part_out(header: dict[str, Any], arrays: Arrays) -> bytes:
    """Return a part; equal ones have equal bytes, since they have one entry of text."""
    return save(arrays, {"part": json.dumps(header)})


def _part_in(data: bytes) -> tuple[dict[str, Any], Arrays]:
    return parse_json(text_of(data)["part"]), load(data)
