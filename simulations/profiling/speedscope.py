"""Samples in the file format of speedscope, which several viewers of profiles read.

Source: https://www.speedscope.app/file-format-schema.json, type "sampled".
"""

from collections.abc import Mapping

from fedprune.common.profiling.activities import Stack
from fedprune.common.version import __version__

SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def speedscope(stacks: Mapping[str, Mapping[Stack, float]]) -> dict[str, object]:
    """Return the document.

    Args:
        stacks: Name of a profile -> its stacks, with their CPU seconds.
    """
    frames: dict[str, int] = {}
    profiles = [
        _profile(name, found, frames) for name, found in stacks.items() if found
    ]
    return {
        "$schema": SCHEMA,
        "exporter": f"fedprune {__version__}",
        "name": "FedPrune run",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": profiles,
    }


def _profile(
    name: str, stacks: Mapping[Stack, float], frames: dict[str, int]
) -> dict[str, object]:
    ordered = sorted(stacks.items())
    return {
        "type": "sampled",
        "name": name,
        "unit": "seconds",
        "startValue": 0,
        "endValue": sum(cpu_s for _, cpu_s in ordered),
        "samples": [
            [frames.setdefault(one, len(frames)) for one in stack]
            for stack, _ in ordered
        ],
        "weights": [cpu_s for _, cpu_s in ordered],
    }
