"""A criterion, a penalty and an aggregation rule of one's own, chosen by configuration.

A method is a function; the names of its parameters say what it needs.  What there is to
ask for: ``fedprune methods importance`` (or penalty, aggregation, ...), and
docs/extending.md.
"""

import numpy as np

import fedprune


def largest_effect(products, activations):
    """Worth of a channel: its largest effect on any example, while it is active."""
    effect = np.abs(products).max(axis=0)
    return effect * (activations > 0).any(axis=(0, 2))


def minimax_concave(channels, threshold):
    """Proximal step of MCP (Zhang 2010): channels above three thresholds stay whole."""
    return ((1 - threshold / channels.clamp(min=1e-30)) * 1.5).clamp(0, 1)


def trimmed_mean(deltas):
    """Mean of each weight without its smallest and its largest client (Yin 2018)."""
    return np.sort(deltas, axis=0)[1:-1].mean(axis=0)


if __name__ == "__main__":
    config = {
        "prune.importance": f"{__file__}:largest_effect",
        "client.penalty": f"{__file__}:minimax_concave",
        "robust.aggregate": f"{__file__}:trimmed_mean",
    }
    run = fedprune.simulate(config=config)
    print("accuracy", run.summary["accuracy_final"], "report in", run.directory)
