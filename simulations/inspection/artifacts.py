"""Content of a run folder, a model file or a plan file, human-readable and as JSON."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from fedprune.common.artifacts import (
    read_description,
    read_model_file,
    read_plan_dropped,
    read_plan_file,
    read_plan_groups,
)
from fedprune.common.artifacts.packed_file import ENDING
from fedprune.common.description import Description, labels_text, preprocessing_text
from fedprune.common.errors import ConfigError, IntegrityError, PayloadError
from fedprune.common.text import fit_to_print, printable
from fedprune.server.devices.run_config import resume_command
from fedprune.server.report.data import RunData, number, read_run
from fedprune.server.report.text import (
    count,
    metric_name,
    percent,
    score,
    seconds,
    size,
)
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.events import RunName
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.inspection.packed import inspect_packed, render_packed
from fedprune.simulations.inspection.record import (
    inspect_checkpoint,
    inspect_record,
    render_record,
)
from fedprune.simulations.inspection.tensors import in_order

Info = dict[str, object]

_OF_DEVICES = {
    "accuracy_delivered": "on devices",  # their own test data
    "validation_accuracy_final": "validation",
}
_PATH = 4096  # characters of the longest path
_NAME = 11  # characters of a figure's name, so that the columns stand


def inspect_path(path: Path) -> Info:
    """Return the content of ``path``.

    Key ``kind`` is "run", "model", "packed", "plan" or "record".

    Args:
        path: A run folder, a ``*.safetensors`` or ``*.fpz`` model, a ``plan.json``, or
            any other file that a run leaves in its folder.

    Raises:
        ConfigError: If it is missing or no plain file, or a configuration with a
            mistake.
        IntegrityError: If it is broken, or another kind of file.
    """
    if path.is_dir():
        return _inspect_run(path)
    if not path.is_file():
        found = "not a plain file" if path.exists() else "no such file or folder"
        msg = f"{path}: {found}; want a run folder, a model or a plan"
        raise ConfigError(msg)
    try:
        return _inspect_file(path)
    except PayloadError as error:
        msg = f"{path}: {error}"
        raise IntegrityError(msg) from error


def _inspect_file(path: Path) -> Info:
    record = inspect_record(path)
    if record is not None:
        return record
    if path.suffix == ".json":
        return _inspect_plan(path)
    if path.suffix == ENDING:
        return inspect_packed(path)
    return inspect_checkpoint(path) or _inspect_model(path)


def refuse_damage(found: Iterable[Mapping[str, object]]) -> None:
    """Refuse run folders of which a part is damaged.

    Args:
        found: Results of ``inspect_path``.

    Raises:
        IntegrityError: If one has damaged checkpoints.
    """
    for info in found:
        damage = info.get("damage")
        if isinstance(damage, list) and damage:
            msg = f"{info['path']}: {damage[0]}"
            raise IntegrityError(msg)


def render(info: Mapping[str, object]) -> str:
    """Return the result of ``inspect_path`` as plain text."""
    parts = {
        "run": _render_run,
        "model": _render_model,
        "plan": _render_plan,
        "packed": render_packed,
        "record": render_record,
    }
    # Names in it come from a file; the path comes from the caller.
    fit = fit_to_print(info) | {"path": printable(info["path"], _PATH)}
    return "\n".join(parts[str(info["kind"])](fit))


def _inspect_run(path: Path) -> Info:
    run, folder = read_run(path), RunFolder.open(path)
    pid = folder.holder()
    damage: tuple[str, ...] = ()
    if pid is not None:
        status = "running"
    elif run.finished:
        status = "finished"
    else:
        status, damage = _stopped(folder)
    return {
        "kind": "run",
        "path": str(path),
        "run_id": run.name,
        "status": status,
        "pid": pid,
        "damage": list(damage),
        "resume": "" if run.finished or status == "damaged" else resume_command(path),
        "summary": dict(run.summary),
        "groups": dict(run.groups),
        "cuts": [
            {
                "round": cut.event.round,
                "params": cut.event.params,
                "flops": cut.event.flops,
                "density": cut.event.density,
                "widths": dict(cut.after),
                "blocks": list(cut.event.blocks),
                "undone": cut.undone,
            }
            for cut in run.cuts
        ],
        "widths": _widths(run),
        "files": {
            str(file.relative_to(path)): file.stat().st_size
            for file in sorted(path.rglob("*"))
            if file.is_file() and not file.is_relative_to(folder.clients)
        },
    }


def _stopped(folder: RunFolder) -> tuple[str, tuple[str, ...]]:
    """Return whether a run that was stopped can go on, and what is damaged."""
    damage: list[str] = []
    for run in get_args(RunName):  # not what else lies there, as a copy
        try:
            damage += Checkpoints(folder.checkpoints, run, "").verify()
        except IntegrityError as error:
            return "damaged", (*damage, str(error))
    return "resumable", tuple(damage)


def _widths(run: RunData) -> dict[str, int]:
    """Return the number of kept units of each pruning group."""
    standing = [cut for cut in run.cuts if not cut.undone]
    return dict(standing[-1].after if standing else run.groups)


def _inspect_model(path: Path) -> Info:
    tensors, metadata = read_model_file(path)
    description = read_description(path, metadata)
    rows = [
        {
            "name": name,
            "shape": list(array.shape),
            "type": str(array.dtype),
            "entries": int(array.size),
            "zeros": float(np.mean(array == 0)) if array.size else 0.0,
        }
        for name, array in in_order(path, tensors, metadata)
    ]
    return {
        "kind": "model",
        "path": str(path),
        "bytes": path.stat().st_size,
        "entries": sum(array.size for array in tensors.values()),
        # An export has the whole structure: too long to show.
        "metadata": {k: v for k, v in metadata.items() if k != "structure_json"},
        "labels": list(description.labels),
        "preprocessing": preprocessing_text(description),
        "tensors": rows,
    }


def _inspect_plan(path: Path) -> Info:
    plan, groups = read_plan_file(path), read_plan_groups(path)
    return {
        "kind": "plan",
        "path": str(path),
        "digest": plan.digest.hex(),
        "parent": plan.parent.hex(),
        "structure": plan.structure.hex(),
        "rollback": plan.rollback,
        "kept": int(plan.keep.sum()),
        "of": len(plan.keep),
        "dropped": list(read_plan_dropped(path)),
        "groups": {
            group.name: {
                "kept": group.kept,
                "of": group.of,
                "channels": list(group.channels),
            }
            for group in groups
        },
    }


def _render_run(info: dict[str, Any]) -> list[str]:
    summary = info["summary"]
    state = f"{info['status']}"
    if info["pid"] is not None:
        state += f" (process {info['pid']})"
    elif info["status"] == "resumable":
        state += f"; resume with: {info['resume']}"
    lines = [f"run {info['run_id']}", f"  status      {state}"]
    lines += [f"  damaged     {line}" for line in info["damage"]]
    lines.append("              dense FedAvg -> pruned")
    lines += [
        f"  {name:<12}{text}"
        for name, text in (
            _accuracy(summary),
            ("parameters", _two(summary, "params_dense", "params_final", count)),
            ("FLOPs", _two(summary, "flops_dense", "flops_final", count)),
            ("bytes up", _two(summary, "bytes_up_control", "bytes_up", size)),
            ("bytes down", _two(summary, "bytes_down_control", "bytes_down", size)),
            ("rounds", str(summary.get("rounds") or 0)),
            ("seconds", seconds(number(summary, "seconds"))),
        )
    ]
    for place, row in enumerate(info["cuts"], start=1):
        undone = ", rolled back" if row["undone"] else ""
        blocks = ", without " + ", ".join(row["blocks"]) if row["blocks"] else ""
        lines.append(
            f"  {f'cut {place}':<12}after round {row['round']}: "
            f"{count(number(row, 'params'))} parameters, "
            f"{percent(number(row, 'density'))}{blocks}{undone}"
        )
    rows = [
        [name, str(info["widths"].get(name, full)), str(full)]
        for name, full in info["groups"].items()
    ]
    return lines + _table(["group", "kept", "of"], rows)


def _render_model(info: dict[str, Any]) -> list[str]:
    meta = info["metadata"]
    rows = [
        [
            row["name"],
            "x".join(map(str, row["shape"])) or "scalar",
            row["type"],
            count(row["entries"]),
            percent(row["zeros"]),
        ]
        for row in info["tensors"]
    ]
    return [
        f"model {info['path']}",
        f"  network     {meta['model']}",
        f"  input       {meta['input_shape']}; {meta['num_outputs']} outputs",
        f"  prepared    {info['preprocessing']}",
        f"  labels      {labels_text(Description(labels=tuple(info['labels'])))}",
        f"  plan        {meta['plan']}",
        f"  structure   {meta['structure']}",
        f"  size        {count(info['entries'])} entries, {size(info['bytes'])}",
        *_table(["tensor", "shape", "type", "entries", "zeros"], rows),
    ]


def _render_plan(info: dict[str, Any]) -> list[str]:
    rows = [
        [name, str(group["kept"]), str(group["of"])]
        for name, group in info["groups"].items()
    ]
    kind = "gives units back" if info["rollback"] else "cut"
    return [
        f"plan {info['digest']}",
        f"  structure   {info['structure']}",
        f"  parent      {info['parent'] or 'none: the first plan'} ({kind})",
        f"  channels    {info['kept']} of {info['of']} kept",
        *(f"  dropped     {block}" for block in info["dropped"]),
        *_table(["group", "kept", "of"], rows),
    ]


def _accuracy(summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return name and values of the score; devices have other ones."""
    final, control = (
        number(summary, key) for key in ("accuracy_final", "accuracy_control")
    )
    metric = str(summary.get("metric", "accuracy"))
    if final is None:
        for key, name in _OF_DEVICES.items():
            told = number(summary, key)
            if told is not None:
                return name, f"{score(None, metric)} -> {score(told, metric)}"
    name = printable(metric_name(metric), _NAME)
    return name, f"{score(control, metric)} -> {score(final, metric)}"


def _two(summary: Mapping[str, Any], dense: str, final: str, form: Any) -> str:  # noqa: ANN401 - a formatter of text.py
    return f"{form(number(summary, dense))} -> {form(number(summary, final))}"


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a table: the first column aligned left, the others right."""
    if not rows:
        return []
    widths = [
        max(len(row[column]) for row in [head, *rows]) for column in range(len(head))
    ]
    return [
        "  "
        + "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
