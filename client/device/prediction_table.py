"""The table of predictions that ``fedprune run-model`` prints."""

from collections.abc import Mapping, Sequence

from fedprune.common.text import printable

_LONGEST = 40  # characters of a cell


def prediction_lines(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Return predictions as the lines of a table, numbers aligned on the right.

    Args:
        rows: For each example its columns, name -> value; a row may lack some.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = [
        [name.replace("_", " ") for name in names],
        *([_cell(row.get(name, "")) for name in names] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    left = [any(isinstance(row.get(name), str) for row in rows) for name in names]
    return [
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in table
    ]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return printable(value, _LONGEST)
