"""Writing a configuration: as TOML that can be read back, and as a digest."""

import json
import math
from collections.abc import Iterator, Mapping
from hashlib import blake2b

from pydantic import BaseModel

from fedprune.common.config.schema import Config

# Place and speed of a run, on which results do not depend: the content of the data
# folder has a fingerprint of its own, and a run reads the latency table that is in its
# folder.
_WITHOUT_EFFECT = {
    "task": {"data_dir"},
    "device": {"max_bytes"},
    "prune": {"latency_table"},
    "run": {
        *("dir", "name", "engine", "workers", "limit_s", "profile", "state_limit_mb"),
        *("track", "track_clients"),
    },
}
_NONE = "(unknown)"  # of a key that the other version does not have


def config_to_toml(config: Config) -> str:
    """Return every key as TOML: ``parse_config`` reads back an equal configuration."""
    sections = []
    for name in Config.model_fields:
        section = getattr(config, name)
        lines = [_line(key, value) for key, value in section]
        sections.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _line(key: str, value: object) -> str:
    """Return the line of a key; TOML has no value for one that is off."""
    return f"# {key} = (off)" if value is None else f"{key} = {toml_value(value)}"


def toml_value(value: object) -> str:
    """Return one value of a configuration as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except for the one control character
        # that JSON does not escape.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, BaseModel):
        given = [(key, item) for key, item in value if item is not None]
        pairs = ", ".join(f"{key} = {toml_value(item)}" for key, item in given)
        return "{ " + pairs + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    message = f"no TOML for {type(value).__name__}"
    raise TypeError(message)


def config_digest(config: Config) -> str:
    """Return the digest, 32 hex digits, of all keys that can change a result.

    Folder and name of the run, engine, number of workers, profile, trackers, the
    limits on time and state files and the place of the data are left out.
    """
    values = config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=16).hexdigest()


def config_changes(before: Mapping[str, object], config: Config) -> list[str]:
    """Return what differs of the keys that can change a result, one text a key.

    Args:
        before: Another configuration's ``model_dump(mode="json")``, as events have it:
            maybe of another version, numbers that are not finite as None.
        config: The configuration now.

    >>> first = Config()
    >>> run = first.run.model_copy(update={"seed": 7})
    >>> again = first.model_copy(update={"run": run})
    >>> config_changes(first.model_dump(mode="json"), again)
    ['run.seed: 0 -> 7']
    """
    whole = dict(_flat(config.model_dump(mode="json")))
    now = dict(_flat(config.model_dump(mode="json", exclude=_WITHOUT_EFFECT)))
    idle = whole.keys() - now.keys()
    then = {key: value for key, value in _flat(before) if key not in idle}
    return [
        f"{key}: {then.get(key, _NONE)} -> {now.get(key, _NONE)}"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
    ]


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            finite = not isinstance(value, float) or math.isfinite(value)
            yield f"{prefix}{key}", json.dumps(value if finite else None)
