"""Trackers that follow a run: TensorBoard, MLflow and Weights & Biases.

A tracker is a listener to the typed events of a run, beside displays and pages.
``figures`` turns events into numbers, ``listener`` hands them to a thread of each
tracker (``feed``), ``progress`` remembers how far each one got, and there is one file a
tracker; ``registry`` lists them.  No result depends on a tracker: one that fails is
warned of once and left.
"""

from fedprune.server.runs.tracking.listener import Tracking, tracked
from fedprune.server.runs.tracking.registry import TRACKERS, check_trackers

__all__ = ["TRACKERS", "Tracking", "check_trackers", "tracked"]
