"""Events on disk: what is written is read back, and what is not right is refused."""

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from helpers.some_events import (
    CLIENT,
    CUT,
    DELIVERED,
    FINISHED,
    ONE_OF_EACH,
    ROUND,
    STARTED,
)
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.config import ControlName
from fedprune.common.errors import IntegrityError
from fedprune.server.runs.events.base import Usual, Within
from fedprune.server.runs.events.codec import (
    VERSION,
    Place,
    check_header,
    decode_event,
    encode_event,
    encode_header,
    parse_line,
)
from fedprune.server.runs.events.fields import read_fields
from fedprune.server.runs.events.kinds import KINDS, NAMES

PLACE = Place(Path("runs/x/events.jsonl"), 7)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-9, 9) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
BY_TYPE = {
    str: TEXT,
    int: st.integers(-(2**200), 2**200),
    float: st.floats(allow_nan=False, allow_infinity=False),
    object: JSON,
    NoneType: st.none(),
}


def values(hint, within=None):
    """Return a strategy for the values that an annotation allows."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is not None:
        return composed(origin, inner)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if within is None:
        return BY_TYPE[hint]
    number = st.integers if hint is int else st.floats
    return number(within.least, within.most or 2**100)


def composed(origin, inner):
    """Return a strategy for the values of a type that is made of others."""
    if origin is Annotated:
        notes = {type(note): note for note in inner[1:]}
        found = values(inner[0], notes.get(Within))
        usual = notes.get(Usual)
        return found if usual is None else found | st.just(usual.value)
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        return st.lists(values(inner[0]), max_size=3).map(tuple)
    if NoneType in inner:
        return st.one_of(*map(values, inner))
    return st.dictionaries(TEXT, values(inner[1]), max_size=3)


@st.composite
def some_event(draw):
    kind = draw(st.sampled_from(list(KINDS.values())))
    hints = get_type_hints(kind, include_extras=True)
    return kind(**{f.name: draw(values(hints[f.name])) for f in fields(kind)})


def usual_values(kind):
    """Return the fields of a kind that may be left out, and what they are then."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: note.value
        for name, hint in hints.items()
        for note in getattr(hint, "__metadata__", ())
        if isinstance(note, Usual)
    }


def decoded(record):
    return decode_event(record, PLACE)


def record_of(event):
    return json.loads(encode_event(event)[0])


@given(some_event())
def test_any_event_of_any_kind_is_read_back_as_it_was(event):
    line, heard = encode_event(event)
    assert line.count(b"\n") == 1
    assert decoded(parse_line(line)) == heard == event


def test_every_kind_has_a_name_of_its_own_and_an_example():
    assert {type(event) for event in ONE_OF_EACH} == set(NAMES)
    assert {NAMES[kind]: kind for kind in NAMES} == KINDS


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda e: type(e).__name__)
def test_each_field_must_be_there_and_no_other(event):
    whole = record_of(event)
    assert decoded(whole) == event
    for name in whole.keys() - {"time", "event"} - usual_values(type(event)).keys():
        rest = {key: value for key, value in whole.items() if key != name}
        with pytest.raises(
            IntegrityError, match=f"field '{name}': found nothing; want"
        ):
            decoded(rest)
    with pytest.raises(
        IntegrityError, match="field 'more': found 1; want no such fiel"
    ):
        decoded(whole | {"more": 1})


REFUSED = {
    "a text for a number": (ROUND, "loss", "0.5", "a finite number"),
    "a truth for a number": (ROUND, "loss", True, "a finite number"),
    "a number without end": (ROUND, "loss", float("inf"), "a finite number"),
    "no number": (CUT, "density", None, "a finite number"),
    "a share above 1": (ROUND, "density", 1.5, "0..1"),
    "a fraction for a count": (ROUND, "bytes_up", 1.5, "a whole number"),
    "a truth for a count": (ROUND, "round", True, "a whole number"),
    "a count below 0": (ROUND, "round", -1, "at least 0"),
    "a time below 0": (CLIENT, "seconds", -0.5, "at least 0"),
    "a number for a text": (CLIENT, "client", 7, "a text"),
    "a status of none": (
        *(CLIENT, "status", "lost"),
        "one of 'accepted', 'refused', 'failed', 'late'",
    ),
    "a phase of lists": (
        *(ROUND, "phase", ["warmup"]),
        "one of 'warmup', 'sparsify', 'finetune'",
    ),
    "a run of none": (
        *(ROUND, "run", "other"),
        "one of " + ", ".join(map(repr, ("main", *get_args(ControlName)))),
    ),
    "an object for a list": (CUT, "consensus", {"a": 1}, "a list"),
    "a list for an object": (CUT, "widths", [4], "an object"),
    "a number that is no JSON": (FINISHED, "summary", 7, "an object"),
}
INSIDE = {
    "a width of text": ({"widths": {"conv": "4"}}, "widths.conv", "'4'"),
    "a vote of text": ({"votes": {"a": [0.5, "x"]}}, "votes.a[]", "'x'"),
    "a channel that is half kept": ({"kept": [1, 2]}, "kept[]", "2"),
    "a block without a name": ({"blocks": [None]}, "blocks[]", "None"),
}


@pytest.mark.parametrize(
    ("event", "field", "found", "want"), REFUSED.values(), ids=REFUSED
)
def test_a_field_that_is_not_what_it_should_be_is_refused(event, field, found, want):
    with pytest.raises(IntegrityError) as error:
        decoded(record_of(event) | {field: found})
    assert str(error.value) == (
        f"runs/x/events.jsonl:7: '{NAMES[type(event)]}' event, field '{field}': found "
        f"{found!r}; want {want}"
    )


@pytest.mark.parametrize(("change", "place", "found"), INSIDE.values(), ids=INSIDE)
def test_what_is_wrong_inside_of_a_field_is_said_with_its_place(change, place, found):
    with pytest.raises(IntegrityError) as error:
        decoded(record_of(CUT) | change)
    assert f"field '{place}': found {found}; want " in str(error.value)


@pytest.mark.parametrize("time", [None, 7, "yesterday", "2026-07-01T10:00:00"])
def test_a_time_that_is_not_in_utc_is_refused(time):
    with pytest.raises(
        IntegrityError, match=r"field 'time': .*; want ISO 8601 in UTC$"
    ):
        decoded(record_of(ROUND) | {"time": time})


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    with pytest.raises(
        IntegrityError, match=r"jsonl:7: found an event 'x'; want one of"
    ):
        decoded(record_of(ROUND) | {"event": "x"})


def test_escapes_in_what_is_refused_are_one_printable_line():
    escapes = "\x1b[2J\nround 99" * 1000
    for change in ({"phase": escapes}, {"event": escapes}, {escapes: 1}):
        with pytest.raises(IntegrityError) as error:
            decoded(record_of(ROUND) | change)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 500


def test_a_header_of_this_version_must_be_whole():
    head = json.loads(encode_header())
    check_header(head, PLACE)
    with pytest.raises(
        IntegrityError, match="field 'more': found 1; want no such field"
    ):
        check_header(head | {"more": 1}, PLACE)


def test_numbers_of_numpy_become_plain_and_what_is_not_finite_is_unknown():
    event = replace(
        ROUND, round=np.int64(4), loss=np.float32(0.5), validation_loss=float("nan")
    )
    heard = encode_event(event)[1]
    assert heard == replace(ROUND, round=4, loss=0.5, validation_loss=None)
    assert (type(heard.round), type(heard.loss)) == (int, float)


@pytest.mark.parametrize(
    "event",
    [
        replace(CUT, density=float("nan")),
        replace(CLIENT, client=7),
        replace(ROUND, round=-1),
    ],
)
def test_what_would_not_be_read_back_is_not_written(event):
    with pytest.raises(ValueError, match="event cannot be written: field "):
        encode_event(event)


def test_settings_hold_any_json_and_no_number_that_is_not_finite():
    event = replace(
        STARTED, config={"a": [1, None, {"b": float("inf")}], "p": PLACE.path}
    )
    config = {"a": [1, None, {"b": None}], "p": str(PLACE.path)}
    assert decoded(parse_line(encode_event(event)[0])).config == config


def test_half_of_a_surrogate_pair_does_not_keep_a_line_from_being_read():
    line = encode_event(replace(DELIVERED, reason="half \ud800 of a pair"))[0]
    assert decoded(parse_line(line)).reason == "half ? of a pair"


def test_the_lines_of_version_8_never_change(monkeypatch):
    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 7, 1, 10, tzinfo=tz or UTC)

    monkeypatch.setattr("fedprune.server.runs.events.codec.datetime", Then)
    monkeypatch.setattr("fedprune.server.runs.events.codec.__version__", "0.0")
    time = b'{"time":"2026-07-01T10:00:00.000Z",'
    assert VERSION == 8
    assert encode_header() == (
        time + b'"event":"log","version":8,"written_by":"fedprune 0.0"}\n'
    )
    assert encode_event(DELIVERED)[0] == (
        time + b'"event":"delivered","client":"a","bytes_down":7,"examples":3,'
        b'"accuracy":0.5,"reason":""}\n'
    )
    names = {NAMES[kind]: [f.name for f in fields(kind)] for kind in NAMES}
    assert names == GOLDEN
    left_out = {NAMES[kind]: usual_values(kind) for kind in NAMES}
    assert {name: list(usual) for name, usual in left_out.items() if usual} == USUAL


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda e: type(e).__name__)
def test_a_field_with_its_usual_value_is_left_out_and_read_back(event):
    usual = usual_values(type(event))
    ordinary = replace(event, **usual)
    line = record_of(ordinary)
    assert not line.keys() & usual.keys()
    assert decoded(line) == ordinary


OF_ROUND = ["run", "round"]
SIZES = ["params", "flops", "density", "channel_density"]
GOLDEN = {
    "run_started": [
        *("run_id", "directory", "config", "clients", "client_examples"),
        *(
            "params_dense",
            "flops_dense",
            "groups",
            "graph",
            "reach",
            "metric",
            "better",
            "device",
        ),
    ],
    "labels": ["classes", "counts"],
    "resumed": ["run_id", "directory"],
    "run_finished": ["summary"],
    "run_failed": ["text", "exit_code"],
    "run_stopped": ["rounds"],
    "waiting": ["connected", "wanted", "refused"],
    "delivered": ["client", "bytes_down", "examples", "accuracy", "reason"],
    "client": [
        *(*OF_ROUND, "client", "status", "reason", "bytes_up", "bytes_down"),
        *("num_examples", "norm", "factor", "loss", "seconds"),
        *("validation_loss", "validation_metric", "validation_examples"),
    ],
    "clients": [*OF_ROUND, "statuses", "means", "edges", "counts"],
    "round": [
        *(*OF_ROUND, "rounds", "cycle", "phase", "loss", "accuracy", "validation_loss"),
        *("validation_accuracy", "density", "params", "flops", "channel_density"),
        *("bytes_up", "bytes_down", "bytes_fixed", "bytes_simulation", "asked"),
        *("accepted", "refused", "failed", "late", "zero_share", "seconds"),
        "virtual_seconds",
    ],
    "cut": [
        *(*OF_ROUND, "cycle", "widths", "blocks", *SIZES, "step", "votes", "consensus"),
        *("kept", "zero_share", "accuracy_before"),
    ],
    "check": [
        *(*OF_ROUND, "cycle", "final", "loss_before", "loss_after", "loss_error"),
        *("loss_allowed", "loss_clients", "loss_comparison"),
        *("accuracy_reference", "accuracy_after", "accuracy_error"),
        *("accuracy_allowed", "accuracy_clients", "accuracy_comparison", "verdict"),
    ],
    "rollback": [*OF_ROUND, "cycle", "step"],
    "mask": [*OF_ROUND, "digest", "weight_density"],
    "restart": OF_ROUND,
    "privacy": [*OF_ROUND, "epsilon", "planned", "delta", "multiplier", "key"],
    "worker_lost": [*OF_ROUND, "worker", "reason", "clients"],
    "late": [*OF_ROUND, "asked", "used"],
    "put_aside": [*OF_ROUND, "clients", "back"],
    "warning": [*OF_ROUND, "text", "clients"],
}
USUAL = {
    "client": [
        *("run", "reason", "factor"),
        *("validation_loss", "validation_metric", "validation_examples"),
    ],
    "round": [
        *("run", "accuracy", "validation_loss", "validation_accuracy"),
        *("bytes_simulation", "refused", "failed", "late", "zero_share"),
        "virtual_seconds",
    ],
    **{
        name: ["run"]
        for name in (
            *("clients", "cut", "check", "rollback", "mask", "restart", "privacy"),
            *("worker_lost", "late", "put_aside", "warning"),
        )
    },
}


def test_a_type_that_no_field_can_have_is_an_error_of_the_program():
    with pytest.raises(TypeError, match="no event can have a field of type set"):
        read_fields(Odd, {"place": []})


@dataclass(frozen=True)
class Odd:
    place: set[int]


def test_bounds_include_their_ends():
    assert decoded(record_of(replace(ROUND, density=0.0))).density == 0.0
    assert decoded(record_of(replace(ROUND, density=1.0))).density == 1.0
