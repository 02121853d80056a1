import mmap
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from fedprune.common.config import Config
from fedprune.common.data import pages
from fedprune.common.data.examples import ArrayExamples
from fedprune.common.data.held_out import check_held_out
from fedprune.common.data.pages import blocks, forget_pages, mapping_of
from fedprune.common.data.sources import load_dataset
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.simulations.engines.shared_data import share_data

MAPS = Path("/proc/self/smaps")
MIB = 1 << 20
IMAGES, SIDE = 1024, 256  # of one byte a pixel: 64 MiB
FEW = 8 * MIB  # two blocks

counted = pytest.mark.skipif(not MAPS.exists(), reason="needs /proc/self/smaps")


def resident(path):
    """Return the bytes of a file's pages that are in the memory of this process."""
    found, here = 0, False
    for line in MAPS.read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            here = words[-1] == str(path)
        elif here and words[0] == "Rss:":
            found += 1024 * int(words[1])
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "images.npz"
    pixels = np.zeros((IMAGES, 1, SIDE, SIDE), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(IMAGES) % 256
    classes = np.arange(IMAGES) % 4
    np.savez(
        path, x_train=pixels, y_train=classes, x_test=pixels[:8], y_test=classes[:8]
    )
    return path


@pytest.fixture
def large(monkeypatch):
    """Let the 64 MiB count as a large file."""
    monkeypatch.setattr(pages, "_SMALL", MIB)


def load(path):
    return load_dataset(f"npz:{path}", data_dir="", fold=0)


@counted
def test_pages_that_are_forgotten_leave_memory_and_are_read_again(images, large):
    inputs = load(images).train.inputs
    first = int(inputs.sum())
    assert resident(images) > 60 * MIB
    forget_pages(inputs)
    assert resident(images) < MIB
    assert int(inputs.sum()) == first


@counted
@pytest.mark.parametrize(
    "read",
    [
        lambda dataset: dataset.fingerprint(),
        lambda dataset: check_held_out(dataset, classes=True),
        lambda dataset: [
            dataset.train.batch(rows) for rows in np.split(np.arange(IMAGES), 32)
        ],
        lambda dataset: dataset.train.take(np.arange(1, IMAGES)).hash_into(blake2b()),
    ],
    ids=["fingerprint", "held out", "batches", "fingerprint of a part"],
)
def test_no_step_that_reads_all_examples_keeps_their_pages(images, large, read):
    dataset = load(images)
    read(dataset)
    assert resident(images) < FEW


@counted
def test_a_check_of_floats_keeps_no_pages(tmp_path, large):
    path = tmp_path / "floats.npz"
    values = np.zeros((IMAGES, SIDE * SIDE // 4), dtype=np.float32)
    classes = np.arange(IMAGES) % 4
    np.savez(
        path, x_train=values, y_train=classes, x_test=values[:8], y_test=classes[:8]
    )
    dataset = load(path)
    assert mapping_of(dataset.train.inputs) is not None
    assert resident(path) < FEW


@counted
def test_a_driver_that_has_shared_its_data_keeps_no_pages(tmp_path, images):
    chosen = {"data": f"npz:{images}", "model": "mlp"}
    task = LoadedTask(Config.model_validate({"task": chosen}))
    task.fingerprint()
    shared = share_data(task, tmp_path, "ray")
    assert shared.dataset.input_shape == (1, SIDE, SIDE)
    assert resident(images) < FEW


@counted
def test_a_small_file_keeps_its_pages(images):
    dataset = load(images)
    dataset.fingerprint()
    assert resident(images) > 60 * MIB


def test_what_was_written_to_a_private_copy_is_not_forgotten(tmp_path, large):
    path = tmp_path / "numbers"
    path.write_bytes(bytes(2 * MIB))
    copy = np.memmap(path, dtype=np.uint8, mode="c")
    copy[:] = 7
    forget_pages(copy)
    assert (copy == 7).all()


def test_only_arrays_in_files_have_a_mapping(images):
    inputs = load(images).train.inputs
    assert isinstance(mapping_of(inputs), mmap.mmap)
    assert isinstance(mapping_of(inputs[3:, 0].view(np.int8)), mmap.mmap)
    assert mapping_of(inputs[:4].copy()) is None
    assert mapping_of(np.zeros(3)) is None


@pytest.mark.parametrize("rows", [None, np.array([5, 0, 5, 2])])
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_blocks_are_the_array_in_order(monkeypatch, rows, size):
    monkeypatch.setattr(pages, "_BLOCK", size)
    array = np.arange(60, dtype=np.int64).reshape(6, 10)
    found = list(blocks(array, rows))
    assert all(block.nbytes <= max(size, 80) for block in found)
    wanted = array if rows is None else array[rows]
    assert (np.concatenate(found) == wanted).all()


@pytest.mark.parametrize("rows", [None, np.array([3, 1, 4])])
def test_a_fingerprint_is_that_of_whole_arrays(monkeypatch, rows):
    monkeypatch.setattr(pages, "_BLOCK", 20)
    inputs = np.arange(30, dtype=np.uint8).reshape(6, 5)
    targets = np.arange(6)
    examples = ArrayExamples(inputs=inputs, targets=targets, offset=1.5, rows=rows)
    state, wanted = blake2b(), blake2b(b"1.5 1.0\n")
    examples.hash_into(state)
    for array in (inputs, targets):
        whole = array if rows is None else array[rows]
        wanted.update(f"{whole.dtype.str} {whole.shape}\n".encode() + whole.tobytes())
    assert state.digest() == wanted.digest()
