"""The report: one page from a run folder, finished or not; nothing from the network."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from helpers.some_events import (
    CHECK,
    CLIENT,
    CLIENTS,
    CUT,
    ROLLBACK,
    ROUND,
    STARTED,
    WARNING,
    at,
    refused,
)

from fedprune.common.config import load_config
from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.messages import Phase
from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import EventLog, NetworkCut, RoundFinished, RunFinished
from fedprune.server.runs.folder import RunFolder
from fedprune.server.report import tables, write_report
from fedprune.server.report.data import read_run
from fedprune.server.report.text import DASH, MINUS, TIMES

GROUPS = {"stem": 16, "layer1.conv1": 16, "layer2.conv1": 32, "layer3.conv1": 64}
WIDTHS = ((14, 12, 26, 48), (12, 10, 20, 34), (10, 8, 14, 22), (8, 8, 10, 14))
DENSITY = (0.72, 0.53, 0.40, 0.30)
ROUNDS, DENSE, FLOPS = 24, 77_850, 2_300_000
CUT_AT = (5, 9, 13, 17)


def phase_of(number):
    if number <= 3:
        return Phase.WARMUP
    tuning = (number - 1) % 4 in (1, 2) or number > 17
    return Phase.FINETUNE if tuning else Phase.SPARSIFY


def a_run(base, name="digits", *, clients=10, upto=ROUNDS, finished=True, seed=0):
    """Write the folder of an invented run up to a round."""
    rng = np.random.default_rng(seed)
    folder = RunFolder.create(
        base,
        name,
        manifest={
            "command": ["fedprune", "simulate"],
            "versions": {"torch": "2.13.0", "flwr": "1.41.0"},
            "seed": seed,
        },
        config=load_config(None, {"run.seed": seed}),
    )
    names = [f"client-{place:03d}" for place in range(clients)]
    with EventLog(folder.events) as log:
        log.write(
            replace(
                STARTED,
                run_id=folder.run_id,
                config={
                    "task": {"model": "small-resnet", "data": "digits"},
                    "update": {"update_density": 0.05 * (seed + 1)},
                },
                clients=clients,
                client_examples=dict.fromkeys(names, 120),
                params_dense=DENSE,
                flops_dense=FLOPS,
                groups=GROUPS,
            )
        )
        for number in range(1, upto + 1):
            a_round(log, number, names, rng)
        if finished:
            log.write(RunFinished(summary=summary(seed)))
    if finished:
        write_json_atomic(folder.summary, summary(seed))
    return folder


def a_round(log, number, names, rng):
    cuts = sum(number > at for at in CUT_AT)
    density = DENSITY[cuts - 1] if cuts else 1.0
    for run, share in (("main", density), ("dense", 1.0)):
        up = 0
        for name in names:
            up += a_client(log, run, number, name, share, rng)
        learned = 1 - math.exp(-(number - 1) / 3.2)
        dip = 0.10 * sum(number == at + 1 for at in CUT_AT) if run == "main" else 0
        log.write(
            RoundFinished(
                run=run,
                round=number,
                rounds=ROUNDS,
                cycle=cuts + 1,
                phase=phase_of(number) if run == "main" else Phase.WARMUP,
                loss=2.3 * (1 - learned) + 0.1,
                accuracy=0.10 + 0.86 * learned - dip + 0.008 * rng.standard_normal(),
                validation_loss=2.3 * (1 - learned) + 0.15,
                validation_accuracy=0.10 + 0.85 * learned - dip,
                density=share,
                params=round(DENSE * share),
                flops=round(FLOPS * share**0.9),
                channel_density=share**0.5,
                bytes_up=up,
                bytes_down=round(len(names) * DENSE * share * 1.1),
                bytes_fixed=len(names) * 310,
                bytes_simulation=90_000,
                asked=len(names),
                accepted=len(names) - 1,
                refused=1,
                failed=0,
                late=0,
                virtual_seconds=None,
                zero_share=0.12 * (phase_of(number) == "sparsify") + 0.01,
                seconds=1.5,
            )
        )
    if number in CUT_AT:
        a_cut(log, CUT_AT.index(number), number, names, rng)
    if number == 15:
        log.write(at(ROLLBACK, number, cycle=3))
        a_cut(log, 2, number, names, rng)


def a_client(log, run, number, name, share, rng):
    up = round(4 * DENSE) if run == "dense" else round(3600 * share + 310)
    draw = rng.random()
    status, reason = Status.ACCEPTED, ""
    if draw < 0.03:
        status = Status.REFUSED
        reason = "layer 'c2.weight' field 'val': 12 non-finite values (code NON_FINITE)"
    elif draw < 0.05:
        status, reason = Status.LATE, "no answer within 600 s"
    elif draw < 0.06:
        status, reason = Status.FAILED, "RuntimeError: <out of memory>"
    elif draw < 0.10:
        return 0
    log.write(
        at(
            CLIENT,
            number,
            run=run,
            client=name,
            status=status,
            reason=reason,
            bytes_up=up,
            bytes_down=round(DENSE * share),
        )
    )
    return up


def a_cut(log, place, number, names, rng):
    before = WIDTHS[place - 1] if place else tuple(GROUPS.values())
    truth = rng.gamma(1.2, size=sum(before))
    votes = {name: truth * rng.lognormal(0, 0.5, len(truth)) for name in names}
    kept = np.zeros(len(truth), dtype=int)
    start = 0
    for width, keep in zip(before, WIDTHS[place], strict=True):
        kept[start + np.argsort(-truth[start : start + width])[:keep]] = 1
        start += width
    log.write(
        NetworkCut(
            run="main",
            round=number,
            cycle=place + 1,
            widths=dict(zip(GROUPS, WIDTHS[place], strict=True)),
            blocks=(),
            params=round(DENSE * DENSITY[place]),
            flops=round(FLOPS * DENSITY[place] ** 0.9),
            density=DENSITY[place],
            channel_density=DENSITY[place] ** 0.5,
            step=0.3,
            votes={name: np.round(vote, 4) for name, vote in votes.items()},
            consensus=np.round(truth, 4),
            kept=kept,
            zero_share=None,
            accuracy_before=None,
        )
    )


def summary(seed):
    return {
        "accuracy_control": 0.9611,
        "accuracy_before_cut": 0.9500,
        "accuracy_after_cut": 0.8722,
        "accuracy_final": 0.9639 - 0.01 * seed,
        "params_dense": DENSE,
        "params_final": round(DENSE * 0.3),
        "flops_dense": FLOPS,
        "flops_final": round(FLOPS * 0.34),
        "bytes_up": 700_000,
        "bytes_down": 12_000_000,
        "bytes_up_control": 74_000_000,
        "bytes_down_control": 74_000_000,
        "model_bytes_dense": 4 * DENSE,
        "model_bytes_final": round(1.2 * DENSE),
        "latency_ms_dense": 2.41,
        "latency_ms_final": 1.13,
        "cuts": 4,
        "rollbacks": 1,
        "rounds": ROUNDS,
        "clients": 10,
        "seed": seed,
        "seconds": 91.5,
    }


class Page(HTMLParser):
    """Collects what a browser would load, the ids, and the visible text."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.open, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data"):
                self.loads.append(value)
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return a_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def page(run):
    return write_report([run.path]).read_text(encoding="utf-8")


def test_the_report_of_one_run_lies_in_its_folder(run, page):
    assert run.report.read_text(encoding="utf-8") == page


def test_the_page_is_well_formed_and_loads_nothing_from_outside(page):
    found = Page(page)
    assert found.open == []
    assert all(load.startswith(("#", "data:image/png")) for load in found.loads)
    assert "@import" not in page
    assert "<script" not in page
    assert not re.findall(r"url\((?!#)", page)


def test_no_id_is_used_twice_and_every_reference_is_met(page):
    found = Page(page)
    assert len(found.ids) == len(set(found.ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", page))
    wanted |= {load[1:] for load in found.loads if load.startswith("#")}
    assert wanted <= set(found.ids)


def test_the_headline_figures_are_those_of_the_summary(page):
    words = " ".join(Page(page).words)
    for text in ("96.11 %", "95.00 %", "87.22 %", "96.39 %", "77,850", "23,355"):
        assert text in words
    for text in (
        "700 kB",
        "74.0 MB",
        f"106{TIMES} fewer",
        "2.41 ms",
        "1.13 ms",
        f"2.1{TIMES} faster",
    ):
        assert text in words


def test_every_part_of_a_finished_run_is_there(page):
    for title in (
        "Accuracy by round",
        "Accuracy by bytes sent",
        "Kept channels",
        "Votes",
        "Who took part",
        "Refused updates",
        "Bytes of one message",
        "How to run it again",
    ):
        assert f"<h2>{title}</h2>" in page
    assert page.count("<svg") == 6


def test_the_same_folder_makes_the_same_bytes(run, page, tmp_path):
    again = write_report([run.path], tmp_path / "2.html")
    assert again.read_text(encoding="utf-8") == page


def test_every_string_of_a_run_is_escaped(tmp_path):
    evil = "<script>alert(1)</script>$x_1$&\"'"
    folder = RunFolder.create(
        tmp_path,
        "evil",
        manifest={"command": evil, "versions": {evil: evil}, "run_id": evil},
    )
    folder.config.write_text(evil)
    with EventLog(folder.events) as log:
        log.write(
            replace(
                STARTED,
                run_id=evil,
                config={"task": {"model": evil}},
                client_examples={evil: 3},
                groups={evil: 3, "_x": 2},
                graph=evil,
            )
        )
        log.write(replace(WARNING, text=evil))
        log.write(refused(evil, evil))
        log.write(at(ROUND, 1))
        scores = (1.0, 2.0, 3.0, 4.0, 5.0)
        log.write(
            at(
                CUT,
                1,
                widths={evil: 2, "_x": 1},
                blocks=(evil,),
                votes={evil: scores},
                consensus=scores,
                kept=(0, 1, 1, 0, 1),
            )
        )
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert Page(text).open == []


@pytest.mark.parametrize("upto", [1, 6])
def test_an_unfinished_run_has_a_report_that_says_so(tmp_path, upto):
    folder = a_run(tmp_path, upto=upto, finished=False)
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert f"not finished: round {upto}" in text
    assert Page(text).open == []


def test_a_run_killed_before_its_first_event_has_a_report(tmp_path):
    folder = RunFolder.create(tmp_path, "empty")
    assert "not finished" in write_report([folder.path]).read_text(encoding="utf-8")


def test_a_refused_update_is_listed_with_client_round_and_reason(run, page):
    answers = read_run(run.path).answers()
    event = next(e for e in answers if e.status is Status.REFUSED)
    row = rf'<th scope="row">{event.client}</th><td>{event.round}</td>'
    assert re.search(row, page)
    assert "12 non-finite values (code NON_FINITE)" in page


def test_a_large_round_has_a_table_in_place_of_a_map(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(CLIENTS)
        log.write(ROUND)
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert "Answers of round 2" in text
    assert "300 accepted, 2 failed" in text
    assert '<th scope="row">loss</th><td>0.25</td><td>0.5</td><td>1</td>' in text
    assert "Who took part" not in text
    assert Page(text).open == []


def test_accuracy_of_a_broadcast_stands_at_the_bytes_sent_before_it(run):
    data = read_run(run.path)
    curve, rounds = data.curve(), data.rounds()
    assert (curve[0].rounds, curve[0].bytes_up) == (0, 0)
    assert curve[2].bytes_up == rounds[0].bytes_up + rounds[1].bytes_up
    assert curve[2].accuracy == rounds[2].accuracy
    assert curve[-1].rounds == ROUNDS
    assert curve[-1].accuracy == summary(0)["accuracy_final"]


def test_without_test_accuracy_the_curve_is_that_of_validation(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(ROUND, accuracy=None, validation_accuracy=0.25))
    assert [point.accuracy for point in read_run(folder.path).curve()] == [0.25]


def test_a_rollback_undoes_the_last_standing_cut_and_the_next_starts_before_it(run):
    cuts = read_run(run.path).cuts
    assert [cut.undone for cut in cuts] == [False, False, True, False, False]
    assert cuts[3].before == cuts[1].after == dict(zip(GROUPS, WIDTHS[1], strict=True))
    assert cuts[0].before == GROUPS


def test_each_check_of_the_guard_is_a_line(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(at(ROUND, 1))
        log.write(at(CHECK, 1, accuracy_allowed=0.02))
        log.write(at(CHECK, 2, final=1, loss_after=None, loss_comparison="none"))
    words = " ".join(Page(tables.checks(read_run(folder.path))).words)
    assert "1 1 1 2 ± 0.25 +0.55 5" in words
    assert "90.00 % 80.00 % ± 2" in words
    assert "4, unpaired rolled back" in words
    assert f"final 2 1 {DASH}" in words


@pytest.mark.parametrize(("better", "sign"), [("higher", MINUS), ("lower", "+")])
def test_the_limit_of_a_check_has_the_sign_of_what_is_worse(tmp_path, better, sign):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, better=better))
        log.write(at(CHECK, 1, accuracy_allowed=0.02))
    words = " ".join(Page(tables.checks(read_run(folder.path))).words)
    assert f"{sign}2.00 points" in words


def test_a_run_without_a_check_has_no_table_of_them(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 1))
    assert tables.checks(read_run(folder.path)) == ""


def test_a_cut_that_takes_nothing_away_is_not_drawn(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, groups={"x": 2}))
        log.write(at(ROUND, 1))
        for kept in ((0, 1), (1,)):
            scores = (1.0,) * len(kept)
            changes = {"votes": {"a": scores}, "consensus": scores, "kept": kept}
            log.write(at(CUT, 1, widths={"x": 1}, **changes))
    assert [cut.stands for cut in read_run(folder.path).cuts] == [True, False]
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert "cut 1<" in text
    assert "cut 2<" not in text


def test_figures_of_an_unfinished_run_come_from_its_events(tmp_path):
    data = read_run(a_run(tmp_path, upto=7, finished=False).path)
    assert not data.finished
    assert data.summary["bytes_up"] == sum(e.bytes_up for e in data.rounds())
    assert data.summary["params_final"] == round(DENSE * DENSITY[0])
    assert data.summary["cuts"] == 1
    assert data.summary["accuracy_final"] == data.rounds()[-1].accuracy
    assert len(data.curve()) == 7


def test_bytes_are_not_compared_while_the_control_is_behind(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 1, run="dense", bytes_up=100))
        log.write(at(ROUND, 1, bytes_up=10))
        log.write(at(ROUND, 2, bytes_up=10))
    assert "bytes_up_control" not in read_run(folder.path).summary
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 2, run="dense", bytes_up=100))
    assert read_run(folder.path).summary["bytes_up_control"] == 200


def test_a_thousand_clients_fit_on_the_page(tmp_path):
    folder = a_run(tmp_path, clients=1000, upto=1, finished=False)
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert "1000 clients" in text
    assert len(text) < 2_000_000


def test_several_runs_are_compared_row_by_row_and_by_what_differs(tmp_path):
    paths = [a_run(tmp_path, f"density-{n}", seed=n).path for n in (0, 1, 2)]
    out = write_report(paths)
    text = out.read_text(encoding="utf-8")
    assert out == tmp_path / "comparison.html"
    found = Page(text)
    assert found.open == []
    words = " ".join(found.words)
    for value in ("3 runs compared", "96.39 %", "95.39 %", "94.39 %", "density-2"):
        assert value in words
    assert "update.update_density" in words
    assert "task.model" not in words
    assert len(found.ids) == len(set(found.ids))


def test_no_run_or_no_run_folder_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([])
    with pytest.raises(ConfigError, match="not a run folder"):
        write_report([tmp_path])


def test_a_broken_summary_is_an_integrity_error(tmp_path):
    folder = a_run(tmp_path, upto=1)
    folder.summary.write_text("{")
    with pytest.raises(IntegrityError, match=r"summary\.json"):
        write_report([folder.path])


def test_matplotlib_is_loaded_by_a_report_only():
    code = "import sys, fedprune.server.report\n"
    code += "sys.exit(int('matplotlib' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_matplotlib_the_error_names_the_extra(run):
    code = (
        "import sys; from pathlib import Path; sys.modules['matplotlib'] = None\n"
        "from fedprune.server.report import write_report\n"
        f"write_report([Path({str(run.path)!r})])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fedprune.common.errors.ConfigError")
    assert "pip install 'fedprune[simulation]'" in last


def test_the_manifest_is_shown_as_it_is(run, page):
    started = json.loads(run.manifest.read_text())["started"]
    assert started in page


@pytest.mark.parametrize(
    ("name", "data"),
    [("events.jsonl", b""), ("events.jsonl", b"garbage"), ("summary.json", b"{}")],
)
def test_a_damaged_run_is_refused_and_its_report_stays(tmp_path, name, data):
    folder = a_run(tmp_path, upto=2)
    folder.report.write_text("good")
    (folder.path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=f"{name} is missing or holds nothing"):
        write_report([folder.path])
    assert folder.report.read_text() == "good"
