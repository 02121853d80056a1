import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.hf_data import KEYS, batch, datasets, load, save

from fedprune.common.data.hf_dataset import opening
from fedprune.common.data.sources import check_source
from fedprune.common.errors import ConfigError, DataError

ROWS = {"a": [0.5, 1.5, 2.5, 3.5], "label": [0, 1, 1, 0]}


def write(kind, folder):
    """Write the same rows as a folder or a file of a kind; return what is named."""
    table = datasets.Dataset.from_dict(ROWS)
    if kind == "save_to_disk":
        return save(folder, train=ROWS, test=ROWS)
    if kind == "save_to_disk of one split":
        table.save_to_disk(str(folder))
        return folder
    folder.mkdir()
    for split in ("train", "test"):
        path = folder / f"{split}.{kind.rpartition(' ')[2]}"
        {
            ".parquet": table.to_parquet,
            ".csv": lambda where: table.to_csv(where, index=False),
            ".json": table.to_json,
            ".jsonl": table.to_json,
        }[path.suffix](str(path))
    return path if kind.startswith("file") else folder


@pytest.mark.parametrize(
    "kind",
    [
        *("parquet", "csv", "json", "jsonl", "save_to_disk"),
        *("save_to_disk of one split", "file parquet", "file csv", "file jsonl"),
    ],
)
def test_every_format_gives_the_same_examples_mapped_into_memory(tmp_path, kind):
    dataset = load(write(kind, tmp_path / "d"), **KEYS)
    inputs, targets = batch(dataset.train)
    known = dict(zip(ROWS["a"], ROWS["label"], strict=True))
    found = dict(zip(inputs[:, 0].tolist(), targets.tolist(), strict=True))
    assert found.items() <= known.items()
    assert len(dataset.train) == (3 if "one split" in kind or "file" in kind else 4)
    assert type(dataset.train.data.table.data).__name__ == "MemoryMappedTable"


def test_a_file_is_mapped_and_not_read(tmp_path):
    count, size = 2000, 8192
    rows = {"a": [[0.0] * 2] * count, "big": ["x" * size] * count, "label": [0] * count}
    save(tmp_path / "d", train=rows, test=rows)
    before = pa.total_allocated_bytes()
    dataset = load(tmp_path / "d", inputs=("big",), target="label", tokenizer=TOKENIZER)
    batch(dataset.train, 0, count - 1)
    dataset.check()
    assert pa.total_allocated_bytes() - before < count * size / 10


TOKENIZER = "builtins:list"  # a list of texts is no list of ids, and is never called


@pytest.fixture(autouse=True)
def _no_call(monkeypatch):
    monkeypatch.setattr(
        "fedprune.common.data.hf_dataset.source.load_function",
        lambda _: lambda texts: [[1]] * len(texts),
    )


# ---- refusals, each in one line


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("none.csv", r"no file or folder 'none\.csv'"),
        ("./none", "no file or folder 'none'"),
        ("a/b/none", "no file or folder 'a/b/none'"),
        ("", "names no data set; want hf-dataset:FOLDER"),
        ("two words", "names no data set"),
        ("notes.md", r"'notes\.md' is no data file; want .*\.parquet"),
        ("scripted", r"loading script scripted\.py, and no code of a data set is run"),
    ],
)
def test_what_cannot_be_a_data_set_is_refused_before_anything_is_opened(
    tmp_path, monkeypatch, reference, message
):
    monkeypatch.chdir(tmp_path)
    Path("notes.md").write_text("text")
    write("csv", Path("scripted"))
    Path("scripted/scripted.py").write_text("open('ran', 'w')")
    with pytest.raises(ConfigError, match=message) as caught:
        check_source(f"hf-dataset:{reference}", "")
    assert "\n" not in str(caught.value)
    assert not Path("ran").exists()


def test_a_folder_of_pickles_is_no_data_set(tmp_path):
    (tmp_path / "train.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(DataError, match=r"cannot be read: .*No .*data files"):
        load(tmp_path, **KEYS)


def test_an_old_library_that_runs_scripts_is_refused(tmp_path, monkeypatch):
    write("csv", tmp_path / "d")
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(ConfigError, match=r"may run code of a data set; want 4"):
        load(tmp_path / "d", **KEYS)


def test_a_name_of_the_hub_without_network_is_one_line(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    check_source("hf-dataset:owner/missing", "")
    with pytest.raises(ConfigError, match="Hub cannot be reached") as caught:
        load("owner/missing")
    assert "no folder 'owner/missing' here" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_name_of_the_hub_is_one_line(monkeypatch):
    def missing(*_, **__):
        text = "first\nsecond"
        raise datasets.exceptions.DatasetNotFoundError(text)

    monkeypatch.setattr(datasets, "load_dataset", missing)
    with pytest.raises(ConfigError, match="no such data set on the Hugging Face Hub"):
        load("owner/missing")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=f"hf-dataset:{tmp_path}' cannot be read: .*"):
        load(tmp_path, **KEYS)


README = """---
configs:
- config_name: small
  data_files: small.csv
- config_name: large
  data_files: large.csv
---
"""


@pytest.fixture
def subsets(tmp_path):
    (tmp_path / "README.md").write_text(README)
    for name, count in (("small", 5), ("large", 10)):
        rows = "".join(f"{i}.0,{i % 2}\n" for i in range(count))
        (tmp_path / f"{name}.csv").write_text(f"a,label\n{rows}")
    return tmp_path


def test_a_subset_is_named_after_a_colon(subsets):
    for name, count in (("small", 5), ("large", 10)):
        dataset = load(f"{subsets}:{name}", **KEYS)
        assert len(dataset.train) + len(dataset.test) == count


@pytest.mark.parametrize("end", ["", ":huge"])
def test_without_one_the_message_names_the_subsets(subsets, end):
    with pytest.raises(ConfigError, match=r":SUBSET, with one of .*small.*large"):
        load(f"{subsets}{end}", **KEYS)


def test_the_library_is_quiet_for_files_and_as_it_was_afterwards(tmp_path, capfd):
    path = write("csv", tmp_path / "d")
    datasets.enable_progress_bars()
    level = logging.getLogger("datasets").level
    capfd.readouterr()
    load(path, **KEYS)
    assert capfd.readouterr().err == ""
    assert not datasets.are_progress_bars_disabled()
    assert logging.getLogger("datasets").level == level


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("fedprune.common.data.optional.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fedprune\[hf\]'"):
        opening.check_name("any")


def test_equal_data_have_one_fingerprint_whatever_their_path_and_format(tmp_path):
    found = {
        load(write(kind, tmp_path / kind), **KEYS).fingerprint()
        for kind in ("csv", "parquet", "save_to_disk")
    }
    assert len(found) == 1
    other = {**ROWS, "a": np.arange(4.0)}
    changed = load(save(tmp_path / "e", train=other, test=ROWS), **KEYS)
    assert changed.fingerprint() not in found
