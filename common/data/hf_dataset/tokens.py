"""Texts by the user's tokenizer, and columns of token ids: padded batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedprune.common.data.examples import IGNORED, Batch, Targets
from fedprune.common.data.hf_dataset.reader import Part, Row, as_tensor, refuse_missing
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.spec import Indices
from fedprune.common.text import first_line

Ids: TypeAlias = list[NDArray[np.int64]]  # of each example, of any length

MULTIPLE = 8  # of padded lengths: few lengths make few sizes of buffers
IDS, MASK = "input_ids", "attention_mask"
_MATRIX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReader:
    """Makes padded batches of token ids.

    Attributes:
        source: The data source, for messages.
        columns: Columns of texts, or of ids.
        tokenizer: Makes ids of lists of texts; None = the columns are ids.
        reference: Name of the tokenizer, for messages.
        plain: Whether the input is one tensor instead of a dict: ids of equal length.
        target: Column of targets for each position; "" = the tokens that follow, or
            targets that are given.
        outputs: Number of tokens that a network of next tokens scores.
        pad: Id of padding.
    """

    source: str
    columns: tuple[str, ...]
    tokenizer: Callable[..., Any] | None
    reference: str
    plain: bool
    target: str
    outputs: int
    pad: int
    remarks: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    stored: str = ""

    def batch(self, rows: Sequence[Row], targets: Targets | None) -> Batch:
        """Return ``{"input_ids", "attention_mask", ...}``, int64[b, length] each.

        Or one tensor: of a tokenizer that returns a tensor, and of ids of one length.
        """
        inputs = self._inputs(rows)
        if self.target:
            given = [_ids(row[self.target], self._what(self.target)) for row in rows]
            return Batch(inputs, _padded(given, IGNORED))
        if targets is None:
            return Batch(inputs, _following(inputs))
        return Batch(inputs, as_tensor(targets))

    def check(self, part: Part) -> tuple[str, ...]:
        """Refuse missing texts and ids."""
        for column in (*self.columns, *((self.target,) if self.target else ())):
            refuse_missing(self.source, part, column)
        return ()

    def _inputs(self, rows: Sequence[Row]) -> Tensor | dict[str, Tensor]:
        if self.tokenizer is not None:
            return self._tokenised(rows)
        found = {
            name: [_ids(row[name], self._what(name)) for row in rows]
            for name in self.columns
        }
        if self.plain:
            return torch.from_numpy(np.stack(found[self.columns[0]]))
        if len(self.columns) == 1:
            found = {IDS: found[self.columns[0]]}
        return self._together(found)

    def _tokenised(self, rows: Sequence[Row]) -> Tensor | dict[str, Tensor]:
        texts = [[str(row[name]) for row in rows] for name in self.columns]
        assert self.tokenizer is not None  # noqa: S101 - the caller's condition
        try:
            found = self.tokenizer(*texts)
        except (Exception, SystemExit) as error:
            msg = f"task.tokenizer = '{self.reference}' failed on {len(rows)} texts: "
            raise ConfigError(msg + first_line(error, kind=True)) from error
        what = f"task.tokenizer = '{self.reference}'"
        if isinstance(found, Tensor):
            return _as_matrix(found, what, len(rows))
        parts = dict(found) if isinstance(found, Mapping) else {IDS: found}
        if IDS not in parts:
            msg = f"{what} gives {', '.join(map(str, parts))}; want '{IDS}' among them"
            raise ConfigError(msg)
        each = {
            str(name): _lists(part, f"{what}: '{name}'", len(rows))
            for name, part in parts.items()
        }
        return self._together(each)

    def _together(self, found: dict[str, Ids]) -> dict[str, Tensor]:
        """Return tensors of one length, with a mask of the positions that count."""
        first = next(iter(found))
        lengths = [len(row) for row in found[first]]
        for name, rows in found.items():
            for number, row in enumerate(rows):
                if len(row) != lengths[number]:
                    what = self.reference or self.source
                    msg = f"'{what}': example {number} of a batch has {lengths[number]}"
                    msg += f" '{first}' and {len(row)} '{name}'; want as many of each"
                    raise DataError(msg)
        if MASK not in found:
            found = found | {MASK: [np.ones(n, dtype=np.int64) for n in lengths]}
        pads = {IDS: self.pad}
        return {name: _padded(rows, pads.get(name, 0)) for name, rows in found.items()}

    def _what(self, column: str) -> str:
        return f"'{self.source}', column '{column}'"


def _following(inputs: Tensor | dict[str, Tensor]) -> Tensor:
    """Return the token that follows each position; at the end there is none."""
    ids = inputs if isinstance(inputs, Tensor) else inputs[IDS]
    targets = torch.full_like(ids, IGNORED)
    targets[:, :-1] = ids[:, 1:]
    if not isinstance(inputs, Tensor):
        targets[:, :-1][inputs[MASK][:, 1:] == 0] = IGNORED
    return targets


def _padded(rows: Ids, value: int) -> Tensor:
    """Return rows as int64[b, length]: the longest, rounded up to a multiple of 8."""
    longest = max((len(row) for row in rows), default=0)
    length = max(-(-longest // MULTIPLE), 1) * MULTIPLE
    found = np.full((len(rows), length), value, dtype=np.int64)
    for row, ids in zip(found, rows, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(found)


def _lists(part: object, what: str, count: int) -> Ids:
    """Return what a tokenizer gave under one name as ids of each example."""
    if isinstance(part, Tensor):
        part = list(_as_matrix(part, what, count).numpy())
    if isinstance(part, np.ndarray):
        part = list(part)
    if not isinstance(part, list | tuple) or len(part) != count:
        size = f" of {len(part)}" if isinstance(part, list | tuple) else ""
        msg = f"{what} is a {type(part).__name__}{size} for {count} texts; want a list "
        msg += "of token ids for each text"
        raise ConfigError(msg)
    return [_ids(row, what, ConfigError) for row in part]


def _ids(
    row: object, what: str, kind: type[ConfigError | DataError] = DataError
) -> NDArray[np.int64]:
    """Return the ids of one example, int64[length]."""
    try:
        array = np.asarray(row)
    except ValueError:  # lists of different lengths inside
        array = np.zeros((0, 0))
    whole = array.dtype.kind in "bui" or array.size == 0
    if array.ndim != 1 or not whole:
        msg = f"{what} has {array.dtype}{list(array.shape)} for an example; want a list"
        msg += " of token ids: integers, one list for each text"
        raise kind(msg)
    return array.astype(np.int64)


def _as_matrix(found: Tensor, what: str, count: int) -> Tensor:
    """Return a tokenizer's tensor, int64[b, length]."""
    whole = not found.is_floating_point() and not found.is_complex()
    if found.dim() != _MATRIX or len(found) != count or not whole:
        kind = str(found.dtype).removeprefix("torch.")
        msg = f"{what} is {kind}{list(found.shape)} for {count} texts; want integers "
        msg += f"[{count}, length]"
        raise ConfigError(msg)
    return found.to(torch.int64)


def lengths_are_equal(lengths: Indices) -> bool:
    """Return whether all examples have one length, at least 1."""
    return bool(len(lengths)) and bool((lengths == max(lengths[0], 1)).all())
