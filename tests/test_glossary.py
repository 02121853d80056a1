"""The words of the code and of the pages are those of ``docs/glossary.md``."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "glossary.md"
PACKAGES = ("common", "client", "server", "simulations")
FEWEST_TERMS = 60

# (beginning of a path, word): the reason why the word may stand there.
EXCEPTIONS = {
    ("common/structure/rules/", "squeeze"): "an operation of torch",
    ("common/structure/rules/", "unsqueeze"): "an operation of torch",
    ("common/structure/tracing/walk.py", "squeeze"): "an operation of torch",
    ("common/structure/tracing/walk.py", "unsqueeze"): "an operation of torch",
    ("tests/common/artifacts/test_network_file.py", "squeeze"): "an operation of torch",
    ("tests/client/rounds/test_products.py", "squeeze"): "an operation of torch",
    ("tests/common/structure/test_misread.py", "squeeze"): "an operation of torch",
    ("simulations/benchmarks/kit/coverage/nets/", "squeeze"): "an operation of torch",
    ("simulations/benchmarks/kit/coverage/nets/", "unsqueeze"): "an operation of torch",
    ("tests/support/helpers/pruning_archs.py", "squeeze"): "squeeze-and-excite",
    ("docs/guide.md", "squeeze"): "squeeze-and-excite",
    ("tests/common/codec/messages/test_codebook.py", "filter"): "hypothesis",
    ("tests/common/config/test_config.py", "filter"): "hypothesis",
    ("tests/test_packaging.py", "filter"): "an argument of tarfile",
    ("simulations/benchmarks/house.py", "filter"): "an argument of tarfile",
    ("simulations/engines/on_ray.py", "filter"): "the function of Python",
    ("simulations/benchmarks/structure.py", "pruning_ratio"): "torch-pruning's",
    ("simulations/benchmarks/kit/coverage/", "pruning_ratio"): "torch-pruning's",
}

QUESTION = re.compile(r"(What|How|Whether|Which|Who|Whose|Where|When|Why)\b")
# One word of a longer name, as in ``make_word``, counts as a whole word.
EDGE, END = r"(?<![^\W_])", r"(?![^\W_])"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading of the page, without its head."""
    text = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def ticked(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


TERMS = rows("Terms")
NOT_HERE = ("Not here: words of another owner", "Not here: idioms")
BANNED = [word for head in NOT_HERE for row in rows(head) for word in ticked(row[0])]


def pattern(word: str) -> re.Pattern[str]:
    """Return the pattern of a word or its plural, or of a phrase over line ends."""
    parts = [re.escape(part) for part in word.split()]
    plural = "s?" if len(parts) == 1 else ""
    return re.compile(EDGE + r"[\s#]+".join(parts) + plural + END, re.IGNORECASE)


PATTERNS = {word: pattern(word) for word in BANNED}


def banned_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the banned word of every finding."""
    lower = text.lower()
    for word, found in PATTERNS.items():
        if word.split()[0].lower() not in lower:  # far quicker than the pattern
            continue
        for match in found.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, word


def is_exception(path: str, word: str) -> bool:
    return any(path.startswith(start) and word == w for start, w in EXCEPTIONS)


def code() -> list[Path]:
    """Return the source files of the packages."""
    files = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    return sorted([*files, *(ROOT / "src" / "fedprune").glob("*.py")])


def written() -> list[Path]:
    """Return every file whose words are checked: all but this one and the page."""
    tests = sorted((ROOT / "tests").rglob("*.py"))
    pages = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
    found = [*code(), *tests, *pages, *sorted((ROOT / "examples").glob("*.py"))]
    return [path for path in found if path not in (Path(__file__).resolve(), PAGE)]


def named(files: list[Path]) -> list[tuple[str, str]]:
    """Return (path from the root, text) of each file."""
    return [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in files]


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, kinds) and (said := ast.get_docstring(node)):
            yield node.body[0].lineno, said


def test_terms_are_unique_and_sorted():
    terms = [row[0] for row in TERMS]
    assert len(terms) >= FEWEST_TERMS
    assert terms == sorted(set(terms), key=str.lower)


@pytest.mark.parametrize("heading", NOT_HERE)
def test_banned_words_are_sorted(heading):
    firsts = [ticked(row[0])[0] for row in rows(heading)]
    assert firsts
    assert firsts == sorted(firsts)


def test_banned_words_are_unique():
    assert len(set(BANNED)) == len(BANNED)


@pytest.mark.parametrize("row", TERMS, ids=[row[0] for row in TERMS])
def test_an_owner_names_its_term(row):
    term, _, owner = row
    path, *names = ticked(owner)
    text = " ".join((ROOT / path).read_text().split())
    if names:
        assert [n for n in names if not re.search(rf"\b{re.escape(n)}\b", text)] == []
    else:
        assert re.search(EDGE + re.escape(term), text, re.IGNORECASE)


def test_no_banned_word_is_used():
    found = [
        f"{name}:{line}: {word}"
        for name, text in named(written())
        for line, word in sorted(banned_in(text))
        if not is_exception(name, word)
    ]
    assert not found, "\n".join(["write the glossary's word instead:", *found])


def test_every_exception_is_needed():
    texts = named(written())
    unused = [
        f"{start}: {word}"
        for start, word in EXCEPTIONS
        if not any(
            name.startswith(start) and PATTERNS[word].search(text)
            for name, text in texts
        )
    ]
    assert not unused, "\n".join(unused)


def test_no_docstring_begins_with_a_question():
    found = [
        f"{name}:{line}: {match[1]}"
        for name, text in named(code())
        for line, said in docstrings(text)
        if (match := QUESTION.match(said))
    ]
    assert not found, "\n".join(["state the thing:", *found])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a codebook of a benchmark", []),
        ("_make_book(x)", [(1, "book")]),
        ("sent,\n    # by\n    # name.", [(2, "by name")]),
        ("BENCH", [(1, "bench")]),
    ],
)
def test_whole_words_are_found(text, found):
    assert list(banned_in(text)) == found


def test_docstrings_of_modules_classes_and_functions_are_read():
    text = '"""A."""\nclass B:\n    """C."""\n    def d(self):\n        """E."""\n'
    assert [said for _, said in docstrings(text)] == ["A.", "C.", "E."]
