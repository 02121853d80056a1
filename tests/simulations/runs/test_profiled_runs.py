"""A profiled run has the same result, a table that adds up, and its files."""

import json
import time
from xml.etree import ElementTree as ET

import pytest
from helpers.processes import child, fedprune
from helpers.small_runs import (
    as_options,
    figures,
    only_run,
    read_summary,
    run_small,
    small_settings,
)

from fedprune import simulate
from fedprune.common.config import config_digest, load_config
from fedprune.common.profiling.activities import Activity, Side
from fedprune.common.profiling.recorder import active_recorder
from fedprune.server.runs.events import RoundFinished

pytestmark = pytest.mark.slow

PROFILED = {"run.profile": True}
ROUNDS, CLIENTS = 7, 4  # with the closing round, which trains nothing


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run that is not profiled."""
    return run_small(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """The same run with a profile, and the CPU seconds of this process meanwhile."""
    before = time.process_time()
    found = run_small(tmp_path_factory.mktemp("profiled"), PROFILED)
    return found, time.process_time() - before


def test_a_profile_changes_no_result(plain, profiled):
    assert figures(profiled[0].summary) == figures(plain.summary)
    assert profiled[0].summary["model_sha256"] == plain.summary["model_sha256"]


def test_the_configuration_has_the_same_digest():
    digests = {
        config_digest(load_config(None, {"run.profile": wanted}))
        for wanted in (False, True)
    }
    assert len(digests) == 1


def test_a_run_that_is_not_profiled_leaves_no_profile(plain):
    assert plain.profile is None
    assert not (plain.directory / "profile").exists()
    assert active_recorder() is None


def test_every_activity_of_the_clients_is_counted_once_a_client_and_round(profiled):
    spent = profiled[0].profile.driver.spent
    calls = {one: spent[one].calls for one in spent if one.side is Side.CLIENTS}
    assert set(calls) == {one for one in Activity if one.side is Side.CLIENTS}
    for one in (
        *(Activity.OPENING, Activity.DATA, Activity.MEASURING, Activity.SCORING),
        *(Activity.TRAINING, Activity.SELECTION, Activity.ENCODING),
    ):
        assert calls[one] == ROUNDS * CLIENTS, one
    assert spent[Activity.DECODING].calls == ROUNDS * CLIENTS
    assert spent[Activity.PLANNING].calls == ROUNDS


def test_the_activities_are_all_the_cpu_time_of_the_run(profiled):
    result, cpu_s = profiled
    found = result.profile
    assert found.workers.spent == {}
    for spent in found.driver.spent.values():
        assert spent.cpu_s >= 0
        assert spent.wall_s >= 0
    # The rest is the call itself: its display and its configuration.
    assert 0.8 * cpu_s < found.total.cpu_s <= cpu_s
    assert found.of(Activity.OTHER).cpu_s < 0.1 * cpu_s
    assert sum(found.driver.stacks.values()) <= cpu_s


def test_the_files_of_a_profile_are_in_the_folder_of_its_run(profiled):
    folder = profiled[0].directory / "profile"
    assert {path.name for path in folder.iterdir()} == {
        "profile.html",
        "activities.json",
        "speedscope.json",
    }
    page = (folder / "profile.html").read_text(encoding="utf-8")
    graph = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    drawn = ET.fromstring(graph)  # noqa: S314 - our own
    names = [title.text for title in drawn.iter("title")]
    assert names[0].startswith("all samples: ")
    assert any(name.startswith("local training: ") for name in names)
    assert any("client.rounds.train." in name for name in names)
    assert json.loads((folder / "speedscope.json").read_bytes())["profiles"]


class Stop(BaseException):
    """Ends a run wherever it is."""


class Stopper:
    """Ends a run at its first round."""

    def on_event(self, event):
        if isinstance(event, RoundFinished):
            raise Stop


def test_a_run_that_is_stopped_has_the_profile_of_its_part_and_can_go_on(
    tmp_path, plain
):
    settings = small_settings(tmp_path, PROFILED)
    with pytest.raises(Stop):
        simulate(config=settings, progress=Stopper())
    run = only_run(tmp_path)
    assert played(run) == CLIENTS
    assert active_recorder() is None
    result = simulate(resume_from=run)
    assert figures(result.summary) == figures(plain.summary)
    assert result.profile is not None
    assert played(run) > CLIENTS


def played(run):
    """Return how often clients have trained, as the file of the profile says."""
    found = json.loads((run / "profile" / "activities.json").read_bytes())
    titles = {one["title"]: one["calls"] for one in found["activities"]}
    return titles["local training"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_workers_on_ray_hand_their_time_over(tmp_path, plain):
    settings = small_settings(tmp_path, {"run.engine": "ray", "run.workers": 2})
    words = ("simulate", *as_options(settings), "--profile")
    with child(fedprune(*words), tmp_path) as started:
        assert started.wait(500) == 0, started.output
    run = only_run(tmp_path)
    assert figures(read_summary(run)) == figures(plain.summary)
    found = json.loads((run / "profile" / "activities.json").read_bytes())
    rows = {one["title"]: one for one in found["activities"]}
    assert rows["local training"]["calls"] == ROUNDS * CLIENTS
    assert rows["local training"]["driver_s"] == 0.0 < rows["local training"]["cpu_s"]
    assert rows["waiting for jobs"]["workers_s"] > 0
    assert sum(one["cpu_s"] for one in rows.values()) == pytest.approx(found["cpu_s"])
    names = [
        profile["name"]
        for profile in json.loads((run / "profile" / "speedscope.json").read_bytes())[
            "profiles"
        ]
    ]
    assert names == ["driver", "workers"]
    assert "clients: local training" in started.output
    assert f"profile: {run / 'profile' / 'profile.html'}" in started.output
