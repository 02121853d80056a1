"""Figures for Prometheus: those of the run's events, and nothing before the first."""

import pytest
from helpers.some_events import CLIENT, CLIENTS, CUT, ROUND, at

from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.devices.superlink import CURRENT
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder

prometheus = pytest.importorskip("prometheus_client", reason="fedprune[ops]")

from fedprune.server.devices.metrics import (  # noqa: E402
    MOST_CLIENTS,
    OTHERS,
    RunCollector,
    of_clients,
)


def scraped(state):
    registry = prometheus.CollectorRegistry()
    registry.register(RunCollector(state))
    return prometheus.generate_latest(registry).decode()


def test_nothing_is_told_before_the_first_run(tmp_path):
    assert scraped(tmp_path) == ""


def test_rounds_answers_bytes_and_density_are_those_of_the_events(tmp_path):
    folder = RunFolder.create(tmp_path, "x")
    write_json_atomic(tmp_path / CURRENT, {"number": 1, "folder": str(folder.path)})
    with EventLog(folder.events) as log:
        for number, status in ((1, Status.ACCEPTED), (2, Status.REFUSED)):
            log.write(at(CLIENT, number, status=status))
            log.write(at(CLIENT, number, client="b", status=Status.LATE))
            figures = {"bytes_up": 10 * number, "bytes_down": 7}
            log.write(
                at(
                    ROUND,
                    number,
                    **figures,
                    density=1.0 / number,
                    validation_accuracy=None,
                )
            )
        log.write(at(CUT, 2))
        log.write(at(CLIENTS, 2))  # 300 accepted, 2 failed
    lines = scraped(tmp_path).splitlines()
    for line in (
        "fedprune_rounds_total 2.0",
        "fedprune_cuts_total 1.0",
        'fedprune_answers_total{of="accepted"} 301.0',
        'fedprune_answers_total{of="refused"} 1.0',
        'fedprune_answers_total{of="late"} 2.0',
        "fedprune_bytes_up_total 30.0",
        "fedprune_bytes_down_total 14.0",
        'fedprune_answers_total{of="failed"} 2.0',
        "fedprune_density 0.5",
        "fedprune_channel_density 0.5",
        "fedprune_validation_loss 1.5",
        "fedprune_seconds 1.5",
        "fedprune_running 0.0",
    ):
        assert line in lines
    assert not any("validation_accuracy" in line for line in lines)
    for line in (
        'fedprune_client_answers_total{client="a",of="accepted"} 1.0',
        'fedprune_client_answers_total{client="a",of="refused"} 1.0',
        'fedprune_client_answers_total{client="b",of="late"} 2.0',
        'fedprune_client_last_round{client="a"} 1.0',
        f'fedprune_client_bytes_up_total{{client="a"}} {2.0 * CLIENT.bytes_up}',
    ):
        assert line in lines
    assert not any('last_round{client="b"}' in line for line in lines)


def test_of_many_clients_the_first_have_figures_of_their_own():
    events = [
        at(CLIENT, number, client=f"c{client}", status=Status.ACCEPTED)
        for number in (1, 2)
        for client in range(MOST_CLIENTS + 40)
    ]
    answers, _, last = of_clients(events)
    found = {one.labels["client"]: one.value for one in answers.samples}
    assert len(found) == MOST_CLIENTS + 1
    assert found["c0"] == found[f"c{MOST_CLIENTS - 1}"] == 2
    assert found[OTHERS] == 80
    assert {one.labels["client"]: one.value for one in last.samples}[OTHERS] == 2
