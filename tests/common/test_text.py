"""Text from outside: one line, printable, of a bounded length."""

from datetime import datetime, timedelta

import pytest

from fedprune.common.text import (
    LONGEST,
    LONGEST_LINE,
    and_more,
    error_line,
    printable,
    say,
)

HOSTILE = {
    "a screen that is cleared": "\x1b[2J\x1b[Hround 99: accuracy 0.999",
    "lines of its own": "no\nround 99\r\naccuracy 0.999\x0b\x0c\x85\u2028",
    "writing from right to left": "abc\u202etxt.exe\u2066",
    "half of a surrogate pair": "a\ud800b",
    "NUL, bell and delete": "\x00\x07\x7f\x9b",
    "ten megabytes": "\x1b" * 10_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_becomes_one_printable_line_of_bounded_length(text):
    shown = printable(text)
    assert shown
    assert shown.isprintable()
    assert len(shown) <= LONGEST
    shown.encode()


def test_plain_text_stays_as_it_is_up_to_the_limit():
    assert printable("field 'x': zwölf, 12 B") == "field 'x': zwölf, 12 B"
    assert printable("a" * LONGEST) == "a" * LONGEST
    assert printable("a" * (LONGEST + 1)) == "a" * (LONGEST - 1) + "…"


def test_what_has_no_text_is_told_by_its_class():
    class Mute:
        def __str__(self):
            raise RuntimeError

    class MuteError(Exception):
        def __str__(self):
            raise RuntimeError

    assert printable(Mute()) == "(Mute without a text)"
    assert error_line(MuteError()) == "MuteError: (MuteError without a text)"
    assert error_line(ValueError("a\nb")) == "ValueError: a\\nb"


def test_what_a_server_wrote_reaches_the_terminal_as_one_printable_line(capsys):
    say("refused: \x1b[2Jall\nis well \x9b31m" + "x" * 10_000)
    line = capsys.readouterr().out.rstrip("\n")
    time, _, text = line.partition(" ")
    assert datetime.fromisoformat(time).utcoffset() == timedelta(0)
    assert text.startswith("refused: \\x1b[2Jall is well \\x9b31m")
    assert line.isprintable()
    assert len(text) <= LONGEST_LINE


@pytest.mark.parametrize(
    ("count", "shown"), [(0, ""), (1, "0"), (3, "0; 1; 2"), (5, "0; 1; 2 and 2 more")]
)
def test_the_names_left_out_of_a_list_are_counted(count, shown):
    assert and_more(range(count), 3, "; ") == shown
