"""The origin of a run, to run it again: command, versions, configuration, manifest."""

import json
from collections.abc import Mapping

from fedprune.server.report.data import RunData
from fedprune.server.report.parts import More, Panel, Table, cells


def origin(run: RunData) -> Panel:
    """Return command, versions and configuration, with which it can run again."""
    manifest = dict(run.manifest)
    command = manifest.pop("command", "")
    text = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    versions = manifest.pop("versions", {})
    more = []
    if isinstance(versions, Mapping) and versions:
        table = Table(
            label="Versions",
            head=("package", "version"),
            rows=tuple(cells(str(name), str(one)) for name, one in versions.items()),
        )
        more.append(More(title="Versions", table=table))
    if run.config:
        more.append(More(title="Configuration", text=run.config))
    rest = json.dumps(manifest, indent=2, ensure_ascii=False)
    more.append(More(title="Manifest", text=rest))
    return Panel(
        name="again",
        title="How to run it again",
        note=_said(run),
        text=text,
        more=more,
    )


def _said(run: RunData) -> str:
    """Return the run's name, and what its start told of sizes and defaults."""
    reach = "" if run.started is None else run.started.reach
    said = f"  It began with: {reach}." if reach else ""
    return f"This is run {run.name}.{said}"
