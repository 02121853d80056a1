"""The choice of the coder, the self-test and the compiler."""

import pytest
from helpers.small_runs import small_settings

from fedprune.common.errors import ConfigError
from fedprune.common.native import build, choice, self_test
from fedprune.simulations.runs.api import simulate


@pytest.fixture(autouse=True)
def _anew():
    choice.kernels.cache_clear()
    yield
    choice.kernels.cache_clear()


@pytest.fixture
def library(tmp_path):
    if build.compiler() is None:
        pytest.skip("no C compiler")
    path = tmp_path / build.LIBRARY
    build.build(path)
    return path


def test_the_library_lies_in_the_package_folder():
    assert choice.LIBRARY == build.FOLDER / build.LIBRARY


def test_a_compiled_library_passes_the_self_test(library):
    found, reason = choice.load(library)
    assert found is not None
    assert reason == ""


def test_numpy_by_wish(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "numpy")
    assert choice.kernels() is None
    assert choice.describe() == "numpy, as FEDPRUNE_CODER asks"


def test_another_wish_is_refused(monkeypatch):
    monkeypatch.setenv(choice.VARIABLE, "rust")
    with pytest.raises(ConfigError, match=r'is "rust"; want "numpy" or "native"'):
        choice.kernels()


def test_a_run_with_another_wish_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv(choice.VARIABLE, "rust")
    with pytest.raises(ConfigError, match="FEDPRUNE_CODER"):
        simulate(config=small_settings(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []


def test_without_a_library_numpy_runs_and_says_why(monkeypatch, tmp_path):
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(choice, "LIBRARY", tmp_path / "none.so")
    assert choice.kernels() is None
    assert "install again with a C compiler" in choice.describe()
    choice.kernels.cache_clear()
    monkeypatch.setenv(choice.VARIABLE, "native")
    with pytest.raises(ConfigError, match="not compiled"):
        choice.kernels()


def test_a_file_that_is_no_library_is_not_used(tmp_path):
    path = tmp_path / "bad.so"
    path.write_bytes(b"no library")
    found, reason = choice.load(path)
    assert found is None
    assert "do not work here" in reason


def test_a_library_that_counts_wrong_is_not_used(library, monkeypatch):
    monkeypatch.setattr(self_test, "_KNOWN", 1)
    found, reason = choice.load(library)
    assert found is None
    assert "self-test" in reason


@pytest.mark.parametrize("error", [IndexError("no context"), MemoryError()])
def test_a_library_that_refuses_the_known_inputs_is_not_used(
    library, monkeypatch, error
):
    def refuse(*_):
        raise error

    monkeypatch.setattr(choice.Kernels, "pop_run", refuse)
    found, reason = choice.load(library)
    assert found is None
    assert type(error).__name__ in reason


def test_a_compiler_that_fails_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "compiler", lambda: "/bin/false")
    with pytest.raises(RuntimeError, match="failed"):
        build.build(tmp_path / "kernels.so")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(build, "compiler", lambda: None)
    with pytest.raises(RuntimeError, match="no C compiler"):
        build.build(tmp_path / "kernels.so")
