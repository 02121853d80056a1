"""The notebooks of docs/notebooks: as they are stored, and run from top to bottom."""

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")

PLACE = Path(__file__).resolve().parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(PLACE.glob("*.ipynb"))
LIMIT_S = 900  # of one cell: an emergency brake


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_without_places(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    text = path.read_text("utf-8")
    assert not re.search(r"/(home|root|tmp|work|Users)/|https?://", text)
    for cell in code:
        compile(cell.source, path.name, "exec")


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.timeout(1800)
# Of Jupyter's client and its loops.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    client = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(
        notebook,
        timeout=LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in shown if output.output_type == "error"]
    tables = [o for o in shown if "text/html" in o.get("data", {})]
    assert tables
    runs = [p for p in (tmp_path / "runs").iterdir() if (p / "summary.json").is_file()]
    assert runs
    assert all((run / "report.html").is_file() for run in runs)
