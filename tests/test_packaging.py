import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("client", "common", "server", "simulations")

pytestmark = pytest.mark.slow


def run(*command, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("fedprune-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    command = ["-m", "pip", "install", "--no-deps", "--no-index", "--target", folder]
    run(*command, wheel, cwd=folder)
    return folder


def test_the_wheel_holds_the_four_packages_and_the_front_door_only(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    code = [name for name in names if ".dist-info/" not in name]
    assert {name.partition("/")[0] for name in code} == {*PACKAGES, "fedprune.py"}
    assert not [name for name in code if "__pycache__" in name]
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_holds_every_module(wheel):
    modules = {"fedprune.py"}
    for package in PACKAGES:
        files = (ROOT / package).rglob("*.py")
        modules |= {path.relative_to(ROOT).as_posix() for path in files}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


def test_an_edge_install_does_not_require_ray(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
    lines = archive.read(name).decode().splitlines()
    wanted = [line for line in lines if line.startswith("Requires-Dist: ")]
    core = " ".join(line for line in wanted if "extra ==" not in line)
    assert "torch" in core
    for heavy in ("ray", "simulation", "matplotlib", "onnx", "pytest", "scikit"):
        assert heavy not in core


def test_the_installed_command_works_outside_the_checkout(installed, tmp_path):
    script = installed / "bin" / "fedprune"
    text = run(script, "doctor", "--json", cwd=tmp_path, PYTHONPATH=str(installed))
    found = json.loads(text)
    assert found["usable"]
    details = {check["name"]: check["detail"] for check in found["checks"]}
    assert details["fedprune"].endswith(f" in {installed}")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_package_can_be_imported_by_its_front_door(installed, tmp_path):
    code = "import fedprune, common; print(common.__file__)"
    found = run("-c", code, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(found.strip()) == installed / "common" / "__init__.py"
