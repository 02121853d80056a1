import numpy as np
import pytest
from helpers.hf_data import batch, datasets, load, load_saved, png

from fedprune.common.errors import ConfigError, DataError

D = datasets
FEATURES = {"image": D.Image(), "label": D.ClassLabel(names=["a", "b"])}
STRUCT = {
    "image": {"bytes": D.Value("binary"), "path": D.Value("string")},
    "label": D.Value("int64"),
}
BYTES = {"img": D.Value("binary"), "label": D.Value("int64")}


def pixels(count, *shape, start=0):
    stream = np.random.default_rng(start)
    return [stream.integers(0, 256, shape, dtype=np.uint8) for _ in range(count)]


def rows(images, name="image"):
    encoded = [image if isinstance(image, bytes) else png(image) for image in images]
    if name == "image":
        encoded = [{"bytes": data, "path": None} for data in encoded]
    return {name: encoded, "label": [k % 2 for k in range(len(images))]}


@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3)])
@pytest.mark.parametrize(
    "features", [FEATURES, STRUCT, BYTES], ids=["Image", "{}", "b"]
)
def test_images_keep_size_and_channels_and_become_minus_one_to_one(
    tmp_path, shape, features
):
    given = pixels(5, *shape)
    made = rows(given, next(iter(features)))
    dataset = load_saved(tmp_path / "d", features, {"train": made, "test": made})
    assert dataset.input_shape == ((1, 6, 4) if len(shape) == 2 else (3, 6, 4))
    inputs, targets = batch(dataset.train, 3, 0)
    for found, number in zip(inputs.numpy(), (3, 0), strict=True):
        wanted = given[number].astype(np.float32).reshape(6, 4, -1) / 127.5 - 1
        np.testing.assert_allclose(found, np.moveaxis(wanted, 2, 0), atol=1e-6)
    assert targets.tolist() == [1, 0]
    assert dataset.check() == ()
    assert (dataset.offset, dataset.scale, dataset.stored) == (
        127.5,
        1 / 127.5,
        "uint8",
    )


def test_a_folder_of_images_is_read_from_its_files(tmp_path):
    given = pixels(8, 6, 4, 3)
    for number, image in enumerate(given):
        name = "ab"[number % 2]
        place = tmp_path / ("train" if number < 6 else "test") / name
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(png(image))
    dataset = load(tmp_path)
    assert dataset.label_names == ("a", "b")
    assert (len(dataset.train), len(dataset.test)) == (6, 2)
    found = batch(dataset.train).inputs.numpy()
    known = {image.tobytes() for image in given[:6]}
    back = np.rint(np.moveaxis(found, 1, 3) * 127.5 + 127.5).astype(np.uint8)
    assert {image.tobytes() for image in back} == known


def mixed():
    return rows([*pixels(3, 6, 4), *pixels(2, 8, 8), *pixels(1, 5, 5)])


def test_images_of_several_sizes_are_refused_with_their_counts(tmp_path):
    dataset = load_saved(tmp_path / "d", FEATURES, {"train": mixed(), "test": mixed()})
    wanted = r"3 of 6 training images are not 4 x 6: 4 x 6 \(3 times\), 8 x 8 \(2 times"
    with pytest.raises(DataError, match=wanted + r".*want task\.input_shape = "):
        dataset.check()
    with pytest.raises(DataError, match="an image is 8 x 8, the first one 4 x 6"):
        batch(dataset.train)


def test_with_task_input_shape_they_are_resized_and_counted(tmp_path):
    splits = {"train": mixed(), "test": mixed()}
    dataset = load_saved(tmp_path / "d", FEATURES, splits, input_shape=(3, 8, 8))
    assert batch(dataset.train).inputs.shape == (6, 3, 8, 8)
    said = dataset.check()
    assert "4 of 6 training images are resized to 8 x 8" in said
    assert any("6 training images become colour" in line for line in said)


def test_one_image_with_colours_makes_all_colour_and_that_is_counted(tmp_path):
    made = rows([*pixels(3, 6, 4), *pixels(1, 6, 4, 3), *pixels(1, 6, 4, 4)])
    dataset = load_saved(tmp_path / "d", FEATURES, {"train": made, "test": made})
    assert dataset.input_shape == (3, 6, 4)
    grey = batch(dataset.train, 0).inputs[0]
    assert (grey[0] == grey[1]).all()
    said = dataset.check()[0]
    assert said.startswith("4 training images become colour without transparency")
    assert said.endswith("3 of mode L, 1 of mode RGBA")


def test_a_shape_that_is_no_images_is_refused(tmp_path):
    splits = {"train": mixed(), "test": mixed()}
    for shape in ((16,), (2, 8, 8)):
        with pytest.raises(ConfigError, match=r"want \[1 or 3, height, width\]"):
            load_saved(tmp_path / str(shape), FEATURES, splits, input_shape=shape)


def deep():
    return png(np.arange(24, dtype=np.int32).reshape(6, 4) * 1000, "TIFF")


BAD = {
    "no image": (b"not an image", "row 1: an image cannot be opened"),
    "16 bits": (deep(), "more than 8 bits a channel"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_an_image_that_cannot_be_read_is_named_before_a_run(tmp_path, data, message):
    made = rows([*pixels(1, 6, 4), data])
    with pytest.raises(DataError, match=message):
        load_saved(tmp_path / "d", FEATURES, {"train": made, "test": made})


def test_a_truncated_image_is_one_line_when_it_is_decoded(tmp_path):
    whole = png(pixels(1, 60, 40)[0])
    made = rows([whole, whole[: len(whole) // 2]])
    dataset = load_saved(tmp_path / "d", FEATURES, {"train": made, "test": made})
    with pytest.raises(DataError, match="column 'image': an image cannot be decoded"):
        batch(dataset.train)


def test_missing_images_are_counted(tmp_path):
    made = rows(pixels(4, 6, 4))
    made["image"][1] = made["image"][3] = None
    with pytest.raises(DataError, match=r"no value in 2 of 4 .* \(rows 1, 3\)"):
        load_saved(tmp_path / "d", FEATURES, {"train": made, "test": made})


def test_two_images_are_no_single_input(tmp_path):
    made = rows(pixels(2, 6, 4)) | {"mask": rows(pixels(2, 6, 4))["image"]}
    features = FEATURES | {"mask": D.Image()}
    splits = {"train": made, "test": made}
    with pytest.raises(
        ConfigError, match=r"'image' .image., 'mask' .image. do not make"
    ):
        load_saved(tmp_path / "d", features, splits, inputs=("image", "mask"))
