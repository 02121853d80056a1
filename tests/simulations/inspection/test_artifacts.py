"""Inspection: a run, a model, a plan, and what is none of them."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.finished_run import a_run
from helpers.some_events import CUT, ROLLBACK, ROUND, STARTED, at
from helpers.tiny_federation import make_setting, make_task, start

from fedprune.common.artifacts import write_model_file, write_plan_file
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.spec import PrunePlan, TensorSpec
from fedprune.common.structure.structure import DimUnits, PruningGroup, Structure
from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.runs.checkpoint import Checkpoints
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.inspection.artifacts import (
    inspect_path,
    refuse_damage,
    render,
)
from fedprune.simulations.inspection.tensors import in_order


def started(base):
    folder = RunFolder.create(base, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, groups={"x": 8, "y": 4}))
        log.write(at(ROUND, 1, bytes_up=300))
        for widths in ({"x": 6, "y": 4}, {"x": 2, "y": 2}):
            log.write(at(CUT, 1, widths=widths, params=700, density=0.7))
        log.write(at(ROLLBACK, 1))
    return folder


def test_a_stopped_run_is_resumable_and_tells_what_stands(tmp_path):
    folder = started(tmp_path)
    info = inspect_path(folder.path)
    assert (info["kind"], info["status"], info["pid"]) == ("run", "resumable", None)
    assert info["widths"] == {"x": 6, "y": 4}
    assert [cut["undone"] for cut in info["cuts"]] == [False, True]
    assert info["summary"]["bytes_up"] == 300
    assert "events.jsonl" in info["files"]
    text = render(info)
    assert f"fedprune simulate --resume {folder.path}" in text
    assert "700 parameters, 70.0 %, rolled back" in text


def checkpoints(folder, run="main"):
    kept, task = Checkpoints(folder.checkpoints, run, "x"), make_task()
    state = start(task, make_setting(task))
    for round_ in (1, 2):
        kept.write(replace(state, round=round_))
    return sorted(folder.checkpoints.glob(f"{run}-round-*"))


def test_a_damaged_checkpoint_is_named_and_the_run_can_go_on(tmp_path, capsys):
    folder = started(tmp_path)
    newest = checkpoints(folder)[-1]
    assert inspect_path(folder.path)["damage"] == []
    newest.write_bytes(newest.read_bytes()[:-1])
    info = inspect_path(folder.path)
    assert info["status"] == "resumable"
    assert f"damaged     checkpoint {newest.name} is truncated" in render(info)
    with pytest.raises(IntegrityError, match=newest.name):
        refuse_damage([info])
    assert run_command_line(["inspect", str(folder.path), "--quiet"]) == 6
    assert capsys.readouterr().out == ""


def test_a_file_of_no_run_beside_the_checkpoints_is_no_damage(tmp_path):
    folder = started(tmp_path)
    checkpoints(folder)
    for name in ("main copy", "other"):
        shutil.copy(
            folder.checkpoints / "main-journal.jsonl",
            folder.checkpoints / f"{name}-journal.jsonl",
        )
    info = inspect_path(folder.path)
    assert (info["status"], info["damage"]) == ("resumable", [])


@pytest.mark.parametrize("run", ["main", "dense"])
def test_a_run_whose_checkpoints_are_all_damaged_is_not_resumable(tmp_path, run):
    folder = started(tmp_path)
    checkpoints(folder)
    for part in folder.checkpoints.glob("main-part-*") if run == "main" else ():
        part.write_bytes(b"")
    for path in checkpoints(folder, run) if run != "main" else ():
        path.unlink()
    info = inspect_path(folder.path)
    assert (info["status"], info["resume"]) == ("damaged", "")
    assert "no checkpoint in" in render(info)
    assert "resume with" not in render(info)


def test_a_run_that_is_written_now_is_running(tmp_path):
    folder = started(tmp_path)
    with folder.locked():
        info = inspect_path(folder.path)
    assert info["status"] == "running"
    assert f"(process {info['pid']})" in render(info)


def test_a_finished_run_shows_its_summary(tmp_path):
    folder = started(tmp_path)
    write_json_atomic(
        folder.summary,
        {
            "accuracy_final": 0.95,
            "accuracy_control": 0.96,
            "params_dense": 1000,
            "params_final": 300,
            "bytes_up_control": 50_000,
            "bytes_up": 2_000,
        },
    )
    info = inspect_path(folder.path)
    assert info["status"] == "finished"
    text = render(info)
    for words in ("96.00 % -> 95.00 %", "1,000 -> 300", "50.0 kB -> 2.00 kB"):
        assert words in text


def test_a_regression_shows_r2_as_a_number(tmp_path):
    folder = started(tmp_path)
    summary = {"metric": "r2", "accuracy_final": 0.95, "accuracy_control": 0.96}
    write_json_atomic(folder.summary, summary)
    text = render(inspect_path(folder.path))
    assert "  R²          0.9600 -> 0.9500" in text
    assert "accuracy" not in text


def test_a_run_of_devices_shows_the_score_of_validation(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 1, accuracy=None))
    summary = {"metric": "r2", "validation_accuracy_final": 0.45}
    write_json_atomic(folder.summary, summary)
    text = render(inspect_path(folder.path))
    assert "validation  – -> 0.4500" in text  # noqa: RUF001 - the report's dash


def test_a_run_that_never_began_can_be_inspected(tmp_path):
    info = inspect_path(RunFolder.create(tmp_path, "a").path)
    assert info["cuts"] == []
    assert "resumable" in render(info)


def test_a_model_tells_shapes_and_zeros_of_each_tensor(tmp_path):
    path = tmp_path / "m.safetensors"
    meta = {
        "plan": "00" * 16,
        "structure": "11" * 16,
        "model": "mlp",
        "input_shape": "[4]",
        "num_outputs": "2",
        "structure_json": "long" * 1000,
    }
    tensors = {
        "w": np.array([[0, 1, 2, 0]], np.float32),
        "n": np.array(5, np.int64),
    }
    write_model_file(path, tensors, meta)
    info = inspect_path(path)
    assert info["kind"] == "model"
    by_name = {row["name"]: row for row in info["tensors"]}
    assert by_name["w"]["shape"] == [1, 4]
    assert by_name["w"]["zeros"] == 0.5
    assert by_name["n"]["shape"] == []
    assert info["entries"] == 5
    text = render(info)
    assert "1x4" in text
    assert "50.0 %" in text
    assert "longlong" not in text


def test_a_plan_tells_kept_and_total_of_each_group(tmp_path):
    units = np.arange(4, dtype=np.int32)
    group = PruningGroup(name="conv", units=units, producers=("conv.weight",), norms=())
    structure = Structure(
        tensors=(TensorSpec(name="conv.weight", shape=(4, 1)),),
        moments=(),
        units=4,
        dims=(DimUnits(tensor="conv.weight", dim=0, units=units),),
        groups=(group,),
        attributes=(),
        multiplies={},
    )
    keep = np.array([True, False, False, True])
    plan = PrunePlan(structure=structure.digest, keep=keep)
    write_plan_file(tmp_path / "plan.json", plan, structure)
    info = inspect_path(tmp_path / "plan.json")
    assert (info["kind"], info["kept"], info["of"]) == ("plan", 2, 4)
    assert info["groups"]["conv"] == {"kept": 2, "of": 4, "channels": [0, 3]}
    assert info["digest"] == plan.digest.hex()
    assert "2 of 4 kept" in render(info)


def test_what_is_found_is_plain_json(tmp_path):
    info = inspect_path(started(tmp_path).path)
    assert json.loads(json.dumps(info)) == info


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("absent", None, ConfigError),
        ("x.json", b"{}", IntegrityError),
        ("x.safetensors", b"abc", IntegrityError),
        ("x.pt", b"PK\x03\x04", IntegrityError),
        ("x.bin", b"\x80\x02weights", IntegrityError),
        ("x.csv", b"round,loss\n1,0.5\n", IntegrityError),
        ("x.py", b"print('a text')\n", IntegrityError),
        ("x.png", b"\x89PNG and more", IntegrityError),
        ("x.npz", b"PK\x03\x04", IntegrityError),
        ("x.toml", b"[run]\nsed = 1\n", ConfigError),
    ],
)
def test_what_is_none_of_them_is_refused(tmp_path, name, data, error):
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=name.replace(".", r"\.")):
        inspect_path(tmp_path / name)


def test_a_folder_that_is_no_run_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="not a run folder"):
        inspect_path(tmp_path)


@pytest.mark.parametrize("name", ["x.fpz", "x.fpu", "x.safetensors"])
@pytest.mark.parametrize("data", [b"x", bytes(300)])
def test_a_broken_file_is_named_in_one_line(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=rf"^{tmp_path / name}: (?!.*unpack)"):
        inspect_path(tmp_path / name)


def test_an_empty_file_and_what_is_no_file_are_told_as_such(tmp_path):
    for name in ("x.fpz", "x.fpu", "x.safetensors"):
        (tmp_path / name).touch()
        with pytest.raises(IntegrityError, match=f"{name}: the file is empty$"):
            inspect_path(tmp_path / name)
    with pytest.raises(ConfigError, match=r"^/dev/null: not a plain file; want a run"):
        inspect_path(Path("/dev/null"))


def test_a_model_shows_labels_preprocessing_and_its_tensors_in_order(tmp_path):
    facts = Description(labels=("cat", "dog"), offset=1.0, scale=2.0, stored="uint8")
    folder, model = a_run(tmp_path, description=facts)
    path = folder.model / "final.safetensors"
    info = inspect_path(path)
    found, wanted = [row["name"] for row in info["tensors"]], list(model.state_dict())
    counters = [name for name in wanted if name.endswith("num_batches_tracked")]
    assert counters
    assert [x for x in found if x not in counters] == [
        x for x in wanted if x not in counters
    ]
    assert info["labels"] == ["cat", "dog"]
    text = render(info)
    assert "labels      cat, dog" in text
    assert "prepared    (x - 1) * 2 for uint8 values 0..255" in text


def test_without_a_structure_tensors_are_sorted_as_numbers_are_read(tmp_path):
    names = ["b.10.w", "b.9.w", "b.²", "a"]
    tensors = {name: np.zeros(1, np.float32) for name in names}
    meta = {"plan": "00" * 16, "structure": "11" * 16}
    found = in_order(tmp_path / "m.safetensors", tensors, meta)
    assert [name for name, _ in found] == ["a", "b.9.w", "b.10.w", "b.²"]


def test_a_configuration_of_any_name_shows_what_is_not_the_default(tmp_path):
    path = tmp_path / "fedprune.toml"
    path.write_text("[run]\nseed = 3\n")
    found = inspect_path(path)
    assert found["rows"] == [["run.seed", "3"]]
    assert f"configuration, what is not the default {path}" in render(found)


def test_a_part_that_lists_the_clients_is_read(tmp_path):
    data = b'["client-000", "client-001"]'
    name = f"main-part-{hashlib.sha256(data).hexdigest()}.safetensors"
    (tmp_path / name).write_bytes(data)
    found = inspect_path(tmp_path / name)
    assert found["what"] == "part of a checkpoint"
    assert found["rows"] == [["clients", "client-000, client-001"]]
    (tmp_path / name).write_bytes(data + b" ")
    with pytest.raises(IntegrityError, match="SHA-256 differs"):
        inspect_path(tmp_path / name)


def test_the_lock_and_a_profile_of_a_run_are_read(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with folder.locked():
        pass
    (tmp_path / "activities.json").write_text('{"format": "fedprune-profile/1"}')
    (tmp_path / "speedscope.json").write_text('{"profiles": [1, 2]}')
    assert inspect_path(folder.lock_file)["rows"] == [["held by", "none"]]
    assert inspect_path(tmp_path / "speedscope.json")["rows"] == [["profiles", "1, 2"]]
    rows = inspect_path(tmp_path / "activities.json")["rows"]
    assert rows == [["format", "fedprune-profile/1"]]


def test_weights_beside_an_openvino_network_are_called_so(tmp_path):
    for name in ("net.bin", "net.xml"):
        (tmp_path / name).write_bytes(b"<net/>")
    found = inspect_path(tmp_path / "net.bin")
    assert found["what"] == "weights of an OpenVINO network"
    assert found["rows"] == [["network", "net.xml"]]
