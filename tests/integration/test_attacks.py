"""Hostile clients of whole runs: on Ray as in one process, named, and measured."""

import json

import pytest
from helpers.processes import child, module
from helpers.small_runs import PARTIAL, events, figures, read_summary, run_small

from fedprune.server.runs.events import ClientAnswered, WarningGiven

HOSTILE = PARTIAL | {"attack.clients": 2.0}
# ALIE reads the stored residuals of the other clients; a backdoor, poisoned data.
ATTACKS = {
    "alie": {"attack.kind": "alie", "attack.omniscient": True, "attack.scale": 3.0},
    "backdoor": {"attack.kind": "backdoor", "attack.scale": 2.0, "attack.target": 1},
}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_hostile_clients_on_ray_send_the_bits_of_one_process(tmp_path, attack):
    settings = HOSTILE | attack
    here = run_small(tmp_path / "here", settings).summary
    changes = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    script = module("ray_script", str(tmp_path), "2", *changes)
    with child(script, tmp_path) as started:
        assert started.wait(300) == 0, started.output
    runs = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert figures(read_summary(runs["2"])) == figures(here)


@pytest.mark.slow
def test_a_run_says_who_is_hostile_and_how_often_a_backdoor_opens(tmp_path):
    honest = run_small(tmp_path / "honest", PARTIAL)
    hostile = run_small(tmp_path / "hostile", HOSTILE | ATTACKS["backdoor"])
    assert honest.summary["backdoor_success"] is None
    assert 0.0 <= hostile.summary["backdoor_success"] <= 1.0
    assert hostile.summary["model_sha256"] != honest.summary["model_sha256"]
    (said,) = events(hostile.directory, WarningGiven)
    assert said.text == (
        "attack.kind is 'backdoor': client-002 to client-003, 2 of 4 clients, hostile "
        "from round 1 on"
    )
    answered = events(hostile.directory, ClientAnswered)
    assert {event.status for event in answered} == {"accepted"}


@pytest.mark.slow
def test_ones_own_function_attacks_too(tmp_path):
    code = tmp_path / "mine.py"
    code.write_text(
        "from dataclasses import replace\n"
        "def silent(answer):\n"
        "    return replace(answer, delta=answer.delta * 0)\n",
        encoding="utf-8",
    )
    own = run_small(tmp_path / "own", {"attack.kind": f"{code}:silent"}).summary
    ours = run_small(tmp_path / "ours", {"attack.kind": "free-rider"}).summary
    assert own["model_sha256"] == ours["model_sha256"]
