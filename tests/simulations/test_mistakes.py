"""Mistakes of a new user on the command line: a row each, its code and words."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from fedprune.simulations.benchmarks.kit.mistakes.files import write_files
from fedprune.simulations.benchmarks.kit.mistakes.mistake import Mistake
from fedprune.simulations.benchmarks.kit.mistakes.play import Answer, fault, play
from fedprune.simulations.benchmarks.kit.mistakes.rows import MISTAKES
from fedprune.simulations.cli import run_command_line

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    made = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.delenv("FEDPRUNE_DATA", raising=False)
        write_files()
        yield made


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_answered_by_one_clear_line(mistake, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)
    assert fault(mistake, play(mistake, run_command_line)) == ""


def test_rows_have_names_of_their_own():
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


ASKED = Mistake(name="x", words=(), code=2, said=("want this",))
GOOD = Answer(code=2, errors=("error: want this",), lines=("error: want this",))


@pytest.mark.parametrize(
    "answer",
    [
        Answer(code=1, errors=GOOD.errors, lines=GOOD.lines),
        Answer(code=2, errors=(), lines=()),
        Answer(code=2, errors=("error: other",), lines=("error: other",)),
        Answer(code=2, errors=2 * GOOD.errors, lines=2 * GOOD.lines),
        Answer(code=2, errors=GOOD.errors, lines=("Traceback (most", *GOOD.lines)),
    ],
    ids=["code", "silent", "words", "twice", "traceback"],
)
def test_an_unclear_answer_counts_as_one(answer):
    assert fault(ASKED, GOOD) == ""
    assert fault(ASKED, answer) != ""


def test_what_works_may_answer_on_any_line_and_needs_exit_code_0():
    fine = replace(ASKED, code=0, works=True, said=("done in HERE",))
    answer = Answer(code=0, errors=(), lines=("done in b",), place="b")
    assert fault(fine, answer) == ""
    assert fault(fine, replace(answer, place="c")) != ""
    assert fault(fine, replace(answer, code=2)) != ""
    assert fault(replace(fine, works=False), answer) != ""  # a warning is wanted


def test_the_name_of_the_place_stands_in_the_words():
    @contextmanager
    def place(command):
        assert command(()) == 0
        yield "7"

    typed = []
    one = replace(ASKED, words=("serve", "h:HERE"), place=place)
    assert play(one, lambda words: typed.append(list(words)) or 0).place == "7"
    assert typed == [[], ["serve", "h:7"]]


def test_python_is_an_interpreter_of_its_own():
    code = "import sys; sys.exit('error: want this')"
    assert play(replace(ASKED, words=("python", "-c", code)), None).code == 1
