"""The ledger: the server's record of what each client has stored, as arrays.

Column ``i`` belongs to client ``i``, so a round costs one copy of the columns and one
write for each answer, whatever the number of clients.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from fedprune.common.spec import Indices

_STRUCTURE, _MASK = 1, 2  # bits of a client's flags


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLedger:
    """The server's record of what one client has stored.

    Attributes:
        acknowledged: Last round whose answer was accepted, 0 for none.
        structure: Whether it has stored the structure.
        teacher: Digest of the broadcast that it has stored as a teacher, or b"".
        held: Round of the last broadcast that it has certainly stored, 0 for none.
        mask: Whether it has stored the weight mask.
    """

    acknowledged: int = 0
    structure: bool = False
    teacher: bytes = b""
    held: int = 0
    mask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The figures of all clients; entry ``i`` is that of client ``i``.

    Attributes:
        acknowledged: As in ``ClientLedger``, uint32[clients].
        held: As in ``ClientLedger``, uint32[clients].
        flags: Bit 0 = has the structure, bit 1 = has the mask, uint8[clients].
        teacher: 0 = no teacher, else 1 + its place in ``teachers``, uint16[clients].
        teachers: Digests of the teachers, each once.
    """

    acknowledged: NDArray[np.uint32]
    held: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    teacher: NDArray[np.uint16]
    teachers: tuple[bytes, ...] = ()

    @classmethod
    def empty(cls, count: int) -> Self:
        """Return the columns of ``count`` clients of which nothing is known."""
        return cls(
            acknowledged=np.zeros(count, dtype=np.uint32),
            held=np.zeros(count, dtype=np.uint32),
            flags=np.zeros(count, dtype=np.uint8),
            teacher=np.zeros(count, dtype=np.uint16),
        )

    def copy(self) -> Self:
        """Return the same figures in arrays of their own."""
        return replace(
            self,
            acknowledged=self.acknowledged.copy(),
            held=self.held.copy(),
            flags=self.flags.copy(),
            teacher=self.teacher.copy(),
        )


class Ledgers(Mapping[str, ClientLedger]):
    """The record of what all clients have stored; every change returns another one.

    Args:
        clients: Their ids, each once.
        columns: Their figures.
        places: Client id -> its place in the columns, where it is known already.

    Raises:
        ValueError: If an id comes twice, the columns have another length than the
            clients, or a teacher is none of ``columns.teachers``.
    """

    __slots__ = ("clients", "columns", "places")

    def __init__(
        self,
        clients: tuple[str, ...],
        columns: Columns,
        places: Mapping[str, int] | None = None,
    ) -> None:
        _check(clients, columns)
        if places is None:
            places = {client: place for place, client in enumerate(clients)}
        if len(places) < len(clients):
            msg = "a client comes twice in the ledger"
            raise ValueError(msg)
        self.clients = clients
        self.columns = columns
        self.places = places

    @classmethod
    def of(cls, lines: Mapping[str, ClientLedger]) -> Self:
        """Return the ledger with these lines."""
        found = cls((), Columns.empty(0)).covering(lines)
        columns = found.columns
        for client, line in lines.items():
            place = found.places[client]
            columns.acknowledged[place] = line.acknowledged
            columns.held[place] = line.held
            columns.flags[place] = _STRUCTURE * line.structure | _MASK * line.mask
            columns = _with_teacher(columns, np.array([place]), line.teacher)
        return cls(found.clients, columns, found.places)

    def covering(self, clients: Iterable[str]) -> Self:
        """Return the ledger with an empty line for each client that had none."""
        new = tuple(c for c in dict.fromkeys(clients) if c not in self.places)
        if not new:
            return self
        added, old = Columns.empty(len(new)), self.columns
        columns = Columns(
            acknowledged=np.concatenate((old.acknowledged, added.acknowledged)),
            held=np.concatenate((old.held, added.held)),
            flags=np.concatenate((old.flags, added.flags)),
            teacher=np.concatenate((old.teacher, added.teacher)),
            teachers=old.teachers,
        )
        return type(self)((*self.clients, *new), columns)

    def after(
        self,
        round_: int,
        *,
        accepted: Iterable[str],
        lost: Iterable[str],
        teacher: bytes = b"",
        mask: bool = False,
    ) -> Self:
        """Return the ledger after a round.

        Args:
            round_: The round, >= 1.
            accepted: Clients whose answers were accepted: they have stored all that
                the round sent.
            lost: Clients without an accepted answer: nothing is assumed of them.
            teacher: Digest of the teacher that the round's clients have, or b"".
            mask: Whether the round had a weight mask.
        """
        took, failed = tuple(accepted), tuple(lost)
        found = self.covering((*took, *failed))
        places, gone = _places_of(found, took), _places_of(found, failed)
        columns = found.columns.copy()
        columns.acknowledged[places] = round_
        columns.held[places] = round_
        columns.flags[places] |= _STRUCTURE | _MASK * mask
        columns.held[gone] = 0
        columns.flags[gone] = 0
        columns.teacher[gone] = 0
        if teacher:
            columns = _with_teacher(columns, places, teacher)
        return type(self)(found.clients, columns, found.places)

    def forgetting(self, lost: Iterable[str]) -> Self:
        """Return the ledger without what these clients may have lost."""
        known = [client for client in lost if client in self.places]
        return self.after(0, accepted=(), lost=known)

    def without_mask(self) -> Self:
        """Return the ledger for another mask, which no client has stored yet."""
        flags = self.columns.flags & np.uint8(0xFF ^ _MASK)
        columns = replace(self.columns, flags=flags)
        return type(self)(self.clients, columns, self.places)

    @override
    def __getitem__(self, client: str) -> ClientLedger:
        place, columns = self.places[client], self.columns
        teacher, flags = int(columns.teacher[place]), int(columns.flags[place])
        return ClientLedger(
            acknowledged=int(columns.acknowledged[place]),
            structure=bool(flags & _STRUCTURE),
            teacher=columns.teachers[teacher - 1] if teacher else b"",
            held=int(columns.held[place]),
            mask=bool(flags & _MASK),
        )

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self.clients)

    @override
    def __len__(self) -> int:
        return len(self.clients)


def _places_of(ledgers: Ledgers, clients: tuple[str, ...]) -> Indices:
    found = (ledgers.places[client] for client in clients)
    return np.fromiter(found, dtype=np.int64, count=len(clients))


def _with_teacher(columns: Columns, places: Indices, teacher: bytes) -> Columns:
    """Return the columns in which some clients have stored a teacher."""
    if not teacher:
        columns.teacher[places] = 0
        return columns
    if teacher not in columns.teachers:
        columns = _without_unused(columns)
        columns = replace(columns, teachers=(*columns.teachers, teacher))
    columns.teacher[places] = 1 + columns.teachers.index(teacher)
    return columns


def _without_unused(columns: Columns) -> Columns:
    """Return the columns without the teachers that no client has stored any more."""
    used, codes = np.unique(columns.teacher, return_inverse=True)
    kept = tuple(columns.teachers[number - 1] for number in used if number)
    shift = 0 if len(used) and used[0] == 0 else 1
    return replace(columns, teacher=(codes + shift).astype(np.uint16), teachers=kept)


def _check(clients: tuple[str, ...], columns: Columns) -> None:
    for name in ("acknowledged", "held", "flags", "teacher"):
        shape = getattr(columns, name).shape
        if shape != (len(clients),):
            msg = f"'{name}' of the ledger is of {list(shape)} clients; want "
            msg += f"[{len(clients)}]"
            raise ValueError(msg)
    if len(clients) and int(columns.teacher.max()) > len(columns.teachers):
        msg = f"the ledger names teacher {int(columns.teacher.max())} of "
        msg += f"{len(columns.teachers)}"
        raise ValueError(msg)
