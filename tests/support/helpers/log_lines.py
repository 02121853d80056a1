"""Lines that a service has printed, each with its time."""

import re

_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ) (.*)")


def texts(output):
    """Return the texts of log lines; a line without its time (UTC) is a failure."""
    found = [_LINE.fullmatch(line) for line in output.splitlines()]
    assert all(found), output
    return [line[2] for line in found]
