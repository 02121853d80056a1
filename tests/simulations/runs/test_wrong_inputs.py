"""Wrong inputs of data, network, task and settings: one table, each row refused early.

A row is refused through the real door, before round 1, by one line that names the cause
and the mend, and leaves no file behind.
"""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.own_tasks import WORDS, OfTexts, words
from helpers.tiny_federation import Tiny
from helpers.wrong import files
from helpers.wrong.doors import EXAMPLES, X, Y, arrays, line, python, settings
from helpers.wrong.networks import (
    Branching,
    Counting,
    Noisy,
    Spectral,
    colour,
    flat,
    of_colour_images,
    of_places,
    of_words,
    returning,
    wide,
)
from helpers.wrong.tasks import (
    Heavy,
    Iterable,
    Locked,
    Unreadable,
    Untouchable,
    always,
    failing,
    own,
    pairs,
)
from torch.nn import functional

from fedprune import simulate
from fedprune.common.errors import FedPruneError

CONFIG, DATA = 2, 3  # exit codes
VALUES = X[:, 0, 0, :2].sum(axis=1)
ONE_HOT = np.eye(3, dtype=np.int64)[Y]
PLACES = np.zeros((48, 4, 4), dtype=np.int64)
IDS, KINDS = words(48)
ROWS = {"a": [0.5, 1.5] * 6, "label": [0, 1] * 6}
TEXTS = {"text": ["ab", "c"] * 6, "label": [0, 1] * 6}
RAGGED = {"input_ids": [[1, 2]] * 12, "attention_mask": [[1]] * 12, "label": [0, 1] * 6}
SET = "hf-dataset:set"
NO_CUDA = "mps" if torch.cuda.is_available() else "cuda"


def changed(array, place, value):
    """Return a copy of an array with another value at one example."""
    found = array.copy()
    found[place] = value
    return found


def stopped():
    """Leave a run of a task of one's own, stopped before round 1."""

    class Stop:
        def on_event(self, event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(OfTexts(), settings(run__dir="stopped"), progress=Stop())


def resumed():
    return simulate(resume_from=next(Path("stopped").iterdir()), progress=False)


# Name: door, exit code, part of the message with the cause, part with the mend.
LABELS = {
    "classes as floats": (
        arrays(y=Y.astype(float)),
        DATA,
        "the targets are floats",
        "give integer classes",
    ),
    "classes from 1": (
        arrays(wide(4), y=Y + 1),
        DATA,
        "the classes run from 1 to 3",
        "count them from 0, or set task.outputs = 4",
    ),
    "negative classes": (
        arrays(y=Y - 1),
        DATA,
        "classes run from -1 to 1",
        "want 0 <= class",
    ),
    "names of classes": (
        arrays(y=np.array(["a", "b", "c"])[Y]),
        DATA,
        "y_train holds <U1",
        "number the classes, np.unique(",
    ),
    "one-hot rows of floats": (
        arrays(y=ONE_HOT.astype(float)),
        DATA,
        "one-hot rows of 3",
        "targets.argmax(axis=1)",
    ),
    "one-hot rows of integers": (
        arrays(y=ONE_HOT),
        DATA,
        "the targets are int64[48, 3]",
        "targets.argmax(axis=1)",
    ),
    "classes beyond task.outputs": (
        arrays(task__outputs=2),
        DATA,
        "needs 3 outputs; task.outputs is 2",
        "want as many, or 0",
    ),
    "prices as classes": (
        arrays(y=Y * 10**6),
        DATA,
        "classes run from 0 to 2000000",
        "or floating targets for a regression",
    ),
    "a class that is tested alone": (
        arrays(wide(6), test=(X[:9], Y[:9] + 3)),
        DATA,
        "no test example has a class of the training data",
        "want the same numbering",
    ),
    "values that are all equal": (
        arrays(wide(1), y=VALUES, test=(X[:9], 0 * VALUES[:9]), task__loss="mse"),
        DATA,
        "9 equal targets, for which R squared is undefined",
        "want test targets",
    ),
}
ARRAYS = {
    "NaN": (arrays(x=changed(X, 3, np.nan)), DATA,
        "not finite in float32, in 1 of 48 examples, first in x_train[3]",
        "replace such values"),
    "NaN as a target": (arrays(wide(1), y=changed(VALUES, 5, np.nan)), DATA,
        "y_train has a value that is not finite", "replace such values"),
    "no example": (arrays(x=X[:0]), DATA, "x_train has shape (0, 1, 4, 4)", "want [n,"),
    "no test example": (arrays(test=(X[:0], Y[:0])), DATA,
        "x_test has shape (0, 1, 4, 4)", "none of them 0"),
    "other lengths": (arrays(y=Y[:5]), DATA, "48 inputs but 5 targets", "want as many"),
    "a test part of another shape": (arrays(test=(X[:9, :, :3], Y[:9])), DATA,
        "float32[1, 4, 4], test inputs float32[1, 3, 4]", "want the same"),
    "a test part of other targets": (arrays(test=(X[:9], VALUES[:9])), DATA,
        "are int64[48], test targets float32[9, 1]", "want the same kind and width"),
    "ragged rows": (arrays(x=[[1.0], [2.0, 3.0]]), DATA,
        "its entries differ in length", "want all examples of one shape"),
    "Python objects": (arrays(x=np.array([Untouchable()])), DATA,
        "x_train holds object", "want plain numbers"),
    "three arrays": (python(Tiny, (X, Y, X)), CONFIG,
        "data holds 3 arrays", "want a tuple x_train, y_train, x_test, y_test"),
    "a name instead of arrays": (python(Tiny, "digits"), CONFIG,
        "data: found str", "want a tuple"),
    "owners of other examples": (python(Tiny, (X, Y, X, Y, ["a"] * 5)), DATA,
        "clients is <U1[5]", "want a name or a number for each of the 48"),
    "another shape than declared": (arrays(task__input_shape=[1, 8, 8]), DATA,
        "have shape [1, 4, 4]; task.input_shape is [1, 8, 8]", "leave it out"),
}  # fmt: skip
INPUTS = {
    "grey images without a channel": (arrays(x=X[:, 0]), CONFIG,
        "does not run on a batch of shape [8, 4, 4]", "grey images as [n, 1, h, w]"),
    "a network of other channels": (arrays(of_colour_images), CONFIG,
        "to have 3 channels, but got 1", "want a network of float32 for inputs [n, 1,"),
    "a network of another width": (arrays(flat(9)), CONFIG,
        "cannot be multiplied (8x16 and 9x8)", "want a network of float32 for inputs"),
    "integers for a network of floats": (arrays(flat(6), x=IDS, y=KINDS), CONFIG,
        "does not run on a batch of int64", "give floats for quantities"),
    "floats for an embedding": (
        arrays(of_words, x=IDS.astype(np.float32), y=KINDS), CONFIG,
        "got torch.FloatTensor", "give ids of tokens or categories as integers"),
    "an id beyond an embedding": (
        arrays(of_words, x=changed(IDS, 40, WORDS), y=KINDS), CONFIG,
        "the ids run from 0 to 18", "embeddings of 19 rows"),
}  # fmt: skip
LOSSES = {
    "an unknown loss": (line(task__loss="focal"), CONFIG,
        'task.loss: found "focal"', 'want one of "cross-entropy"'),
    "squared error of classes": (arrays(task__loss="mse"), DATA,
        "the targets are integers", "want 'cross-entropy' for classes"),
    "squared error of another width": (arrays(y=VALUES, task__loss="mse"), CONFIG,
        "the network gives [8, 3]", "want [8, 1]"),
    "one class for all pixels": (arrays(of_places(), task__loss="per-pixel"), DATA,
        "the targets are int64[48]", "wants an integer for each position"),
    "pixels of another size": (
        arrays(of_places(2), y=PLACES, task__loss="per-pixel"), CONFIG,
        "gives [8, 3, 2, 2]", "wants outputs [n, classes, height, width]"),
    "a class of pixels beyond the network": (
        arrays(of_places(), y=PLACES + 5, task__loss="per-pixel"), CONFIG,
        "the targets run from 5 to 5", "want targets from 0 to 2, or a network with"),
    "one class for all tokens": (
        arrays(of_words, x=IDS, y=KINDS, task__loss="next-token"), DATA,
        "the targets are int64[48]", "wants an integer for each position"),
    "one class for several labels": (arrays(task__loss="bce"), DATA,
        "the targets are int64[48]", "wants 0 or 1 for each label [n, labels]"),
    "counts for several labels": (arrays(y=2 * ONE_HOT, task__loss="bce"), DATA,
        "the targets are int64[48, 3]", "wants 0 or 1 for each label"),
    "another number of labels": (arrays(wide(5), y=ONE_HOT, task__loss="bce"), CONFIG,
        "the network gives [8, 5]", "want [8, 3]"),
}  # fmt: skip
NETWORKS = {
    "a dict without logits": (arrays(returning(lambda y: {"scores": y})), CONFIG,
        "returns a dict with scores", "or a dict with 'logits'"),
    "a pair": (arrays(returning(lambda y: (y, y))), CONFIG,
        "returns a tuple of 2", "let forward return the outputs alone"),
    "classes instead of scores": (arrays(returning(lambda y: y.argmax(1))), CONFIG,
        "returns a tensor of int64", "want one tensor of floats"),
    "one logit": (arrays(wide(1)), CONFIG,
        "1 output for each example, and the classes are 0 to 2", "want 3, an output"),
    "outputs without a gradient": (arrays(returning(torch.Tensor.detach)), CONFIG,
        "does not depend on any weight that is trained", "forward must not detach"),
    "a network of doubles": (arrays(lambda: Tiny().double()), CONFIG,
        "weight type (torch.DoubleTensor)", "want a network of float32"),
    "a network and no factory": (arrays(Tiny()), CONFIG,
        "model: found Tiny", "want a function without arguments"),
    "a factory of numbers": (arrays(lambda: 3), CONFIG, "returned int", "nn.Module"),
    "a factory that ends the program": (arrays(lambda: exit(3)), CONFIG,  # noqa: PLR1722
        "called exit(3)", "want it to return a network"),
    "one network again and again": (arrays(lambda one=Tiny(): one), CONFIG,  # noqa: B008
        "returned the same weights twice", "want a new network every time"),
    "lazy modules": (arrays(colour), CONFIG,
        "'3.weight' has no shape yet", "want it called once on an example"),
    "a running buffer of integers": (arrays(Counting), CONFIG,
        "training changes 'seen' (int64)", "want a buffer of floats"),
    "random numbers in eval mode": (arrays(returning(functional.dropout)), CONFIG,
        "two answers for the same inputs", "want F.dropout(..., training=self.train"),
    "a branch that data decide": (arrays(Branching), CONFIG,
        "a number is read from data", "Write it with supported operations"),
    "no channel that can be followed": (arrays(Spectral), CONFIG,
        "operation 'fft_rfft'", "want another network, or rounds.cuts = 0"),
    "training that cannot follow a cut": (arrays(Noisy), CONFIG,
        "the training forward of a cut network fails", "run it in eval mode too"),
    "an unknown frozen module": (arrays(task__freeze=["con"]), CONFIG,
        "task.freeze: found 'con'", "did you mean 'conv'?"),
    "an unknown name": (line(task__model="small-resnt"), CONFIG,
        "there is no model 'small-resnt'", "did you mean 'small-resnet'?"),
}  # fmt: skip
TASKS = {
    "a network that is none": (python(own(network=always(3))), CONFIG,
        "Own.network returned int", "want nn.Module"),
    "one loss for the batch": (
        python(own(loss=lambda _, y, b: functional.cross_entropy(y, b.targets))),
        CONFIG,
        "the loss of Own is []", "want one number for each example, [8]"),
    "metrics that are no dict": (python(own(metrics=lambda _, y, b: y.sum(1))), CONFIG,
        "Own.metrics returns a Tensor", "want a dict name -> one number for each"),
    "one metric for the batch": (
        python(own(metrics=lambda _, y, b: {"f1": y.sum()})), CONFIG,
        "the metric 'f1' of Own is []", "want one number for each example"),
    "augment that returns nothing": (python(own(augment=always(None))), CONFIG,
        "Own.augment returns a NoneType", "want the Batch"),
    "an optimiser that is none": (python(own(optimizer=always("adam"))), CONFIG,
        "Own.optimizer returns a str", "want a torch.optim.Optimizer, or None"),
    "an optimiser with a closure": (
        python(own(optimizer=lambda _, p, lr: torch.optim.LBFGS(p, lr))), CONFIG,
        "a step of LBFGS failed", "whose step() takes no argument"),
    "one client twice": (python(own(clients=always(["a", "a", "b", "c"]))), DATA,
        "the clients of Own are ('a', 'a',", "want different names"),
    "clients with a path": (python(own(clients=always(["../a", "b", "c", "d"]))), DATA,
        "have the name '../a'", "printable characters, no /"),
    "clients without data": (python(own(train_data=always([]))), DATA,
        "Own has no training example", "want some in training and test"),
    "train_data that fails": (python(own(train_data=failing)), DATA,
        "train_data('ann') failed: KeyError: 'none'", "Own.train_data"),
    "data without a length": (python(own(train_data=always(Iterable()))), DATA,
        "the data of Own are a Iterable", "want map-style data, with len(data)"),
    "an example that cannot be read": (
        python(own(train_data=always(Unreadable(pairs(12))))), DATA,
        "example 0 of the data cannot be read: OSError: truncated", "example 0"),
    "examples without a target": (
        python(own(train_data=always(list(EXAMPLES.inputs)))), DATA,
        "an item of the data is a ndarray", "want a pair (inputs, target)"),
    "classes of one's own as floats": (
        python(own(train_data=always([(x, float(y)) for x, y in pairs(12)]))), DATA,
        "the targets are float64[8]", "give integer classes"),
    "classes of one's own beyond": (
        python(own(train_data=always([(x, y + 5) for x, y in pairs(12)]))), CONFIG,
        "3 outputs for each example, and the classes are 0 to 7", "want 8, an output"),
    "known classes beyond task.outputs": (
        python(own(labels=always([*range(12)])), task__outputs=3), DATA,
        "the classes run from 0 to 11; task.outputs is 3", "want 12, or classes below"),
    "NaN of one's own": (
        python(own(train_data=always([(x * np.nan, y) for x, y in pairs(12)]))), DATA,
        "a batch of the inputs has a value that is not finite", "replace such values"),
    "test data of other channels": (
        python(own(test_data=always([(torch.zeros(2, 4, 4), 0)] * 9))), CONFIG,
        "of the test data: RuntimeError", "want a network of float32 for inputs [n, 2"),
    "an example of nothing": (python(own(example=always(None))), CONFIG,
        "Own.example returns a NoneType", "want the inputs of two examples"),
    "data in the object": (python(Heavy(), run__engine="ray"), CONFIG,
        "the task Heavy holds 20 MiB", "load data in train_data()"),
    "a lock in the object": (python(Locked(), run__engine="ray"), CONFIG,
        "the task Locked cannot be sent to workers", "keep none in the object"),
    "a task and data": (python(own(), (X, Y, X, Y)), CONFIG,
        "found data beside Own", "want one of the two"),
    "no file of task.use": (line(task__use="own.py:Mine"), CONFIG,
        "there is no file 'own.py'", "looked at "),
    "no class of task.use": (
        line(files.text("own.py", "class Min: pass"), task__use="own.py:Mine"), CONFIG,
        "'own.py' has no function named 'Mine'", "did you mean 'Min'?"),
    "another class in task.use": (
        line(files.text("own.py", "class Mine: pass"), task__use="own.py:Mine"), CONFIG,
        "gives a Mine", "want a subclass of fedprune.Task"),
    "a run resumed without its task": (files.door(resumed, stopped), CONFIG,
        "Python code handed over the task of", "--use FILE.py:CLASS (in Python "),
}  # fmt: skip
SETTINGS = {
    "shards that hold no class": (
        arrays(task__partition__kind="shards", task__partition__classes=30), CONFIG,
        "4 clients of 30 classes cannot hold 3 classes", "want 1 <= classes_per_cl"),
    "parts by labels that are not known": (
        python(own(clients=always(()), train_data=always(pairs(48)))), DATA,
        "the data of Own name no labels", "want task.partition.kind = 'iid'"),
    "more clients than examples": (arrays(task__clients=99), CONFIG,
        "task.clients is 99", "want at most one for each of the 48 training examples"),
    "natural clients of data that name none": (
        line(task__partition__kind="natural"), DATA,
        "'digits' names no client", "want another task.partition.kind than 'natural'"),
    "a device that is not here": (arrays(run__device=NO_CUDA), CONFIG,
        f"run.device is '{NO_CUDA}', and torch finds no", "want 'auto' or 'cpu'"),
    "a device of no kind": (arrays(run__device="gpu"), CONFIG,
        'run.device: found "gpu"', "auto, cpu, cuda, cuda:N or mps"),
    "an unknown key": (
        line(files.text("a.toml", "[task]\nclientz = 3\n"), "a.toml"), CONFIG,
        "a.toml:2: task.clientz: unknown key", 'did you mean "task.clients"?'),
    "an unknown source": (line(task__data="digit"), CONFIG,
        "there is no data source 'digit'", "did you mean 'digits'?"),
}  # fmt: skip
FILES = {
    "no folder": (line(task__data="folder:pics"), CONFIG,
        "there is no folder 'pics'", "looked at "),
    "images without a class": (line(files.flat, task__data="folder:pics"), DATA,
        "has 4 images of its own", "want a folder for each class"),
    "a class that is tested alone in folders": (
        line(files.folders(train__cat=5, test__cow=2), task__data="folder:pics"), DATA,
        "the test part has the classes cow", "want the same classes in both"),
    "a test part alone": (line(files.folders(test__cat=5), task__data="folder:pics"),
        DATA, "pics has test/ and no train/", "want both"),
    "folders one level too high": (
        line(files.folders(a__cat=5, a__dog=5), task__data="folder:pics"), DATA,
        "pics is one level too high", "want folder:pics/a"),
    "a class without an image": (
        line(files.with_file("cow/notes.txt", b"x"), task__data="folder:pics"), DATA,
        "class folder pics/cow has no image", "want .png"),
    "an image that is none": (
        line(files.with_file("cat/x.png", b"no image"), task__data="folder:pics"), DATA,
        "pics/cat/x.png is not an image", "of the formats PNG, JPEG"),
    "an array that is missing": (
        line(files.npz(y_test=None), task__data="npz:own.npz"), DATA,
        "own.npz has x_train, y_train, x_test, but no y_test", "want x_train, y_t"),
    "arrays of Python objects": (line(files.pickled, task__data="npz:own.npz"), DATA,
        "its type is object", "want plain numbers, no Python objects"),
    "a truncated file": (line(files.truncated, task__data="npz:own.npz"), DATA,
        "own.npz cannot be read as npz", "want a file of np.savez"),
    "truncated arrays": (line(files.damaged, task__data="npz:own.npz"), DATA,
        "header states 3072 bytes of data; found 2972", "write it again"),
    "a column that is missing": (
        line(files.saved(**ROWS), task__data=SET, task__inputs=["b"]), CONFIG,
        "task.inputs is 'b'", "its columns are a, label"),
    "a tokenizer that fails": (
        line(files.saved(**TEXTS), task__data=SET, task__tokenizer="own.py:fails"),
        CONFIG, "failed on 8 texts: ValueError: first", "task.tokenizer = 'own.py:fai"),
    "a tokenizer that is missing": (
        line(files.saved(**TEXTS), task__data=SET, task__tokenizer="own.py:lettrs"),
        CONFIG, "no function named 'lettrs'", "did you mean 'letters'?"),
    "ids of two lengths": (line(files.saved(**RAGGED), task__data=SET), DATA,
        "example 0 of a batch has 2 'input_ids' and 1 'attention", "want as many of"),
    "a name of the Hub without a network": (line(task__data="hf-dataset:own/none"),
        CONFIG, "there is no folder 'own/none' here", "the Hugging Face Hub cannot be"),
    "a function that returns nothing": (
        line(files.text("own.py", "def load(): 0"), task__data="own.py:load"), DATA,
        "'own.py:load' returned None", "want x, y train and x, y test"),
}  # fmt: skip
GROUPS = (
    LABELS, ARRAYS, INPUTS, LOSSES, NETWORKS, TASKS, SETTINGS, FILES,
)  # fmt: skip
WRONG = {name: row for group in GROUPS for name, row in group.items()}


@pytest.fixture
def here(tmp_path, tmp_path_factory, monkeypatch):
    """An empty working folder, without a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDPRUNE_STATE", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def forbidden(*_, **__):
    raise AssertionError


def contents(folder):
    """Return path -> bytes of every file, and None of a folder."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(door, capsys):
    """Return exit code and message of a door."""
    capsys.readouterr()
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(pickle, "dump", forbidden)  # as arrays of objects use it
            code = door.enter()
    except FedPruneError as error:
        assert capsys.readouterr() == ("", "")
        return error.exit_code, str(error)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) <= 1  # what comes
    assert err.startswith("error: ")
    return code, err.removeprefix("error: ").removesuffix("\n")


def test_no_name_of_a_row_is_used_twice():
    assert len(WRONG) == sum(map(len, GROUPS)) >= 40


@pytest.mark.parametrize(("door", "code", "cause", "mend"), WRONG.values(), ids=WRONG)
def test_a_wrong_input_is_one_line_with_cause_and_mend_and_leaves_nothing(
    door, code, cause, mend, here, capsys
):
    door.files()
    before = contents(here)
    found, message = refusal(door, capsys)
    assert cause in message
    assert mend in message
    assert found == code
    assert re.fullmatch("[^\n\r]+", message)
    assert "Traceback" not in message
    assert contents(here) == before
