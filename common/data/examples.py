"""Examples and batches: arrays or map-style data, read one batch at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from fedprune.common.data.pages import blocks, forget_pages
from fedprune.common.description import Numbers, by_channel
from fedprune.common.errors import DataError, FedPruneError
from fedprune.common.spec import DIGEST_SIZE, Indices
from fedprune.common.text import first_line

Inputs = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.int64]
Targets = NDArray[np.int64] | NDArray[np.float32]

IGNORED = -100  # target of a position that does not count, as in torch
_LOOKED_AT = 64  # examples of map-style data that its fingerprint reads


class Hash(Protocol):
    """A hash that takes bytes piece by piece, of ``hashlib``."""

    def update(self, data: Any, /) -> None:  # noqa: ANN401 - anything of bytes
        """Hash more bytes."""


class Batch(NamedTuple):
    """Some examples as tensors: what a network and a loss are given.

    Attributes:
        inputs: A tensor [b, ...], or a tuple or dict of such tensors, of any type.
        targets: The same for the targets; for a built-in loss one tensor.
    """

    inputs: Any
    targets: Any

    @property
    def size(self) -> int:
        """Number of examples: the first length of the first tensor of the inputs."""
        first = next(
            (x for x in pytree.tree_leaves(self.inputs) if isinstance(x, Tensor)), None
        )
        return 0 if first is None or first.dim() == 0 else len(first)

    def rows(self, index: slice) -> "Batch":
        """Return some of the examples; tensors of another length stay whole."""
        size = self.size

        def chosen(leaf: object) -> object:
            batched = isinstance(leaf, Tensor) and leaf.dim() and len(leaf) == size
            return leaf[index] if batched else leaf  # type: ignore[index]

        return Batch(*pytree.tree_map(chosen, tuple(self)))

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with every tensor on a device."""
        if device.type == "cpu":
            return self
        moved = pytree.tree_map_only(Tensor, lambda x: x.to(device), tuple(self))
        return Batch(*moved)


class Examples(Protocol):
    """Some examples of one client or of a split."""

    @property
    def targets(self) -> Targets | None:
        """Classes int64[n, ...] or values float32[n, ...]; None = not known."""

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> Self:
        """Return the examples at ``indices`` int64[k], in this order."""

    def batch(self, indices: Indices) -> Batch:
        """Return the examples at ``indices`` int64[k] as tensors on the CPU."""

    def hash_into(self, state: Hash) -> None:
        """Hash what identifies the examples."""


class ArrayExamples:
    """Examples in arrays, which may be files mapped into memory.

    Inputs keep their stored type (uint8 for images); a batch of uint8 or floats is
    converted when it is used: ``float = (input - offset) * scale``.  Integers stay
    integers: they are the ids of tokens or categories.

    Args:
        inputs: uint8, float32 or int64 [m, ...], C order, as stored.
        targets: Classes int64[m, ...], >= 0, or values float32[m, ...].
        offset: Subtracted from every input that is no integer; one number, or one for
            each channel, the first dimension of an input.
        scale: Multiplied with it after that; likewise.
        rows: Positions of the examples in both arrays, int64[n]; None = all.

    Raises:
        DataError: If the arrays differ in length.
    """

    __slots__ = ("_inputs", "_targets", "offset", "rows", "scale")

    def __init__(
        self,
        *,
        inputs: Inputs,
        targets: Targets,
        offset: Numbers = 0.0,
        scale: Numbers = 1.0,
        rows: Indices | None = None,
    ) -> None:
        if len(inputs) != len(targets):
            msg = f"{len(inputs)} inputs but {len(targets)} targets; want as many"
            raise DataError(msg)
        self._inputs, self._targets = inputs, targets
        self.offset, self.scale, self.rows = offset, scale, rows

    def __len__(self) -> int:
        return len(self._targets) if self.rows is None else len(self.rows)

    @property
    def inputs(self) -> Inputs:
        """Inputs of the examples as stored, [n, ...]; a copy of a part."""
        return self._inputs if self.rows is None else self._inputs[self.rows]

    @property
    def targets(self) -> Targets:
        """Targets of the examples, [n, ...]; a copy of a part."""
        return self._targets if self.rows is None else self._targets[self.rows]

    def take(self, indices: Indices) -> "ArrayExamples":
        """Return the examples at ``indices``; the arrays are shared, not copied."""
        return ArrayExamples(
            inputs=self._inputs,
            targets=self._targets,
            offset=self.offset,
            scale=self.scale,
            rows=self._at(indices),
        )

    def batch(self, indices: Indices) -> Batch:
        """Return inputs and targets at ``indices`` as tensors on the CPU; copies.

        Pages of a large mapped file are given back.

        Returns:
            Inputs float32[k, ...], or int64[k, ...] as stored; and targets.
        """
        rows = self._at(indices)
        stored, targets = self._inputs[rows], torch.from_numpy(self._targets[rows])
        forget_pages(self._inputs)
        if stored.dtype == np.int64:
            return Batch(torch.from_numpy(stored), targets)
        inputs = stored.astype(np.float32)
        inputs -= by_channel(self.offset, inputs.shape).astype(np.float32)
        inputs *= by_channel(self.scale, inputs.shape).astype(np.float32)
        return Batch(inputs=torch.from_numpy(inputs), targets=targets)

    def hash_into(self, state: Hash) -> None:
        """Hash types, shapes, bytes and scaling."""
        state.update(f"{self.offset!r} {self.scale!r}\n".encode())
        for array in (self._inputs, self._targets):
            shape = (len(self), *array.shape[1:])
            state.update(f"{array.dtype.str} {shape}\n".encode())
            for block in blocks(array, self.rows):
                state.update(np.ascontiguousarray(block).data.cast("B"))

    def _at(self, indices: Indices) -> Indices:
        return indices if self.rows is None else self.rows[indices]


class MapStyle(Protocol):
    """Map-style data: ``torch.utils.data.Dataset``, ``datasets.Dataset``, a list."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...  # noqa: ANN401 - of the user


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedExamples:
    """Examples of map-style data, read and collated one batch at a time.

    Attributes:
        data: The data.
        rows: Positions of the examples in it, int64[n].
        collate: Makes a batch of a list of items of ``data``.
        labels: Classes or values of all of ``data`` [m, ...], or None.
    """

    data: MapStyle
    rows: Indices
    collate: Callable[[Sequence[Any]], Batch]
    labels: Targets | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def targets(self) -> Targets | None:
        """Targets of the examples, where the data name them."""
        return None if self.labels is None else self.labels[self.rows]

    def take(self, indices: Indices) -> Self:
        """Return the examples at ``indices``."""
        return replace(self, rows=self.rows[indices])

    def batch(self, indices: Indices) -> Batch:
        """Return the examples at ``indices``, collated.

        Read together where the data can do that (``__getitems__``, as torch names it).
        """
        rows = self.rows[indices].tolist()
        together = getattr(self.data, "__getitems__", None)
        if together is None:
            return self.collate([self._item(row) for row in rows])
        return self.collate(_read(lambda: together(rows), f"{len(rows)} examples"))

    def _item(self, row: int) -> Any:  # noqa: ANN401 - of the user
        return _read(lambda: self.data[row], f"example {row}")

    def hash_into(self, state: Hash) -> None:
        """Hash length, labels and a few examples, evenly spread.

        All examples may be more than can be read before a run.
        """
        state.update(f"{len(self)}\n".encode())
        if self.labels is not None:
            state.update(np.ascontiguousarray(self.targets).tobytes())
        count = min(len(self), _LOOKED_AT)
        places = np.linspace(0, max(len(self) - 1, 0), count).astype(np.int64)
        for leaf in pytree.tree_leaves(tuple(self.batch(places)) if count else ()):
            state.update(f"{getattr(leaf, 'dtype', '')} {type(leaf)}\n".encode())
            tensor = isinstance(leaf, Tensor)
            state.update(leaf.numpy().tobytes() if tensor else repr(leaf).encode())


def _read(item: Callable[[], Any], what: str) -> Any:  # noqa: ANN401 - of the user
    """Return what map-style data give; their code may raise anything."""
    try:
        return item()
    except FedPruneError:
        raise
    except (Exception, SystemExit) as error:
        msg = f"{what} of the data cannot be read: {first_line(error, kind=True)}"
        raise DataError(msg) from error


def nothing_to_check() -> tuple[str, ...]:
    """Return no remark: the check of data that were checked when they were loaded."""
    return ()


def fingerprint_of(parts: Iterable[Examples]) -> str:
    """Return the digest of several parts, 32 hex digits."""
    state = blake2b(digest_size=DIGEST_SIZE)
    for part in parts:
        part.hash_into(state)
    return state.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The training and test examples of a run.

    Attributes:
        train: Examples that are partitioned among the clients.
        test: Examples for the final figures only; no decision of a run uses them.
        num_outputs: Entries of the network's output: classes, or target values.
        input_shape: Shape of one input, without the batch.
        name: Source of the examples.
        label_names: Names of the classes, in order; () = they have numbers only.
        owners: Name of the natural client of each training example; () = none.
        remarks: One line for each thing that was changed, left out or guessed.
        offset: Subtracted from every stored input, where the examples are no arrays.
        scale: Multiplied with it after that.
        stored: Type of stored inputs of examples that are no arrays, such as "uint8";
            "" = as the network takes them.
        check: Reads what loading has not read, once before a run: returns remarks,
            raises DataError.
    """

    train: ArrayExamples | MappedExamples
    test: ArrayExamples | MappedExamples
    num_outputs: int
    input_shape: tuple[int, ...]
    name: str
    label_names: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    offset: float = 0.0
    scale: float = 1.0
    stored: str = ""
    check: Callable[[], tuple[str, ...]] = nothing_to_check

    def fingerprint(self) -> str:
        """Return the digest of both parts, 32 hex digits."""
        return fingerprint_of((self.train, self.test))

    @property
    def regression(self) -> bool:
        """True if targets are values rather than classes."""
        targets = self.train.targets
        return targets is not None and targets.dtype.kind == "f"
