"""The Python API: what is handed over is checked first, each fault in one line."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fedprune
from fedprune.common.config import Config, load_config
from fedprune.common.data.npz import read_npz
from fedprune.common.errors import ConfigError, DataError, FedPruneError, RoundError
from fedprune.common.tasks.task import Task
from fedprune.simulations.runs import api
from fedprune.simulations.runs.api import simulate
from fedprune.simulations.runs.handed_data import read_arrays, stored
from fedprune.simulations.runs.notebook.result import RunResult
from fedprune.simulations.runs.progress import LineProgress

X = np.random.default_rng(0).normal(size=(30, 1, 4, 4)).astype(np.float32)
Y = np.arange(30) % 3
DATA = (X, Y, X[:9], Y[:9])


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


class Untouchable:
    """Must never be pickled."""

    def __reduce__(self):
        raise AssertionError


def with_first(x):
    return (x, *DATA[1:])


def ragged():
    return [[1.0], [2.0, 3.0]]


BAD_DATA = {
    "objects": (with_first(np.array([Untouchable()])), "x_train holds object; want pl"),
    "ragged rows": (
        with_first(np.array(ragged(), dtype=object)),
        "x_train holds object; want plain numbers",
    ),
    "ragged lists": (with_first(ragged()), "x_train cannot be made an array: its ent"),
    "text": ((X, np.array(["a"] * 30), X, Y), "y_train holds <U1; want plain numbers"),
    "nothing": ((X, Y, X, None), "y_test holds object"),
    "complex numbers": (with_first(X + 1j), "x_train holds complex64"),
    "dates": (with_first(np.zeros(3, "datetime64[s]")), "x_train holds datetime64"),
    "masked numbers": (
        with_first(np.ma.masked_less(X, 0)),
        "x_train has masked entries",
    ),
    "a tensor of a type that NumPy has not": (
        with_first(torch.zeros(3, 2).bfloat16()),
        "x_train cannot be made an array: ",
    ),
    "a sparse tensor": (
        with_first(torch.eye(3).to_sparse()),
        "x_train cannot be made an array: ",
    ),
    "other lengths": ((X, Y[:5], X, Y), "30 inputs but 5 targets"),
    "a negative class": ((X, Y - 1, X, Y), "classes run from -1"),
    "numbers that are not finite": (with_first(X * np.nan), "not finite"),
    "no examples": (with_first(X[:0]), "x_train has shape"),
}
NOT_FOUR = {
    "three arrays": (DATA[:3], "data holds 3 arrays; want a tuple x_train, y_train, x"),
    "pairs": (((X, Y), (X, Y)), "data holds 2 arrays; want"),
    "a name": ("digits", "data: found str, want"),
    "a mapping": ({"x_train": X}, "data: found dict, want"),
    "one array": (X, "data: found ndarray, want"),
    "a generator": ((part for part in DATA), "data: found generator, want"),
}
BAD_MODELS = {
    "a network": (net, True, "model: found Sequential, want a function without arg"),
    "a number": (lambda: 3, True, "model: found int, want a function"),
    "a factory of numbers": (lambda: 3, False, "'<lambda>' returned int; want nn.Modu"),
    "a factory of nothing": (lambda: None, False, "returned NoneType; want nn.Module"),
    "a factory that fails": (lambda: 1 / 0, False, "failed: ZeroDivisionError: divis"),
    "a factory with arguments": (nn.Linear, False, "'Linear' failed: TypeError: "),
}


@pytest.mark.parametrize(("data", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused_by_name_and_leaves_no_file(data, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        simulate(net, data, {"run.dir": tmp_path / "runs"})
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("data", "message"), NOT_FOUR.values(), ids=NOT_FOUR)
def test_what_is_no_tuple_of_four_arrays_is_refused(data, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        simulate(net, data, {"run.dir": tmp_path / "runs"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("factory", "made", "message"), BAD_MODELS.values(), ids=BAD_MODELS
)
def test_what_makes_no_network_is_refused_and_leaves_nothing(
    factory, made, message, tmp_path
):
    model = factory() if made else factory
    settings = {"run.dir": tmp_path / "runs", "run.engine": "inprocess"}
    with pytest.raises(ConfigError, match=message) as caught:
        simulate(model, DATA, settings)
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_ours_in_a_factory_keeps_its_words(tmp_path):
    def factory():
        message = "no such file of weights"
        raise DataError(message)

    with pytest.raises(DataError, match=r"^no such file of weights$"):
        simulate(factory, DATA, {"run.dir": tmp_path})


@pytest.mark.parametrize("place", ["/proc/none/runs", "a file"])
def test_a_run_folder_that_cannot_be_made_is_named(place, tmp_path):
    (tmp_path / "file").touch()
    place = str(tmp_path / "file/runs") if place == "a file" else place
    with pytest.raises(ConfigError, match=f"cannot make the .*folder {place}"):
        simulate(net, DATA, {"run.dir": place})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"config": ["a"]}, "found list, want the path of a configuration"),
        ({"config": 3}, "found int, want the path of a configuration"),
        ({"config": "none.toml"}, "cannot read none.toml"),
        ({"config": {"task": {"clientz": 3}}}, "Python settings: task.clientz: unk"),
        ({"progress": print}, "progress: found .*, want True, False or an object with"),
        ({"resume_from": 3}, "found int, want the path of a run folder"),
        ({"resume_from": "none"}, "none: no such run folder"),
        ({"resume_from": "none", "config": {}}, "want no data and no config beside it"),
        ({"resume_from": "none", "data": DATA}, "want no data and no config beside it"),
    ],
)
def test_a_call_that_cannot_work_is_one_line(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        simulate(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def calls(monkeypatch):
    """What the run is started with."""
    made = []
    monkeypatch.setattr(api, "run", lambda config, **more: made.append((config, more)))
    monkeypatch.setattr(
        api, "resume", lambda folder, **more: made.append((folder, more))
    )
    return made


def test_paths_may_be_strings(calls, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[run]\nseed = 7\n")
    simulate(config=str(path), progress=False)
    simulate(config=path, progress=False)
    simulate(resume_from=str(tmp_path), progress=False)
    assert calls[0] == calls[1]
    assert calls[0][0].run.seed == 7
    assert calls[2][0] == tmp_path


def test_a_configuration_is_taken_as_it_is_and_none_is_the_default(calls):
    config = Config()
    simulate(config=config)
    simulate()
    assert calls[0][0] is config
    assert calls[1][0] == load_config()


def test_tensors_with_gradients_lists_and_arrays_are_the_same_data(calls, tmp_path):
    tensors = (torch.tensor(X, requires_grad=True), torch.tensor(Y), *DATA[2:])
    for data in (DATA, tensors, [X, Y.tolist(), *DATA[2:]]):
        simulate(net, data, {"run.dir": tmp_path})
    assert len({config.task.data for config, _ in calls}) == 1
    (path,) = tmp_path.iterdir()
    assert calls[0][0].task.data == f"npz:{path}"
    np.testing.assert_array_equal(read_npz(path).x_train, X)


def test_the_checked_factory_travels_to_workers_and_makes_the_network(calls):
    simulate(net)
    factory = pickle.loads(pickle.dumps(calls[0][1]["factory"]))  # noqa: S301
    assert isinstance(factory(), nn.Sequential)


def fail_with(error, folder, started=""):
    """Store the data for a run that fails; return where they were."""
    with stored(DATA, folder) as path:
        assert path.is_file()
        if started:
            (folder / started).mkdir()
            (folder / started / "config.toml").write_text(f'data = "npz:{path}"\n')
        raise error(str(path))


def test_data_stay_when_a_run_was_started_with_them(tmp_path):
    with pytest.raises(RoundError) as caught:
        fail_with(RoundError, tmp_path, started="run")
    assert Path(str(caught.value)).is_file()


def test_data_that_were_there_before_a_refusal_stay(tmp_path):
    with stored(DATA, tmp_path) as path:
        pass
    with pytest.raises(ConfigError):
        fail_with(ConfigError, tmp_path)
    assert path.is_file()


@pytest.mark.parametrize("error", [ConfigError, KeyboardInterrupt])
def test_data_of_a_refused_run_go_and_so_does_a_folder_made_for_them(error, tmp_path):
    with pytest.raises(error):
        fail_with(error, tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_half_written(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedprune.common.data.npz.npy.write_array", full)
    with pytest.raises(FedPruneError, match="no space left for"):
        simulate(net, DATA, {"run.dir": tmp_path / "runs"})
    assert list((tmp_path / "runs").glob("*")) == []


def test_arrays_are_read_by_name():
    assert list(read_arrays(DATA)) == ["x_train", "y_train", "x_test", "y_test"]


def test_the_front_door_names_what_is_public():
    assert dir(fedprune) == sorted(fedprune.__all__)
    assert {"simulate", "load_model", "load_config", "Config"} <= set(dir(fedprune))


def test_a_model_file_may_be_named_by_a_string(tmp_path):
    for name in ("model.fpz", "model.safetensors"):
        with pytest.raises(FedPruneError, match=f"{name}: cannot be read"):
            fedprune.load_model(str(tmp_path / name))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"task.model": "mlp"}, "model"), ({"task.data": "digits"}, "data")],
)
def test_what_is_handed_over_and_set_too_is_refused(settings, key, tmp_path):
    with pytest.raises(ConfigError, match=rf"^{key} is handed over and task\.{key} is"):
        simulate(net, DATA, settings | {"run.dir": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []


def test_progress_is_shown_by_default_and_can_be_switched_off(calls):
    simulate()
    simulate(progress=False)
    assert isinstance(calls[0][1]["progress"], LineProgress)
    assert calls[1][1]["progress"] is None


def test_a_result_is_a_table_in_a_notebook_with_all_text_escaped(tmp_path):
    summary = {"metric": "<b>f1</b>", "accuracy_final": 0.5, "warnings": ["<script>"]}
    shown = RunResult(directory=tmp_path, summary=summary)._repr_html_()
    assert "<td>0.5000</td>" in shown
    assert "&lt;b&gt;f1&lt;/b&gt;" in shown
    assert "&lt;script&gt;" in shown
    assert "<script" not in shown


class OwnData(Task):
    def train_data(self, client):
        raise AssertionError(client)


def test_data_beside_a_task_with_data_is_refused(calls):
    with pytest.raises(ConfigError, match="data of its own"):
        simulate(OwnData(), DATA)
    assert calls == []
