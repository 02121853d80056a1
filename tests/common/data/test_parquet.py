import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.pictures import pictures, png

from fedprune.common.data.sources import check_source, load_dataset
from fedprune.common.errors import ConfigError, DataError


def load(source, data_dir=""):
    return load_dataset(str(source), data_dir=str(data_dir), fold=0)


def write_parquet(path, count, *, names=("image", "label"), start=0, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [{"bytes": png(p), "path": None} for p in pictures(count, start=start)]
    labels = [(start + number) % 3 for number in range(count)]
    table = dict(zip(names, (encoded, labels), strict=True))
    pq.write_table(pa.table({**table, **columns}), path, row_group_size=2)


def test_parquet_files_are_decoded_in_order(tmp_path):
    write_parquet(tmp_path / "train.parquet", 7)
    write_parquet(tmp_path / "test.parquet", 2)
    dataset = load(f"parquet:{tmp_path}")
    assert dataset.train.targets.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert (dataset.train.inputs[:, 0] == np.stack(pictures(7))).all()
    assert (dataset.test.inputs[:, 0] == np.stack(pictures(2))).all()
    assert dataset.train.inputs.dtype == np.uint8


def test_the_shards_of_a_hub_folder_are_joined_in_order(tmp_path):
    for start in (3, 0, 4, 1, 2):
        write_parquet(tmp_path / f"train-0000{start}-of-00005.parquet", 2, start=start)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", 1, names=("img", "label"))
    dataset = load(f"parquet:{tmp_path}")
    assert dataset.train.targets.tolist() == [0, 1, 1, 2, 2, 0, 0, 1, 1, 2]
    wanted = [picture for start in range(5) for picture in pictures(2, start=start)]
    assert (dataset.train.inputs[:, 0] == np.stack(wanted)).all()


def test_a_missing_shard_is_refused(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", 3)
    write_parquet(tmp_path / "test.parquet", 1)
    with pytest.raises(DataError, match="want every shard from 0, once"):
        load(f"parquet:{tmp_path}")


def test_images_may_be_plain_bytes(tmp_path):
    write_parquet(tmp_path / "test.parquet", 1)
    table = pa.table({"image": [png(p) for p in pictures(2)], "label": [1, 0]})
    pq.write_table(table, tmp_path / "train.parquet")
    dataset = load(f"parquet:{tmp_path}")
    assert (dataset.train.inputs[:, 0] == np.stack(pictures(2))).all()


@pytest.mark.parametrize("place", ["mnist", "mnist/data", ".", "data"])
def test_mnist_is_found_in_its_folder_or_in_the_folder_itself(
    tmp_path, place, monkeypatch
):
    for split in ("train", "test"):
        write_mnist(tmp_path / place / f"{split}.parquet")
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path))
    dataset = load("mnist")
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.num_outputs == 10
    inputs, _ = dataset.train.batch(np.array([0, 1]))
    assert inputs[0].max().item() == pytest.approx(-0.1307 / 0.3081, abs=1e-5)
    assert inputs[1].min().item() == pytest.approx((1 - 0.1307) / 0.3081, abs=1e-5)


def write_mnist(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    images_ = [png(np.full((28, 28), value, np.uint8)) for value in (0, 255)]
    pq.write_table(pa.table({"image": images_, "label": [0, 1]}), path)


def test_the_argument_goes_before_the_environment(tmp_path, monkeypatch):
    write_parquet(tmp_path / "here" / "train.parquet", 1)
    monkeypatch.setenv("FEDPRUNE_DATA", str(tmp_path / "there"))
    assert check_source("mnist", str(tmp_path / "here")) is None
    with pytest.raises(ConfigError, match="there"):
        check_source("mnist", "")


def test_images_of_another_size_than_the_named_data_has_are_refused(tmp_path):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", 3)
    with pytest.raises(DataError, match=r"images of \(1, 6, 4\); cifar10 has \(3, 32"):
        load("cifar10", tmp_path)


def no_labels(path):
    write_parquet(path, 2, names=("image", "answer"))


def label_gaps(path):
    pq.write_table(pa.table({"image": [b"", b""], "label": [1, None]}), path)


def text_labels(path):
    pq.write_table(pa.table({"image": [b""], "label": ["cat"]}), path)


def paths_only(path):
    table = {"image": [{"bytes": None, "path": "a.png"}], "label": [0]}
    pq.write_table(pa.table(table), path)


def damaged(path):
    path.write_bytes(b"PAR1" + bytes(40) + b"PAR1")


def broken_image(path):
    pq.write_table(
        pa.table({"image": [png(pictures(1)[0]), b"x"], "label": [0, 1]}), path
    )


def no_rows(path):
    write_parquet(path, 2)
    pq.write_table(pq.read_table(path).slice(0, 0), path)


BAD = {
    "no labels": (no_labels, "columns image, answer; want one named 'label'"),
    "a label left out": (label_gaps, "'label' is float64; want integers without gaps"),
    "labels in words": (text_labels, "'label' is object; want integers"),
    "paths without bytes": (paths_only, "row 0: no image bytes"),
    "a damaged file": (damaged, "cannot be read as parquet"),
    "a broken image": (broken_image, "row 1 is not an image of"),
    "no rows": (no_rows, "has no rows"),
}


@pytest.mark.parametrize(("write", "message"), BAD.values(), ids=BAD)
def test_a_bad_parquet_file_is_named(tmp_path, write, message):
    write(tmp_path / "train.parquet")
    write_parquet(tmp_path / "test.parquet", 1)
    with pytest.raises(DataError, match=message) as caught:
        load(f"parquet:{tmp_path}")
    assert "train.parquet" in str(caught.value)


def test_a_missing_test_part_is_refused(tmp_path):
    write_parquet(tmp_path / "train.parquet", 1)
    with pytest.raises(ConfigError, match=r"there is no test\.parquet"):
        load(f"parquet:{tmp_path}")
