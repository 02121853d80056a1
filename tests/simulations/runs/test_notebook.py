"""Progress as the widgets of a notebook, and where they are used."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from helpers.some_events import CUT, ROUND, STARTED

from fedprune.common.errors import ConfigError
from fedprune.server.runs.events import COLUMNS, EventLog
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.runs import progress
from fedprune.simulations.runs.notebook.result import RunResult
from fedprune.simulations.runs.notebook.sketches import sketches
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
    from fedprune.simulations.runs.notebook.widgets import WidgetProgress

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
    from fedprune.simulations.runs.notebook.widgets import WidgetProgress

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


@pytest.fixture
def result(tmp_path):
    folder = RunFolder.create(tmp_path)
    with EventLog(folder.events) as log:
        for number in (1, 2, 3):
            log.write(replace(ROUND, round=number, rounds=3, accuracy=number / 4))
        log.write(replace(ROUND, run="dense", round=1, accuracy=None, loss=0.5))
    summary = {"metric": "accuracy", "accuracy_final": 0.75}
    return RunResult(directory=folder.path, summary=summary)


def test_a_result_has_plots_that_need_no_request_and_no_script(result):
    shown = result._repr_html_()
    assert shown.count("<svg") == 3
    assert "0.7500 pruned" in shown
    assert "2.0 kB dense" in shown  # its bytes; it measured no accuracy
    assert "6.1 kB pruned" in shown  # 3 rounds of 2048 bytes
    assert "<script" not in shown
    links = [part for part in shown.split('"') if "://" in part]
    assert set(links) == {"http://www.w3.org/2000/svg"}  # a name, not a place


def plots(*rounds):
    return sketches([replace(ROUND, **one) for one in rounds], "accuracy")


def test_a_plot_has_figures_of_test_data_or_of_validation_and_not_both():
    seldom = plots({"round": 1, "accuracy": 0.5}, {"round": 2, "accuracy": None})
    assert "0.5000 pruned" in seldom
    assert "0.2500" not in seldom  # the second round's, on other data
    never = plots({"round": 1, "accuracy": None})
    assert "0.2500 pruned" in never
    assert "accuracy, validation" in never


def test_the_value_of_a_line_is_its_own_where_another_has_none():
    shown = plots({"bytes_up": 0}, {"run": "dense", "bytes_up": 4096})
    assert "4.1 kB dense" in shown
    assert "0 B dense" not in shown


def test_rounds_are_rows_of_a_data_frame(result):
    pd = pytest.importorskip("pandas")
    frame = result.frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == list(COLUMNS)
    assert frame.run.to_list() == ["main", "main", "main", "dense"]
    assert frame.accuracy.to_list()[:3] == [0.25, 0.5, 0.75]
    assert pd.isna(frame.accuracy.iloc[3])
    assert frame.phase.to_list() == ["sparsify"] * 4
    assert frame.bytes_up.sum() == 4 * 2048


def test_without_pandas_a_frame_is_one_line(result, monkeypatch):
    from fedprune.simulations.runs.notebook import frame

    monkeypatch.setattr(frame, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedprune\[notebook\]'"):
        result.frame()


def test_a_result_whose_events_cannot_be_read_has_its_table(result):
    (result.directory / "events.jsonl").write_text("{}\n")
    assert "<td>0.7500</td>" in result._repr_html_()


def test_a_result_whose_folder_is_gone_has_its_table(tmp_path):
    shown = RunResult(directory=tmp_path, summary={"accuracy_final": 0.5})
    assert "<td>0.5000</td>" in shown._repr_html_()
    assert "<svg" not in shown._repr_html_()
