"""Environment of every test: one thread, no calls home, folders of its own."""

import os
import shutil
import signal
import tempfile
from pathlib import Path

# Before torch, Flower and Ray are imported by anything.
os.environ.update(
    OMP_NUM_THREADS="1",
    FLWR_TELEMETRY_ENABLED="0",
    FLWR_DISABLE_UPDATE_CHECK="1",
    FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
    RAY_USAGE_STATS_ENABLED="0",
    FLWR_HOME=tempfile.mkdtemp(prefix="fedprune-flwr-"),
    FEDPRUNE_STATE=tempfile.mkdtemp(prefix="fedprune-state-"),
    HF_DATASETS_CACHE=tempfile.mkdtemp(prefix="fedprune-hf-"),
)
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# A shell that runs the tests in the background may have Ctrl-C ignored by all of them.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These start Ray or Flower, which count on the memory and the ports of the machine.
ALONE = frozenset(
    f"tests/integration/{name}.py"
    for name in (
        "test_attacks",
        "test_dropped_blocks",
        "test_examples",
        "test_faults",
        "test_flwr_app",
        "test_hf_dataset",
        "test_lost_workers",
        "test_masked_runs",
        "test_quantised_runs",
        "test_own_methods",
        "test_ray",
    )
) | {"tests/simulations/runs/test_profiled_runs.py", "tests/test_snippets.py"}

settings.register_profile("dev", max_examples=30, deadline=None)
settings.register_profile("ci", max_examples=40, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


def pytest_unconfigure():
    for name in ("FLWR_HOME", "FEDPRUNE_STATE", "HF_DATASETS_CACHE"):
        shutil.rmtree(Path(os.environ[name]), ignore_errors=True)


def pytest_collection_modifyitems(items):
    """Put ``ALONE``, the longest of the shares, in front of the others."""
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in ALONE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a worker whole files, for the sake of fixtures, and one worker ``ALONE``."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "alone" if file in ALONE else file

    # As they are collected: the files with most tests are the quick ones.
    config.option.loadscopereorder = False
    return Files(config, log)


@pytest.fixture(autouse=True)
def seeded():
    """Draw the same networks in every run: some draws have a channel that is dead."""
    torch.manual_seed(0)
