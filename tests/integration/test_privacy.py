"""A whole run under differential privacy: what its record shows, and its resume."""

import pytest

import fedprune
from fedprune.common.errors import ConfigError
from fedprune.server.runs.events import (
    ClientAnswered,
    PrivacySpent,
    RoundFinished,
    RunStarted,
    of_kind,
    read_events,
)

pytestmark = pytest.mark.slow

pytest.importorskip("dp_accounting")

SETTINGS = {
    "task.model": "mlp",
    "task.clients": 6,
    "rounds.cohort": 6,
    "rounds.minimum": 3,
    "rounds.warmup": 3,
    "rounds.sparsify": 1,
    "rounds.finetune": 1,
    "rounds.cuts": 1,
    "rounds.final": 3,
    "client.epochs": 2,
    "prune.budget.params": 0.6,
    "update.choice": "shared",
    "update.update_density": 0.5,
    "privacy.epsilon": 1000.0,
    "privacy.clip": 2.0,
    "run.controls": [],
    "run.engine": "inprocess",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    file = tmp_path_factory.mktemp("operator") / "noise.key"
    file.write_text("5a" * 32, encoding="ascii")
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def run(tmp_path_factory, key):
    changes = {"run.dir": str(tmp_path_factory.mktemp("runs")), "privacy.key": str(key)}
    return fedprune.simulate(config=SETTINGS | changes, progress=False)


def test_a_run_ends_with_the_epsilon_that_was_wanted_at_most(run):
    spent = list(of_kind(read_events(run.directory / "events.jsonl"), PrivacySpent))
    steps = [event.epsilon for event in spent]
    assert steps == sorted(steps)
    assert 0.9 * 1000.0 < steps[-1] <= 1000.0 * (1 + 1e-6)
    assert run.summary["privacy"]["epsilon"] == steps[-1]
    assert "epsilon" in (run.directory / "report.html").read_text(encoding="utf-8")


def test_no_event_tells_one_client_from_another(run):
    events = read_events(run.directory / "events.jsonl")
    answered = list(of_kind(events, ClientAnswered))
    for round_ in {event.round for event in answered}:
        figures = {
            (e.loss, e.norm, e.num_examples, e.validation_loss)
            for e in answered
            if e.round == round_
        }
        assert len(figures) == 1
    assert next(of_kind(events, RunStarted)).client_examples is None


def test_the_key_is_nowhere_in_the_run_folder(run, key):
    secret = bytes.fromhex(key.read_text(encoding="ascii"))
    for file in run.directory.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            assert secret not in data
            assert secret.hex().encode() not in data


def test_the_same_key_gives_the_same_run_and_another_key_another_one(
    run, key, tmp_path
):
    again = SETTINGS | {"run.dir": str(tmp_path), "privacy.key": str(key)}
    same = fedprune.simulate(config=again, progress=False)
    assert same.summary["model_sha256"] == run.summary["model_sha256"]
    other = tmp_path / "other.key"
    other.write_text("a5" * 32, encoding="ascii")
    other.chmod(0o600)
    different = fedprune.simulate(
        config=again | {"privacy.key": str(other)}, progress=False
    )
    assert different.summary["model_sha256"] != run.summary["model_sha256"]


def test_a_network_still_learns_under_little_noise(run):
    rounds = list(of_kind(read_events(run.directory / "events.jsonl"), RoundFinished))
    assert rounds[-1].accuracy > 0.35  # a guess is right in one of ten


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"run.controls": ["dense"]}, "run.controls.*spend epsilon again"),
        ({"robust.aggregate": "median"}, "robust.aggregate.*sums"),
        ({"prune.max_accuracy_drop": 0.1}, "max_accuracy_drop.*privacy.epsilon"),
        ({"prune.reconstruct": True}, "covariances have no noise"),
        ({"quantise.kind": "codebook"}, "too few for noise"),
        ({"privacy.senders": 2}, "privacy.senders.*one client"),
    ],
)
def test_what_noise_does_not_cover_is_refused_at_the_start(changes, words, tmp_path):
    with pytest.raises(ConfigError, match=words) as error:
        fedprune.simulate(
            config=SETTINGS | changes | {"run.dir": str(tmp_path)}, progress=False
        )
    assert "\n" not in str(error.value)


def test_clients_with_few_examples_abstain(tmp_path):
    settings = {k: v for k, v in SETTINGS.items() if "privacy" not in k}
    few = settings | {"privacy.min_examples": 10_000, "run.dir": str(tmp_path)}
    with pytest.raises(fedprune.FedPruneError, match=r"privacy\.min_examples is 10000"):
        fedprune.simulate(config=few, progress=False)
