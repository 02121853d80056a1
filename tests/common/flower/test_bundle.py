"""A run may bring names, and never code."""

import io
import zipfile

import pytest
from flwr.cli.build import build_fab_from_files
from helpers.bundles import zipped
from hypothesis import example, given
from hypothesis import strategies as st

from fedprune.common.errors import IntegrityError
from fedprune.common.flower.bundle import APP_TOML, check_app

# Flower's own packing uses a name of pathspec that will go.
pytestmark = pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")


def bundle(**files):
    given_files = {name.replace("__", "/"): text for name, text in files.items()}
    names = {f"{name}.py": text.encode() for name, text in given_files.items()}
    return build_fab_from_files({"pyproject.toml": APP_TOML.encode(), **names})[0]


def test_our_own_app_as_flower_packs_it_is_taken():
    check_app(bundle())


@pytest.mark.parametrize("name", ["client", "client__app", "anything", "sitecustomize"])
def test_an_app_with_code_is_refused_and_the_file_named(name):
    with pytest.raises(IntegrityError, match=name.replace("__", "/")):
        check_app(bundle(**{name: "print(1)"}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fedprune.client.app:app", "os:system"),
        ("fedprune.server.app:app", "evil:app"),
        ('version = "', 'version = "9'),
        ("dependencies = []", 'dependencies = ["evil"]'),
    ],
)
def test_an_app_with_other_names_is_refused(old, new):
    text = APP_TOML.replace(old, new)
    assert text != APP_TOML
    app = zipped(**{"pyproject.toml": text, ".info/CONTENT": ""})
    with pytest.raises(IntegrityError, match="refused"):
        check_app(app)


def test_a_file_in_the_list_s_place_that_unfolds_without_end_is_not_unfolded():
    app = zipped(**{"pyproject.toml": APP_TOML, ".info/CONTENT": "0" * (2 << 20)})
    with pytest.raises(IntegrityError, match="refused"):
        check_app(app)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_app_that_is_packed_by_a_method_without_bounds_is_refused(method):
    app = zipped(method, **{"pyproject.toml": APP_TOML, ".info/CONTENT": ""})
    with pytest.raises(IntegrityError, match="want stored or deflated"):
        check_app(app)


def test_an_app_of_nested_lists_is_refused_in_one_line():
    text = "x = " + "[" * 100_000
    app = zipped(**{"pyproject.toml": text, ".info/CONTENT": ""})
    with pytest.raises(IntegrityError, match="cannot be read"):
        check_app(app)


@example(29, b"\x02")  # another length of the first name: EOFError
@example(519, b"\x08")  # another method: zlib.error
@example(519, b"\x0c")  # another method: OSError
@given(st.integers(min_value=0), st.binary(min_size=1, max_size=4))
def test_a_damaged_app_is_refused_or_the_same(place, patch):
    app = bytearray(bundle())
    place %= len(app)
    app[place : place + len(patch)] = patch
    try:
        check_app(bytes(app))
    except IntegrityError:
        return
    with zipfile.ZipFile(io.BytesIO(bytes(app))) as archive:
        assert sorted(archive.namelist()) == [".info/CONTENT", "pyproject.toml"]
