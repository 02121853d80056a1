"""A whole federation of devices over TLS with node keys: ``make e2e``."""

import json

import pytest
from helpers.federation import IDS, Federation
from helpers.processes import child, fedprune

from fedprune.common.artifacts.load import load_model
from fedprune.common.data.sources import load_dataset
from fedprune.server.runs.events import (
    ClientAnswered,
    NetworkCut,
    RoundFinished,
    of_kind,
    read_events,
)
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.runs.api import simulate

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(700)]

EQUAL = ("rounds", "bytes_up", "bytes_down", "params_final", "metric", "model_sha256")
TRUTH = 0.05  # how far our counts may be from the transport's own
ENVELOPE = 2048  # bytes that Flower may put around one message


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Run it once; return the federation and what the server said."""
    federation = Federation(tmp_path_factory.mktemp("devices"))
    federation.make_certificates()
    with federation.serve() as server, federation.clients() as clients:
        assert server.wait(500) == 0, server.output
        for name, device in clients.items():
            assert device.wait(240) == 0, (name, device.output)
        left = {p: c.left_after(60) for p, c in ({"server": server} | clients).items()}
        said = server.output
    return federation, said, left


@pytest.fixture(scope="module")
def summary(finished):
    federation, _, _ = finished
    return json.loads(RunFolder(federation.run).summary.read_bytes())


@pytest.fixture(scope="module")
def simulated(finished, tmp_path_factory):
    """Return the figures of a simulation of the same three clients."""
    federation, _, _ = finished
    run = federation.config.run.model_copy(
        update={"dir": str(tmp_path_factory.mktemp("same")), "engine": "inprocess"}
    )
    return simulate(config=federation.config.model_copy(update={"run": run})).summary


def test_devices_reach_the_model_of_a_simulation_with_the_same_bytes(
    summary, simulated
):
    assert {k: summary[k] for k in EQUAL} == {k: simulated[k] for k in EQUAL}
    assert summary["params_final"] <= 0.5 * summary["params_dense"]
    assert (summary["refused"], summary["failed"]) == (0, 0)


def test_our_bytes_are_those_that_the_transport_counted(summary):
    up, down = summary["bytes_up"], summary["bytes_down"] + summary["bytes_delivery"]
    assert summary["transport_bytes_up"] == pytest.approx(up, rel=TRUTH)
    assert summary["transport_bytes_down"] == pytest.approx(down, rel=TRUTH)
    # Each client says hello, answers every round, and takes the final network.
    messages = (summary["rounds"] + 2) * len(IDS)
    for side, ours in (("up", up), ("down", down)):
        assert 0 < summary[f"transport_bytes_{side}"] - ours < ENVELOPE * messages


def test_two_cuts_happen_and_every_client_answers_every_round(finished):
    federation, _, _ = finished
    events = read_events(RunFolder(federation.run).events)
    assert len(list(of_kind(events, NetworkCut))) == 2
    answered = {(e.round, e.client) for e in of_kind(events, ClientAnswered)}
    rounds = {e.round for e in of_kind(events, RoundFinished)}
    assert answered == {(r, c) for r in rounds for c in IDS}


def test_every_device_ends_with_the_final_network_ready_to_run(finished, summary):
    federation, _, _ = finished
    assert summary["delivered"] == len(IDS)
    files = {(federation.device(c) / "final.safetensors").read_bytes() for c in IDS}
    assert len(files) == 1
    model = load_model(federation.device(IDS[0]) / "final.safetensors")
    size = sum(weight.numel() for weight in model.parameters())
    assert size == summary["params_final"]


def test_run_model_predicts_on_a_device(finished):
    federation, _, _ = finished
    model = federation.device(IDS[1]) / "final.safetensors"
    said = federation.ask("run-model", str(model), "--data", "digits", "--count", "200")
    rows = said["predictions"]
    assert len(rows) == 200
    dataset = load_dataset("digits", data_dir="", fold=0)
    assert [row["target"] for row in rows] == dataset.test.targets[:200].tolist()
    right = sum(row["prediction"] == row["target"] for row in rows)
    assert right > 120
    assert said["accuracy"] == right / 200


def test_every_device_evaluated_each_plan_on_its_own_data(finished):
    federation, _, _ = finished
    for name in IDS:
        text = (federation.device(name) / "evaluations.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        sizes = [line["params"] for line in lines]
        assert len({line["plan"] for line in lines}) == 3
        assert sizes == sorted(sizes, reverse=True)
        assert lines[-1]["accuracy"] > lines[0]["accuracy"]


def test_nothing_is_left_running(finished):
    _, said, left = finished
    assert left == {"server": [], **{name: [] for name in IDS}}
    assert "model_sha256" in said


def test_a_second_server_on_the_port_is_refused_by_name(finished, tmp_path):
    federation, _, _ = finished
    with federation.serve() as first:
        _wait_until_serving(first)
        command = fedprune(
            "serve", "--tls", str(federation.certs), "--state", str(tmp_path),
            "--listen", f"127.0.0.1:{federation.port}",
        )  # fmt: skip
        with child(command, tmp_path) as second:
            assert second.wait(240) == 2
            assert "in use" in second.output


def _wait_until_serving(server):
    from helpers.processes import wait_for

    wait_for(lambda: "serving at" in server.output, 240, "the server")
