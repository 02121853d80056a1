"""Keys of a device's node configuration; no heavy imports, for the supervisor."""

from collections.abc import Mapping
from pathlib import Path

from fedprune.common.config import Config, load_config, refuse_faults, toml_value
from fedprune.common.errors import ConfigError

CLIENT_ID = "client-id"  # keys of a Flower node's configuration
CONFIG = "config"
DATA = "data"
SHARE = "share"
STATE = "state-dir"

LABELS = "labels.json"  # files in the state folder
FINAL = "final.safetensors"
EVALUATIONS = "evaluations.jsonl"

REMARK = "warning: "  # prefix of a warning that the check of a device prints


def device_config(node: Mapping[str, object]) -> Config:
    """Return the configuration of a device: its own file, and its own data.

    Raises:
        ConfigError: If it is not usable, or has faults, which only simulations have.
    """
    data, path = str(node.get(DATA) or ""), str(node.get(CONFIG) or "")
    overrides = [f"task.data={toml_value(data)}"] if data else []
    config = load_config(Path(path) if path else None, overrides)
    refuse_faults(config.faults, "a device")
    return config


def parse_share(text: str) -> tuple[int, int] | None:
    """Return (k, n) of a text "k/n", 0 <= k < n, or None of an empty one.

    Raises:
        ConfigError: If it is neither.
    """
    if not text:
        return None
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and int(number) < int(count):
        return int(number), int(count)
    msg = f'--partition: found "{text}", want K/N with 0 <= K < N, for example 0/3'
    raise ConfigError(msg)
