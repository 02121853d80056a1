"""A user's own methods are tried before a run makes its folder."""

import numpy as np
import pytest
from helpers.tiny_federation import Tiny

import fedprune
from fedprune.common.errors import ConfigError

TINY = {
    "task.clients": 2, "rounds.cohort": 2, "rounds.minimum": 2, "rounds.warmup": 1,
    "rounds.sparsify": 1, "rounds.finetune": 0, "rounds.cuts": 1, "rounds.final": 0,
    "client.epochs": 1, "run.engine": "inprocess", "run.controls": [],
    "prune.budget": {"params": 0.9}, "prune.width_multiple": 1,
}  # fmt: skip

# key -> (code, words of the refusal)
BAD = {
    "a score that is no number": (
        "prune.importance",
        "def f(products):\n    return products.sum(axis=0) * float('nan')\n",
        "returned nan for",
    ),
    "a negative score": (
        "prune.importance",
        "def f(products):\n    return -1.0 - products.var(axis=0)\n",
        "want finite numbers >= 0",
    ),
    "complex scores": (
        "prune.importance",
        "def f(activations):\n    return activations.mean(axis=(0, 2)) + 1j\n",
        "returned complex",
    ),
    "a forgotten return": (
        "prune.importance",
        "def f(weights):\n    weights.mean(abs)\n",
        "returned NoneType",
    ),
    "an error of a criterion": (
        "prune.importance",
        "def f(products):\n    return prodcts\n",
        "mine.py:2: NameError",
    ),
    "a penalty of another shape": (
        "client.penalty",
        "def f(channels, threshold):\n    return channels[:1]\n",
        "want a torch tensor of factors 0..1",
    ),
    "a gate of another shape": (
        "client.penalty",
        "def f(uniform):\n    return uniform[:1]\n",
        "want a torch tensor of factors 0..1",
    ),
    "a schedule that is no number": (
        "prune.schedule",
        "def f(progress):\n    return 'half'\n",
        "want a finite number",
    ),
    "a learning rate that is no number": (
        "client.lr_schedule",
        "def f(start):\n    return None\n",
        "want a finite number",
    ),
    "a consensus of another length": (
        "prune.consensus",
        "def f(scores):\n    return scores\n",
        "one for each position",
    ),
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 1, 4, 4)).astype(np.float32)
    y = np.arange(80) % 3
    return x[:60], y[:60], x[60:], y[60:]


@pytest.mark.parametrize(("key", "code", "words"), BAD.values(), ids=BAD)
def test_what_an_own_method_does_wrong_is_told_before_the_run(
    key, code, words, tmp_path, images
):
    path = tmp_path / "mine.py"
    path.write_text(code)
    runs = tmp_path / "runs"
    settings = TINY | {key: f"{path}:f", "run.dir": str(runs)}
    with pytest.raises(ConfigError) as caught:
        fedprune.simulate(Tiny, images, settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not [*runs.glob("*/manifest.json")]
