"""The configuration: read once, at the start, into frozen and checked sections."""

from fedprune.common.config.explain import wanted
from fedprune.common.config.faults import Attack, Faults, refuse_faults
from fedprune.common.config.load import (
    DATA_VARIABLE,
    Overrides,
    expand_sweep,
    load_config,
    parse_config,
)
from fedprune.common.config.method_key import load_methods, own_methods
from fedprune.common.config.pretrained import (
    FRESH_PENALTY,
    is_pretrained,
    penalty_of,
)
from fedprune.common.config.robust import Robust
from fedprune.common.config.schema import Config
from fedprune.common.config.sections import (
    Broadcast,
    Budget,
    Client,
    ControlName,
    Distill,
    MaskRule,
    Partition,
    Prune,
    Quantise,
    Rounds,
    Run,
    Server,
    Task,
    TrackerName,
    Update,
)
from fedprune.common.config.write import (
    config_changes,
    config_digest,
    config_to_toml,
    toml_value,
)

__all__ = [
    "DATA_VARIABLE",
    "FRESH_PENALTY",
    "Attack",
    "Broadcast",
    "Budget",
    "Client",
    "Config",
    "ControlName",
    "Distill",
    "Faults",
    "MaskRule",
    "Overrides",
    "Partition",
    "Prune",
    "Quantise",
    "Robust",
    "Rounds",
    "Run",
    "Server",
    "Task",
    "TrackerName",
    "Update",
    "config_changes",
    "config_digest",
    "config_to_toml",
    "expand_sweep",
    "is_pretrained",
    "load_config",
    "load_methods",
    "own_methods",
    "parse_config",
    "penalty_of",
    "refuse_faults",
    "toml_value",
    "wanted",
]
