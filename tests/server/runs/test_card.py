"""``MODEL_CARD.md``: what it tells, and what it must not."""

import re

import pytest

import fedprune
from fedprune.common.config import load_config
from fedprune.common.description import Description
from fedprune.common.tasks.loaded import LoadedTask
from fedprune.server.runs.card import (
    CARD_FILE,
    IN_RUN,
    card_head,
    card_text,
    trained_by,
    write_card,
)

FACTS = Description(
    labels=("cat", "dog"), offset=127.5, scale=1 / 127.5, stored="uint8"
)
SUMMARY = {
    "metric": "accuracy",
    "accuracy_final": 0.98,
    "accuracy_control": 0.97,
    "metrics_final": {"accuracy": 0.98, "top|5": 0.99},
    "params_dense": 1000,
    "params_final": 300,
    "flops_dense": 5000,
    "flops_final": 2000,
    "clients": 7,
    "rounds": 30,
    "bytes": 1234,
}


def card(*overrides, factory=None, given=None, facts=FACTS, **figures):
    task = LoadedTask(load_config(None, list(overrides)), factory, given)
    trained, summary = trained_by(task), {**SUMMARY, **figures}
    head = card_head(trained, facts, summary)
    place = "final.safetensors"
    text = card_text(trained, facts, summary, place=place, intro=IN_RUN)
    return f"{head}\n\n{text}"


def test_a_card_has_its_header_sections_and_figures():
    text = card()
    head, body = text.split("---\n")[1:3]
    assert head.splitlines()[0] == "library_name: fedprune"
    assert '- "accuracy"' in head
    assert "license" not in text
    assert re.findall(r"^## (.+)$", body, re.MULTILINE) == [
        "Training",
        "Pruning",
        "Figures",
        "Inputs and labels",
        "Use",
        "Limits",
    ]
    for words in (
        "| accuracy (test examples) | 0.9800 | 0.9700 |",
        "| parameters | 300 | 1,000 |",
        "| FLOPs of one example | 2,000 | 5,000 |",
        "| bytes of the file | 1,234 |",
        "clients: 7",
        "- importance of a channel: taylor\n",
        "- kept at most: 0.3 of the params, 0.35 of the flops\n",
        "(x - 127.5) * 0.00784313725",
        '["cat", "dog"]',
        'fedprune.load_model("final.safetensors")',
    ):
        assert words in body


def test_a_card_names_no_client_and_no_place_of_the_machine(tmp_path):
    own = tmp_path / "secret.py"
    own.write_text("import fedprune\n\n\nclass Own(fedprune.Task):\n    pass\n")

    class Hospitals(fedprune.Task):
        """Data of two hospitals."""

        def clients(self):
            return ["st-mary", "st-john"]

        def train_data(self, client):
            raise AssertionError(client)

    texts = [
        card(given=Hospitals()),
        card(
            "task.data=npz:/home/me/secret.npz", "task.weights=/home/me/w.safetensors"
        ),
        card("task.data=folder:/home/me/secret", "task.data_dir=/home/me"),
        card("task.data=/home/me/secret.py:load", "task.model=/home/me/secret.py:make"),
        card(f"task.use={own}:Own", "run.dir=/home/me", "run.name=secret"),
        card("task.model=hf:/home/me/secret", "task.data=hf-dataset:/home/me/secret"),
        card("task.model=hf:../secret", "task.data=hf-dataset:./secret"),
    ]
    for text in texts:
        assert not re.search(r"st-mary|st-john|Hospitals|home|secret|Own", text)
        assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["task.model=lenet5", "task.data=mnist"], ("# lenet5,", "data: mnist")),
        (["task.model=timm:resnet18"], ("# timm:resnet18,",)),
        (["task.model=hf:a/b@random"], ("# hf:a/b@random,",)),
        (["task.data=hf-dataset:a/b"], ("data: hf-dataset:a/b",)),
        (["task.data=npz:x.npz"], ("data: arrays in a file",)),
    ],
)
def test_public_names_are_told(overrides, words):
    text = card(*overrides)
    assert [word for word in words if word not in text] == []


def test_the_hub_reads_the_figures_of_the_header():
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.ModelCard(card(input_dims=3)).data
    assert (data.library_name, data.pipeline_tag) == (
        "fedprune",
        "image-classification",
    )
    (result,) = data.eval_results
    assert (result.dataset_name, result.metric_type) == ("digits", "accuracy")
    assert result.metric_value == 0.98
    assert (
        huggingface_hub.ModelCard(card(accuracy_final=None)).data.eval_results is None
    )


def test_noise_is_told_where_it_was_applied():
    private = {"epsilon": 3.5, "delta": 1e-5, "noise_multiplier": 1.25}
    assert "no differential privacy was applied" in card()
    text = card(privacy=private)
    assert "no differential privacy" not in text
    assert "any one client: epsilon 3.50 at delta 1e-05" in text


def test_methods_of_own_code_are_not_named():
    text = card("prune.importance=secret.py:score", "client.penalty=secret:shrink")
    assert "importance of a channel: own code" in text
    assert "secret" not in text


def test_own_code_is_needed_again_to_load_the_network():
    for text in (card(factory=lambda: None), card("task.model=net.py:make")):
        assert "# A network of own code" in text
        assert "factory=make_network" in text
    assert "factory=" not in card()


def test_neither_labels_nor_metrics_are_markup_of_the_card():
    hostile = "```\n# title\n<script>"
    facts = Description(labels=(hostile.replace("\n", " "),))
    text = card(facts=facts, metric='a"\nb: c', accuracy_control=None)
    head = text.split("---\n")[1]
    assert '- "a\\"\\nb: c"' in head
    fence = text[text.index("```json") :].splitlines()
    assert fence[1].startswith('["``` # title')
    assert fence[2] == "```"
    assert r"top\|5" in text


def test_figures_that_were_not_measured_are_said_so():
    text = card(accuracy_final=None, validation_accuracy_final=0.9, flops_final=None)
    assert "accuracy (validation parts of the clients) | 0.9000" in text
    assert "| FLOPs of one example | not measured |" in text


def test_what_devices_tested_stands_before_what_they_validated():
    text = card(
        accuracy_final=None, accuracy_delivered=0.8, validation_accuracy_final=0.9
    )
    assert "accuracy (test examples of the devices) | 0.8000" in text


def test_the_card_has_the_size_of_the_file(tmp_path):
    (tmp_path / "final.safetensors").write_bytes(b"x" * 4321)
    write_card(tmp_path, LoadedTask(load_config()), FACTS, SUMMARY)
    assert "4,321" in (tmp_path / CARD_FILE).read_text()
