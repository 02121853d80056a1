"""Progress as the widgets of a notebook, and where they are used."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.some_events import CUT, ROUND, STARTED

from fedprune.simulations.runs import progress
from fedprune.simulations.runs.progress import LineProgress, usual_display

pytest.importorskip("ipywidgets")

# Of ipywidgets, where no kernel runs.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def shown(monkeypatch):
    import IPython.display

    found = []
    monkeypatch.setattr(IPython.display, "display", found.append)
    return found


def test_each_federation_has_a_bar_and_notable_events_a_line(shown):
    from fedprune.simulations.runs.notebook import WidgetProgress

    with WidgetProgress() as display:
        for event in (STARTED, replace(ROUND, rounds=12), replace(CUT, run="main")):
            display.on_event(event)
        display.on_event(replace(ROUND, round=9))
        display.on_event(replace(ROUND, run="dense", round=1, rounds=2))
    (box,) = shown
    *rows, lines = box.children
    bars = [(row.children[0].description, row.children[0].value) for row in rows]
    assert bars == [("pruned", 9), ("dense", 1)]
    assert [row.children[0].max for row in rows] == [9, 2]
    assert [row.children[0].bar_style for row in rows] == ["success", "warning"]
    assert "9/9" in rows[0].children[1].value
    assert "cut after round 5" in lines.value
    assert "9 rounds in all, not 12" in lines.value


def test_text_of_others_is_escaped(shown):
    from fedprune.simulations.runs.notebook import WidgetProgress

    with WidgetProgress() as display:
        display.on_event(replace(STARTED, directory="<script>"))
    assert "<script>" not in shown[0].children[-1].value
    assert "&lt;script&gt;" in shown[0].children[-1].value


def shell(monkeypatch, **parts):
    python = SimpleNamespace(get_ipython=lambda: SimpleNamespace(**parts))
    monkeypatch.setitem(progress.sys.modules, "IPython", python)


def test_a_notebook_has_widgets_where_they_are_installed(monkeypatch):
    shell(monkeypatch, kernel=1)
    assert progress.in_notebook()
    monkeypatch.setattr(progress, "find_spec", lambda _name: None)
    assert not progress.in_notebook()
    assert type(usual_display()) is LineProgress


def test_a_terminal_with_ipython_is_no_notebook(monkeypatch):
    shell(monkeypatch)
    assert not progress.in_notebook()
