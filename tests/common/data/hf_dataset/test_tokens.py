import numpy as np
import pytest
import torch
from helpers.hf_data import batch, load, load_saved, save

from fedprune.common.errors import ConfigError, DataError

CODE = '''
from collections import UserDict
import torch

def letters(texts):
    return [[ord(c) - 96 for c in text] for text in texts]

class Encoding(UserDict):
    """As transformers returns it: a mapping, and no dict."""

def encoding(texts):
    ids = letters(texts)
    return Encoding(input_ids=ids, token_type_ids=[[7] * len(row) for row in ids])

def pairs(first, second):
    return [a + [0] + b for a, b in zip(letters(first), letters(second))]

def matrix(texts):
    return torch.tensor([[len(t), 1, 2] for t in texts])

def matrices(texts):
    whole = torch.zeros(len(texts), 5, dtype=torch.int32)
    return {"input_ids": whole, "attention_mask": whole + 1}

def empty(texts): return [[] for _ in texts]
def fails(texts): raise ValueError("first\\nsecond")
def leaves(texts): raise SystemExit(3)
def fewer(texts): return [[1]]
def nothing(texts): return None
def nested(texts): return [[[1], [2, 3]] for _ in texts]
def floats(texts): return [[0.5] for _ in texts]
def ragged(texts): return {"input_ids": [[1, 2]] * len(texts),
                           "attention_mask": [[1]] * len(texts)}
def other(texts): return {"ids": letters(texts)}
def real(texts): return torch.zeros(len(texts), 4)
def flat(texts): return {"input_ids": letters(texts), "length": [1] * len(texts)}

class Sized:
    pad_token_id = 9
    def __len__(self): return 27
    def __call__(self, texts): return letters(texts)
sized = Sized()
'''

ROWS = {"text": ["ab", "abcdefghij", "c"], "label": [0, 1, 1]}
SPLITS = {"train": ROWS, "test": ROWS}


@pytest.fixture
def tokens(tmp_path, monkeypatch):
    (tmp_path / "tok.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    return save(tmp_path / "d", **SPLITS)


def test_texts_are_padded_to_a_multiple_of_eight_with_a_mask(tokens):
    dataset = load(tokens, tokenizer="tok.py:letters")
    inputs, targets = batch(dataset.train)
    assert [*inputs] == ["input_ids", "attention_mask"]
    assert inputs["input_ids"].shape == (3, 16)
    assert inputs["input_ids"][0].tolist() == [1, 2] + [0] * 14
    assert inputs["attention_mask"].sum(dim=1).tolist() == [2, 10, 1]
    assert all(part.dtype == torch.int64 for part in inputs.values())
    assert targets.tolist() == [0, 1, 1]
    short = batch(dataset.train, 2, 0)
    assert short.inputs["input_ids"].shape == (2, 8)
    assert short.size == 2
    assert dataset.input_shape == ()


def test_what_a_tokenizer_of_transformers_returns_is_taken_whole(tokens):
    inputs, _ = batch(load(tokens, tokenizer="tok.py:encoding").train)
    assert {*inputs} == {"input_ids", "token_type_ids", "attention_mask"}
    assert inputs["token_type_ids"][0].tolist() == [7, 7] + [0] * 14


def test_a_tensor_stays_a_tensor_and_tensors_by_name_are_padded(tokens):
    inputs, _ = batch(load(tokens, tokenizer="tok.py:matrix").train)
    assert inputs.tolist() == [[2, 1, 2], [10, 1, 2], [1, 1, 2]]
    inputs, _ = batch(load(tokens, tokenizer="tok.py:matrices").train)
    assert inputs["input_ids"].shape == (3, 8)
    assert inputs["attention_mask"].sum(dim=1).tolist() == [5, 5, 5]


@pytest.mark.slow
def test_a_tokenizer_of_transformers_gives_the_same_ids_as_alone(tmp_path, monkeypatch):
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    known = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    words = {"[PAD]": 0, "[UNK]": 1, "ab": 2, "c": 3}
    model = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(words, unk_token="[UNK]")  # noqa: S106 - a word
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=model, **known)
    fast.save_pretrained(tmp_path / "saved")
    (tmp_path / "tok.py").write_text(
        "from transformers import PreTrainedTokenizerFast\n"
        f"make = PreTrainedTokenizerFast.from_pretrained({str(tmp_path / 'saved')!r})\n"
    )
    dataset = load(save(tmp_path / "d", **SPLITS), tokenizer=f"{tmp_path}/tok.py:make")
    inputs, _ = batch(dataset.train)
    assert inputs["input_ids"][:, 0].tolist() == fast(ROWS["text"], padding=True)[
        "input_ids"
    ][0] + [1, 3]
    assert "attention_mask" in inputs


def test_several_columns_of_texts_are_several_arguments(tmp_path):
    (tmp_path / "tok.py").write_text(CODE)
    rows = {"one": ["a", "b"], "two": ["cc", "d"], "label": [0, 1]}
    dataset = load_saved(
        tmp_path / "d",
        None,
        {"train": rows, "test": rows},
        inputs=("one", "two"),
        tokenizer=f"{tmp_path}/tok.py:pairs",
    )
    inputs, _ = batch(dataset.train)
    assert inputs["input_ids"][0].tolist() == [1, 0, 3, 3, 0, 0, 0, 0]
    assert inputs["attention_mask"].sum(dim=1).tolist() == [4, 3]


FAILURES = {
    "fails": r"failed on 3 texts: ValueError: first$",
    "leaves": "failed on 3 texts: SystemExit",
    "fewer": "'input_ids' is a list of 1 for 3 texts; want a list of token ids for",
    "nothing": "'input_ids' is a NoneType for 3 texts",
    "nested": "want a list of token ids: integers",
    "floats": r"has float64\[1\] for an example",
    "other": "gives ids; want 'input_ids' among them",
    "real": r"is float32\[3, 4\] for 3 texts; want integers \[3, length\]",
    "flat": r"'length' has int64\[\] for an example",
}


@pytest.mark.parametrize(("name", "message"), FAILURES.items(), ids=FAILURES)
def test_a_tokenizer_that_fails_or_gives_no_ids_is_one_line(tokens, name, message):
    dataset = load(tokens, tokenizer=f"tok.py:{name}")
    with pytest.raises(ConfigError, match=message) as caught:
        batch(dataset.train)
    assert f"tok.py:{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lists_of_several_lengths_in_one_example_are_refused(tokens):
    dataset = load(tokens, tokenizer="tok.py:ragged")
    with pytest.raises(DataError, match="has 2 'input_ids' and 1 'attention_mask'"):
        batch(dataset.train)


def test_texts_without_tokens_are_padding_alone(tokens):
    inputs, _ = batch(load(tokens, tokenizer="tok.py:empty").train)
    assert inputs["input_ids"].shape == (3, 8)
    assert not inputs["attention_mask"].any()


def test_a_tokenizer_that_is_not_there_is_refused_with_the_nearest(tokens):
    with pytest.raises(ConfigError, match=r"no function named 'leters'.*'letters'"):
        load(tokens, tokenizer="tok.py:leters")


def test_a_tokenizer_for_numbers_is_refused(tmp_path, tokens):
    rows = {"a": [1.0], "label": [0]}
    splits = {"train": rows, "test": rows}
    with pytest.raises(ConfigError, match=r"takes texts, and the inputs are 'a' \(num"):
        load_saved(
            tmp_path / "e", None, splits, tokenizer="tok.py:letters", inputs=("a",)
        )


def test_missing_texts_are_counted(tmp_path, tokens):
    rows = {"text": ["ab", None], "label": [0, 1]}
    splits = {"train": rows, "test": rows}
    dataset = load_saved(tmp_path / "e", None, splits, tokenizer="tok.py:letters")
    with pytest.raises(DataError, match="column 'text' has no value in 1 of 2"):
        dataset.check()


# ---- next tokens


def test_the_target_of_a_position_is_the_token_that_follows(tokens):
    dataset = load(tokens, tokenizer="tok.py:letters", loss="next-token", outputs=27)
    inputs, targets = batch(dataset.train)
    assert inputs["input_ids"].shape == targets.shape == (3, 16)
    assert targets[0].tolist() == [2] + [-100] * 15
    assert targets[1].tolist() == [*range(2, 11)] + [-100] * 7
    assert (targets[2] == -100).all()
    assert dataset.train.targets is None
    assert dataset.num_outputs == 27


def test_the_tokenizer_says_how_many_tokens_there_are_and_which_is_padding(tokens):
    dataset = load(tokens, tokenizer="tok.py:sized", loss="next-token")
    assert dataset.num_outputs == 27
    assert batch(dataset.train).inputs["input_ids"][2].tolist() == [3] + [9] * 15
    with pytest.raises(ConfigError, match=r"want task\.outputs, the number of tokens"):
        load(tokens, tokenizer="tok.py:letters", loss="next-token")


def test_next_tokens_of_texts_want_a_tokenizer(tokens):
    with pytest.raises(
        ConfigError, match=r"wants task\.tokenizer for a column of texts"
    ):
        load(tokens, loss="next-token", inputs=("text",), outputs=27)


# ---- columns of ids


def ids(**columns):
    count = len(next(iter(columns.values())))
    made = {**columns, "label": [0] * count}
    return {"train": made, "test": made}


def test_ids_of_one_length_are_one_tensor(tmp_path):
    dataset = load_saved(tmp_path / "d", None, ids(x=[[1, 2, 3], [4, 5, 6]]))
    assert batch(dataset.train, 1, 0).inputs.tolist() == [[4, 5, 6], [1, 2, 3]]
    again = load(tmp_path / "d", loss="next-token", outputs=7, inputs=("x",))
    assert batch(again.train).targets.tolist() == [[2, 3, -100], [5, 6, -100]]


def test_ids_of_several_lengths_are_padded_with_a_mask(tmp_path):
    dataset = load_saved(tmp_path / "d", None, ids(x=[[1, 2, 3], [4]]))
    inputs = batch(dataset.train).inputs
    assert inputs["input_ids"].tolist() == [[1, 2, 3] + [0] * 5, [4] + [0] * 7]
    assert inputs["attention_mask"].sum(dim=1).tolist() == [3, 1]


def test_several_columns_of_ids_keep_their_names(tmp_path):
    splits = ids(input_ids=[[1, 2], [3]], attention_mask=[[1, 0], [1]])
    inputs = batch(load_saved(tmp_path / "d", None, splits).train).inputs
    assert [*inputs] == ["input_ids", "attention_mask"]
    assert inputs["attention_mask"][0].tolist() == [1, 0] + [0] * 6


def test_a_column_of_targets_of_positions_is_padded_with_what_does_not_count(tmp_path):
    rows = {"x": [[1, 2, 3], [4]], "y": [[2, 3, -100], [5]]}
    splits = {"train": rows, "test": rows}
    dataset = load_saved(
        tmp_path / "d",
        None,
        splits,
        inputs=("x",),
        target="y",
        loss="next-token",
        outputs=7,
    )
    targets = batch(dataset.train).targets
    assert targets.tolist() == [[2, 3] + [-100] * 6, [5] + [-100] * 7]


def test_texts_are_tokenised_by_batches_and_not_before(tokens, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "fedprune.common.data.hf_dataset.source.load_function",
        lambda _: lambda texts: seen.append(len(texts)) or [[1]] * len(texts),
    )
    dataset = load(tokens, tokenizer="tok.py:letters")
    dataset.check()
    assert seen == []
    dataset.train.batch(np.array([0, 2]))
    assert seen == [2]
