"""Run folders and files that somebody else has written: one line, and nothing raw."""

import json
from dataclasses import replace
from operator import attrgetter

import pytest
from helpers.some_events import (
    CUT,
    FINISHED,
    ONE_OF_EACH,
    STARTED,
    edit_event,
    write_all,
)
from helpers.tiny_federation import tiny_structure

from fedprune.common.artifacts import write_plan_file
from fedprune.common.errors import IntegrityError
from fedprune.common.spec import PrunePlan
from fedprune.server import report
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.events.codec import VERSION
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"


def run_folder(base, *, events=(STARTED, CUT, FINISHED), summary=None, **manifest):
    """Write a run folder as a finished run leaves it."""
    folder = RunFolder.create(base, manifest=manifest)
    with EventLog(folder.events) as log:
        write_all(log, events)
    folder.summary.write_text(json.dumps(summary or {"rounds": 2}))
    folder.report.write_text("<html>")
    return folder


def plan_file(path, **changes):
    structure = tiny_structure()
    plan = PrunePlan(structure=structure.digest, keep=structure.full())
    write_plan_file(path, plan, structure)
    found = json.loads(path.read_text())
    for name, value in changes.items():
        found[name] = value(found[name]) if callable(value) else value
    path.write_text(json.dumps(found))
    return path


def call(capsys, *words):
    """Return the exit code, and what was printed; it holds nothing but characters."""
    code = run_command_line([str(word) for word in words])
    out, err = capsys.readouterr()
    for text in (out, err):
        assert text.replace("\n", "").isprintable()
    if code:
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert len(err) < 5000
    return code, out, err


COMMANDS = {
    "inspect": lambda run: ["inspect", run],
    "inspect --json": lambda run: ["inspect", run, "--json"],
    "report": lambda run: ["report", run],
    "resume": lambda run: ["simulate", "--resume", run],
    "resume --json": lambda run: ["simulate", "--resume", run, "--json"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("text", [rb'{"run_id": "\ud800"}', b"[" * 200_000])
@pytest.mark.parametrize("name", ["manifest.json", "summary.json"])
def test_broken_files_of_a_run_are_named(words, text, name, tmp_path, capsys):
    folder = run_folder(tmp_path)
    (folder.path / name).write_bytes(text)
    code, _, err = call(capsys, *words(folder.path))
    assert code == 6
    assert name in err


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("text", [rb'{"event": "cut", "a": "\ud800"}', b"[" * 200_000])
def test_broken_events_of_a_run_are_named(words, text, tmp_path, capsys):
    folder = run_folder(tmp_path)
    head, rest = folder.events.read_bytes().split(b"\n", 1)
    folder.events.write_bytes(head + b"\n" + text + b"\n" + rest)
    code, _, err = call(capsys, *words(folder.path))
    assert code == 6
    assert "events.jsonl:2: not an event" in err


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_events_of_another_version_are_refused_with_what_to_do(words, tmp_path, capsys):
    folder = run_folder(tmp_path)
    old = folder.events.read_bytes().split(b"\n", 1)[1]
    folder.events.write_bytes(old)
    code, _, err = call(capsys, *words(folder.path))
    assert code == IntegrityError.exit_code
    way_out = f"this version reads {VERSION}: use that version to read or resume it"
    found = "written by fedprune 0.1.0 with events version 1"
    assert err == f"error: {folder.events}: {found}; {way_out}\n"
    assert folder.events.read_bytes() == old


def test_a_comparison_refuses_one_run_of_another_version(tmp_path, capsys):
    good, other = (run_folder(tmp_path / name) for name in ("a", "b"))
    other.events.write_bytes(other.events.read_bytes().split(b"\n", 1)[1])
    code, _, err = call(capsys, "report", good.path, other.path)
    assert code == IntegrityError.exit_code
    assert f"{other.events}: written by fedprune 0.1.0 with events version 1" in err


PLANS = {
    "an endless group": {"groups": {"a": {"kept": 1, "of": 1e999, "channels": []}}},
    "a channel of text": {"groups": {"a": {"kept": 1, "of": 1, "channels": ["0"]}}},
    "half a pair": {"parent": "\ud800"},
    "a huge number": {"units": 10**400},
    "a digest of escapes": {"digest": ESCAPES},
    "a long digest": {"digest": "x" * 100_000},
    "dropped escapes": {"dropped": [[ESCAPES * 1000]]},
}


@pytest.mark.parametrize("change", PLANS.values(), ids=PLANS)
def test_a_forged_plan_is_refused_in_one_line(change, tmp_path, capsys):
    path = plan_file(tmp_path / "plan.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    code, _, err = call(capsys, "inspect", path)
    assert code == 6
    assert str(path) in err


def test_a_plan_of_200_000_brackets_is_refused(tmp_path, capsys):
    path = tmp_path / "plan.json"
    path.write_text("[" * 200_000)
    assert call(capsys, "inspect", path)[0] == 6


@pytest.mark.parametrize("width", ["4", None, 1.5, -1, 1e999, True, [4]])
@pytest.mark.parametrize("command", ["inspect", "report"])
def test_widths_that_are_no_counts_are_refused(command, width, tmp_path, capsys):
    folder = run_folder(tmp_path)
    edit_event(folder.events, "cut", widths={"conv": width})
    code, _, err = call(capsys, command, folder.path)
    assert code == 6
    assert "events.jsonl:3: 'cut' event, field 'widths.conv': found " in err


def test_escapes_in_a_run_never_reach_the_terminal(tmp_path, capsys):
    summary = {"metric": ESCAPES, "rounds": ESCAPES, "seconds": ESCAPES}
    events = (
        replace(STARTED, groups={ESCAPES: 8}),
        replace(CUT, blocks=(ESCAPES,), widths={ESCAPES: 4}),
        FINISHED,
    )
    folder = run_folder(tmp_path, events=events, summary=summary, run_id=ESCAPES)
    for words in COMMANDS.values():
        assert call(capsys, *words(folder.path))[0] == 0
    shown = call(capsys, "inspect", folder.path)[1]
    assert r"\x1b]0;owned\x07" in shown


def test_the_json_of_a_run_keeps_what_it_escapes(tmp_path, capsys):
    folder = run_folder(tmp_path, summary={"rounds": 2, "metric": f"ü{ESCAPES}\x7f"})
    out = call(capsys, "inspect", folder.path, "--json")[1]
    assert json.loads(out)["summary"]["metric"] == f"ü{ESCAPES}\x7f"
    assert "ü" in out


def test_names_of_100_000_characters_are_shortened(tmp_path, capsys):
    long = "x" * 100_000
    events = (
        replace(STARTED, groups={long: 8}),
        replace(CUT, blocks=(long,)),
        FINISHED,
    )
    summary = {"metric": long, "rounds": 2}
    folder = run_folder(tmp_path, events=events, summary=summary, run_id=long)
    for command in ("inspect", "resume"):
        shown = call(capsys, *COMMANDS[command](folder.path))[1]
        assert max(map(len, shown.splitlines())) < 700
    forged = {**json.loads(folder.manifest.read_text()), "format": long}
    folder.manifest.write_text(json.dumps(forged))
    assert len(call(capsys, "inspect", folder.path)[2]) < 700


def test_escapes_in_an_error_never_reach_the_terminal(tmp_path, capsys):
    for words in (
        ["inspect", tmp_path / ESCAPES],
        ["simulate", tmp_path / ESCAPES],
        ["simulate", "--set", f"run.{ESCAPES}=1"],
        ["simulate", "--set", "run.name=" + ESCAPES, "--engine", ESCAPES],
        [ESCAPES],
        ["inspect", tmp_path, f"--{ESCAPES}"],
    ):
        assert call(capsys, *words)[0] == 2


FORGED = {
    "a round of 2 to the 40": ("client", {"round": 1 << 40}, 0),
    "a round without end": ("client", {"round": 1e999}, 6),
    "blocks of numbers": ("cut", {"blocks": [1, None]}, 6),
    "blocks of nothing": ("cut", {"blocks": 7}, 6),
    "a phase of lists": ("round", {"phase": ["x"]}, 6),
    "votes of text": ("cut", {"votes": "x", "kept": 5, "consensus": {"a": 1}}, 6),
    "votes that do not fit": ("cut", {"votes": {"a": [1]}, "consensus": []}, 0),
    "settings of nothing": ("run_started", {"config": {"task": 7}}, 0),
    "a warning of lists": ("warning", {"text": ["x"]}, 6),
}


@pytest.mark.parametrize(("kind", "change", "code"), FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("command", ["inspect", "report"])
def test_a_forged_event_is_shown_or_refused(
    command, kind, change, code, tmp_path, capsys
):
    folder = run_folder(tmp_path, events=ONE_OF_EACH)
    edit_event(folder.events, kind, **change)
    found, _, err = call(capsys, command, folder.path)
    assert found == code
    assert ("events.jsonl:" in err) == (code == 6)


def test_what_a_report_cannot_show_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    folder = run_folder(tmp_path)
    broken = attrgetter("nothing")
    monkeypatch.setattr(report, "single", broken)
    code, _, err = call(capsys, "report", folder.path)
    assert code == 6
    assert (
        "cannot be shown: AttributeError: 'RunData' object has no attribute 'nothing'"
        in err
    )
