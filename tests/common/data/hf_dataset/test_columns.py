import pytest
from helpers.hf_data import datasets

from fedprune.common.config import Partition, Task
from fedprune.common.data.hf_dataset.columns import choose_columns
from fedprune.common.errors import ConfigError

D = datasets
NUMBER, TEXT = D.Value("float32"), D.Value("string")
CLASS = D.ClassLabel(names=["no", "yes"])
IDS = D.List(D.Value("int32"))
ENCODED = {"bytes": D.Value("binary"), "path": TEXT}
NATURAL = Partition(kind="natural")


def choose(features, **keys):
    return choose_columns("hf-dataset:x", D.Features(features), Task(**keys))


GUESSES = {
    "the only image": ({"pic": D.Image(), "label": CLASS}, {}, ["pic"], "label"),
    "the usual image": (
        {"mask": D.Image(), "img": D.Image(), "label": CLASS},
        {},
        ["img"],
        "label",
    ),
    "encoded images": ({"image": ENCODED, "label": CLASS}, {}, ["image"], "label"),
    "bytes of images": (
        {"img": D.Value("binary"), "label": CLASS},
        {},
        ["img"],
        "label",
    ),
    "a text": (
        {"title": TEXT, "text": TEXT, "label": CLASS},
        {"tokenizer": "a:b"},
        ["text"],
        "label",
    ),
    "the only text": (
        {"words": TEXT, "label": CLASS},
        {"tokenizer": "a:b"},
        ["words"],
        "label",
    ),
    "tokens": (
        {"input_ids": IDS, "attention_mask": IDS, "labels": CLASS, "n": NUMBER},
        {},
        ["input_ids", "attention_mask"],
        "labels",
    ),
    "the only array": (
        {"x": D.Array2D((2, 2), "float32"), "label": CLASS, "n": NUMBER},
        {},
        ["x"],
        "label",
    ),
    "numbers and categories": (
        {"idx": NUMBER, "age": NUMBER, "town": TEXT, "target": NUMBER},
        {"loss": "mse"},
        ["age", "town"],
        "target",
    ),
    "the only column of classes": ({"a": NUMBER, "kind": CLASS}, {}, ["a"], "kind"),
    "whatever their case": ({"a": NUMBER, "Label": CLASS}, {}, ["a"], "Label"),
}


@pytest.mark.parametrize(
    ("features", "keys", "inputs", "target"), GUESSES.values(), ids=GUESSES
)
def test_columns_that_are_not_named_are_guessed_and_said(
    features, keys, inputs, target
):
    found = choose(features, **keys)
    assert [column.name for column in found.inputs] == inputs
    assert found.target.name == target
    said = " ".join(found.remarks)
    assert all(f"'{name}'" in said for name in (*inputs, target))


def test_columns_that_are_named_are_taken_and_not_remarked():
    features = {"a": NUMBER, "b": NUMBER, "label": CLASS, "y": CLASS, "who": TEXT}
    found = choose(
        features,
        inputs=("b",),
        target="y",
        partition=Partition(kind="natural", column="who"),
    )
    names = [column.name for column in (*found.inputs, found.target, found.owner)]
    assert names == ["b", "y", "who"]
    assert found.remarks == ()


def test_the_column_of_clients_is_no_input_under_any_partition():
    features = {"a": NUMBER, "who": TEXT, "label": CLASS}
    for kind in ("iid", "natural"):
        found = choose(features, partition=Partition(kind=kind, column="who"))
        assert [column.name for column in found.inputs] == ["a"]


def test_clients_are_guessed_by_their_usual_names():
    found = choose({"a": NUMBER, "speaker_id": TEXT, "label": CLASS}, partition=NATURAL)
    assert found.owner.name == "speaker_id"
    assert "the clients are those of the column 'speaker_id'" in " ".join(found.remarks)


def test_the_targets_of_next_tokens_are_the_inputs():
    found = choose({"input_ids": IDS, "labels": IDS}, loss="next-token")
    assert found.target is None
    assert "the tokens that follow" in " ".join(found.remarks)


REFUSED = {
    "an input that is missing": (
        {"inputs": ("sentnce",)},
        "task.inputs is 'sentnce', .* did you mean 'sentence'.*its columns are",
    ),
    "a target that is missing": ({"target": "labl"}, "did you mean 'label'"),
    "a client that is missing": (
        {"partition": Partition(kind="natural", column="rol")},
        "did you mean 'role'",
    ),
    "no usual client": ({"partition": NATURAL}, "want task.partition.column"),
    "the target as an input": ({"inputs": ("label",), "target": "label"}, "also the"),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_a_column_that_cannot_be_meant_is_one_line(keys, message):
    features = {"sentence": TEXT, "label": CLASS, "role": TEXT}
    with pytest.raises(ConfigError, match=message) as caught:
        choose(features, **keys)
    assert "\n" not in str(caught.value)


UNCLEAR = {
    "no target": ({"a": NUMBER, "b": NUMBER}, {}, "want task.target"),
    "two images": (
        {"left": D.Image(), "right": D.Image(), "label": CLASS},
        {},
        "2 columns of image; want task.inputs",
    ),
    "no text": (
        {"a": NUMBER, "label": CLASS},
        {"tokenizer": "a:b"},
        "no column of text",
    ),
    "two arrays": ({"a": IDS, "b": IDS, "label": CLASS}, {}, "inputs .* not clear"),
    "dates": ({"a": D.Value("timestamp[s]"), "label": CLASS}, {}, "not clear"),
}


@pytest.mark.parametrize(("features", "keys", "message"), UNCLEAR.values(), ids=UNCLEAR)
def test_what_is_not_clear_is_not_guessed(features, keys, message):
    with pytest.raises(ConfigError, match=message):
        choose(features, **keys)
