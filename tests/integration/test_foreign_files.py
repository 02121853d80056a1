"""Files and run folders are data: code that they name runs only if it is one's own."""

import json
import os
import py_compile
import shutil
import sys
from dataclasses import replace
from importlib.util import cache_from_source
from pathlib import Path

import numpy as np
import pytest
from helpers.small_runs import as_options
from helpers.tiny_federation import BASE, Tiny, make_examples

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.artifacts.load import load_model
from fedprune.common.codec import decode_model, encode_model
from fedprune.common.config import config_to_toml, load_config, parse_config
from fedprune.common.errors import ConfigError
from fedprune.common.methods.kinds import KINDS
from fedprune.common.models import zoo
from fedprune.common.trust import (
    check_code,
    named_code,
    record_code,
    state_folder,
)
from fedprune.server.devices.run_config import admit, run_config
from fedprune.server.devices.superlink import Link
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.runs.api import simulate

NETWORK = """
from helpers.tiny_federation import Tiny


def make():
    return Tiny()
"""
PAYLOAD = """
from pathlib import Path

Path(__file__).with_name("executed").touch()

from helpers.tiny_federation import Tiny, make_examples


def make():
    return Tiny()


def data():
    parts = make_examples(120), make_examples(30, seed=1)
    return [array for e in parts for array in (e.inputs, e.targets)]
"""
SETTINGS = {
    **{key: value for key, value in BASE.items() if key != "prune.budget"},
    "prune.budget.params": 0.5,
    "task.model": "net.py:make",
    "task.data": "npz:data.npz",
    "rounds.cuts": 1,
    "run.controls": [],
    "run.dir": "runs",
}


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A folder where one run with a network of one's own has been made."""
    context = tmp_path_factory.mktemp("context")
    (context / "net.py").write_text(NETWORK)
    train, test = make_examples(120), make_examples(30, seed=1)
    arrays = {"x_train": train.inputs, "y_train": train.targets}
    arrays |= {"x_test": test.inputs, "y_test": test.targets}
    np.savez(context / "data.npz", **arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(context)
        patch.setenv("FEDPRUNE_STATE", str(context / "state"))
        patch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
        words = ["simulate", *as_options(SETTINGS), "--quiet"]
        assert run_command_line(words) == 0
    return context


@pytest.fixture
def here(context, tmp_path, monkeypatch):
    """A copy of it, in which one works: the same user, the same places."""
    kept = tmp_path / "kept"
    shutil.copytree(context, kept)
    monkeypatch.chdir(context)
    monkeypatch.setenv("FEDPRUNE_STATE", str(context / "state"))
    yield context
    shutil.rmtree(context)
    shutil.copytree(kept, context)


@pytest.fixture
def away(context, tmp_path, monkeypatch):
    """Another user's machine, to which the run folder has been copied."""
    shutil.copytree(context / "runs", tmp_path / "runs")
    shutil.copy(context / "data.npz", tmp_path)
    (tmp_path / "payload.py").write_text(PAYLOAD)
    shutil.copy(tmp_path / "payload.py", tmp_path / "net.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "state"))
    return tmp_path


def only(folder):
    """Return the one run folder."""
    (run,) = (folder / "runs").glob("2*")
    return run


def call(capsys, *words):
    """Run a command; return its exit code and what it said of errors."""
    capsys.readouterr()
    code = run_command_line([str(word) for word in words])
    return code, capsys.readouterr().err


def rename(source, target, name, run=None):
    """Copy a model file with another network's name."""
    if source.suffix == ".fpz":
        model = decode_model(source.read_bytes())
        model = replace(model, name=name, run=model.run if run is None else run)
        target.write_bytes(encode_model(model))
        return target
    tensors, metadata = read_model_file(source)
    change = {"model": name} | ({} if run is None else {"run": run})
    write_model_file(target, tensors, {**metadata, **change})
    return target


def exported(folder, kind, capsys):
    """Return a file that ``fedprune export`` wrote of the run."""
    path = folder / f"whole.{kind}"
    words = ["export", only(folder), "--format", kind, "--output", path]
    code, said = call(capsys, *words, "--trust-code")
    assert code == 0, said
    (folder / "executed").unlink(missing_ok=True)
    return path


def refused(capsys, folder, words, *parts):
    """Assert that a command is refused in one line and that no payload ran."""
    code, said = call(capsys, *words)
    assert not (folder / "executed").exists()
    assert code == ConfigError.exit_code, said
    assert len(said.splitlines()) == 1
    for part in parts:
        assert part in said


@pytest.mark.slow
def test_ones_own_run_goes_on_without_a_question(here, capsys):
    run = only(here)
    model = run / "model/final.safetensors"
    assert read_model_file(model)[1]["run"] == run.name
    assert call(capsys, "simulate", "--resume", run, "--quiet") == (0, "")
    for kind in ("safetensors", "fpz"):
        path = here / f"out.{kind}"
        words = ["export", run, "--format", kind, "--output", path, "--check"]
        assert call(capsys, *words) == (0, "")
        assert isinstance(load_model(path), Tiny)
    for path in (model, here / "out.safetensors"):
        words = ["run-model", path, "--data", "npz:data.npz"]
        assert call(capsys, *words) == (0, "")


def test_the_ledger_is_for_its_owner_alone(here):
    (entry,) = (here / "state/trusted").iterdir()
    assert entry.stat().st_mode & 0o777 == 0o600
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(entry.read_bytes())["run_id"] == only(here).name


@pytest.mark.slow
def test_code_that_has_changed_since_is_refused_with_the_difference(here, capsys):
    with (here / "net.py").open("a") as file:
        file.write("CHANGED = 1\n")
    run = only(here)
    for words in (
        ["simulate", "--resume", run],
        ["export", run, "--format", "safetensors"],
        ["run-model", run / "model/final.safetensors", "--data", "npz:data.npz"],
    ):
        refused(capsys, here, words, "has changed since", "sha256", "--trust-code")
        assert call(capsys, *words, "--trust-code")[0] == 0


def test_the_same_code_at_another_place_is_refused(here, tmp_path, capsys, monkeypatch):
    # Its neighbours, which it may import, are not this user's.
    for name in ("net.py", "data.npz"):
        shutil.copy(here / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    words = ["export", only(here), "--format", "safetensors"]
    refused(capsys, tmp_path, words, f"was {here / 'net.py'}", "--trust-code")


def test_another_function_of_ones_own_code_is_refused(here, capsys):
    with (here / "net.py").open("a") as file:
        file.write("\n\ndef wipe():\n    open('executed', 'w').close()\n")
    run = only(here)
    record_code(run.name, {"task.model": "net.py:make"})
    path = rename(run / "model/final.safetensors", run / "model/x.safetensors",
                  "net.py:wipe")  # fmt: skip
    words = ["run-model", path, "--data", "npz:data.npz"]
    refused(capsys, here, words, "model is 'net.py:wipe'")


FOREIGN = {
    "a file beside it": "payload.py:make",
    "a file and dropped blocks": "payload.py:make[-conv1]",
    "a module": "payload:make",
    "a function of Python's own": "os:abort",
    "a module in a package": "helpers.tiny_federation:Tiny",
}


@pytest.mark.parametrize("kind", ["safetensors", "fpz"])
@pytest.mark.parametrize("name", FOREIGN.values(), ids=FOREIGN)
def test_a_model_file_that_names_code_is_refused(name, kind, away, capsys, monkeypatch):
    monkeypatch.syspath_prepend(away)
    good = exported(away, kind, capsys)
    bad = rename(good, away / f"bad.{kind}", name)
    code = name.partition("[")[0]
    if kind == "safetensors":
        words = ["run-model", bad, "--data", "npz:data.npz"]
        refused(capsys, away, words, f"'{code}'", "files are data", "--trust-code")
    with pytest.raises(ConfigError, match="files are data"):
        load_model(bad)
    assert not (away / "executed").exists()
    code, said = call(capsys, "inspect", bad)
    assert (code, said) == (0, "")
    assert not (away / "executed").exists()
    assert isinstance(load_model(bad, factory=Tiny), Tiny)


@pytest.mark.parametrize("kind", ["safetensors", "fpz"])
def test_a_model_file_downloads_nothing(kind, away, capsys, monkeypatch):
    bad = rename(exported(away, kind, capsys), away / f"bad.{kind}", "hf:foo/bar")
    asked = []

    def build(name, num_outputs, shape, weights):
        asked.append((name, weights))
        return Tiny()

    monkeypatch.setitem(zoo.LOADERS, "hf", build)
    monkeypatch.setitem(zoo._PACKAGES, "hf", ("torch", "hf"))  # as if installed
    assert isinstance(load_model(bad), Tiny)
    assert asked == [("foo/bar", "local")]


def test_trust_code_and_a_factory_open_a_foreign_file(away, capsys):
    model = only(away) / "model/final.safetensors"
    words = ["run-model", model, "--data", "npz:data.npz"]
    refused(capsys, away, words, "net.py:make")
    assert isinstance(load_model(model, factory=Tiny), Tiny)
    assert not (away / "executed").exists()
    assert isinstance(load_model(model, trust_code=True), Tiny)
    assert (away / "executed").exists()
    assert call(capsys, *words, "--trust-code") == (0, "")


KEYS = {
    "the network": ("task.model", "payload.py:make"),
    "the data": ("task.data", "payload.py:data"),
    **{kind.name: (kind.key, "payload.py:own") for kind in KINDS},
}
COMMANDS = {
    "resume": ["simulate", "--resume", "RUN", "--quiet"],
    "export": ["export", "RUN", "--format", "fpz", "--output", "x.fpz"],
    "serve": ["serve", "--insecure", "--resume", "RUN"],
    "submit": ["submit", "--resume", "RUN"],
}
READERS = {
    "inspect": ["inspect", "RUN"],
    "report": ["report", "RUN", "--output", "report.html"],
}


def poison(away, key, value):
    """Let the run folder's configuration name code; its files name a known network."""
    run = only(away)
    text = (run / "config.toml").read_text().replace("net.py:make", "mlp")
    config = load_config(None, {**flat_settings(parse_config(text)), key: value})
    (run / "config.toml").write_text(config_to_toml(config))
    return run


def flat_settings(config):
    """Return all settings of a configuration by their dotted keys."""

    def walk(table, prefix=""):
        for key, value in table.items():
            if isinstance(value, dict) and value:
                yield from walk(value, f"{prefix}{key}.")
            elif value is not None:
                yield f"{prefix}{key}", value

    return dict(walk(config.model_dump()))


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("key", "value"), KEYS.values(), ids=KEYS)
def test_a_run_folder_that_names_code_is_refused(key, value, words, away, capsys):
    run = poison(away, key, value)
    if words[0] in {"serve", "submit"}:  # a run that has ended is not continued
        (run / "summary.json").unlink()
    if words[0] == "export":  # its model file is trusted, its configuration is not
        (away / "net.py").write_text(NETWORK)
        record_code(run.name, {"model": "net.py:make"})
    words = [word.replace("RUN", str(run)) for word in words]
    refused(capsys, away, words, f"{key} is '{value}'", "files are data")


@pytest.mark.slow  # seconds of imports
@pytest.mark.parametrize("key", ["task.model", "task.data"])
@pytest.mark.parametrize("words", [READERS["inspect"], READERS["report"]],
                         ids=["inspect", "report"])  # fmt: skip
def test_who_only_reads_a_run_folder_runs_nothing(words, key, away, capsys):
    run = poison(away, key, "payload.py:make")
    code, said = call(capsys, *[word.replace("RUN", str(run)) for word in words])
    assert (code, said) == (0, "")
    assert not (away / "executed").exists()


def test_what_lies_inside_of_a_run_folder_vouches_for_nothing(away, capsys):
    run = poison(away, "task.model", "payload.py:make")
    for folder in (run, run / "state/fedprune"):
        forge(folder, run)
    assert len(list(run.rglob("trusted/*.json"))) == 2
    words = ["simulate", "--resume", run, "--quiet"]
    refused(capsys, away, words, "payload.py:make")


def forge(state, run):
    """Write into a folder what vouches for a run where it is a user's state folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDPRUNE_STATE", str(state))
        record_code(run.name, {"task.model": "payload.py:make"})
        check_code(run, run.name, {"task.model": "payload.py:make"}, trust_code=False)


@pytest.mark.parametrize("command", ["serve", "submit"])
@pytest.mark.parametrize("place", ["", "state", "server-0"])
def test_what_lies_in_a_server_s_folder_vouches_for_nothing(
    command, place, away, capsys
):
    run = poison(away, "task.model", "payload.py:make")
    (run / "summary.json").unlink()
    forge(away / "fedprune-server" / place, run)  # where both look without --state
    words = COMMANDS[command]
    words = [word.replace("RUN", str(run)) for word in words]
    refused(capsys, away, words, "task.model is 'payload.py:make'", "files are data")


def test_a_server_s_run_finds_what_its_operator_has_admitted(away, monkeypatch):
    run = RunFolder.open(poison(away, "task.model", "payload.py:make"))
    server = away / "fedprune-server"
    link = Link(state=server, host="127.0.0.1", port=1, control=2, tls=None)
    own = Path(link.executor().environment["FEDPRUNE_STATE"])
    assert own.is_relative_to(away / "state")
    forge(away / "state", run.path)  # a simulation of the same user
    admit(run, server, trust_code=False)
    assert not server.exists()
    monkeypatch.setenv("FEDPRUNE_STATE", str(own))  # in the server's own process
    assert run_config(run).task.model == "payload.py:make"
    other = Link(state=away / "other", host="127.0.0.1", port=1, control=2, tls=None)
    monkeypatch.setenv("FEDPRUNE_STATE", str(away / "state"))
    another = other.executor().environment["FEDPRUNE_STATE"]
    monkeypatch.setenv("FEDPRUNE_STATE", another)
    with pytest.raises(ConfigError, match="files are data"):
        run_config(run)


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o640, 0o604])
def test_a_ledger_that_is_not_its_owner_s_alone_vouches_for_nothing(here, mode):
    (entry,) = (here / "state/trusted").iterdir()
    folder = RunFolder.open(only(here))
    run_config(folder)
    for path in (entry, entry.parent):
        before = path.stat().st_mode
        path.chmod(mode | (0o100 if path.is_dir() else 0))
        with pytest.raises(ConfigError, match="files are data"):
            run_config(folder)
        path.chmod(before)
    run_config(folder)


def test_a_ledger_that_is_a_link_vouches_for_nothing(here):
    (entry,) = (here / "state/trusted").iterdir()
    entry.rename(here / "elsewhere")
    entry.symlink_to(here / "elsewhere")
    with pytest.raises(ConfigError, match="files are data"):
        run_config(RunFolder.open(only(here)))


def test_a_ledger_of_somebody_else_vouches_for_nothing(here, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ConfigError, match="files are data"):
        run_config(RunFolder.open(only(here)))


def test_a_state_folder_is_the_same_wherever_one_works(here, monkeypatch):
    monkeypatch.setenv("FEDPRUNE_STATE", "state")
    with pytest.raises(ConfigError, match="FEDPRUNE_STATE is 'state'; want an abs"):
        run_config(RunFolder.open(only(here)))
    monkeypatch.delenv("FEDPRUNE_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_folder() == Path("/home/me/.local/state/fedprune")


def test_names_that_only_look_like_dropped_blocks_are_fetched():
    config = load_config(None, ["task.model=timm:x@random[x"])
    assert named_code(config) == {"task.model": "timm:x@random[x"}
    config = load_config(None, ["task.model=timm:x@random[-x]"])
    assert named_code(config) == {}


@pytest.mark.parametrize("key", ["task.data", "prune.importance", "client.penalty"])
def test_code_of_a_module_that_is_called_like_a_library_is_code(key, away, monkeypatch):
    (away / "hf.py").write_text("")
    monkeypatch.syspath_prepend(away)
    named = {key: "hf:load"}
    record_code("run", named)
    check_code(Path("x"), "run", named, trust_code=False)
    (away / "hf.py").write_text("CHANGED = 1")
    with pytest.raises(ConfigError, match="has changed since"):
        check_code(Path("x"), "run", named, trust_code=False)


def test_bytecode_beside_unchanged_code_does_not_run(here, capsys):
    source = here / "net.py"
    evil = here / "evil.py"
    evil.write_text(NETWORK + "\nopen('executed', 'w').close()\n")
    py_compile.compile(
        str(evil),
        cfile=cache_from_source(str(source)),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    path = here / "out.safetensors"
    words = ["export", only(here), "--format", "safetensors", "--output", path]
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in sys.modules if name.startswith("fedprune_user_")]:
            patch.delitem(sys.modules, name)  # as in a new process
        assert call(capsys, *words) == (0, "")
    assert not (here / "executed").exists()


def test_a_network_to_be_fetched_is_refused_in_a_foreign_folder(away, capsys):
    run = poison(away, "task.model", "hf:foo/bar")
    words = ["simulate", "--resume", run]
    refused(capsys, away, words, "task.model is 'hf:foo/bar'", "what is fetched")


def test_a_factory_stands_for_the_network_alone(away):
    folder = RunFolder.open(poison(away, "task.model", "payload.py:make"))
    assert run_config(folder, factory=True).task.model == "payload.py:make"
    folder = RunFolder.open(poison(away, "task.data", "payload.py:data"))
    with pytest.raises(ConfigError, match=r"task\.data is 'payload\.py:data'"):
        run_config(folder, factory=True)
    assert not (away / "executed").exists()


def test_a_foreign_run_goes_on_with_a_factory_or_with_trust(away, monkeypatch):
    monkeypatch.setattr("fedprune.simulations.runs.run._report", lambda folder: None)
    run = only(away)
    found = simulate(Tiny, resume_from=run).summary
    assert not (away / "executed").exists()
    again = simulate(resume_from=run, trust_code=True).summary
    assert (away / "executed").exists()
    assert again["model_sha256"] == found["model_sha256"]


SUBMITTED = {
    "a network": "task.model=payload.py:make",
    "a network to fetch": "task.model=hf:foo/bar",
    "data": "task.data=payload.py:data",
    **{kind.name: f"{kind.key}=payload.py:own" for kind in KINDS},
}


@pytest.mark.parametrize("setting", SUBMITTED.values(), ids=SUBMITTED)
def test_submit_sets_no_key_to_code(setting, away, capsys):
    key, _, value = setting.partition("=")
    words = ["submit", "--set", setting]
    refused(capsys, away, words, f"submit --set cannot set {key} to '{value}'")


def test_what_the_operators_own_file_names_is_submitted(away, capsys):
    (away / "own.toml").write_text('[task]\nmodel = "payload.py:make"\n')
    code, said = call(capsys, "submit", "own.toml", "--set", "task.outputs=3")
    assert "not a state folder of fedprune serve" in said
    assert code == ConfigError.exit_code
    assert not (away / "executed").exists()


def test_a_module_is_compared_without_being_imported(away, monkeypatch):
    package = away / "boxed"
    package.mkdir()
    marker = f"open({str(away / 'executed')!r}, 'w').close()\n"
    (package / "__init__.py").write_text(marker)
    (package / "nets.py").write_text(marker)
    monkeypatch.syspath_prepend(away)
    named = {"task.model": "boxed.nets:make"}
    record_code("run", named)
    check_code(Path("x"), "run", named, trust_code=False)
    for name in ("__init__.py", "nets.py"):  # both run when it is imported
        record_code("run", named)
        with (package / name).open("a") as file:
            file.write("CHANGED = 1\n")
        with pytest.raises(ConfigError, match="has changed since"):
            check_code(Path("x"), "run", named, trust_code=False)
    assert not (away / "executed").exists()


def test_a_run_starts_though_nothing_can_be_written_down(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path / "file/state"))
    monkeypatch.chdir(tmp_path)
    record_code("run", {"task.model": "payload.py:make"})
    with pytest.raises(ConfigError, match="files are data"):
        check_code(Path("x"), "run", {"task.model": "os:abort"}, trust_code=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
