import json
import os
import subprocess
import sys
import tarfile
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
    """Return the wheel that an index would build: from the source archive."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (archive,) = folder.glob("fedprune-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    run("-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (path,) = folder.glob("fedprune-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    command = ["-m", "pip", "install", "--no-deps", "--no-index", "--target", folder]
    run(*command, wheel, cwd=folder)
    return folder


def test_an_index_would_take_the_archives(wheel):
    archives = [path for path in wheel.parent.iterdir() if path.is_file()]
    assert {path.suffix for path in archives} == {".gz", ".whl"}
    run("-m", "twine", "check", "--strict", *archives, cwd=wheel.parent)


def code_of(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    return {name for name in names if ".dist-info/" not in name}


def test_the_wheel_of_the_source_archive_holds_what_git_holds(wheel):
    done = subprocess.run(
        ["git", "ls-files", "src/fedprune", *PACKAGES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    links = {f"src/fedprune/{name}" for name in PACKAGES}
    wanted = {
        f"fedprune/{name.removeprefix('src/fedprune/')}"
        for name in done.stdout.splitlines()
        if name not in links
    }
    # Compiled when the wheel is built, where there is a compiler.
    compiled = {"fedprune/common/native/libkernels.so.1"}
    assert code_of(wheel) - compiled == wanted


def test_the_wheel_from_the_checkout_is_the_same(wheel, tmp_path):
    run("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT)
    (direct,) = tmp_path.glob("fedprune-*.whl")
    assert code_of(direct) == code_of(wheel)
    names = zipfile.ZipFile(direct).namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)


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
    assert details["fedprune"].endswith(f" in {installed / 'fedprune'}")
    assert list(tmp_path.iterdir()) == []


ROUND = """
import fedprune
for name in ("client", "server", "common"):
    assert __import__(name).MINE
settings = {
    "task.clients": 2, "rounds.cohort": 2, "rounds.minimum": 2, "rounds.warmup": 0,
    "rounds.sparsify": 1, "rounds.finetune": 0, "rounds.cuts": 1, "rounds.final": 0,
    "client.epochs": 1, "run.engine": "inprocess", "run.controls": [],
}
done = fedprune.simulate(config=settings)
print(fedprune.__file__, done.summary["rounds"] > 0)
"""


def test_a_round_runs_beside_files_of_our_packages_old_names(installed, tmp_path):
    for name in ("client", "server", "common"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "script.py").write_text(ROUND)
    text = run("script.py", cwd=tmp_path, PYTHONPATH=str(installed))
    assert text.split()[-2:] == [str(installed / "fedprune" / "__init__.py"), "True"]
