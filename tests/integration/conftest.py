"""Whole runs in this process write no report: only its own tests read it."""

import pytest

import fedprune.simulations.runs.run


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(fedprune.simulations.runs.run, "_report", lambda folder: None)
