"""JSON and TOML from outside: read, or refused in one sentence."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.parsing import MAX_DEPTH, MAX_TOML, parse_json, parse_toml
from fedprune.common.system.json_file import read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), 1 << 63) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
HOSTILE = {
    "no JSON": b"{",
    "200 000 brackets": b"[" * 200_000,
    "a nest": b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    "half a pair": rb'{"run_id": "\ud800"}',
    "half a pair in a key": rb'[{"\udfff": 1}]',
    "half a pair as bytes": b'"\xed\xa0\x80"',
    "no UTF-8": b'"\xff"',
    "UTF-16": '"a"'.encode("utf-16"),
    "a number of 5000 digits": b"9" * 5000,
    "a number that is no float": b'{"a": [1' + b"0" * 400 + b"]}",
}


@pytest.mark.slow
@given(VALUES)
def test_json_that_python_wrote_is_read_as_python_reads_it(value):
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert parse_json(text) == json.loads(text)
        assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_json_is_a_value_error_and_its_file_is_named(data, tmp_path):
    with pytest.raises(ValueError):  # noqa: PT011 - the file's error says it
        parse_json(data)
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="not readable as a thing") as caught:
        read_json(path, "a thing")
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 400


def test_json_is_read_up_to_its_bounds():
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_json(deep) == json.loads(deep)
    assert parse_json(b"\xef\xbb\xbf[1e999, -3]") == [float("inf"), -3]
    assert parse_json(rb'"\ud83d\ude00"') == "\U0001f600"


TOML = {
    "200 000 brackets": "x = " + "[" * 200_000,
    "a nest": "x = " + "[" * 200 + "]" * 200,
    "nested tables": "x = " + "{a = " * 200 + "1" + "}" * 200,
    "100 000 dots": ".".join("a" * 100_000) + " = 1",
    "100 000 dots in a header": f"[{'.'.join('a' * 100_000)}]",
    "400 dots": ".".join("a" * 400) + " = 1",
    "more than a megabyte": "#" + "x" * (MAX_TOML * 4),
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_hostile_toml_is_refused_where_it_is_and_takes_no_memory(text, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(f"[run]\nseed = 1\n{text}")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"nested too deep|dots in one|want at most"):
        parse_toml(text)
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        load_config(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert most < 32 << 20


def test_a_hostile_override_is_refused():
    for value in ("[" * 100_000, "{a = " * 100 + "1" + "}" * 100):
        with pytest.raises(ConfigError, match="not valid TOML"):
            load_config(None, [f"run.seed={value}"])
