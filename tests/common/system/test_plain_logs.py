"""One record is one line with its time; a traceback follows it."""

import logging
import sys

from fedprune.common.system.logs import PlainFormatter


def record(text, error=None):
    found = logging.LogRecord("flwr", logging.ERROR, "x.py", 1, text, (), error)
    found.created = 0.0
    return found


def test_a_text_of_several_lines_is_one_line_without_colours():
    text = "\x1b[91mExit Code: 305\n\nIt could not\tconnect.\x1b[0m"
    line = PlainFormatter().format(record(text))
    assert line == "1970-01-01T00:00:00Z ERROR Exit Code: 305 It could not connect."


def test_the_lines_of_a_traceback_follow_as_they_are():
    try:
        [].pop()
    except IndexError:
        error = sys.exc_info()
    head, first, *_, last = PlainFormatter().format(record("failed", error)).split("\n")
    assert head == "1970-01-01T00:00:00Z ERROR failed"
    assert first == "Traceback (most recent call last):"
    assert last == "IndexError: pop from empty list"


def test_a_record_without_a_text_is_its_level():
    assert PlainFormatter().format(record("")) == "1970-01-01T00:00:00Z ERROR"
