"""Images in folders: what is read, and a line for all that is not."""

import numpy as np
import pytest
from helpers.pictures import pictures, png, write_folder
from PIL import Image

from fedprune.common.config import Task
from fedprune.common.config.sections import Partition
from fedprune.common.data import images
from fedprune.common.data.folders.reader import read_folder
from fedprune.common.data.sources import load_dataset
from fedprune.common.errors import DataError

SPLIT = "there is no test part: one image in 5 of each class is a test image"


def load(folder, *, natural=False):
    keys = Task(partition=Partition(kind="natural")) if natural else None
    return load_dataset(f"folder:{folder}", data_dir="", fold=0, keys=keys)


def line(folder, words):
    """Return the only remark with these words."""
    (found,) = [text for text in load(folder).remarks if words in text]
    return found


# ---- what is read


def test_folders_of_train_and_test_are_read_in_the_order_of_their_names(tmp_path):
    write_folder(tmp_path / "train", {"cat": 2, "dog": 3})
    write_folder(tmp_path / "test", {"dog": 1})
    dataset = load(tmp_path)
    assert dataset.input_shape == (1, 6, 4)
    assert dataset.train.targets.tolist() == [0, 0, 1, 1, 1]
    assert dataset.test.targets.tolist() == [1]
    assert (dataset.train.inputs[1, 0] == pictures(2)[1]).all()
    assert (dataset.test.inputs[0, 0] == pictures(1)[0]).all()
    assert dataset.label_names == ("cat", "dog")
    assert dataset.remarks == ()


def test_rgb_folders_have_three_channels_first(tmp_path):
    write_folder(tmp_path, {"a": 5}, shape=(6, 4, 3))
    dataset = load(tmp_path)
    assert dataset.input_shape == (3, 6, 4)
    whole = [*dataset.train.inputs, *dataset.test.inputs]
    wanted = {np.moveaxis(p, 2, 0).tobytes() for p in pictures(5, shape=(6, 4, 3))}
    assert {image.tobytes() for image in whole} == wanted


def test_folders_without_a_split_give_one_test_image_in_five_of_each_class(tmp_path):
    write_folder(tmp_path, {"a": 10, "b": 7, "c": 4})
    dataset = load(tmp_path)
    assert np.bincount(dataset.train.targets).tolist() == [8, 6, 4]
    assert np.bincount(dataset.test.targets, minlength=3).tolist() == [2, 1, 0]
    assert load(tmp_path).fingerprint() == dataset.fingerprint()
    assert dataset.remarks == (f"{SPLIT}, 3 of 21; none of c",)


def test_the_split_depends_on_the_place_of_an_image_alone(tmp_path):
    write_folder(tmp_path / "here", {"a": 10})
    write_folder(tmp_path / "there", {"a": 10, "b": 5})
    here, there = load(tmp_path / "here").test, load(tmp_path / "there").test
    assert (here.inputs == there.inputs[there.targets == 0]).all()


FORMATS = {
    "png": "PNG", "jpg": "JPEG", "JPEG": "JPEG", "webp": "WEBP", "bmp": "BMP",
    "gif": "GIF", "tif": "TIFF", "tiff": "TIFF", "ppm": "PPM",
}  # fmt: skip


@pytest.mark.parametrize(("ending", "kind"), FORMATS.items(), ids=FORMATS)
def test_every_format_is_read(tmp_path, ending, kind):
    write_folder(tmp_path, {"a": 4})
    path = tmp_path / "a" / f"x.{ending}"
    path.write_bytes(png(np.full((6, 4), 200, np.uint8), kind))
    found = load(tmp_path)
    whole = np.concatenate([found.train.inputs, found.test.inputs]).astype(int)
    assert (np.abs(whole - 200).max(axis=(1, 2, 3)) <= 2).any()


def test_images_at_any_depth_below_a_class_are_of_that_class(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b/2024/may": 2})
    write_folder(tmp_path / "test", {"a": 1})
    assert load(tmp_path).train.targets.tolist() == [0, 1, 1]
    assert line(tmp_path, "deeper") == (
        "2 images lie deeper than the folder of their class, such as "
        "train/b/2024/may/0.png"
    )


def test_a_link_back_to_a_folder_above_is_refused(tmp_path):
    write_folder(tmp_path, {"a": 5})
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a")
    with pytest.raises(DataError, match="back is a link to a folder above it"):
        load(tmp_path)


NAMES = {
    "as words": (("10", "9", "x"), ("10", "9", "x"), ""),
    "as numbers": (("10", "0", "2"), ("0", "2", "10"), "2 is class 1, 10 is class 2"),
    "as places": (("0", "1"), ("0", "1"), "ordered by value"),
}


@pytest.mark.parametrize(("given", "wanted", "words"), NAMES.values(), ids=NAMES)
def test_classes_are_ordered_by_name_or_by_value_if_all_are_numbers(
    tmp_path, given, wanted, words
):
    write_folder(tmp_path, dict.fromkeys(given, 5))
    dataset = load(tmp_path)
    assert dataset.label_names == wanted
    said = [text for text in dataset.remarks if "numbers" in text]
    assert words in said[0] if words else not said


def test_a_name_is_the_same_class_however_a_system_writes_its_letters(tmp_path):
    write_folder(tmp_path, {"Zu\u0308rich": 5, "a": 5})
    assert load(tmp_path).label_names == ("Z\u00fcrich", "a")


# ---- what is left out


def test_files_of_other_endings_are_counted(tmp_path):
    write_folder(tmp_path, {"a": 5})
    for name in ("x.txt", "y.TXT", "z.heic", "README"):
        (tmp_path / "a" / name).write_text("no image")
    assert line(tmp_path, "endings") == (
        "4 files are no images by their endings and are skipped: 2 .txt, 1 .heic, "
        "1 no ending"
    )


@pytest.mark.parametrize("name", ["._0.png", ".DS_Store", "Thumbs.db"])
def test_hidden_files_are_skipped(tmp_path, name):
    write_folder(tmp_path, {"a": 5})
    (tmp_path / "a" / name).write_bytes(b"no image")
    assert (
        line(tmp_path, "hidden") == f"1 hidden files and folders are skipped: a/{name}"
    )


@pytest.mark.parametrize("name", ["__pycache__", ".ipynb_checkpoints", "__MACOSX"])
def test_folders_of_systems_are_no_classes(tmp_path, name):
    write_folder(tmp_path, {"a": 5, name: 5})
    assert load(tmp_path).label_names == ("a",)
    assert line(tmp_path, "hidden").endswith(name)


def test_empty_folders_are_no_classes(tmp_path):
    write_folder(tmp_path, {"a": 5, "b/c": 0})
    assert load(tmp_path).label_names == ("a",)
    assert line(tmp_path, "empty") == "1 empty folders are skipped: b"


def test_images_beside_the_class_folders_are_counted(tmp_path):
    write_folder(tmp_path, {"a": 5, ".": 2})
    assert line(tmp_path, "outside").endswith("skipped: 0.png, 1.png")


def test_a_class_folder_without_an_image_is_refused_with_what_it_holds(tmp_path):
    write_folder(tmp_path, {"a": 5, "b": 0})
    (tmp_path / "b" / "x.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"class folder .*b has no image: .* 1 \.heic"):
        load(tmp_path)


# ---- layouts


@pytest.mark.parametrize("names", [("Train", "TEST"), ("training", "Testing")])
def test_the_parts_have_any_case(tmp_path, names):
    for name in names:
        write_folder(tmp_path / name, {"a": 2})
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)


def test_validation_images_are_the_test_part_where_there_is_no_other(tmp_path):
    write_folder(tmp_path / "train", {"a": 3})
    write_folder(tmp_path / "val", {"a": 2})
    assert len(load(tmp_path).test) == 2
    assert line(tmp_path, "val") == "there is no test/: val/ is the test part"


def test_validation_images_beside_a_test_part_are_not_used(tmp_path):
    for number, name in enumerate(("train", "test", "val")):
        write_folder(tmp_path / name, {"a": number + 1})
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (1, 2)
    assert line(tmp_path, "val") == "1 folders beside train/ are not used: val"


def test_a_training_part_alone_is_split(tmp_path):
    write_folder(tmp_path / "train", {"a": 5, "b": 5})
    dataset = load(tmp_path)
    assert dataset.label_names == ("a", "b")
    assert dataset.remarks == (f"{SPLIT}, 2 of 10",)


def test_a_class_may_be_named_train(tmp_path):
    write_folder(tmp_path, {"bus": 5, "train": 5})
    assert load(tmp_path).label_names == ("bus", "train")


REFUSED = {
    "nothing": ({}, "0 images of its own and no folder of images; want a folder for"),
    "images alone": ({".": 3}, "3 images of its own and no folder of images"),
    "a level too high": (
        {"pets/cat": 5, "pets/dog": 5},
        "is one level too high: its only folder, pets, holds the folders cat, dog",
    ),
    "both parts a level lower": (
        {"pets/train/cat": 5, "pets/test/cat": 5},
        "is one level too high: .* want folder:.*pets",
    ),
    "a test part alone": ({"test/cat": 5}, r"has test/ and no train/; want both"),
    "two training parts": (
        {"train/a": 1, "Train/a": 1, "test/a": 1},
        "folders Train, train; want one of them",
    ),
    "a test class that was never trained": (
        {"train/a": 1, "test/cow": 1},
        "the classes cow, which train/ lacks",
    ),
    "images in the parts themselves": (
        {"train": 3, "test": 2},
        "0 training and 0 test images",
    ),
    "too few to split": ({"a": 4, "b": 4}, "8 training and 0 test images"),
}


@pytest.mark.parametrize(("counts", "message"), REFUSED.values(), ids=REFUSED)
def test_a_layout_without_both_parts_is_refused(tmp_path, counts, message):
    write_folder(tmp_path, counts)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


# ---- one form


def test_a_grey_first_image_leaves_the_others_their_colours(tmp_path):
    write_folder(tmp_path / "train", {"a": 1})
    red = np.zeros((6, 4, 3), np.uint8)
    red[:, :, 0] = 255
    for part in ("train", "test"):
        (tmp_path / part / "b").mkdir(parents=True)
        (tmp_path / part / "b" / "red.png").write_bytes(png(red))
    dataset = load(tmp_path)
    assert dataset.input_shape == (3, 6, 4)
    assert (dataset.train.inputs[0] == pictures(1)[0]).all()
    assert dataset.test.inputs[0, :, 0, 0].tolist() == [255, 0, 0]
    assert dataset.remarks == ("1 of 3 images are grey and become colour images",)


def test_the_most_common_size_is_that_of_all(tmp_path):
    write_folder(tmp_path, {"a": 1}, shape=(9, 9))
    write_folder(tmp_path, {"b": 5, "c": 5})
    assert load(tmp_path).input_shape == (1, 6, 4)
    assert line(tmp_path, "resized") == (
        "1 of 11 images are resized to 4 x 6, the most common size"
    )


def test_of_equally_common_sizes_the_largest_is_taken(tmp_path):
    write_folder(tmp_path, {"a": 5}, shape=(2, 2))
    write_folder(tmp_path, {"b": 5})
    assert load(tmp_path).input_shape == (1, 6, 4)


MODES = {
    "transparency": ("RGBA", "the transparency of 1 of 6 images is left out"),
    "another colour space": ("CMYK", "1 of 6 images of mode CMYK become RGB"),
}


@pytest.mark.parametrize(("mode", "words"), MODES.values(), ids=MODES)
def test_what_a_conversion_loses_is_counted(tmp_path, mode, words):
    write_folder(tmp_path, {"a": 5}, shape=(6, 4, 3))
    kind = {"RGBA": "png", "CMYK": "tif"}[mode]
    Image.new(mode, (4, 6)).save(tmp_path / "a" / f"x.{kind}")
    assert line(tmp_path, "of 6 images") == words


def test_of_several_frames_the_first_counts(tmp_path):
    write_folder(tmp_path, {"a": 4})
    first, second = (Image.fromarray(np.full((6, 4), v, np.uint8)) for v in (9, 200))
    path = tmp_path / "a" / "x.gif"
    first.save(path, save_all=True, append_images=[second])
    dataset = load(tmp_path)
    whole = [*dataset.train.inputs, *dataset.test.inputs]
    assert any((image == 9).all() for image in whole)
    assert line(tmp_path, "frame") == "only the first frame counts of 1 of 5 images"


BROKEN = {
    "text": (b"not an image", "is not an image of the formats PNG"),
    "no byte": (b"", "is empty: 0 bytes"),
    "half an image": (png(pictures(1, (40, 40))[0])[:-200], "cannot be decoded"),
    "sixteen bits": (png(np.zeros((6, 4), np.uint16)), "more than 8 bits a pixel"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("place", ["0.png", "9.png"])
def test_a_broken_image_is_named(tmp_path, data, message, place):
    write_folder(tmp_path / "train", {"a": 3})
    write_folder(tmp_path / "test", {"a": 1})
    (tmp_path / "train" / "a" / place).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path)
    assert place in str(caught.value)
    assert "object at" not in str(caught.value)


def test_images_that_fill_the_memory_are_refused_before_it_is_taken(
    tmp_path, monkeypatch
):
    write_folder(tmp_path, {"a": 5})
    monkeypatch.setattr(images, "MAX_DECODED_BYTES", 5 * 24 - 1)
    with pytest.raises(DataError, match="4 x 6, need 120 bytes; want at most 119"):
        load(tmp_path)


# ---- clients


def test_natural_folders_are_clients_and_those_below_them_classes(tmp_path):
    write_folder(tmp_path / "train", {"ann/cat": 2, "ann/dog": 1, "bob/dog": 3})
    write_folder(tmp_path / "test", {"cat": 1, "dog": 1})
    dataset = load(tmp_path, natural=True)
    assert dataset.owners == ("ann",) * 3 + ("bob",) * 3
    assert dataset.label_names == ("cat", "dog")
    assert dataset.train.targets.tolist() == [0, 0, 1, 1, 1, 1]
    assert dataset.test.targets.tolist() == [0, 1]


def test_test_folders_of_clients_are_read_as_those_of_training(tmp_path):
    write_folder(tmp_path / "train", {"ann/cat": 2, "bob/dog": 3})
    write_folder(tmp_path / "test", {"bob/dog": 1})
    assert load(tmp_path, natural=True).test.targets.tolist() == [1]


def test_natural_clients_without_a_test_part_give_one_image_in_five(tmp_path):
    write_folder(tmp_path, {"ann/cat": 5, "bob/cat": 5, "bob/dog": 5})
    dataset = load(tmp_path, natural=True)
    assert np.bincount(dataset.test.targets).tolist() == [2, 1]
    assert len(dataset.owners) == len(dataset.train) == 12


def test_natural_folders_with_images_of_their_own_are_classes(tmp_path):
    write_folder(tmp_path, {"cat": 5, "dog": 5})
    found = read_folder(tmp_path, natural=True)
    assert found.clients is None
    assert found.label_names == ("cat", "dog")
