import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fedprune
from fedprune.simulations import doctor
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.doctor import Level, examine, render, usable

_find = importlib.util.find_spec


@pytest.fixture
def light(monkeypatch, tmp_path):
    """Leave out the slow imports of optional packages; work in an empty folder."""
    monkeypatch.setattr(doctor, "_OPTIONAL", {"ray": "simulations on Ray"})
    monkeypatch.setattr(doctor, "_NEEDED", ("numpy", "msgpack"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPRUNE_DATA", raising=False)


def hide(monkeypatch, name):
    def find_spec(asked, package=None):
        return None if asked == name else _find(asked, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def named(checks):
    return {check.name: check for check in checks}


def test_a_machine_without_ray_is_usable_and_told_what_is_missing(light, monkeypatch):
    hide(monkeypatch, "ray")
    checks = examine()
    assert named(checks)["ray"].level is Level.NOTE
    assert named(checks)["ray"].detail == "not installed: needed for simulations on Ray"
    assert usable(checks)


def test_a_machine_without_numpy_is_not_usable(light, monkeypatch, capsys):
    hide(monkeypatch, "numpy")
    assert run_command_line(["doctor"]) == 2
    out = capsys.readouterr().out
    assert "error  numpy" in out
    assert out.endswith("not usable: 1 error(s)\n")


def test_a_package_that_does_not_import_is_told(light, monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("raise OSError('no\\nlibrary')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_NEEDED", ("broken_package",))
    check = named(examine())["broken_package"]
    assert check.level is Level.ERROR
    assert check.detail.endswith("does not import: OSError: no library")


@pytest.mark.slow
def test_torch_and_flower_are_imported_only_when_asked():
    code = "import sys; from fedprune.simulations.doctor import examine; "
    code += "examine(); print(*({'torch', 'flwr', 'ray'} & {*sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == []


def test_libraries_of_a_heavy_package_that_do_not_load_are_told(
    light, monkeypatch, tmp_path
):
    folder = tmp_path / "broken_heavy"
    (folder / "lib").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "lib" / "libtorch_python.so").write_text("no library")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_HEAVY", ("broken_heavy", "not_there_at_all"))
    found = named(examine())
    assert found["broken_heavy"].level is Level.ERROR
    assert "does not load" in found["broken_heavy"].detail
    assert found["not_there_at_all"].level is Level.ERROR
    assert not usable(examine())


def test_extras_are_imported_only_when_asked(light, monkeypatch, tmp_path):
    (tmp_path / "broken_extra.py").write_text("raise OSError('no library')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "_OPTIONAL", {"broken_extra": "plots"})
    assert named(examine())["broken_extra"].level is Level.OK
    check = named(examine(full=True))["broken_extra"]
    assert check.level is Level.NOTE
    assert check.detail.endswith("does not import: OSError: no library")
    assert usable(examine(full=True))


def test_it_says_which_installation_runs(light):
    check = named(examine())["fedprune"]
    assert check.level is Level.OK
    assert check.detail.endswith(f" in {Path(fedprune.__file__).parent}")


def test_json_holds_every_check(light, capsys):
    assert run_command_line(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["usable"] is True
    names = {check["name"] for check in found["checks"]}
    assert {"python", "fedprune", "numpy", "cores", "memory", "run folder"} <= names


def test_a_wrong_data_folder_is_told(light, monkeypatch):
    monkeypatch.setenv("FEDPRUNE_DATA", "/nowhere/at/all")
    check = named(examine())["data"]
    assert check.level is Level.NOTE
    assert check.detail == "FEDPRUNE_DATA is /nowhere/at/all, which is not a folder"


def test_the_verdict_comes_last(light):
    assert render(examine()).splitlines()[-1] == "usable"


def test_nothing_is_left_in_the_working_folder(light, tmp_path):
    examine()
    assert list(tmp_path.iterdir()) == []
