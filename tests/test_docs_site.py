"""The documentation as a site: it builds without a warning and holds what is public."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fedprune

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_of_public_names_has_each_of_them() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert [name for name in fedprune.__all__ if f"fedprune.{name}" not in text] == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pages = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns("api"))
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, "-d", tmp_path / "trees", pages, tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    module = (tmp_path / "site/api/fedprune.common.aggregate.html").read_text("utf-8")
    assert "fedprune.common.aggregate.Accumulator.merge" in module
    assert (tmp_path / "site/decisions/0001-fixed-point-sums.html").is_file()
