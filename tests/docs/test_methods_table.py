"""The guide's table of methods is the registry's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedprune.simulations.inspection.methods import as_markdown, kinds_of

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide.md"
START, END = "<!-- fedprune methods --markdown -->", "<!-- end -->"


def command() -> str:
    """Return the command line of the page that prints the table into the guide."""
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = re.findall(r"(?s)```sh\n(.*?)```", page)
    (line,) = [block for block in found if "--markdown" in block]
    return " ".join(line.replace("\\\n", " ").split())


def test_the_guide_has_the_table_that_the_command_prints():
    text = GUIDE.read_text(encoding="utf-8")
    table = text.partition(START)[2].partition(END)[0]
    wanted = "\n".join(as_markdown(kinds_of("")))
    assert table.strip() == wanted, f"print the table anew:\n{command()}\n"


@pytest.mark.slow
def test_the_command_of_the_page_prints_the_table_into_the_guide(tmp_path):
    (tmp_path / "docs").mkdir()
    text = GUIDE.read_text(encoding="utf-8")
    first = text.partition(START)[2].strip().splitlines()[2]
    assert first.startswith("| `prune.importance` |")
    copy = tmp_path / "docs" / "guide.md"
    copy.write_text(text.replace(f"{first}\n", ""), encoding="utf-8")
    line = command().replace(".venv/bin/fedprune", "fedprune")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [shutil.which("sh") or "sh", "-c", line],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        check=True,
    )
    assert copy.read_text(encoding="utf-8") == text
