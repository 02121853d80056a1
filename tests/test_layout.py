import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest
import yaml

import fedprune

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("client", "common", "server", "simulations")
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "client",
    "common",
    "constraints.txt",
    "docs",
    "examples",
    "pyproject.toml",
    "server",
    "simulations",
    "src",
    "tests",
}
MOST_LINES = 450
MOST_FILES = 13
# Reading any of these formats can run code that somebody else wrote.
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
BANNED_CALLS = {"torch.load", "torch.save", "np.load", "numpy.load", "joblib.load"}
BANNED_CALLS |= {"eval", "exec"}


def sources():
    folders = [ROOT / "src" / "fedprune", *(ROOT / name for name in PACKAGES)]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def dotted(node):
    """Return "a.b.c" of an expression made of names and dots, else ""."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def banned_in(text):
    """Return what a source text must not use, as "line: name"."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = [module.partition(".")[0]]
            names += [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            names = [dotted(node.func)]
        banned = BANNED_MODULES | BANNED_CALLS
        found += [f"{node.lineno}: {name}" for name in names if name in banned]
    return found


def tracked():
    """Return the names at the top level that git knows."""
    done = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return {line.partition("/")[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_a_relative_link_under_the_one_import_name(name):
    link = ROOT / "src" / "fedprune" / name
    assert link.readlink() == Path("..") / ".." / name
    assert link.resolve() == ROOT / name


def test_nothing_is_imported_under_a_bare_name():
    bare = re.compile(rf"^\s*(from|import) ({'|'.join(PACKAGES)})\b", re.MULTILINE)
    files = [*sources(), *(ROOT / "tests").rglob("*.py")]
    files += (ROOT / "examples").rglob("*.py")
    assert [path for path in files if bare.search(path.read_text("utf-8"))] == []
    assert {*PACKAGES} & {*sys.modules} == set()


def test_a_folder_has_few_files_and_a_file_few_lines():
    python = [path for path in sources() if path.name != "__init__.py"]
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in python}
    assert {path: n for path, n in lines.items() if n > MOST_LINES} == {}
    folders = Counter(path.parent for path in sources())
    del folders[ROOT / "simulations" / "benchmarks"]
    del folders[ROOT / "common" / "methods"]  # a new idea is one file there
    assert {path: n for path, n in folders.items() if n > MOST_FILES} == {}


def test_the_top_level_is_exactly_the_agreed_set():
    assert tracked() == TOP_LEVEL


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    released = re.findall(r"^## \[(\d[^\]]*)\]", changelog, flags=re.MULTILINE)
    app = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert released[0] == project["version"] == fedprune.__version__
    assert app["config"]["version"] == fedprune.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == fedprune.__version__
    assert citation["license"] == project["license"]


@pytest.mark.slow
def test_nothing_reads_a_format_that_can_run_code():
    found = {str(path): banned_in(path.read_text("utf-8")) for path in sources()}
    assert len(found) > len(PACKAGES)
    # The user's own function: its file is compiled from the bytes that were read.
    own = found.pop(str(ROOT / "common" / "user_code.py"))
    assert [line.partition(": ")[2] for line in own] == ["exec"]
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "import os, pickle as p",
        "from pickle import loads",
        "from torch import load",
        "torch.load(path)",
        "x = [np.load(path) for path in y]",
        "eval(text)",
    ],
)
def test_the_search_for_such_formats_finds_them(text):
    assert len(banned_in(text)) == 1


def test_constraints_pin_every_direct_dependency():
    text = (ROOT / "constraints.txt").read_text()
    pinned = {name.lower() for name in re.findall(r"^([\w.-]+)==", text, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for group in project["optional-dependencies"].values():
        wanted += group
    names = {re.match(r"[\w.-]+", line).group().lower() for line in wanted}
    names = {name.replace("_", "-") for name in names - {"fedprune"}}
    assert names - {name.replace("_", "-") for name in pinned} == set()
    # A local version ("2.13.0+cpu") exists on one index only.
    assert "+" not in re.sub(r"(?m)^#.*", "", text)


@pytest.mark.slow
def test_what_flower_does_not_document_is_imported_by_few_files():
    public = {"flwr.app", "flwr.serverapp", "flwr.clientapp", "flwr.simulation"}
    found = set()
    # A benchmark runs Flower's own FedAvg, and another counts what Flower sends.
    benchmarks = ROOT / "simulations" / "benchmarks"
    for path in (path for path in sources() if benchmarks not in path.parents):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else ""
            if (module or "").startswith("flwr") and module not in public:
                found.add(path.relative_to(ROOT).as_posix())
    assert found == {
        "client/executor.py",
        "client/supernode.py",
        "server/devices/gate/bounded.py",
        "server/devices/gate/console.py",
        "server/devices/gate/executor.py",
        "server/devices/gate/superlink.py",
        "server/devices/serverapp.py",
        "simulations/engines/flower.py",
    }


# What a test file says that starts Ray or Flower's simulation.
STARTS = re.compile(
    r'on_ray\(|"ray_script"|"impatient"|"flwr", "run"|"run\.engine": "ray"'
    r"|run_example\("
)


def test_what_starts_ray_is_played_by_one_worker(pytestconfig):
    conftest = ROOT / "tests" / "conftest.py"
    alone = pytestconfig.pluginmanager.get_plugin(str(conftest)).ALONE
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("test_*.py")
        if path != Path(__file__) and STARTS.search(path.read_text(encoding="utf-8"))
    }
    started_by_e2e = {name for name in found if name.startswith("tests/e2e/")}
    assert found - started_by_e2e <= alone
    assert all((ROOT / name).is_file() for name in alone)
