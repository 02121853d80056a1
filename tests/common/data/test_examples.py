import numpy as np
import pytest
import torch

from fedprune.common.data.arrays import RawData, make_dataset
from fedprune.common.data.examples import ArrayExamples, Dataset
from fedprune.common.errors import DataError


def pixels():
    return ArrayExamples(
        inputs=np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2),
        targets=np.arange(6, dtype=np.int64),
        offset=10.0,
        scale=0.5,
    )


def raw(**changed):
    arrays = {
        "x_train": np.zeros((6, 4)),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.zeros((3, 4)),
        "y_test": np.array([0, 1, 1]),
    }
    return RawData(**{**arrays, **changed})


def test_a_batch_is_input_minus_offset_times_scale_as_float32():
    inputs, targets = pixels().batch(np.array([5, 0, 5]))
    assert inputs.dtype == torch.float32
    assert targets.dtype == torch.int64
    assert inputs[:, 0].flatten(1).tolist() == [
        [5.0, 5.5, 6.0, 6.5],
        [-5.0, -4.5, -4.0, -3.5],
        [5.0, 5.5, 6.0, 6.5],
    ]
    assert targets.tolist() == [5, 0, 5]


def test_a_batch_is_a_copy_that_may_be_written_to_even_from_read_only_arrays():
    examples = pixels()
    examples.inputs.flags.writeable = False
    examples.targets.flags.writeable = False
    inputs, targets = examples.batch(np.array([1]))
    inputs += 1
    targets += 1
    assert examples.inputs[1].ravel().tolist() == [4, 5, 6, 7]
    assert examples.targets[1] == 1


def test_taking_examples_then_a_batch_is_the_batch_of_the_taken():
    examples = pixels()
    taken = examples.take(np.array([4, 2]))
    assert len(taken) == 2
    for got, wanted in zip(
        taken.batch(np.array([1, 0])), examples.batch(np.array([2, 4])), strict=True
    ):
        assert torch.equal(got, wanted)


def test_taking_nothing_gives_no_examples_of_the_same_shape():
    none = pixels().take(np.zeros(0, dtype=np.int64))
    assert len(none) == 0
    assert none.inputs.shape == (0, 1, 2, 2)


def test_inputs_without_a_target_are_refused():
    with pytest.raises(DataError, match="6 inputs but 5 targets"):
        ArrayExamples(inputs=pixels().inputs, targets=pixels().targets[:5])


def changes(dataset):
    """Yield data sets that differ from ``dataset`` in one thing."""
    for part in ("train", "test"):
        examples = getattr(dataset, part)
        inputs, targets = examples.inputs.copy(), examples.targets.copy()
        inputs.flat[-1] += 1
        targets.flat[-1] += 1
        kept = {"inputs": examples.inputs, "targets": examples.targets}
        for change in (
            {"inputs": inputs},
            {"targets": targets},
            {"offset": 1.0},
            {"scale": 2.0},
            {"inputs": examples.inputs.reshape(len(inputs), 2, 2)},
            {"inputs": examples.inputs.view(np.int32)},
        ):
            yield Dataset(
                **{
                    "train": dataset.train,
                    "test": dataset.test,
                    part: ArrayExamples(**{**kept, **change}),
                    "num_outputs": 3,
                    "input_shape": (4,),
                    "name": "x",
                }
            )


def test_the_fingerprint_sees_every_value_type_shape_and_scaling():
    dataset = make_dataset(raw(), name="x")
    prints = {other.fingerprint() for other in changes(dataset)}
    assert len(prints) == 12
    assert dataset.fingerprint() not in prints


def test_the_fingerprint_is_equal_for_equal_data_and_does_not_read_the_name():
    first, second = make_dataset(raw(), name="x"), make_dataset(raw(), name="y")
    assert first.fingerprint() == second.fingerprint()
    assert len(first.fingerprint()) == 32


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((6, 4), (4,)),
        ((6, 3, 5, 7), (3, 5, 7)),
        ((6, 5, 7, 3), (3, 5, 7)),
        ((6, 1, 1, 3), (1, 1, 3)),
        ((6, 3, 50), (3, 50)),
        ((6, 1, 5, 6, 7), (1, 5, 6, 7)),
    ],
)
def test_images_become_channels_first_and_other_shapes_stay(shape, wanted):
    dataset = make_dataset(
        raw(x_train=np.zeros(shape), x_test=np.ones(shape)[:3]), name="x"
    )
    assert dataset.input_shape == wanted
    assert dataset.train.inputs.shape == (6, *wanted)
    assert dataset.train.inputs.flags.c_contiguous


def test_channels_last_images_are_reordered_not_reshaped():
    images = np.arange(6 * 2 * 5 * 3).reshape(6, 2, 5, 3)
    dataset = make_dataset(raw(x_train=images, x_test=images[:3]), name="x")
    assert (dataset.train.inputs[4, 1] == images[4, :, :, 1]).all()


def test_bytes_stay_bytes_and_are_scaled_to_minus_1_to_1():
    images = np.array([0, 255], np.uint8).repeat(3)[:, None]
    dataset = make_dataset(raw(x_train=images, x_test=images[:3]), name="x")
    assert dataset.train.inputs.dtype == np.uint8
    inputs, _ = dataset.train.batch(np.array([0, 5]))
    assert inputs.ravel().tolist() == pytest.approx([-1.0, 1.0])


def test_other_numbers_are_taken_as_they_are():
    for values in (np.arange(6), np.arange(6) / 2, np.arange(6) % 2 == 0):
        dataset = make_dataset(
            raw(x_train=values[:, None], x_test=values[:3, None]), name="x"
        )
        inputs, _ = dataset.train.batch(np.arange(6))
        assert inputs.ravel().tolist() == values.astype(float).tolist()


def test_floating_targets_make_a_regression_with_one_output_a_column():
    for columns in (1, 2):
        y = np.linspace(0, 1, 6 * columns).reshape(6, columns)
        y = y[:, 0] if columns == 1 else y
        dataset = make_dataset(raw(y_train=y, y_test=y[:3]), name="x")
        assert dataset.regression
        assert dataset.num_outputs == columns
        assert dataset.train.targets.shape == (6, columns)
        assert dataset.train.targets.dtype == np.float32


def test_classes_are_counted_over_both_parts():
    dataset = make_dataset(raw(y_test=np.array([[0], [7], [1]], np.uint8)), name="x")
    assert not dataset.regression
    assert dataset.num_outputs == 8
    assert dataset.test.targets.tolist() == [0, 7, 1]


def remarks_of(**changed):
    return make_dataset(raw(**changed), name="x").remarks


@pytest.mark.parametrize("kind", ["int8", "int32", "int64", "uint16"])
def test_integers_of_two_dimensions_stay_integers(kind):
    ids = np.arange(24).reshape(6, 4).astype(kind)
    dataset = make_dataset(raw(x_train=ids, x_test=ids[:3]), name="x")
    assert dataset.train.batch(np.array([2])).inputs.dtype == torch.int64
    assert dataset.train.inputs.tolist() == ids.tolist()


CHANGES = {
    "ids": (np.zeros((6, 4), np.int32), "int32[6, 4]: ids of tokens"),
    "integers as images": (np.ones((6, 3, 5, 7), np.int16), "becomes float32"),
    "bytes without channels": (np.zeros((6, 5, 7), np.uint8), "which get a channel"),
    "channels last": (np.zeros((6, 5, 7, 3)), "come last and are put first"),
    "series": (np.zeros((6, 3, 50)), "series of 3 channels and 50 steps"),
}


@pytest.mark.parametrize(("inputs", "words"), CHANGES.values(), ids=CHANGES)
def test_each_change_or_guess_about_inputs_is_one_remark(inputs, words):
    (line,) = remarks_of(x_train=inputs, x_test=inputs[:3])
    assert words in line


@pytest.mark.parametrize("shape", [(6, 4), (6, 3, 5, 7), (6, 1, 4, 4, 4)])
def test_floats_in_a_known_order_have_no_remark(shape):
    assert remarks_of(x_train=np.zeros(shape), x_test=np.zeros(shape)[:3]) == ()


def test_bytes_without_channels_get_one():
    images = np.zeros((6, 5, 7), np.uint8)
    dataset = make_dataset(raw(x_train=images, x_test=images[:3]), name="x")
    assert dataset.input_shape == (1, 5, 7)


OUTPUTS = {
    "labels": (np.eye(6, 5, dtype=int), 5, "int64"),
    "classes of pixels": (np.arange(54).reshape(6, 3, 3) % 4, 4, "int64"),
    "positions that do not count": (np.where(np.eye(6, 3), 2, -100), 3, "int64"),
    "masks of two classes": (np.ones((6, 3, 3), int), 2, "int64"),
    "values": (np.zeros((6, 5)), 5, "float32"),
    "values of pixels": (np.zeros((6, 2, 3)), 6, "float32"),
}


@pytest.mark.parametrize(("y", "outputs", "kind"), OUTPUTS.values(), ids=OUTPUTS)
def test_outputs_are_labels_values_or_the_greatest_class_and_one(y, outputs, kind):
    dataset = make_dataset(raw(y_train=y, y_test=y[:3]), name="x")
    assert dataset.num_outputs == outputs
    assert dataset.train.targets.shape == y.shape
    assert str(dataset.train.targets.dtype) == kind


def test_numbers_of_clients_become_names_in_their_order():
    dataset = make_dataset(raw(clients=np.array([10, 2, 2, 10, 7, 2])), name="x")
    assert dataset.owners == ("10", "02", "02", "10", "07", "02")


BAD = {
    "no inputs": ({"x_train": np.zeros((0, 4))}, r"shape \(0, 4\)"),
    "inputs without features": ({"x_test": np.zeros(3)}, r"shape \(3,\)"),
    "six dimensions": ({"x_train": np.zeros((6, 1, 1, 1, 1, 1))}, "want .n, f"),
    "an id too great": ({"x_train": np.full((6, 4), 2**63, np.uint64)}, "id above"),
    "text as targets": ({"y_train": np.full(6, "cat")}, "want integers or floats"),
    "text": ({"x_train": np.full((6, 4), "a")}, "x_train has type <U1"),
    "objects": ({"x_train": np.full((6, 4), None)}, "x_train has type object"),
    "a NaN": (
        {"x_test": np.full((3, 4), np.nan)},
        r"3 of 3 examples, first in x_test\[0\]",
    ),
    "an overflow": ({"x_test": np.full((3, 4), 1e300)}, "not finite in float32"),
    "widths that differ": ({"x_test": np.zeros((3, 5))}, r"float32\[4\], test inputs"),
    "types that differ": ({"x_test": np.zeros((3, 4), np.uint8)}, r"uint8\[4\]"),
    "fewer targets": (
        {"y_train": np.zeros(5, int)},
        "'bad', training part: 6 inputs but 5 targets",
    ),
    "no targets": ({"y_test": np.zeros(0, int)}, r"y_test has shape \(0,\)"),
    "classes in two columns": ({"y_train": np.zeros((6, 2), int)}, r"int64\[6, 2\]"),
    "a negative class of a position": (
        {"y_train": np.full((6, 2), -1), "y_test": np.zeros((3, 2), int)},
        "targets run from -1 to 0",
    ),
    "a client too few": ({"clients": np.arange(5)}, "each of the 6 training examples"),
    "clients of floats": ({"clients": np.zeros(6)}, "want a name or a number"),
    "a client that is a path": (
        {"clients": np.array(["a", "b", "../x", "a", "a", "a"])},
        "has the name '../x'",
    ),
    "a negative class": ({"y_train": np.full(6, -1)}, "classes run from -1 to 1"),
    "a price as a class": ({"y_train": np.full(6, 10**8)}, "to 100000000; want 0 <="),
    "an infinite value": ({"y_train": np.full(6, np.inf)}, "y_train has a value"),
    "values and classes": ({"y_train": np.zeros(6)}, "want the same kind"),
}


@pytest.mark.parametrize(("changed", "message"), BAD.values(), ids=BAD)
def test_unusable_arrays_are_refused_by_name(changed, message):
    with pytest.raises(DataError, match=message) as caught:
        make_dataset(raw(**changed), name="bad")
    assert "'bad'" in str(caught.value)


def test_a_class_beyond_the_known_number_is_refused():
    with pytest.raises(DataError, match="classes run from 0 to 2; want 0 <= class < 2"):
        make_dataset(raw(), name="x", num_outputs=2)
