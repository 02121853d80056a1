"""Run folders and files that somebody else has written: one line, and nothing raw."""

import json

import pytest
from helpers.tiny_federation import tiny_structure

from fedprune.common.artifacts import write_plan_file
from fedprune.common.spec import PrunePlan
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.cli import run_command_line
from fedprune.simulations.report import page

ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r"
STARTED = {"event": "run_started", "groups": {"conv": 8}}
CUT = {"event": "cut", "round": 2, "params": 5, "density": 0.5, "widths": {"conv": 4}}
FINISHED = {"event": "run_finished", "summary": {}}


def run_folder(base, *, events=(STARTED, CUT, FINISHED), summary=None, **manifest):
    """Write a run folder as a finished run leaves it."""
    folder = RunFolder.create(base, manifest=manifest)
    folder.events.write_text("".join(f"{json.dumps(event)}\n" for event in events))
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
    folder.events.write_bytes(text + b"\n" + folder.events.read_bytes())
    code, _, err = call(capsys, *words(folder.path))
    assert code == 6
    assert "events.jsonl:1" in err


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
    cut = CUT | {"widths": {"conv": width}}
    folder = run_folder(tmp_path, events=(STARTED, cut, FINISHED))
    code, _, err = call(capsys, command, folder.path)
    assert code == 6
    assert "'widths' of a 'cut' event" in err


def test_escapes_in_a_run_never_reach_the_terminal(tmp_path, capsys):
    summary = {"metric": ESCAPES, "rounds": ESCAPES, "seconds": ESCAPES}
    events = (
        STARTED | {"groups": {ESCAPES: 8}},
        CUT | {"round": ESCAPES, "blocks": [ESCAPES], "widths": {ESCAPES: 4}},
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
    events = (STARTED | {"groups": {long: 8}}, CUT | {"blocks": [long]}, FINISHED)
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


EVENTS = {
    "a round of 2 to the 40": {"event": "client", "round": 1 << 40, "client": "a"},
    "a round without end": {"event": "client", "round": 1e999, "client": "a"},
    "blocks of numbers": CUT | {"blocks": [1, None]},
    "blocks of nothing": CUT | {"blocks": 7},
    "a phase of lists": {"event": "round", "round": 1, "phase": ["x"]},
    "votes of text": CUT | {"votes": "x", "kept": 5, "consensus": {"a": 1}},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
@pytest.mark.parametrize("command", ["inspect", "report"])
def test_events_of_any_json_are_shown_or_refused(command, event, tmp_path, capsys):
    folder = run_folder(tmp_path, events=(STARTED, event, FINISHED))
    assert call(capsys, command, folder.path)[0] in (0, 6)


def test_what_a_report_cannot_show_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    folder = run_folder(tmp_path)
    monkeypatch.setattr(page, "single", lambda run: run.summary["nothing"])
    code, _, err = call(capsys, "report", folder.path)
    assert code == 6
    assert "cannot be shown: KeyError: 'nothing'" in err
