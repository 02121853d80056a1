"""The experiments of the benchmark of tasks: their data, and what is counted."""

import os

import numpy as np
import pytest
import torch
from helpers.processes import ROOT

import fedprune
from fedprune.common.data.examples import Batch
from fedprune.simulations.benchmarks.kit.tasks import experiments, memory
from fedprune.simulations.benchmarks.kit.tasks.own import SETTINGS
from fedprune.simulations.experiments import FOLDER, language, sentiment, small, vision

TWO_ROUNDS = {
    **SETTINGS,
    "rounds": {"cohort": 4, "minimum": 2, "warmup": 1, "cuts": 1, "final": 0},
    "client": {"lr": 0.005, "penalty": "group", "epochs": 1},
    "run.controls": [],
}


@pytest.mark.slow
def test_the_example_of_an_own_task_is_cut_to_its_budget(tmp_path):
    summary = fedprune.simulate(config=TWO_ROUNDS | {"run.dir": str(tmp_path)}).summary
    assert (summary["cuts"], summary["refused"], summary["failed"]) == (1, 0, 0)
    assert summary["params_final"] <= 0.6 * summary["params_dense"]
    assert (summary["metric"], summary["clients"]) == ("right", 4)


def test_the_example_of_an_own_task_needs_at_most_forty_lines():
    text = (ROOT / "examples" / "own_task.py").read_text(encoding="utf-8")
    code = [line for line in text[text.index("class ") :].splitlines() if line]
    assert len(code) <= 40


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.toml")), ids=lambda f: f.stem)
def test_every_experiment_is_a_valid_configuration_and_names_a_file_beside_it(file):
    use = fedprune.load_config(file).task.use
    assert not use or use.startswith(str(FOLDER.resolve()))


@pytest.mark.parametrize(
    "task",
    [small.Tabular, small.Regression, small.MultiLabel, small.Series],
    ids=lambda task: task.__name__,
)
def test_no_example_of_a_small_task_is_in_both_parts(task):
    split = task().split(0)
    rows = [
        {row.tobytes() for row in part.tensors[0].numpy()}
        for part in (split.train, split.test)
    ]
    assert len(rows[1]) > 100
    assert rows[0] & rows[1] == set()


def test_pieces_of_a_text_are_followed_by_the_next_character():
    text = "".join(chr(32 + k % 90) for k in range(1000))
    inputs, targets = language.examples([text]).tensors
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(inputs.flatten(), torch.from_numpy(language.encode(text))[:960])


def test_every_character_has_a_token():
    tokens = language.encode("".join(map(chr, range(1, 300))))
    assert tokens.min() == 0
    assert tokens.max() == language.TOKENS - 1
    assert len(np.unique(tokens)) == language.TOKENS


def test_a_batch_of_sentences_is_as_long_as_a_multiple_of_eight():
    batch = sentiment.Sentiment().collate([([5] * 9, 1), ([7] * 3, 0)])
    assert batch.inputs["input_ids"].shape == (2, 16)
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [9, 3]


def test_an_image_is_moved_by_four_pixels_at_most_and_maybe_flipped():
    images = torch.zeros(256, 3, 32, 32)
    images[:, :, 16, 10] = 1.0
    batch = Batch(images, torch.zeros(256))
    draws = torch.Generator().manual_seed(0)
    moved = vision.PretrainedVision().augment(batch, draws).inputs
    places = moved[:, 0].nonzero()[:, 1:]
    assert moved.shape == images.shape
    assert len(places) == 256
    assert (places[:, 0] - 16).abs().max() == 4
    columns = {*range(6, 15), *range(17, 26)}  # around 10, and around 21 when flipped
    assert set(places[:, 1].tolist()) == columns


def test_flops_of_blocks_count_the_scores_of_attention():
    task = type(
        "T", (), {"example": lambda self: torch.zeros(1, 64, dtype=torch.int64)}
    )
    found = experiments._flops(language.Decoder(), "blocks", task())
    layers = 2 * 64 * language.BLOCKS * 12 * language.WIDTH**2
    scores = 2 * 2 * 64**2 * language.WIDTH * language.BLOCKS
    assert found == layers + scores


def test_memory_of_a_process_is_at_least_what_it_has_filled():
    filled = np.ones(50_000_000, dtype=np.uint8)
    sizes = memory._sizes(os.getpid())
    assert sizes["rss"] >= sizes["pss"] > filled.nbytes
