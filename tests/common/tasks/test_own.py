"""A task of one's own in a file: found, known again by its code, and refused."""

import re
from textwrap import dedent

import pytest

from fedprune import Task
from fedprune.common.errors import ConfigError
from fedprune.common.tasks.own import code_digest, load_task

MINE = '''\
"""A task."""
from fedprune import Task

class Mine(Task):
    """Mine."""

    def loss(self, outputs, batch):
        """Return the loss."""
        return 2.0 * super().loss(outputs, batch)  # doubled

def make():
    return Mine()
'''


@pytest.fixture
def digest(tmp_path):
    """Digest of the code of a task whose file has a given text."""

    def of(text):
        path = tmp_path / "mine.py"
        path.write_text(dedent(text), encoding="utf-8")
        return code_digest(load_task(f"{path}:Mine"))

    return of


SAME = {
    "without its comment": MINE.replace("  # doubled", ""),
    "with another comment": MINE.replace("# doubled", "# twice"),
    "without docstrings": re.sub(r' *"""[^"]*"""\n', "", MINE),
    "with another docstring": MINE.replace("Mine.", "My task."),
    "in another layout": MINE.replace("(outputs, batch)", "(\n    outputs, batch\n)"),
    "with empty lines": MINE.replace("\n\n", "\n\n\n\n"),
}
CHANGED = {
    "another number": MINE.replace("2.0", "3.0"),
    "another operation": MINE.replace("2.0 *", "2.0 +"),
    "one method more": MINE.replace(
        "def make", "    higher_is_better = False\n\ndef make"
    ),
    "a function of the file": MINE.replace("return Mine()", "return Mine() or None"),
    "text that is used": MINE.replace("2.0", 'len("ab")'),
}


@pytest.mark.parametrize("text", SAME.values(), ids=SAME)
def test_the_digest_of_a_task_ignores_how_its_code_is_written(digest, text):
    assert text != MINE
    assert digest(text) == digest(MINE)


@pytest.mark.parametrize("text", CHANGED.values(), ids=CHANGED)
def test_the_digest_of_a_task_sees_what_its_code_does(digest, text):
    assert text != MINE
    assert digest(text) != digest(MINE)


def test_the_built_in_task_has_no_digest_and_another_has_64_hex_digits(digest):
    assert code_digest(Task()) == ""
    assert re.fullmatch("[0-9a-f]{64}", digest(MINE))


DERIVED = """\
import os
from importlib import import_module

class Mine(import_module(os.environ["BASE"]).Base):
    pass
"""


def test_the_digest_covers_the_file_of_a_base_class(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for name, factor in (
        ("base_one", "2.0"),
        ("base_same", "2.0"),
        ("base_two", "4.0"),
    ):
        base = MINE.replace("class Mine", "class Base").replace("2.0", factor)
        (tmp_path / f"{name}.py").write_text(base, encoding="utf-8")
        monkeypatch.setenv("BASE", name)
        path = tmp_path / name / "mine.py"
        path.parent.mkdir()
        path.write_text(DERIVED, encoding="utf-8")
        found.append(code_digest(load_task(f"{path}:Mine")))
    assert found[0] == found[1] != found[2]


def in_a_session(factor):
    """Return a task whose class has no file, as in a notebook."""
    text = MINE.replace("2.0", str(factor))
    names = {"__name__": "session"}
    exec(text, names)  # noqa: S102 - as a notebook does it
    return names["Mine"]()


def test_a_class_without_a_file_is_known_by_its_instructions():
    assert code_digest(in_a_session(2.0)) == code_digest(in_a_session(2.0))
    assert code_digest(in_a_session(2.0)) != code_digest(in_a_session(3.0))


def test_a_task_is_a_class_or_what_a_function_returns(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    one, two = load_task(f"{path}:Mine"), load_task(f"{path}:make")
    assert type(one) is type(two)
    assert type(one).__name__ == "Mine"
    assert type(load_task("")) is Task


REFUSED = {
    "no task": ("def Mine():\n    return 3\n", "gives a int; want a subclass of fedpr"),
    "a class of another kind": ("class Mine:\n    pass\n", "gives a Mine; want a sub"),
    "one that fails": (
        "def Mine():\n    return 1 / 0\n",
        "failed: ZeroDivisionError: ",
    ),
    "one that exits": ("def Mine():\n    raise SystemExit(3)\n", "failed: SystemExit"),
    "one with arguments": ("def Mine(x):\n    return x\n", "failed: TypeError: "),
    "nothing of the name": ("def mine():\n    pass\n", "has no function named 'Mine'"),
    "no Python": ("class", "failed: SyntaxError: "),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_task_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        load_task(f"{path}:Mine")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no file "):
        load_task(f"{tmp_path / 'none.py'}:Mine")
