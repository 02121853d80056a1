"""52 bad answers, as the first and as the last of a cohort, under every rule."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from helpers.tiny_federation import (
    answer_to,
    make_setting,
    make_task,
    plan_for,
    start,
)

from fedprune.client.rounds.model_cache import ModelCache
from fedprune.client.rounds.store import ClientStore
from fedprune.common import codec
from fedprune.common.aggregate import Accumulator
from fedprune.common.codec import Kind, seal, unseal
from fedprune.common.messages import Phase
from fedprune.common.methods.kinds import AGGREGATION
from fedprune.common.methods.registry import methods
from fedprune.server.rounds.answers import Answers, accept_answer, aggregate
from fedprune.server.rounds.cycle import Cursor
from fedprune.server.rounds.engine import decoded_update
from fedprune.server.rounds.plan import plan_round
from fedprune.server.rounds.records import Status

CUTTING = Cursor(phase=Phase.SPARSIFY, index=1, step=0.5)
NAN, INF = float("nan"), float("inf")
RUN, ROUND, CLIENT, PLAN, BASE = range(5)
EXAMPLES, LOSS, DELTA, IMPORTANCE, STATISTICS, VALIDATION = range(5, 11)
BLOB = np.random.default_rng(0).bytes(500)


def resealed(edit):
    """Return a change of the fields under a right digest."""

    def change(_cohort, data):
        return seal(Kind.UPDATE, edit(list(unseal(data, Kind.UPDATE, len(data)))))

    return change


def of(position, edit):
    """Return a change of one field by what it is."""
    after = position + 1
    return resealed(lambda f: [*f[:position], edit(f[position]), *f[after:]])


def put(position, value):
    """Return a change of one field to a value."""
    return of(position, lambda _: value)


def raw(edit):
    return lambda _cohort, data: edit(data)


def flipped(place):
    def edit(data):
        at = int(place * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

    return raw(edit)


def written(**edits):
    """Return an answer that our own encoder writes, with other values."""

    def change(cohort, data):
        update = cohort.update(data)
        changed = {name: edit(getattr(update, name)) for name, edit in edits.items()}
        return codec.encode_update(replace(update, **changed), cohort.work.side_info)

    return change


def with_one(value):
    def edit(vector):
        other = vector.copy()
        other[0] = value
        return other

    return edit


def half(value):
    return np.array([value], dtype="<f2").tobytes()


BAD = {
    # Bytes: rows 7, 8, 12, 13 and 18 to 21 of docs/trust.md
    "nothing": raw(lambda _: b""),
    "one byte": raw(lambda _: b"\x00"),
    "500 random bytes": raw(lambda _: BLOB),
    "text": raw(lambda _: b"hello"),
    "half of it": raw(lambda data: data[: len(data) // 2]),
    "all but a byte": raw(lambda data: data[:-1]),
    "a byte more": raw(lambda data: data + b"\x00"),
    "it twice": raw(lambda data: data + data),
    "a flipped bit at the start": flipped(0.0),
    "a flipped bit in the middle": flipped(0.5),
    "a flipped bit at the end": flipped(1.0),
    "more than the cap": raw(lambda data: data + bytes(1 << 26)),
    "4e9 items in 5 bytes": raw(lambda _: b"\xdd\xff\xff\xff\xff"),
    "10 000 arrays": raw(lambda _: b"\x91" * 10_000 + b"\x90"),
    "a map": raw(lambda _: msgpack.packb({"a": 1})),
    "an extension": put(LOSS, msgpack.ExtType(5, b"x")),
    "another kind of message": raw(lambda data: seal(Kind.PLAN, [data])),
    # The fields: rows 9 to 11, 14 to 17 and 24
    "a field less": raw(
        lambda d: seal(Kind.UPDATE, unseal(d, Kind.UPDATE, 1 << 20)[1:])
    ),
    "a field more": raw(
        lambda d: seal(Kind.UPDATE, [*unseal(d, Kind.UPDATE, 1 << 20), 1])
    ),
    "another run": put(RUN, "run-2"),
    "a run of bytes": put(RUN, b"run-1"),
    "an old round": of(ROUND, lambda n: n - 1),
    "a future round": of(ROUND, lambda n: n + 1),
    "a round of true": put(ROUND, True),  # noqa: FBT003
    "a round of 1.0": put(ROUND, 1.0),
    "another client": put(CLIENT, "client-009"),
    "a client that is a path": put(CLIENT, "../x"),
    "another plan": put(PLAN, bytes(16)),
    "another broadcast": put(BASE, bytes(16)),
    "no examples": put(EXAMPLES, 0),
    "-5 examples": put(EXAMPLES, -5),
    "1e30 examples": put(EXAMPLES, 1e30),
    "2^60 examples": put(EXAMPLES, 2**60),
    "examples of NaN": put(EXAMPLES, NAN),
    "examples of text": put(EXAMPLES, "3"),
    "a loss of NaN": put(LOSS, NAN),
    "a loss of infinity": put(LOSS, INF),
    # The delta: rows 1 to 6 and 22
    "an empty delta": put(DELTA, b""),
    "a delta of random bytes": put(DELTA, BLOB),
    "a delta of text": put(DELTA, "x" * 100),
    "half a delta": of(DELTA, lambda d: d[: len(d) // 2]),
    "a delta and a byte": of(DELTA, lambda d: d + b"\x00"),
    "a delta that is an array": put(DELTA, [1]),
    # Importance, moments and validation: row 23
    "an importance of NaN": written(importance=with_one(NAN)),
    "an importance of infinity": written(importance=with_one(INF)),
    "a negative importance": written(importance=with_one(-1.0)),
    "an importance of other units": written(importance=lambda v: v[:-1]),
    "no moments": put(STATISTICS, None),
    "a mean of NaN": of(STATISTICS, lambda s: [s[0], half(NAN) + s[1][2:], *s[2:]]),
    "a negative variance": of(
        STATISTICS, lambda s: [*s[:2], half(-1.0) + s[2][2:], *s[3:]]
    ),
    "no validation": put(VALIDATION, None),
    "a validation of NaN": of(VALIDATION, lambda v: [NAN, *v[1:]]),
}


class Cohort:
    """The honest answers of a round, in the order of the clients."""

    def __init__(self, root, rule):
        task = make_task(robust__aggregate=rule)
        run_spec = make_setting(task)
        state = replace(start(task, run_spec), cursor=CUTTING)
        self.work = plan_round(state, run_spec)
        cache = ModelCache(task)
        self.expected, self.answers = [], []
        for number, assignment in enumerate(self.work.request.assignments):
            plan = plan_for(self.work, number)
            store = ClientStore(root, plan.client_id)
            self.answers.append(answer_to(plan, cache, store))
            self.expected.append(self.work.expected(assignment))

    def update(self, data):
        pairs = zip(self.expected, self.answers, strict=True)
        expected = next(one for one, answer in pairs if answer == data)
        return codec.decode_update(data, expected)

    def empty(self):
        return Accumulator(self.work.spec.size, self.work.request.limits)

    def accept(self, number, total, data=None):
        """Return the record and the update of an answer: its own, or a bad one."""
        data = self.answers[number] if data is None else data
        expected = self.expected[number]
        return accept_answer(data, expected, total, bytes_down=1, seconds=0.1)

    def without(self, number):
        """Return the sum of the other clients' answers, and what they were."""
        total = self.empty()
        numbers = [n for n in range(len(self.answers)) if n != number]
        return total, [self.accept(n, total) for n in numbers]

    def bits(self, total, found):
        """Return the bits that a rule makes of a sum and of records with updates."""
        singles = self.work.request.individual_updates
        answers = Answers(
            records=tuple(record for record, _ in found),
            total=total,
            individual_updates=tuple(
                decoded_update(record.client_id, delta)
                for record, delta in found
                if singles and delta is not None
            ),
        )
        return aggregate(answers, self.work).tobytes()


@pytest.fixture(scope="module", params=methods(AGGREGATION))
def cohort(request, tmp_path_factory):
    return Cohort(tmp_path_factory.mktemp("clients"), request.param)


def test_there_are_as_many_as_were_tried_at_first():
    assert len(BAD) == 52


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_bad_answer_is_refused_by_name_and_the_others_give_the_same_bits(
    cohort, place
):
    number = 0 if place == "first" else len(cohort.answers) - 1
    others, found = cohort.without(number)
    wanted = cohort.bits(others, found)
    for name, change in BAD.items():
        total = cohort.empty()
        if place == "last":
            total.merge(others)
        data = change(cohort, cohort.answers[number])
        record, one = cohort.accept(number, total, data)
        if place == "first":
            total.merge(others)
        client = cohort.expected[number].client_id
        assert (record.status, one) == (Status.REFUSED, None), name
        assert f"client {client}: field '" in record.reason, name
        assert record.reason.isprintable(), name
        assert cohort.bits(total, [*found, (record, one)]) == wanted, name
    honest = cohort.accept(number, others)
    assert cohort.bits(others, [*found, honest]) != wanted  # it would have counted
