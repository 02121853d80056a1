"""Searches in this process: runs, resumption, failures, no figure of test data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.pruning_nets import table_of
from helpers.small_runs import SMALL, as_options, events, run_small
from sklearn.datasets import load_digits

import fedprune.simulations.runs.evaluate
from fedprune.common.config import config_digest, load_config
from fedprune.common.errors import FedPruneError, IntegrityError
from fedprune.server.runs.events import NetworkRestarted, RoundFinished
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.export import latency_table
from fedprune.simulations.runs import run as runs
from fedprune.simulations.tuning import stopping
from fedprune.simulations.tuning.figures import measured
from fedprune.simulations.tuning.record import read_record

pytestmark = pytest.mark.slow

TARGET = "accuracy_drop<=60, params<=0.6"
# Runs that have a figure of the test data would call it.
EVALUATE = "evaluate"


def write_data(path, *, test_seed):
    """Write digits whose test part depends on a seed; the training part does not."""
    found = load_digits()
    images = (found.images * 15).astype(np.uint8)[:, None]
    rng = np.random.Generator(np.random.PCG64(test_seed))
    np.savez(
        path,
        x_train=images[:400],
        y_train=found.target[:400],
        x_test=rng.integers(0, 255, (60, 1, 8, 8), dtype=np.uint8),
        y_test=rng.permutation(np.arange(60) % 10),
    )
    return path


def options(folder, data):
    settings = SMALL | {"task.data": f"npz:{data}", "rounds.final": 4}
    return [*as_options(settings), *("--target", TARGET, "--output", str(folder))]


def tune(*words):
    return run_command_line(["tune", *map(str, words)])


def without_names(folder):
    """Return a record without the names of its folders and of the data's file."""
    found = json.loads((folder / "trials.json").read_text())
    del found["search"], found["reference"]["run"], found["config_digest"]
    for trial in found["trials"]:
        del trial["run"]
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return a folder with the data and a search of three trials; no test figure."""
    base = tmp_path_factory.mktemp("tune")
    data = write_data(base / "data.npz", test_seed=0)

    def refuse(*_words, **_more):
        pytest.fail("a network was evaluated on test data")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fedprune.simulations.runs.evaluate, EVALUATE, refuse)
        assert tune(*options(base / "one", data), "--trials", 3) == 0
    return base


def test_trials_are_run_folders_and_the_choice_is_one_of_them(searched):
    record = read_record(searched / "one")
    assert [one.status for one in record.trials] == ["done"] * 3
    assert record.meets_target
    assert record.recommended in record.pareto
    dense = searched / "one" / record.reference.run
    rounds = events(dense, RoundFinished)
    dense_sent = sum(event.bytes_up + event.bytes_down for event in rounds)
    for trial in record.trials:
        folder = searched / "one" / trial.run
        summary = json.loads((folder / "summary.json").read_text())
        for kind in ("params", "flops"):
            share = summary[f"{kind}_final"] / summary[f"{kind}_dense"]
            assert trial.figures.by_name[kind] == pytest.approx(share)
        sent = summary["bytes_up"] + summary["bytes_down"]
        assert trial.figures.bytes == pytest.approx(sent / dense_sent)
        assert trial.figures.params <= 0.6
        assert (folder / "report.html").is_file()
        assert [r for r, _ in trial.rungs] == list(
            stopping.rungs(load_config(folder / "config.toml"))
        )
    small = searched / "one" / record.trials[1].run
    assert len(events(small, NetworkRestarted)) == 1
    drops = [t.figures.drop for t in record.trials]
    accuracies = [t.figures.accuracy for t in record.trials]
    for drop, accuracy in zip(drops, accuracies, strict=True):
        assert drop == pytest.approx(
            100 * (record.reference.accuracy - accuracy), abs=1
        )


def test_no_run_of_a_search_has_a_figure_of_the_test_data(searched):
    record = read_record(searched / "one")
    names = [record.reference.run, *(one.run for one in record.trials)]
    for name in names:
        folder = searched / "one" / name
        summary = json.loads((folder / "summary.json").read_text())
        keys = ("accuracy_final", "loss_final", "accuracy_before_cut")
        assert [summary[key] for key in keys] == [None] * 3
        assert summary["metrics_final"] == {}
        assert summary["metric"] == "accuracy"
        found = events(folder, RoundFinished)
        assert {event.accuracy for event in found} == {None}
        assert None not in {event.validation_accuracy for event in found}


def test_other_test_data_change_nothing(searched):
    data = write_data(searched / "other.npz", test_seed=1)
    assert tune(*options(searched / "two", data), "--trials", 3) == 0
    assert without_names(searched / "two") == without_names(searched / "one")


def test_the_recommended_file_is_whole_and_its_run_ends_with_the_trials_network(
    searched, tmp_path
):
    record = read_record(searched / "one")
    path = searched / "one" / "recommended.toml"
    text = path.read_text()
    assert text.startswith("# Recommended by fedprune tune: trial ")
    (trial,) = (t for t in record.trials if t.number == record.recommended)
    folder = searched / "one" / trial.run
    quiet = {"run.evaluate_every": 0, "run.controls": []}
    own = load_config(path)
    assert own.run.evaluate_every == 1
    assert own.run.dir == load_config().run.dir
    assert own.run.name == ""
    assert config_digest(load_config(path, quiet)) == config_digest(
        load_config(folder / "config.toml")
    )
    result = runs.run(load_config(path, {"run.dir": str(tmp_path)}))
    before = json.loads((folder / "summary.json").read_text())
    assert result.summary["model_sha256"] == before["model_sha256"]
    assert result.summary["accuracy_final"] is not None


def test_a_search_that_is_interrupted_goes_on_to_the_same_end(
    searched, monkeypatch, capsys
):
    folder, data = searched / "three", searched / "data.npz"
    play, played = runs.run, []

    def interrupted(config, *, ray_address, progress):
        class Stop:
            def on_event(self, event):
                progress.on_event(event)
                if isinstance(event, RoundFinished) and event.round == 3:
                    raise KeyboardInterrupt

        played.append(config.run.name)
        last = config.run.name == "trial-002"
        shown = Stop() if last else progress
        return play(config, ray_address=ray_address, progress=shown)

    monkeypatch.setattr(runs, "run", interrupted)
    assert tune(*options(folder, data), "--trials", 2) == 130
    assert f"fedprune tune --resume {folder}" in capsys.readouterr().err
    record = read_record(folder)
    assert [one.status for one in record.trials] == ["done", "running"]
    assert record.trials[1].run != ""
    assert played == ["dense", "trial-001", "trial-002"]
    assert tune("--resume", folder, "--trials", 3) == 0
    # The run that was interrupted was resumed, and nothing was played again.
    assert played[3:] == ["trial-003"]
    assert without_names(folder) == without_names(searched / "one")


def test_a_finished_search_says_what_it_found_and_plays_nothing(
    searched, monkeypatch, capsys
):
    monkeypatch.setattr(runs, "run", lambda *_a, **_k: pytest.fail("played"))
    before = (searched / "one" / "trials.json").read_bytes()
    assert tune("--resume", searched / "one") == 0
    assert "recommended" in capsys.readouterr().out
    assert (searched / "one" / "trials.json").read_bytes() == before
    assert tune("--resume", searched / "one", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recommended"] == read_record(searched / "one").recommended
    assert tune("--resume", searched / "one", "--quiet") == 0
    said = capsys.readouterr().out.strip()
    assert said == str(searched / "one" / "recommended.toml")
    assert tune("--resume", searched / "one", "--trials", 2) == 2
    assert "has 3 already" in capsys.readouterr().err


def fake_run(monkeypatch, searched, fail):
    """Replace runs by those of a finished search; some trials fail."""
    record = read_record(searched / "one")
    names = [record.reference.run, *(one.run for one in record.trials)]

    def run(config, *, ray_address, progress):
        fail(config)
        place = 0 if config.run.name == "dense" else int(config.run.name[-3:])
        target = Path(config.run.dir) / names[place]
        if not target.exists():
            target.symlink_to((searched / "one" / names[place]).resolve())
        return runs.RunResult(directory=target, summary={})

    monkeypatch.setattr(runs, "run", run)


def test_a_trial_that_fails_is_one_line_and_not_the_end(searched, monkeypatch, capsys):
    def fail(config):
        if config.run.name == "trial-002":
            message = "bad\nluck"
            raise ValueError(message)

    fake_run(monkeypatch, searched, fail)
    folder = searched / "four"
    assert tune(*options(folder, searched / "data.npz"), "--trials", 3) == 0
    record = read_record(folder)
    assert [one.status for one in record.trials] == ["done", "failed", "done"]
    assert record.trials[1].reason == "ValueError: bad\\nluck"
    assert "trial 2/3: failed: ValueError: bad\\nluck" in capsys.readouterr().out


def test_where_all_trials_fail_the_search_fails_with_the_first_reason(
    searched, monkeypatch, capsys
):
    def fail(config):
        if config.run.name != "dense":
            message = "no luck"
            raise ValueError(message)

    fake_run(monkeypatch, searched, fail)
    folder = searched / "five"
    assert (
        tune(*options(folder, searched / "data.npz"), "--trials", 2)
        == FedPruneError.exit_code
    )
    assert "the first one: ValueError: no luck" in capsys.readouterr().err


def test_a_trial_that_is_clearly_worse_is_stopped_at_a_rung(
    searched, monkeypatch, capsys
):
    rungs = []

    def worse(ours, rivals, *, higher):
        rungs.append([one.number for one in rivals])
        return rivals[0] if rivals else None

    monkeypatch.setattr(stopping, "clearly_worse", worse)
    folder, data = searched / "six", searched / "data.npz"
    words = options(folder, data)
    words[words.index(TARGET)] = "params<=0.6"
    # Of equal phases and budget, so that the third trial has the first as a rival.
    words += ["--set", "prune.max_accuracy_drop=0.9"]
    assert tune(*words, "--trials", 2) == 0
    record = read_record(folder)
    assert [one.status for one in record.trials] == ["done", "stopped"]
    assert rungs == [[], [], [1]]
    first = stopping.rungs(load_config(folder / record.trials[1].run / "config.toml"))
    assert f"after round {first[0]} clearly worse than trial 1" in (
        record.trials[1].reason
    )
    assert record.recommended == 1
    assert "stopped: after round" in capsys.readouterr().out
    path = folder / record.trials[1].run
    assert not (path / "summary.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], 'want a target, such as --target "accuracy_drop<=0.5'),
        (["--target", "params<1"], "want NAME<=NUMBER"),
        (["--target", "size<=1", "--set", "rounds.cuts=0"], "rounds.cuts is 0"),
        (
            ["--target", "size<=1", "--set", "client.validation=0.0"],
            "client.validation is 0",
        ),
        (
            ["--target", "size<=1", "--set", "privacy.epsilon=8.0"],
            "each trial would spend it again",
        ),
        (["--resume", "there", "--target", "size<=1"], "want no FILE.toml"),
        (["--resume", "there"], "is not the folder of a search"),
        (["--target", "size<=1", "--output", "."], "is not empty"),
    ],
)
def test_a_wrong_call_is_one_line_before_anything_runs(
    tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    controls = ["--set", "run.controls=[]"] if "privacy.epsilon=8.0" in words else []
    assert tune(*words, *controls) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_damaged_record_and_code_of_others_are_refused(searched, tmp_path, capsys):
    record = json.loads((searched / "one" / "trials.json").read_text())
    (tmp_path / "trials.json").write_text(json.dumps(record | {"trials_wanted": -1}))
    assert tune("--resume", tmp_path) == 6
    assert "trials_wanted" in capsys.readouterr().err
    # The name of a run folder leads nowhere else.
    record["trials"][0]["run"] = "../../elsewhere"
    (tmp_path / "trials.json").write_text(json.dumps(record))
    assert tune("--resume", tmp_path) == 6
    assert "trials.0.run" in capsys.readouterr().err
    record["trials"][0]["run"] = ""
    record["search"] = "another"
    (tmp_path / "trials.json").write_text(json.dumps(record))
    (tmp_path / "base.toml").write_bytes((searched / "one" / "base.toml").read_bytes())
    assert tune("--resume", tmp_path) == 2
    assert "pass --trust-code" in capsys.readouterr().err


def test_a_changed_configuration_or_other_data_are_no_part_of_a_search(
    searched, tmp_path, capsys
):
    names = ("trials.json", "base.toml")
    for name in names:
        (tmp_path / name).write_bytes((searched / "one" / name).read_bytes())
    base = (tmp_path / "base.toml").read_text()
    (tmp_path / "base.toml").write_text(base.replace("epochs = 1", "epochs = 2"))
    assert tune("--resume", tmp_path, "--trust-code") == 6
    assert "base.toml was changed since the search started" in capsys.readouterr().err
    record = read_record(searched / "one")
    trial = searched / "one" / record.trials[0].run
    reference = tmp_path / "dense"
    shutil.copytree(searched / "one" / record.reference.run, reference)
    assert measured(trial, reference) == record.trials[0].figures
    manifest = json.loads((reference / "manifest.json").read_text())
    changed = manifest | {"data_fingerprint": "0" * 32}
    (reference / "manifest.json").write_text(json.dumps(changed))
    with pytest.raises(IntegrityError, match="data_fingerprint changed"):
        measured(trial, reference)


def test_a_latency_in_the_target_is_measured_once_and_cut_to(
    searched, tmp_path, monkeypatch
):
    made = []

    def profile(_model, structure, _example, **_more):
        made.append(table_of(structure, step=4))
        return made[-1]

    monkeypatch.setattr(latency_table, "profile", profile)
    words = options(tmp_path / "out", searched / "data.npz")
    words[words.index(TARGET)] = "latency<=0.5"
    assert tune(*words, "--trials", 1) == 0
    assert len(made) == 1
    record = read_record(tmp_path / "out")
    assert record.meets_target
    assert 0.3 < record.trials[0].figures.latency <= 0.5
    own = load_config(tmp_path / "out" / "recommended.toml").prune
    assert own.budget.model_dump(exclude_none=True) == {"latency": 0.5}
    assert Path(own.latency_table) == tmp_path / "out" / "latency.json"


def test_a_run_without_evaluation_ends_with_the_same_network(tmp_path):
    data = write_data(tmp_path / "data.npz", test_seed=0)
    settings = {"task.data": f"npz:{data}", "run.controls": ["dense"]}
    plain = run_small(tmp_path / "a", settings)
    quiet = run_small(tmp_path / "b", settings | {"run.evaluate_every": 0})
    assert quiet.summary["model_sha256"] == plain.summary["model_sha256"]
    assert plain.summary["accuracy_final"] is not None
    assert plain.summary["controls"]["dense"]["loss"] is not None
    assert quiet.summary["accuracy_control"] is None
    assert quiet.summary["controls"]["dense"]["accuracy"] is None
    assert quiet.summary["verdict"] == plain.summary["verdict"]
    assert "validation" in (quiet.directory / "report.html").read_text()
