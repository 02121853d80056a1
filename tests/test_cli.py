import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.some_events import ROUND, STARTED

import fedprune
import fedprune.simulations.runs.run
from fedprune.common.errors import DataError, IntegrityError, RoundError
from fedprune.simulations.cli import run_command_line

ROOT = Path(fedprune.__file__).parents[2]
SUMMARY = {"accuracy_control": 0.97, "accuracy_final": 0.96, "bytes_up": 2048}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(monkeypatch, tmp_path):
    """Replace the run itself; collects the configurations that it is called with."""
    called = []

    def run(config, *, ray_address, progress):
        called.append(SimpleNamespace(config=config, ray_address=ray_address))
        progress.on_event(replace(STARTED, directory=str(tmp_path)))
        progress.on_event(replace(ROUND, round=1, rounds=2))
        return fedprune.simulations.runs.run.RunResult(
            directory=tmp_path, summary=dict(SUMMARY)
        )

    monkeypatch.setattr(fedprune.simulations.runs.run, "run", run)
    return called


def call(*arguments):
    return run_command_line(arguments)


def python(code, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def fail_with(monkeypatch, error, events=()):
    def run(config, *, ray_address, progress):
        for event in events:
            progress.on_event(event)
        raise error

    monkeypatch.setattr(fedprune.simulations.runs.run, "run", run)


@pytest.mark.slow
def test_help_needs_neither_torch_nor_flower_nor_ray():
    code = (
        "import sys, fedprune; sys.argv = ['fedprune', '--help']\n"
        "try: fedprune.main()\n"
        "finally: heavy = {'torch', 'flwr', 'ray', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = python(code, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for command in ("simulate", "init", "inspect", "report", "export", "doctor"):
        assert f"\n  {command} " in done.stdout


def test_a_checkout_that_has_lost_its_links_says_so_in_one_line(tmp_path):
    shutil.copytree(ROOT / "src" / "fedprune", tmp_path / "fedprune", symlinks=True)
    (tmp_path / "fedprune" / "common").unlink()
    (tmp_path / "fedprune" / "common").write_text("../../common")
    for code in ("fedprune.main()", "fedprune.simulate"):
        done = python(
            f"import fedprune; {code}", cwd=tmp_path, PYTHONPATH=str(tmp_path)
        )
        last = done.stderr.strip().splitlines()[-1]
        assert f"{tmp_path / 'fedprune' / 'common'} is not a folder" in last
        assert "symbolic links" in last
        assert ("Traceback" in done.stderr) == (code != "fedprune.main()")
        assert done.returncode == (2 if code == "fedprune.main()" else 1)


def test_a_command_that_is_near_is_named_once(capsys):
    assert call("simulat") == 2
    assert capsys.readouterr().err.lower().count("did you mean") == 1


def test_no_arguments_print_the_help(capsys):
    assert call() == 0
    assert capsys.readouterr().out.startswith("Usage: fedprune ")


def test_the_version_is_printed(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"{fedprune.__version__}\n"
    assert call("version") == 0
    assert capsys.readouterr().out == f"{fedprune.__version__}\n"
    assert call("version", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": fedprune.__version__}


USAGE = {
    "an unknown command": (["simulat"], "No such command 'simulat'"),
    "an unknown option": (["simulate", "--sed", "1"], "No such option"),
    "a word for a number": (["simulate", "--seed", "x"], "'x' is not a valid integer"),
    "a missing argument": (["inspect"], "Missing argument 'RUN|FILE...'"),
    "a missing option": (["export", "run"], "Missing option '--format'"),
    "an unknown format": (
        ["export", "run", "--format", "pt"],
        '--format: found "pt", want one of "safetensors", "onnx"',
    ),
    "values without fpz": (
        ["export", "run", "--format", "onnx", "--values", "int8"],
        "values are of fpz, the format is 'onnx'; leave --values out",
    ),
    "a folder for a table": (
        ["profile", "--output", "."],
        ".: a folder; want a file, such as name.json",
    ),
    "an unknown key": (
        ["simulate", "--set", "rounds.warmpu=1"],
        'rounds.warmpu: unknown key; did you mean "rounds.warmup"?',
    ),
    "an unknown engine": (
        ["simulate", "--engine", "rai"],
        'run.engine: found "rai", want one of "ray", "inprocess"; did you mean "ray"?',
    ),
    "a page at no address": (
        ["simulate", "--watch", "--watch-at", "8080"],
        "--watch-at: found '8080', want HOST:PORT",
    ),
    "a page at all addresses": (
        ["simulate", "--watch", "--watch-at", "0.0.0.0:0"],
        "--watch-at: want the one address that browsers call",
    ),
    "a negative seed": (["simulate", "--seed", "-1"], "run.seed: found -1, want an"),
    "a missing file": (["simulate", "none.toml"], "cannot read none.toml: No such"),
    "a sweep without --sweep": (
        ["simulate", "--set", "run.seed=[1, 2]"],
        "several values are a sweep: use --sweep",
    ),
    "a sweep of nothing": (
        ["simulate", "--sweep", "--set", "run.seed=1"],
        "--sweep: no key has a list of values; want one, such as",
    ),
    "a resumed run with another configuration": (
        ["simulate", "--resume", "runs/x", "--seed", "1"],
        "--resume uses the run's own configuration",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE)
def test_a_wrong_call_ends_with_one_line_and_program2(arguments, message, capsys, runs):
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert runs == []


def test_options_are_short_forms_of_keys(runs):
    options = ["--seed", "3", "--workers", "2", "--engine", "inprocess"]
    assert call("simulate", *options, "--set", "rounds.warmup=1", "--quiet") == 0
    config = runs[0].config
    assert (config.run.seed, config.run.workers) == (3, 2)
    assert (config.run.engine, config.rounds.warmup) == ("inprocess", 1)


def test_the_ray_address_is_handed_on(runs, monkeypatch):
    monkeypatch.setattr(
        "fedprune.simulations.engines.ray_address._probe", lambda host, port: ""
    )
    assert call("simulate", "--ray-address", "ray://host:1", "--quiet") == 0
    assert runs[0].ray_address == "ray://host:1"


def test_a_run_prints_lines_the_table_and_its_report(capsys, runs, tmp_path):
    (tmp_path / "report.html").touch()
    assert call("simulate") == 0
    out = capsys.readouterr().out
    assert "round 1/2" in out
    assert "dense FedAvg" in out
    assert "0.9600" in out
    assert out.endswith(f"run: {tmp_path}\nreport: {tmp_path / 'report.html'}\n")


def test_json_prints_one_document_and_nothing_else(capsys, runs, tmp_path):
    assert call("simulate", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "directory": str(tmp_path),
        **SUMMARY,
    }


@pytest.mark.parametrize("form", ["--json", "--quiet"])
def test_a_live_page_is_named_beside_the_result_not_in_it(form, capsys, runs):
    assert call("simulate", form) == 0
    plain = capsys.readouterr().out
    assert call("simulate", "--watch", form) == 0
    found = capsys.readouterr()
    assert found.out == plain
    assert re.fullmatch(
        r"live page: http://127\.0\.0\.1:\d+/\?token=[\w-]{32}\n", found.err
    )


def test_quiet_prints_only_the_folder(capsys, runs, tmp_path):
    assert call("simulate", "--quiet") == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_all_clients_of_the_data_are_not_told_as_none(capsys, runs):
    assert call("simulate", "--set", "task.clients=0") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("digits, small-resnet: all clients, ")


def test_a_sweep_runs_the_product_and_prints_a_row_for_each(capsys, runs):
    assert call("simulate", "--sweep", "--set", "run.seed=[1, 2]") == 0
    assert [made.config.run.seed for made in runs] == [1, 2]
    out = capsys.readouterr().out
    assert "sweep 2/2: run.seed=2" in out
    assert out.count("0.9700") == 2


def test_a_sweep_as_json_is_a_list_with_labels(capsys, runs):
    assert call("simulate", "--sweep", "--json", "--set", "run.seed=[1, 2]") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["label"] for one in found] == ["run.seed=1", "run.seed=2"]


@pytest.mark.parametrize(
    ("error", "code"), [(DataError("no"), 3), (IntegrityError("torn"), 6)]
)
def test_an_error_ends_with_the_programof_its_class(error, code, capsys, monkeypatch):
    fail_with(monkeypatch, error)
    assert call("simulate") == code
    assert capsys.readouterr().err == f"error: {error}\n"


LONG = "a" * 300  # more than any file system takes


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", LONG],
        ["report", LONG],
        ["simulate", "--resume", LONG],
        ["schema", "--output", f"{LONG}.json"],
        ["init", LONG],
        ["profile", "--output", f"{LONG}.json"],
        ["poc", LONG],
    ],
    ids=lambda words: words[0],
)
def test_a_path_that_the_system_refuses_is_one_line(arguments, capsys):
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: File name too long: ")
    assert error.count("\n") == 1


def test_a_full_disk_without_a_name_can_be_mended_and_gone_on_with(capsys, monkeypatch):
    fail_with(monkeypatch, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert call("simulate", "--quiet") == 5
    assert capsys.readouterr().err == (
        "error: cannot read or write: No space left on device\n"
    )


def test_a_file_of_another_user_is_named(capsys, monkeypatch):
    fail_with(monkeypatch, PermissionError(errno.EACCES, "Permission denied", "/x"))
    assert call("simulate", "--quiet") == 2
    assert capsys.readouterr().err == "error: not allowed to this user: /x\n"


def test_a_resumable_failure_says_how_to_resume(capsys, monkeypatch):
    fail_with(monkeypatch, RoundError("2 of 5 answered"), [STARTED])
    assert call("simulate", "--quiet") == 4
    assert capsys.readouterr().err == (
        "error: 2 of 5 answered; resume with: fedprune simulate --resume runs/x\n"
    )


def test_a_learning_rate_that_is_too_high_is_not_resumed(capsys, monkeypatch):
    fail_with(
        monkeypatch, RoundError("client diverged; want a lower client.lr"), [STARTED]
    )
    assert call("simulate") == 4
    assert "--resume" not in capsys.readouterr().err


def test_control_c_says_how_to_resume(capsys, monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt(), [STARTED])
    assert call("simulate") == 130
    assert capsys.readouterr().err == (
        "error: interrupted; resume with: fedprune simulate --resume runs/x\n"
    )


def test_control_c_before_a_run_exists_says_so(capsys, monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert call("simulate") == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_resume_hands_on_the_folder(capsys, monkeypatch, tmp_path):
    def resume(run_dir, *, trust_code, factory, given, **others):
        assert (trust_code, factory, given) == (False, None, None)
        assert {*others} == {"ray_address", "progress"}
        return fedprune.simulations.runs.run.RunResult(
            directory=run_dir, summary=dict(SUMMARY)
        )

    monkeypatch.setattr(fedprune.simulations.runs.run, "resume", resume)
    assert call("simulate", "--resume", str(tmp_path), "--quiet") == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"


def test_the_front_door_hands_on_its_names():
    for name in fedprune.__all__:
        assert getattr(fedprune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'simulat'"):
        fedprune.simulat  # noqa: B018


MISSING = {
    "an npz file": (["simulate", "--set", "task.data=npz:nope.npz"], "no file"),
    "a folder": (["simulate", "--set", "task.data=folder:nope"], "no folder 'nope'"),
    "parquet files": (["simulate", "--set", "task.data=parquet:."], "no train.parquet"),
    "a misspelt source": (["simulate", "--set", "task.data=cifar"], "mean 'cifar10'"),
    "the data of a device": (
        ["client", "--server", "h:1", "--id", "a", "--insecure", "--data", "npz:nope"],
        "no file 'nope'",
    ),
    "data to split": (
        ["data", "split", "out", "--data", "npz:nope", "--clients", "2"],
        "no file 'nope'",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("words", "message"), MISSING.values(), ids=MISSING)
def test_a_source_that_is_not_there_is_refused_before_torch_is_loaded(
    words, message, tmp_path
):
    code = (
        f"import sys, fedprune; sys.argv = ['fedprune', *{words}]\n"
        "try: fedprune.main()\n"
        "finally: assert 'torch' not in sys.modules, 'torch'"
    )
    done = python(code, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert [path for path in tmp_path.iterdir() if path.name != ".cache"] == []


def test_a_quiet_inspect_prints_the_paths_of_whole_files_alone(tmp_path, capsys):
    whole, broken = tmp_path / "config.toml", tmp_path / "summary.json"
    whole.write_text("[run]\nseed = 4\n")
    assert run_command_line(["inspect", str(whole), str(whole), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{whole}\n{whole}\n"
    broken.write_text("{")
    assert run_command_line(["inspect", str(whole), str(broken), "-q"]) == 6
    assert capsys.readouterr().out == ""
