import numpy as np
import pytest
from helpers.hf_data import batch, datasets, load, load_saved, save

from fedprune.common.config import load_config
from fedprune.common.errors import DataError
from fedprune.common.tasks.loaded import LoadedTask

D = datasets
CLASS = D.ClassLabel(names=["no", "yes", "maybe"])
FEATURES = {"a": D.Value("float32"), "label": CLASS}


def rows(labels, start=0):
    return {"a": [float(start + i) for i in range(len(labels))], "label": labels}


def inputs_of(examples):
    return batch(examples).inputs[:, 0].tolist()


def test_train_and_test_are_the_splits_of_these_names(tmp_path):
    splits = {"train": rows([0, 1]), "validation": rows([1], 5), "test": rows([0], 9)}
    dataset = load_saved(tmp_path / "d", FEATURES, splits)
    assert inputs_of(dataset.train) == [0, 1]
    assert inputs_of(dataset.test) == [9]
    assert dataset.label_names == ("no", "yes", "maybe")
    assert dataset.num_outputs == 3


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_without_a_test_split_the_validation_is_the_test_part(tmp_path, name):
    splits = {"train": rows([0, 1]), name: rows([1], 5)}
    dataset = load_saved(tmp_path / "d", FEATURES, splits)
    assert inputs_of(dataset.test) == [5]
    assert f"the test part is the split '{name}'" in dataset.remarks


def test_a_test_split_without_labels_is_not_used(tmp_path):
    splits = {
        "train": rows([0, 1]),
        "test": rows([-1, -1], 7),
        "validation": rows([1], 5),
    }
    dataset = load_saved(tmp_path / "d", FEATURES, splits)
    assert inputs_of(dataset.test) == [5]
    assert "split 'test' has no targets, and is not used" in dataset.remarks


def test_a_test_split_without_the_column_of_targets_is_not_used(tmp_path):
    for name, text in (
        ("train", "a,label\n1,0\n2,1\n"),
        ("test", "a\n7\n"),
        ("validation", "a,label\n5,1\n"),
    ):
        (tmp_path / f"{name}.csv").write_text(text)
    made = {
        name: D.Dataset.from_csv(str(tmp_path / f"{name}.csv"))
        for name in ("train", "test", "validation")
    }
    D.DatasetDict(made).save_to_disk(str(tmp_path / "d"))
    dataset = load(tmp_path / "d")
    assert inputs_of(dataset.test) == [5]
    assert any("'test' has no column 'label'" in line for line in dataset.remarks)


def test_of_one_split_a_fixed_fifth_is_the_test_part(tmp_path):
    save(tmp_path / "d", FEATURES, train=rows([0, 1] * 10))
    parts = [load(tmp_path / "d", fold=fold) for fold in range(6)]
    tested = [inputs_of(dataset.test) for dataset in parts]
    for dataset, test in zip(parts, tested, strict=True):
        assert len(test) == 4
        assert sorted(test + inputs_of(dataset.train)) == list(range(20))
        assert any("a fixed fifth of 'train', 4 of 20" in x for x in dataset.remarks)
    assert sorted(row for test in tested[:5] for row in test) == list(range(20))
    assert tested[5] == tested[0]


def test_of_few_examples_one_is_the_test_part_and_one_alone_is_refused(tmp_path):
    save(tmp_path / "d", FEATURES, train=rows([0, 1]))
    for fold in range(5):
        dataset = load(tmp_path / "d", fold=fold)
        assert (len(dataset.train), len(dataset.test)) == (1, 1)
    with pytest.raises(DataError, match="has one example, and no other for a test"):
        load_saved(tmp_path / "e", FEATURES, {"train": rows([0])})


def test_one_split_of_any_name_is_the_data(tmp_path):
    dataset = load_saved(tmp_path / "d", FEATURES, {"all": rows([0, 1] * 5)})
    assert len(dataset.train) + len(dataset.test) == 10


def test_examples_without_a_label_are_left_out_and_counted(tmp_path):
    splits = {"train": rows([0, -1, 1, None]), "test": rows([1])}
    dataset = load_saved(tmp_path / "d", FEATURES, splits)
    assert inputs_of(dataset.train) == [0, 2]
    assert dataset.train.targets.tolist() == [0, 1]
    assert (
        "2 of 4 training examples have no target, and are left out" in dataset.remarks
    )


REFUSED = {
    "no training split": (
        {"a": rows([0]), "b": rows([1])},
        "has the splits 'a', 'b'; want one named",
    ),
    "an empty split": (
        {"train": rows([]), "test": rows([1])},
        "split 'train' has no",
    ),
    "no labels": ({"train": rows([-1, -1]), "test": rows([1])}, "no example .* target"),
}


@pytest.mark.parametrize(("splits", "message"), REFUSED.values(), ids=REFUSED)
def test_splits_that_cannot_be_used_are_one_line(tmp_path, splits, message):
    with pytest.raises(DataError, match=message):
        load_saved(tmp_path / "d", FEATURES, splits)


def test_an_empty_file_is_an_empty_split(tmp_path):
    (tmp_path / "train.csv").write_text("a,label\n1,0\n")
    (tmp_path / "test.csv").write_text("a,label\n")
    with pytest.raises(DataError, match="split 'test' has no example"):
        load(tmp_path)


def test_a_column_of_another_kind_in_the_test_split_is_refused(tmp_path):
    for name, text in (("train", "a,label\n1,0\n"), ("test", "a,label\nx,0\n")):
        (tmp_path / f"{name}.csv").write_text(text)
    made = {
        n: D.Dataset.from_csv(str(tmp_path / f"{n}.csv")) for n in ("train", "test")
    }
    D.DatasetDict(made).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match="'a' is number in split 'train' and text in"):
        load(tmp_path / "d")


# ---- targets


def test_strings_become_classes_in_sorted_order_of_both_splits(tmp_path):
    splits = {"train": rows(["cat", "ant", "cat"]), "test": rows(["bee"])}
    dataset = load_saved(tmp_path / "d", None, splits)
    assert dataset.label_names == ("ant", "bee", "cat")
    assert dataset.train.targets.tolist() == [2, 0, 2]
    assert dataset.test.targets.tolist() == [1]
    assert any("sorted order: ant, bee, cat" in line for line in dataset.remarks)


def test_task_labels_give_their_order_also_where_one_is_absent(tmp_path):
    splits = {"train": rows(["cat", "ant"]), "test": rows(["ant"])}
    dataset = load_saved(tmp_path / "d", None, splits, labels=("cat", "dog", "ant"))
    assert dataset.train.targets.tolist() == [0, 2]
    assert dataset.num_outputs == 3


def test_a_string_beside_task_labels_is_refused(tmp_path):
    splits = {"train": rows(["cat", "ant"]), "test": rows(["ant"])}
    with pytest.raises(DataError, match=r"'ant', which is not in task\.labels.*'ants'"):
        load_saved(tmp_path / "d", None, splits, labels=("cat", "ants"))


def test_plain_integers_and_truth_values_are_classes(tmp_path):
    for labels, wanted in (([3, 0, 1], [3, 0, 1]), ([True, False, True], [1, 0, 1])):
        splits = {"train": rows(labels), "test": rows(labels)}
        dataset = load_saved(tmp_path / str(labels), None, splits)
        assert dataset.train.targets.tolist() == wanted
        assert dataset.train.targets.dtype == np.int64
        assert dataset.num_outputs == max(wanted) + 1


def test_minus_one_beside_one_is_a_class_that_the_check_refuses(tmp_path):
    splits = {"train": rows([-1, 1]), "test": rows([1])}
    dataset = load_saved(tmp_path / "d", None, splits)
    assert dataset.train.targets.tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2, 4], [[1.0], [2.0], [4.0]]),
        ([0.5, None, 2.5], [[0.5], [2.5]]),
        ([0.5, float("nan"), 2.5], [[0.5], [2.5]]),
        ([[1.0, 2.0], None, [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_numbers_are_values_under_mse(tmp_path, values, wanted):
    splits = {"train": rows(values), "test": rows(values)}
    dataset = load_saved(tmp_path / "d", None, splits, loss="mse")
    assert dataset.train.targets.tolist() == wanted
    assert dataset.train.targets.dtype == np.float32
    assert batch(dataset.train).targets.tolist() == wanted
    assert dataset.num_outputs == len(wanted[0])
    assert dataset.regression


SETS = {
    "of classes": (D.List(CLASS), [[0, 2], [], [1]], [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
    "of strings": (None, [["b"], ["a", "c"]], [[0, 1, 0], [1, 0, 1]]),
    "rows of 0 and 1": (None, [[0, 1], [1, 1]], [[0, 1], [1, 1]]),
    "of numbers": (None, [[0, 3], [2]], [[1, 0, 0, 1], [0, 0, 1, 0]]),
    "floats 0 and 1": (None, [[0.0, 1.0], [1.0, 1.0]], [[0, 1], [1, 1]]),
}


@pytest.mark.parametrize(("feature", "lists", "wanted"), SETS.values(), ids=SETS)
def test_lists_of_labels_are_zeros_and_ones_under_bce(tmp_path, feature, lists, wanted):
    features = None if feature is None else {"a": D.Value("float32"), "label": feature}
    splits = {"train": rows(lists), "test": rows(lists)}
    dataset = load_saved(tmp_path / "d", features, splits, loss="bce")
    assert dataset.train.targets.tolist() == wanted
    assert dataset.num_outputs == len(wanted[0])


def test_sets_of_classes_follow_the_order_of_task_labels(tmp_path):
    lists = [[0, 2], [], [1]]
    features = {"a": D.Value("float32"), "label": D.List(CLASS)}
    place = save(tmp_path / "d", features, train=rows(lists), test=rows(lists))
    names = ["maybe", "other", "no", "yes"]
    changes = {"task.loss": "bce", "task.labels": names, "task.clients": 10}
    config = load_config(None, {"task.data": f"hf-dataset:{place}"} | changes)
    source = LoadedTask(config).dataset
    assert source.train.targets.tolist() == [[1, 0, 1, 0], [0] * 4, [0, 0, 0, 1]]
    assert batch(source.train).targets.tolist() == source.train.targets.tolist()
    assert source.label_names == tuple(names)


WRONG = {
    "lists of several lengths": ([[1.0], [1.0, 2.0]], "mse", r"lengths 1 \(1 times\)"),
    "strings under mse": (["a", "b"], "mse", "holds strings, and .* takes numbers"),
    "single numbers under bce": ([0, 1], "bce", "single numbers, .* a list of labels"),
    "lists under cross-entropy": ([[0], [1]], "cross-entropy", "holds lists of int64"),
    "shares under bce": ([[0.2, 0.8], [0.5, 0.5]], "bce", "lists of float64"),
    "a negative label": ([[0, -2], [1]], "bce", "labels .* run from -2 to 1"),
    "a quantity": ([70000, 1], "cross-entropy", "classes run to 70000; .*'mse'"),
}


@pytest.mark.parametrize(("values", "loss", "message"), WRONG.values(), ids=WRONG)
def test_targets_that_a_loss_does_not_take_are_one_line(
    tmp_path, values, loss, message
):
    splits = {"train": rows(values), "test": rows(values)}
    with pytest.raises(DataError, match=message):
        load_saved(tmp_path / "d", None, splits, loss=loss)
