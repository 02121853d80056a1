"""Requests to a SuperLink through Flower's command line, its documented door."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fedprune.common.errors import FedPruneError
from fedprune.common.system.processes import environment

_REQUEST_S = 180.0  # a busy machine takes long to import Flower


def flower(name: str) -> list[str]:
    """Return the command of one of Flower's programs in this installation."""
    return [str(Path(sys.executable).parent / name)]


def request(
    home: Path, address: str, what: Sequence[str], words: Sequence[str]
) -> dict[str, object]:
    """Ask a SuperLink.

    Args:
        home: Flower's folder, whose configuration names the connection.
        address: Where the SuperLink is, for people.
        what: What is asked, for people.
        words: Arguments of ``flwr``.

    Returns:
        Flower's answer.

    Raises:
        FedPruneError: If there is no answer, or it is a refusal.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            [*flower("flwr"), *words, "--format", "json"],
            env=environment(home),
            capture_output=True,
            text=True,
            timeout=_REQUEST_S,
            check=False,
        )
        start = done.stdout.index("{")
        found, _ = json.JSONDecoder().raw_decode(done.stdout[start:])
    except (subprocess.TimeoutExpired, ValueError) as error:
        said = getattr(error, "stderr", None) or error
        msg = f"the server at {address} did not answer {what[0]}: {said}"
        raise FedPruneError(msg) from error
    if not isinstance(found, dict) or not found.get("success"):
        why = _reason(str(found.get("error-message") or done.stderr))
        msg = f"the server at {address} refused {' '.join(what)}: {why}"
        raise FedPruneError(msg)
    return found


def rows(found: dict[str, object], key: str) -> list[dict[str, object]]:
    """Return the rows of a table in an answer."""
    table = found.get(key, [])
    return [dict(row) for row in table] if isinstance(table, list) else []


def _reason(text: str) -> str:
    """Return what Flower says is wrong, without what it says it is doing."""
    lines = [line.strip() for line in text.splitlines()]
    doing = ("Using SuperLink:",)
    said = [x for x in lines if x and not x.startswith(doing) and not x.endswith("...")]
    return " ".join(said)
