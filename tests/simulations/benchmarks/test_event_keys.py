"""The count of string keys of events outside of their package."""

from pathlib import Path

import pytest

import fedprune
from fedprune.simulations.benchmarks.kit.house import event_keys as event_keys_module
from fedprune.simulations.benchmarks.kit.house.event_keys import (
    event_keys,
    event_keys_figure,
)

ROOT = Path(fedprune.__file__).parents[2]
PLANTED = {
    "a subscript": 'print(event["round"])',
    "a get": 'print([e.get("bytes_up", 0) for e in found])',
    "a number": 'number(event, "loss")',
    "the kind": 'rounds = [e for e in found if e["event"] == "round"]',
    "of something that has an event": 'print(cut.event.get("density"))',
    "of the last round": 'print(rounds[-1]["accuracy"])',
    "an attribute by its name": 'getattr(event, "seconds")',
}
OTHERS = {
    "an attribute": "print(event.round)",
    "another mapping": 'print(summary["rounds"], info["params"])',
    "another key": 'print(event["colour"], event.get(name), number(event))',
    "a call of nothing": "print(), found()[0]",
}


def counted(tmp_path, text):
    path = tmp_path / "module.py"
    path.write_text(text + "\n")
    return event_keys([path])


@pytest.mark.parametrize("text", PLANTED.values(), ids=PLANTED)
def test_a_planted_string_key_is_found_with_its_line(tmp_path, text):
    assert counted(tmp_path, f"import json\n{text}") == ["module.py:2"]


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_what_reads_no_event_by_a_string_is_not_counted(tmp_path, text):
    assert counted(tmp_path, text) == []


def test_the_package_of_the_events_may_have_them(tmp_path, monkeypatch):
    monkeypatch.setattr(event_keys_module, "_ROOM", tmp_path)
    assert counted(tmp_path, PLANTED["a subscript"]) == []


@pytest.mark.slow
def test_our_own_code_has_none():
    packages = ("common", "client", "server", "simulations")
    files = [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]
    assert len(files) > 200
    figure = event_keys_figure(files)
    assert (figure.value, figure.goal) == (0, "== 0"), figure.detail
