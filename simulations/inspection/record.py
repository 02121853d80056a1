"""Content of the files that a run leaves beside its models and its plan."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from fedprune.common.artifacts import read_tensors_file
from fedprune.common.artifacts.model_file import read_whole
from fedprune.common.config import Config, parse_config, toml_value
from fedprune.common.errors import IntegrityError
from fedprune.common.structure.structure import Structure
from fedprune.common.system.json_file import read_json
from fedprune.common.system.lock import holder
from fedprune.common.text import and_more, printable
from fedprune.server.report.text import count, size
from fedprune.server.runs.events import describe, read_events
from fedprune.server.runs.events.kinds import NAMES
from fedprune.server.runs.folder import RUN_FORMAT, read_json_object
from fedprune.server.runs.parts import read_checked
from fedprune.simulations.inspection.onnx_network import read_onnx
from fedprune.simulations.inspection.stored import read_message, read_residual
from fedprune.simulations.inspection.tensors import in_order

Info: TypeAlias = dict[str, object]
Rows: TypeAlias = list[tuple[str, str]]

CHECKPOINTS = "fedprune-checkpoint/"
_STRUCTURE = re.compile(r"structure-[0-9a-f]{32}\.json")  # in a client store
_PART = re.compile(r"-part-(?P<digest>[0-9a-f]{64})\.safetensors$")
_LAST = 5  # events that are shown, the last ones
_DEEP = 3  # levels of a JSON object that are shown, below it only how much there is
_HEAD = 1000  # bytes in which the first element of an XML file stands
_NETWORK = re.compile(rb"<net[\s>]")
_NAMED = 8  # items of a list that are shown


def inspect_record(path: Path) -> Info | None:
    """Return the content of a file of a run's record; None of another file.

    Key ``kind`` is "record", ``what`` the kind of file, ``rows`` its content.

    Raises:
        IntegrityError: If it is broken.
    """
    read = _READERS.get(path.name) or _READERS.get(path.suffix)
    if path.suffix == ".bin" and path.with_suffix(".xml").is_file():
        read = _openvino
    elif _STRUCTURE.fullmatch(path.name):
        read = _structure
    found = read_message(path) if read is None else read(path)
    if found is None:
        return None
    return _info(path, *found)


def inspect_checkpoint(path: Path) -> Info | None:
    """Return the content of a checkpoint, a part of one or a residual.

    None of a model.
    """
    names = _client_names(path)
    if names is not None:
        return _info(path, "part of a checkpoint", [("clients", _short(names))])
    tensors, metadata = read_tensors_file(path)
    if residual := read_residual(path, tensors):
        return _info(path, *residual)
    part = "-part-" in path.name
    if not part and not metadata.get("format", "").startswith(CHECKPOINTS):
        return None
    rows = [(key, printable(value, 200)) for key, value in sorted(metadata.items())]
    rows += [
        (name, f"{array.dtype} [{', '.join(map(str, array.shape))}]")
        for name, array in in_order(path, tensors, metadata)
    ]
    return _info(path, "part of a checkpoint" if part else "checkpoint", rows)


def _client_names(path: Path) -> list[object] | None:
    """Return the names in a part of a checkpoint that is a list of the clients."""
    named = _PART.search(path.name)
    if named is None or path.read_bytes()[:1] != b"[":
        return None
    read_checked(path, named["digest"], "part of a checkpoint")
    found = read_json(path)
    return found if isinstance(found, list) else None


def _info(path: Path, what: str, rows: Rows) -> Info:
    return {
        "kind": "record",
        "path": str(path),
        "what": what,
        "bytes": path.stat().st_size,
        "rows": [list(row) for row in rows],
    }


def render_record(info: Mapping[str, Any]) -> list[str]:
    """Return the result as lines of text."""
    rows = info["rows"]
    width = max((len(name) for name, _ in rows), default=0)
    return [
        f"{info['what']} {info['path']}",
        *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows),
        f"  {'size':<{width}}  {size(info['bytes'])}",
    ]


def _structure(path: Path) -> tuple[str, Rows]:
    structure = Structure.from_json(path.read_bytes())
    full = structure.full()
    rows = [
        ("digest", structure.digest.hex()),
        ("parameters", count(structure.spec(full).size)),
        ("channels", count(len(full))),
    ]
    widths = structure.widths(full).items()
    rows += [(f"group {name}", f"{width} channels") for name, width in widths]
    shapes = [(t.name, " x ".join(map(str, t.shape))) for t in structure.tensors]
    return "structure", rows + shapes


def _manifest(path: Path) -> tuple[str, Rows]:
    value = read_json_object(path)
    if value.get("format") != RUN_FORMAT:
        msg = f"{path}: not the manifest of a run; want the format {RUN_FORMAT}"
        raise IntegrityError(msg)
    return "manifest", _rows(value)


def _summary(path: Path) -> tuple[str, Rows]:
    return "summary", _rows(read_json_object(path))


def _events(path: Path) -> tuple[str, Rows]:
    events = read_events(path)
    kinds = Counter(NAMES[type(event)] for event in events)
    rows = [(kind, str(number)) for kind, number in kinds.items()]
    lines = [line for event in events if (line := describe(event))]
    return "events", rows + [("", line) for line in lines[-_LAST:]]


def _config(path: Path) -> tuple[str, Rows]:
    """Return the keys that differ from their defaults."""
    text = path.read_text(encoding="utf-8", errors="replace")
    config, default = parse_config(text, source=str(path)), Config()
    rows = [
        (f"{name}.{key}", toml_value(value))
        for name in Config.model_fields
        for key, value in getattr(config, name)
        if value != getattr(getattr(default, name), key) and value is not None
    ]
    return "configuration, what is not the default", rows


def _lines(what: str) -> Callable[[Path], tuple[str, Rows]]:
    def read(path: Path) -> tuple[str, Rows]:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = [("lines", str(len(lines)))]
        rows += [("", line) for line in [*lines[:1], *lines[1:][-_LAST:]]]
        return what, rows

    return read


def _openvino(path: Path) -> tuple[str, Rows]:
    return "weights of an OpenVINO network", [("network", path.stem + ".xml")]


def _openvino_network(path: Path) -> tuple[str, Rows]:
    """Return the content of the text that OpenVINO writes beside the weights.

    Raises:
        IntegrityError: If it is another text, or was cut short.
    """
    data = read_whole(path)
    if not _NETWORK.search(data[:_HEAD]):
        msg = f"{path}: not an OpenVINO network: it does not begin with <net>"
        raise IntegrityError(msg)
    if not data.rstrip().endswith(b"</net>"):
        msg = f"{path}: not a whole OpenVINO network: it does not end with </net>"
        raise IntegrityError(msg)
    weights = path.with_suffix(".bin")
    there = size(weights.stat().st_size) if weights.is_file() else "missing"
    layers = str(data.count(b"<layer "))
    return "OpenVINO network", [
        ("layers", layers),
        ("weights", f"{weights.name}, {there}"),
    ]


def _lock(path: Path) -> tuple[str, Rows]:
    pid = holder(path)
    return "lock", [("held by", "none" if pid is None else f"process {pid}")]


def _page(path: Path) -> tuple[str, Rows]:
    return "page", [("open", f"in a browser: {path.resolve()}")]


def _json(path: Path) -> tuple[str, Rows]:
    value = read_json(path)
    if not isinstance(value, dict):
        return "JSON", [("", _short(value))]
    return "JSON", _rows(value)


def _rows(value: Mapping[str, object], prefix: str = "", deep: int = 1) -> Rows:
    """Return the leaves of a JSON object, by dotted names."""
    found: Rows = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, dict) and item and deep < _DEEP:
            found += _rows(item, f"{name}.", deep + 1)
        else:
            found.append((name, _short(item)))
    return found


def _short(value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} entries"
    if isinstance(value, list):
        return and_more([_short(item) for item in value], _NAMED) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)


_READERS: Mapping[str, Callable[[Path], tuple[str, Rows]]] = {
    "structure.json": _structure,
    "manifest.json": _manifest,
    "summary.json": _summary,
    "events.jsonl": _events,
    "labels.json": _json,
    "latency.json": _json,
    "activities.json": _json,
    "speedscope.json": _json,
    ".lock": _lock,
    "metrics.csv": _lines("table"),
    "MODEL_CARD.md": _lines("text"),
    ".toml": _config,
    ".jsonl": _lines("journal"),
    ".html": _page,
    ".onnx": read_onnx,
    ".xml": _openvino_network,
}
