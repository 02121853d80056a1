"""What leaves with a push: a network and figures, and no name of this machine."""

import json
import socket

import numpy as np
import pytest
from helpers.finished_run import a_run, answer

from fedprune.common.artifacts import read_model_file, write_model_file
from fedprune.common.artifacts.load import load_model
from fedprune.common.description import Description
from fedprune.common.errors import ConfigError
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.hub.bundle import make_bundle, public_summary, sha256

FACTS = Description(labels=("cat", "dog"), offset=127.5, scale=0.01, stored="uint8")
SUMMARY = {
    "metric": "accuracy",
    "accuracy_final": 0.97,
    "params_final": 300,
    "bytes_up": 1234,
    "clients": 7,
}

# Every text of a run that says where it was, on what, or with whom.
SECRETS = (
    *("st-mary", "alice", "hospital", "10.1.2.3", "intern.example", "tumour-study"),
    *("confidential", "secretcode", "/home/", "/mnt/"),
)
CONFIG = """
[task]
use = "/home/alice/secretcode.py:Tumours"
model = "/home/alice/secretcode.py:make"
weights = "/mnt/confidential/w.safetensors"
data = "npz:/home/alice/st-mary.npz"
data_dir = "/mnt/hospital"
tokenizer = "/home/alice/secretcode.py:tokens"
ignore = ["hospital"]
[prune]
importance = "/home/alice/secretcode.py:score"
consensus = "secretcode:agree"
latency_table = "/mnt/confidential/10.1.2.3.json"
[client]
penalty = "secretcode:shrink"
[run]
dir = "/home/alice/runs"
name = "tumour-study"
controls = []
"""


def hostile_run(base):
    """Return the folder of a run that has secrets wherever a text can be."""
    label = "/home/alice/secretcode.py:make"
    folder, model = a_run(base / "tumour-study", "mlp", label=label, description=FACTS)
    folder.config.write_text(CONFIG)
    summary = {
        **SUMMARY,
        "metric": "st-mary: accuracy",
        "metrics_final": {"alice@intern.example": 0.5, "top-5": 0.9, "/home/x": 0.1},
        "warnings": ["alice is late"],
        "clients_named": ["st-mary"],
        "backdoor": "/mnt/confidential",
    }
    folder.summary.write_text(json.dumps(summary))
    folder.events.write_text('{"event": "client", "client": "st-mary"}\n')
    (folder.model / "MODEL_CARD.md").write_text("st-mary and alice at 10.1.2.3")
    (folder.model / "labels.json").write_text('["confidential"]')
    path = folder.model / "final.safetensors"
    tensors, metadata = read_model_file(path)
    more = {"run": "tumour-study", "host": "intern.example", "author": "alice"}
    write_model_file(path, tensors, {**metadata, **more})
    return folder, model


def test_no_name_of_a_person_host_or_place_leaves(tmp_path):
    folder, _ = hostile_run(tmp_path)
    bundle = make_bundle(folder.path, "me/net")
    whole = b"\n".join(bundle.files.values()) + " ".join(bundle.files).encode()
    for secret in (*SECRETS, str(tmp_path), folder.path.name, socket.gethostname()):
        assert secret.encode() not in whole, secret
    # It is not empty for that: figures, methods and labels are there.
    assert "| metric (test examples) | 0.9700 |" in bundle.card
    assert "| top-5 (test examples) | 0.9000 |" in bundle.card
    assert "importance of a channel: own code" in bundle.card
    assert bundle.labels == ("cat", "dog")
    assert json.loads(bundle.files["labels.json"]) == ["cat", "dog"]
    assert [*bundle.files] == [
        "README.md",
        "fedprune.json",
        "labels.json",
        "model.safetensors",
    ]


def test_the_file_that_leaves_is_the_network_of_the_run(tmp_path):
    folder, model = a_run(tmp_path / "runs", description=FACTS)
    folder.summary.write_text(json.dumps(SUMMARY))
    bundle = make_bundle(folder.path, "me/net", licence="mit", packed=True)
    for name in ("model.safetensors", "model.fpz"):
        (tmp_path / name).write_bytes(bundle.files[name])
    exact = load_model(tmp_path / "model.safetensors")
    assert np.array_equal(answer(exact), answer(model))
    packed = load_model(tmp_path / "model.fpz")
    assert np.allclose(answer(packed), answer(model), atol=0.1)
    facts = json.loads(bundle.files["fedprune.json"])
    assert facts["files"] == {
        name: {"bytes": len(data), "sha256": sha256(data)}
        for name, data in bundle.files.items()
        if name.startswith("model.")
    }
    assert facts["figures"] == SUMMARY
    head = bundle.card.split("---\n")[1]
    assert 'license: "mit"' in head
    assert 'load_model("DIR/model.safetensors")' in bundle.card
    assert "fedprune pull me/net DIR" in bundle.card


def test_own_code_is_no_name_in_the_file(tmp_path):
    folder, model = hostile_run(tmp_path)
    target = tmp_path / "model.safetensors"
    target.write_bytes(make_bundle(folder.path, "me/net").files[target.name])
    assert read_model_file(target)[1]["model"] == "python"
    with pytest.raises(ConfigError, match="factory="):
        load_model(target)
    from helpers.finished_run import dense

    loaded = load_model(target, factory=lambda: dense("mlp"))
    assert np.array_equal(answer(loaded), answer(model))
    with pytest.raises(ConfigError, match="--use"):
        make_bundle(folder.path, "me/net", packed=True)


def test_numbers_alone_pass_from_a_summary(tmp_path):
    folder, _ = a_run(tmp_path, "mlp")
    found = {"accuracy_final": "0.9", "params_final": True, "clients": 3}
    found["privacy"] = {"epsilon": 2.0, "key": "/home/alice/key"}
    folder.summary.write_text(json.dumps(found))
    assert public_summary(folder) == {
        "clients": 3,
        "privacy": {"epsilon": 2.0},
        "metric": "accuracy",
    }


def test_a_dry_run_lists_every_file_and_sends_nothing(tmp_path, capsys, monkeypatch):
    folder, _ = a_run(tmp_path, description=FACTS)
    monkeypatch.setattr(
        "fedprune.simulations.hub.push.default_api", lambda: pytest.fail("it asks")
    )
    assert run_command_line(["push", str(folder.path), "me/net", "--dry-run"]) == 0
    bundle = make_bundle(folder.path, "me/net")
    shown = capsys.readouterr().out
    for name, data in bundle.files.items():
        assert f"{len(data):>13,}  {sha256(data)[:16]}  {name}\n" in shown
    total = sum(map(len, bundle.files.values()))
    assert f"{total:>13,}  in all" in shown
    assert "names of classes in them: cat, dog" in shown
    assert bundle.digest in shown
    assert shown.endswith(bundle.card)


@pytest.mark.parametrize(
    "repo", ["", "a/b/c", "../x", "me/", "/me", "me/net\n", "me/a--b", "m e/x", "me/.x"]
)
def test_what_is_no_repository_is_refused_before_anything(repo, tmp_path, capsys):
    assert run_command_line(["push", str(tmp_path), repo, "--dry-run"]) == 2
    assert "want OWNER/NAME" in capsys.readouterr().err


def test_an_unfinished_run_and_a_wrong_license_are_refused(tmp_path, capsys):
    folder, _ = a_run(tmp_path, "mlp")
    call = ["push", str(folder.path), "me/net", "--dry-run"]
    assert run_command_line([*call, "--license", "My own: x"]) == 2
    (folder.model / "final.safetensors").unlink()
    assert run_command_line(call) == 2
    assert "no final network yet" in capsys.readouterr().err
