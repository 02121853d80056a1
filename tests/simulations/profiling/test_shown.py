"""The table adds up; the page and the samples are what their readers expect."""

import io
import json
import re
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from fedprune.common.profiling.activities import Activity, Profile, Spent
from fedprune.simulations.profiling.files import write_profile
from fedprune.simulations.profiling.flame import WIDTH, call_tree, flame_svg
from fedprune.simulations.profiling.record import RunProfile, recording
from fedprune.simulations.profiling.speedscope import SCHEMA, speedscope
from fedprune.simulations.profiling.table import cells, print_profile, rows

HOSTILE = "<script>alert(1)</script>\x1b[2J"
DRIVER = Profile(
    spent={
        Activity.PLANNING: Spent(calls=2, cpu_s=1.0, wall_s=1.5),
        Activity.AGGREGATION: Spent(calls=4, cpu_s=0.5, wall_s=0.5),
        Activity.OTHER: Spent(cpu_s=0.5, wall_s=8.0),
    },
    stacks={("server", "plan and broadcast", "server.a.f"): 1.0},
)
WORKERS = Profile(
    spent={
        Activity.TRAINING: Spent(calls=6, cpu_s=4.0, wall_s=5.0),
        Activity.ENCODING: Spent(calls=6, cpu_s=1.0, wall_s=1.0),
        Activity.AGGREGATION: Spent(calls=6, cpu_s=1.0, wall_s=1.0),
    },
    stacks={
        ("clients", "local training", "client.t", "torch.step"): 2.0,
        ("clients", "local training", "client.t"): 1.0,
        ("clients", "local training", HOSTILE): 1.0,
    },
)
BOTH = RunProfile(driver=DRIVER, workers=WORKERS)
HERE = RunProfile(driver=DRIVER, workers=Profile())


def test_the_rows_add_up_to_all_that_was_spent():
    found = rows(BOTH)
    assert sum(row.cpu_s for row in found) == 8.0
    assert sum(row.share for row in found) == pytest.approx(1.0)
    assert sum(row.driver_s for row in found) == 10.0
    assert sum(row.workers_s for row in found) == 7.0
    assert [(row.side, row.title, row.calls) for row in found] == [
        ("clients", "local training", 6),
        ("clients", "encoding", 6),
        ("server", "plan and broadcast", 2),
        ("server", "aggregation", 10),
        ("server", "other", 0),
    ]


def test_the_printed_table_has_the_total_and_what_clients_did_beside_training():
    out = io.StringIO()
    print_profile(BOTH, Console(file=out, width=100))
    lines = [re.sub(r"\s+", " ", line.strip()) for line in out.getvalue().splitlines()]
    assert lines[0] == "calls CPU s share wall s workers s"
    assert "server: aggregation 10 1.50 18.8% 0.50 1.00" in lines
    assert lines[-2] == "total 8.00 100.0% 10.00 7.00"
    assert lines[-1].startswith("clients: 4.00 s CPU in local training, 1.00 s beside")


def test_a_run_without_workers_has_no_column_for_them():
    head, lines = cells(HERE)
    assert head == ["", "calls", "CPU s", "share", "wall s"]
    assert lines[-1] == ["total", "", "2.00", "100.0%", "10.00"]


def test_a_caller_in_the_graph_is_as_wide_as_what_it_calls_and_itself():
    root = call_tree(WORKERS.stacks, "all")
    training = root.calls["clients"].calls["local training"]
    assert (root.cpu_s, training.cpu_s) == (4.0, 4.0)
    assert training.calls["client.t"].cpu_s == 3.0
    assert training.calls["client.t"].calls["torch.step"].cpu_s == 2.0
    drawn = ET.fromstring(flame_svg(WORKERS.stacks))  # noqa: S314 - our own
    widths = {
        box.find("title").text.split(":")[0]: float(box.find("rect").get("width"))
        for box in drawn.findall("g")
    }
    assert widths["all samples"] == pytest.approx(WIDTH, abs=1)
    assert widths["client.t"] == pytest.approx(WIDTH * 3 / 4, abs=1)
    assert widths["torch.step"] == pytest.approx(WIDTH / 2, abs=1)
    assert len(widths) == 6


def test_a_profile_without_samples_says_so():
    assert "too short" in flame_svg({})


def test_the_samples_are_a_file_of_speedscope():
    found = speedscope({"driver": DRIVER.stacks, "workers": WORKERS.stacks, "none": {}})
    assert found["$schema"] == SCHEMA
    names = [frame["name"] for frame in found["shared"]["frames"]]
    assert len(set(names)) == len(names)
    driver, workers = found["profiles"]
    for profile, stacks in ((driver, DRIVER.stacks), (workers, WORKERS.stacks)):
        pairs = zip(profile["samples"], profile["weights"], strict=True)
        assert {tuple(names[n] for n in s): w for s, w in pairs} == stacks
        assert profile["endValue"] == sum(stacks.values())
        assert (profile["type"], profile["unit"]) == ("sampled", "seconds")


def test_the_page_opens_offline_and_escapes_every_name(tmp_path):
    write_profile(tmp_path / "profile", BOTH, HOSTILE)
    page = (tmp_path / "profile" / "profile.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert not re.search(r"(?:src|href)\s*=|url\(|@import|https?://", page)
    assert "100.0%" in page
    figures = json.loads((tmp_path / "profile" / "activities.json").read_bytes())
    assert figures["format"] == "fedprune-profile/1"
    assert sum(one["cpu_s"] for one in figures["activities"]) == figures["cpu_s"] == 8.0
    assert figures["clients_training_cpu_s"] == 4.0
    assert figures["clients_beside_training_cpu_s"] == 1.0
    assert json.loads((tmp_path / "profile" / "speedscope.json").read_bytes())


def test_one_recording_goes_on_inside_another():
    with recording(wanted=False) as nothing:
        assert nothing is None
        with recording(wanted=True) as outer, recording(wanted=True) as inner:
            assert outer is inner is not None
        with recording(wanted=True) as later:
            assert later is not outer
