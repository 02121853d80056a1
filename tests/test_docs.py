"""The pages under docs/: records of decisions, links between pages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DECISIONS = ROOT / "docs" / "decisions"
RECORDS = sorted(DECISIONS.glob("[0-9]*.md"))
PAGES = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
PARTS = ["Context", "Decision", "Consequence"]
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for name in ("client", "common", "server", "simulations", "src", "tests")
    for path in (ROOT / name).rglob("*.py")
]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def field(record: Path, name: str) -> str:
    """Return the value of a line ``- name: value`` of a record."""
    found = re.search(rf"^- {name}: (.+)$", text_of(record), re.MULTILINE)
    assert found is not None, f"{record.name} has no {name}"
    return found[1]


def targets(record: Path, kind: str) -> set[str]:
    """Return the records that a record names as ``kind``."""
    lines = re.findall(rf"^- {kind}: (.+)$", text_of(record), re.MULTILINE)
    return {name for line in lines for name in LINK.findall(line)}


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    heads = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-")
        for head in heads
    }


GENERATED = "api/"  # pages that `make docs` writes, and its warnings are errors


def broken_links(page: Path) -> Iterator[str]:
    for link in LINK.findall(re.sub(r"(?s)```.*?```", "", text_of(page))):
        target, _, anchor = link.partition("#")
        if ":" in target or target.startswith(GENERATED):
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_row_of_a_page_belongs_to_a_table(page: Path) -> None:
    lines = ["", *re.sub(r"(?s)```.*?```", "", text_of(page)).splitlines(), ""]
    alone = [
        row
        for before, row, after in zip(lines, lines[1:], lines[2:], strict=False)
        if row.startswith("|") and not before.startswith("|")
        if not re.match(r"\|[-:| ]+\|$", after)
    ]
    assert alone == []


def test_records_are_numbered_without_a_gap() -> None:
    numbers = [int(record.name[:4]) for record in RECORDS]
    assert numbers == list(range(1, len(RECORDS) + 1))


def test_records_stand_in_the_order_of_their_dates() -> None:
    dates = [field(record, "Date") for record in RECORDS]
    assert dates == sorted(dates)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_a_record_says_context_decision_and_consequence(record: Path) -> None:
    assert re.findall(r"^## (.+)$", text_of(record), re.MULTILINE) == PARTS
    assert text_of(record).startswith(f"# {record.name[:4]}. ")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.name)
def test_what_supersedes_a_record_says_so_too(record: Path) -> None:
    for name in targets(record, "Superseded by"):
        assert record.name in targets(DECISIONS / name, "Supersedes")
    for name in targets(record, "Supersedes"):
        assert record.name in targets(DECISIONS / name, "Superseded by")
    assert ("superseded" in field(record, "Status")) == bool(
        targets(record, "Superseded by")
    )


def test_the_table_of_decisions_is_that_of_the_files() -> None:
    rows = [
        line
        for line in text_of(DECISIONS / "README.md").splitlines()
        if re.match(r"\| \d{4} \|", line)
    ]
    wanted = []
    for record in RECORDS:
        title = text_of(record).splitlines()[0].partition(". ")[2]
        date, status = field(record, "Date"), field(record, "Status")
        wanted.append(
            f"| {record.name[:4]} | {date} | [{title}]({record.name}) | {status} |"
        )
    assert rows == wanted


def test_architecture_names_files_and_functions_that_exist() -> None:
    named = set()
    for line in text_of(ROOT / "docs" / "architecture.md").splitlines():
        named |= set(re.findall(r"([\w/]+\.py)(?:: (\w+))?", line))
    assert len(named) > len(PARTS)
    lost = []
    for name, function in named - {("file.py", "")}:  # a file of the user's own
        found = [path for path in SOURCES if f"/{path}".endswith(f"/{name}")]
        defined = any(f"def {function}(" in text_of(ROOT / path) for path in found)
        if not found or (function and not defined):
            lost.append(f"{name}: {function}")
    assert lost == []
