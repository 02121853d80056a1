"""Whole runs in this process leave no page for people: only its own tests read it."""

import pytest

import simulations.run


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(simulations.run, "_report", lambda folder: None)
