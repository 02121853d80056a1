"""Every row of ``docs/trust.md`` names a test that exists."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "trust.md"
ROWS = 40


def rows():
    """Return number -> tests of each row of the table."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0].isdigit():
            found[int(cells[0])] = re.findall(r"`(tests/[^`]+)`", cells[-1])
    return found


def functions_of(path):
    """Return the names of the tests of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}


def test_every_row_has_a_test_that_exists():
    found = rows()
    assert [*found] == [*range(1, ROWS + 1)]
    named = [(row, *test.split("::")) for row, tests in found.items() for test in tests]
    assert {row for row, *_ in named} == {*found}
    missing = [
        (row, path, name)
        for row, path, name in named
        if not (ROOT / path).is_file() or name not in functions_of(path)
    ]
    assert missing == []
