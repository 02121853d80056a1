import numpy as np
import pytest
from helpers.hf_data import batch, datasets, load_saved

from fedprune.common.errors import DataError

D = datasets
INF = float("inf")


def table(**columns):
    count = len(next(iter(columns.values())))
    return {**columns, "label": [k % 2 for k in range(count)]}


def loaded(path, train, test=None, features=None, **keys):
    return load_saved(
        path / "d", features, {"train": train, "test": test or train}, **keys
    )


def test_numbers_are_stacked_in_the_order_of_task_inputs(tmp_path):
    rows = table(a=[1, 2], b=[0.5, 1.5], c=[True, False])
    dataset = loaded(tmp_path, rows, inputs=("b", "c", "a"))
    inputs, targets = batch(dataset.train)
    assert inputs.tolist() == [[0.5, 1, 1], [1.5, 0, 2]]
    assert str(inputs.dtype) == "torch.float32"
    assert targets.tolist() == [0, 1]
    assert dataset.input_shape == (3,)
    assert dataset.check() == ()


def test_a_category_is_one_for_its_name_in_sorted_order_and_that_is_said(tmp_path):
    dataset = loaded(tmp_path, table(a=[1, 2, 3], town=["Ulm", "Bonn", "Ulm"]))
    assert batch(dataset.train).inputs.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]]
    said = "column 'town' becomes 2 numbers, 1 for its category and else 0: Bonn, Ulm"
    assert said in dataset.remarks


def test_a_column_of_classes_has_a_place_for_each_name(tmp_path):
    features = {
        "kind": D.ClassLabel(names=["x", "y", "z"]),
        "label": D.Value("int64"),
    }
    dataset = loaded(tmp_path, table(kind=["z", "x"]), features=features)
    assert batch(dataset.train).inputs.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_categories_of_the_test_part_alone_are_zeros_and_counted(tmp_path):
    dataset = loaded(tmp_path, table(t=["a", "b"]), table(t=["c", "a"]))
    assert batch(dataset.test).inputs.tolist() == [[0, 0], [1, 0]]
    said = dataset.check()
    assert "1 categories of the test part do not occur in training" in said[0]


BAD = {
    "missing numbers": ({"a": [1.0, None, 2.0]}, r"no value in 1 of 3 .* \(rows 1\)"),
    "numbers that are none": ({"a": [1.0, float("nan"), 2.0]}, "not finite in 1 of 3"),
    "infinite numbers": ({"a": [1.0, 2.0, INF]}, "not finite in 1 of 3 .* row 2"),
    "missing categories": ({"a": ["x", None, "y"]}, "no value in 1 of 3"),
}


@pytest.mark.parametrize(("columns", "message"), BAD.values(), ids=BAD)
def test_values_that_are_none_are_counted_before_a_run(tmp_path, columns, message):
    dataset = loaded(tmp_path, table(**columns))
    with pytest.raises(DataError, match=message):
        dataset.check()


def test_a_target_that_is_missing_excuses_its_inputs(tmp_path):
    rows = {"a": [1.0, None, 2.0], "label": [0, None, 1]}
    assert loaded(tmp_path, rows).check() == ()


def test_large_numbers_are_remarked(tmp_path):
    dataset = loaded(tmp_path, table(a=[1.0, 2.0], income=[50000, 20000]))
    said = dataset.check()
    assert len(said) == 2
    assert said[0].startswith("'income': training values beyond 100")


def test_strings_that_are_no_categories_want_a_tokenizer(tmp_path):
    rows = table(words=[f"text {k}" for k in range(300)])
    with pytest.raises(DataError, match=r"300 different strings: .* want.*tokenizer"):
        loaded(tmp_path, rows)


# ---- arrays


def test_arrays_keep_their_shape(tmp_path):
    given = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    features = {"x": D.Array2D((2, 3), "float32"), "label": D.Value("int64")}
    dataset = loaded(tmp_path, table(x=given.tolist()), features=features)
    assert dataset.input_shape == (2, 3)
    assert (batch(dataset.train).inputs.numpy() == given).all()
    assert dataset.check() == ()


def test_lists_of_floats_are_rows_and_of_uint8_are_pixels(tmp_path):
    dataset = loaded(tmp_path / "f", table(x=[[0.5, 1.5], [2.5, 3.5]]))
    assert batch(dataset.train).inputs.tolist() == [[0.5, 1.5], [2.5, 3.5]]
    features = {"x": D.List(D.Value("uint8")), "label": D.Value("int64")}
    dataset = loaded(tmp_path / "p", table(x=[[0, 255], [255, 0]]), features=features)
    assert batch(dataset.train).inputs.tolist() == [[-1, 1], [1, -1]]
    assert dataset.stored == "uint8"


def test_arrays_of_several_shapes_are_refused_before_a_run(tmp_path):
    dataset = loaded(tmp_path, table(x=[[0.5, 1.5], [2.5]]))
    with pytest.raises(DataError, match="arrays of several shapes, with lengths 1, 2"):
        dataset.check()


def test_arrays_with_numbers_that_are_none_are_refused(tmp_path):
    dataset = loaded(tmp_path, table(x=[[0.5, 1.5], [2.5, INF]]))
    with pytest.raises(DataError, match="column 'x' has numbers that are not finite"):
        dataset.check()


def test_a_list_of_strings_is_no_input(tmp_path):
    rows = table(x=[["a", "b"], ["c"]])
    with pytest.raises(Exception, match=r"'x' \(list\) do not make one input"):
        loaded(tmp_path, rows)
