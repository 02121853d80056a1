"""An update on file: its fields, where its bytes go, and what is wrong with it."""

import json

import pytest
from helpers.codec.examples import BASE, KNOWN, SPEC, make_update

from fedprune.common import codec
from fedprune.common.errors import PayloadError
from fedprune.simulations.inspection.artifacts import inspect_path, render

DATA = codec.encode_update(make_update(60), KNOWN)


def write(tmp_path, data):
    path = tmp_path / "update.fpu"
    path.write_bytes(data)
    return path


def test_a_bare_update_shows_its_fields_and_parts(tmp_path):
    info = inspect_path(write(tmp_path, DATA))
    assert (info["kind"], info["bytes"]) == ("update", len(DATA))
    assert info["fields"]["client_id"] == "edge-03"
    assert info["fields"]["entries"] == 60
    assert sum(info["parts"].values()) == len(DATA)
    assert "delta" not in info
    assert "client_id     edge-03" in render(info)
    json.dumps(info)


@pytest.mark.parametrize("values", codec.VALUES)
def test_a_captured_update_is_taken_apart_to_the_last_byte(tmp_path, values):
    known = codec.hold(SPEC, BASE)
    update = codec.encode_update(make_update(60, values), known)
    capture = codec.encode_capture(codec.Capture(update=update, known=known))
    info = inspect_path(write(tmp_path, capture))
    sent = codec.message_fields(update)
    assert sum(info["delta"].values()) == len(sent.delta)
    assert min(info["delta"].values()) >= 0
    assert info["ratio"] == pytest.approx(len(sent.delta) / info["order0"], rel=0.02)
    assert "order-0 bound" in render(info)


def test_a_capture_comes_back():
    known = codec.hold(SPEC, BASE)
    capture = codec.Capture(update=DATA, known=known)
    found = codec.decode_capture(codec.encode_capture(capture))
    assert found.update == DATA
    assert found.known.base.tobytes() == BASE.tobytes()
    assert [t.shape for t in found.known.shape.spec.tensors] == [
        t.shape for t in SPEC.tensors
    ]


@pytest.mark.parametrize(
    ("data", "field"),
    [(b"", "message"), (DATA[:-1], "message"), (b"x" * 99, "message"),
     (DATA[:40] + b"x" + DATA[41:], "digest")],
)  # fmt: skip
def test_a_bad_update_is_refused_by_field_and_reason(tmp_path, data, field):
    with pytest.raises(PayloadError) as caught:
        inspect_path(write(tmp_path, data))
    assert caught.value.field == field
