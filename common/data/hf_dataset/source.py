"""A data set of the library ``datasets`` as the training and test part of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fedprune.common.config import Task as TaskKeys
from fedprune.common.data.arrays import PIXEL_OFFSET, PIXEL_SCALE
from fedprune.common.data.examples import Batch, Dataset, MappedExamples, Targets
from fedprune.common.data.hf_dataset.columns import (
    NEXT_TOKEN,
    Column,
    Columns,
    choose_columns,
)
from fedprune.common.data.hf_dataset.images import image_reader
from fedprune.common.data.hf_dataset.labels import chunks_of, lengths_of
from fedprune.common.data.hf_dataset.opening import PREFIX, open_splits
from fedprune.common.data.hf_dataset.reader import Part, Reader, Row, refuse_missing
from fedprune.common.data.hf_dataset.splits import (
    Labelled,
    Parts,
    read_parts,
    training_split,
)
from fedprune.common.data.hf_dataset.table import array_reader, numbers_reader
from fedprune.common.data.hf_dataset.tokens import TokenReader, lengths_are_equal
from fedprune.common.errors import ConfigError, DataError
from fedprune.common.user_code import load_function

_MOST_CLASSES = 1 << 16  # as for arrays: a quantity would make a huge network
_SINGLE = ("number", "class", "text")  # kinds with one value an example


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a split, read from its mapped files: (row, target) by index.

    Attributes:
        table: The split, of the library, with the columns that batches need.
        labels: Targets of all rows [m, ...], or None.
    """

    table: Any
    labels: Targets | None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Row, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Row, Any]]:
        rows = self.table[list(indices)].to_pylist()
        if self.labels is None:
            return [(row, None) for row in rows]
        return list(zip(rows, self.labels[list(indices)], strict=True))


def read_hf_dataset(reference: str, keys: TaskKeys, fold: int) -> Dataset:
    """Open a data set and read its targets; inputs are read by batches.

    Args:
        reference: ``NAME_OR_PATH`` or ``NAME_OR_PATH:SUBSET``.
        keys: The section ``task`` of the configuration.
        fold: Number of the fifth that is the test part of a single split.

    Raises:
        ConfigError: If there is no such data set, column or tokenizer, or it is not
            clear which columns are meant.
        DataError: If values are not usable; the message names their column.
    """
    source = f"{PREFIX}:{reference}"
    splits = open_splits(reference)
    first = splits[training_split(source, splits)]
    columns = choose_columns(source, first.features, keys)
    parts = read_parts(source, splits, columns, keys, fold)
    owners = _owners(source, columns.owner, parts.train.part)
    reader = _reader(source, columns, parts.train.part, keys)
    pixels = reader.stored == "uint8"
    return Dataset(
        train=_examples(parts.train, columns, reader),
        test=_examples(parts.test, columns, reader),
        num_outputs=_outputs(source, parts, keys, reader),
        input_shape=reader.shape,
        name=source,
        label_names=parts.names,
        owners=owners,
        remarks=(*columns.remarks, *parts.remarks, *reader.remarks),
        offset=PIXEL_OFFSET if pixels else 0.0,
        scale=PIXEL_SCALE if pixels else 1.0,
        stored=reader.stored,
        check=partial(_checked, reader, parts),
    )


def _examples(found: Labelled, columns: Columns, reader: Reader) -> MappedExamples:
    names = [column.name for column in columns.inputs]
    if found.labels.values is None and columns.target is not None:
        names.append(columns.target.name)
    table = found.part.table.select_columns(names).with_format("arrow")
    return MappedExamples(
        data=Rows(table, found.labels.values),
        rows=found.part.rows,
        collate=partial(_collated, reader),
        labels=found.labels.values,
    )


def _collated(reader: Reader, items: Sequence[tuple[Row, Any]]) -> Batch:
    rows = [row for row, _ in items]
    targets = [target for _, target in items]
    known = bool(targets) and targets[0] is not None
    return reader.batch(rows, np.stack(targets) if known else None)


def _checked(reader: Reader, parts: Parts) -> tuple[str, ...]:
    return (*reader.check(parts.train.part), *reader.check(parts.test.part))


def _reader(source: str, columns: Columns, part: Part, keys: TaskKeys) -> Reader:
    """Return the reader of the kind of the inputs."""
    inputs = columns.inputs
    kinds = {column.kind for column in inputs}
    if keys.tokenizer and kinds != {"text"}:
        raise ConfigError(_no_texts(source, inputs))
    if keys.loss == NEXT_TOKEN and not keys.tokenizer and not _are_tokens(inputs):
        msg = f"'{source}': task.loss = '{NEXT_TOKEN}' wants task.tokenizer for a "
        msg += "column of texts, or columns of token ids"
        raise ConfigError(msg)
    if keys.tokenizer or _are_tokens(inputs):
        return _token_reader(source, columns, part, keys)
    if kinds == {"image"} and len(inputs) == 1:
        return image_reader(source, inputs[0].name, part, keys)
    if kinds <= {"list", "array"} and len(inputs) == 1 and inputs[0].dtype:
        return array_reader(source, inputs[0], part)
    if kinds <= {*_SINGLE}:
        return numbers_reader(source, inputs, part)
    found = ", ".join(f"'{x.name}' ({x.kind})" for x in inputs)
    msg = f"'{source}': the inputs {found} do not make one input; want one image, one "
    msg += "list or array, texts with task.tokenizer, or numbers and categories; else "
    msg += "a task of your own (task.use)"
    raise ConfigError(msg)


def _are_tokens(inputs: Sequence[Column]) -> bool:
    """Return whether all columns are lists of ids; lists of uint8 are pixels."""
    return all(x.kind == "list" and x.integers and x.dtype != "uint8" for x in inputs)


def _token_reader(
    source: str, columns: Columns, part: Part, keys: TaskKeys
) -> TokenReader:
    inputs = columns.inputs
    tokenizer = load_function(keys.tokenizer) if keys.tokenizer else None
    plain = False
    if tokenizer is None and len(inputs) == 1:
        lengths = lengths_of(chunks_of(part.table, inputs[0].name))
        plain = lengths_are_equal(lengths[part.rows])
    own = columns.target if keys.loss == NEXT_TOKEN else None
    pad = getattr(tokenizer, "pad_token_id", None)
    return TokenReader(
        source=source,
        columns=tuple(column.name for column in inputs),
        tokenizer=tokenizer,
        reference=keys.tokenizer,
        plain=plain,
        target="" if own is None else own.name,
        outputs=_size_of(tokenizer) if keys.loss == NEXT_TOKEN else 0,
        pad=pad if isinstance(pad, int) else 0,
    )


def _size_of(tokenizer: object) -> int:
    """Return the number of tokens of a tokenizer; 0 = it does not say."""
    try:
        return len(tokenizer)  # type: ignore[arg-type]
    except TypeError:
        return 0


def _no_texts(source: str, inputs: Sequence[Column]) -> str:
    found = ", ".join(f"'{x.name}' ({x.kind})" for x in inputs)
    return f"'{source}': task.tokenizer takes texts, and the inputs are {found}"


def _outputs(source: str, parts: Parts, keys: TaskKeys, reader: Reader) -> int:
    """Return the entries of the network's output."""
    found = [part.labels.values for part in (parts.train, parts.test)]
    values = [x for x in found if x is not None]
    if not values:
        count = keys.outputs or reader.outputs
        if not count:
            msg = f"'{source}': want task.outputs, the number of tokens of which the "
            msg += "network predicts the next"
            raise ConfigError(msg)
        return count
    if values[0].dtype.kind == "f":
        return int(values[0].shape[1])
    highest = max(int(x.max(initial=0)) for x in values)
    if highest >= _MOST_CLASSES:
        msg = (
            f"'{source}': the classes run to {highest}; want less than {_MOST_CLASSES}"
        )
        msg += ", or task.loss = 'mse' for a quantity"
        raise DataError(msg)
    return len(parts.names) or highest + 1


def _owners(source: str, column: Column | None, part: Part) -> tuple[str, ...]:
    """Return the client of each training example; one column is read.

    Raises:
        ConfigError: If the column holds neither strings nor integers.
        DataError: If an example has no client.
    """
    if column is None:
        return ()
    if column.kind not in _SINGLE or not (column.kind == "text" or column.integers):
        msg = f"task.partition.column is '{column.name}', and it holds no names; want "
        msg += "a column of strings or integers"
        raise ConfigError(msg)
    refuse_missing(source, part, column.name)
    encoded = chunks_of(part.table, column.name).combine_chunks().dictionary_encode()
    found: Mapping[int, Any] = dict(enumerate(encoded.dictionary.to_pylist()))
    named = column.names
    texts = [str(named[x] if named else x) for x in found.values()]
    places = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)[part.rows]
    return tuple(texts[place] for place in places.tolist())
