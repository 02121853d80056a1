"""The report: one page from a run folder, finished or not; nothing from the network."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
from helpers.invented_run import DENSE, DENSITY, GROUPS, ROUNDS, WIDTHS, a_run, summary
from helpers.some_events import (
    ASIDE,
    CAME,
    CHECK,
    CLIENT,
    CLIENTS,
    CUT,
    DELIVERED,
    FINISHED,
    ROLLBACK,
    ROUND,
    STARTED,
    WAITING,
    WARNING,
    at,
    refused,
)

from fedprune.common.errors import ConfigError, IntegrityError
from fedprune.common.system.atomic import write_json_atomic
from fedprune.server.report import report_on_end, write_report
from fedprune.server.report.data import printable_run, read_run
from fedprune.server.report.parts import Cell
from fedprune.server.report.single import single
from fedprune.server.report.tables.clients import delivered, health
from fedprune.server.report.tables.rounds import checks
from fedprune.server.report.text import DASH, MINUS, TIMES
from fedprune.server.rounds.records import Status
from fedprune.server.runs.events import EventLog, LabelsCounted
from fedprune.server.runs.folder import RunFolder


class Page(HTMLParser):
    """Collects what a browser would load, the ids, and the visible text."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text):
        super().__init__()
        self.loads, self.ids, self.open, self.words = [], [], [], []
        self.scripts, self.styles, self.handlers = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data"):
                self.loads.append(value)
            if name == "id":
                self.ids.append(value)
            if name.startswith("on") or name == "style":
                self.handlers.append((tag, name))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        kept = {"script": self.scripts, "style": self.styles}
        kept.get(self.open[-1] if self.open else "", self.words).append(data)


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
    assert all(load.startswith(("#", "data:image/svg+xml,")) for load in found.loads)
    assert found.handlers == []
    assert "@import" not in "".join(found.styles)
    assert "url(" not in "".join(found.styles)
    assert len(page) < 2_000_000


def digest(text):
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_browser_may_run_the_scripts_of_the_page_and_no_other(page):
    found = Page(page)
    figures, *scripts = found.scripts
    json.loads(figures)
    (policy,) = re.findall(
        r'http-equiv="Content-Security-Policy" content="(.*?)"', page
    )
    said = dict(part.split(" ", 1) for part in unescape(policy).split("; "))
    named = {f"'sha256-{digest(script)}'" for script in scripts}
    assert set(said["script-src"].split()) == named
    (style,) = found.styles
    assert said["style-src"] == f"'sha256-{digest(style)}'"
    assert said["default-src"] == "'none'"
    assert "connect-src" not in said


def test_no_id_is_used_twice_and_every_reference_is_met(page):
    found = Page(page)
    assert len(found.ids) == len(set(found.ids))
    assert {load[1:] for load in found.loads if load.startswith("#")} <= set(found.ids)


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
        "Size by round",
        "Loss by round",
        "Kept channels",
        "Votes",
        "Clients and their health",
        "Who took part",
        "Whose data have which classes",
        "Recall of each class",
        "Refused updates",
        "Bytes of one message",
        "How to run it again",
    ):
        assert f"<h2>{title}</h2>" in page
    charts = json.loads(Page(page).scripts[0])
    shown = re.findall(r'data-chart="([^"]+)"', page)
    assert len(shown) == len(set(shown)) == 10
    assert set(shown) == set(charts)


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
    found = Page(text)
    assert len(found.scripts) == 3
    assert "alert(1)" not in "".join(found.scripts[1:])
    assert "&lt;script&gt;" in text
    assert "<" not in found.scripts[0]
    assert evil in json.loads(found.scripts[0])["took-part"]["views"][""]["rows"]
    assert found.open == []
    assert found.handlers == []


@pytest.mark.parametrize("upto", [1, 6])
def test_an_unfinished_run_has_a_report_that_says_so(tmp_path, upto):
    folder = a_run(tmp_path, upto=upto, finished=False)
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert f"not finished: round {upto}" in text
    assert Page(text).open == []


def test_a_run_killed_before_its_first_event_has_a_report(tmp_path):
    folder = RunFolder.create(tmp_path, "empty")
    assert "not finished" in write_report([folder.path]).read_text(encoding="utf-8")


def cells_of(page):
    """Return the texts of all cells, row after row."""
    cells = re.findall(r"<t[hd] [^>]*>(.*?)</t[hd]>", page, flags=re.DOTALL)
    return [unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in cells]


def assert_row(page, *row):
    cells = cells_of(page)
    starts = [at for at, text in enumerate(cells) if text == row[0]]
    assert row in [tuple(cells[at : at + len(row)]) for at in starts]


def test_a_refused_update_is_listed_with_client_round_and_reason(run, page):
    answers = read_run(run.path).answers()
    event = next(e for e in answers if e.status is Status.REFUSED)
    assert_row(page, event.client, str(event.round), "main", "refused", event.reason)
    assert "12 non-finite values (code NON_FINITE)" in page


def test_a_large_round_has_a_table_in_place_of_a_map(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(CLIENTS)
        log.write(ROUND)
    text = write_report([folder.path]).read_text(encoding="utf-8")
    assert "Answers of round 2" in text
    assert "300 accepted, 2 failed" in text
    assert_row(text, "loss", "0.25", "0.5", "1")
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


def check_words(folder):
    ((_, table),) = checks(read_run(folder.path)).tables
    return " ".join(cell.text for row in table.rows for cell in row)


def test_each_check_of_the_guard_is_a_line(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(at(ROUND, 1))
        log.write(at(CHECK, 1, accuracy_allowed=0.02))
        log.write(at(CHECK, 2, final=1, loss_after=None, loss_comparison="none"))
    words = check_words(folder)
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
    words = check_words(folder)
    assert f"{sign}2.00 points" in words


def test_a_run_without_a_check_has_no_table_of_them(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 1))
        log.write(at(CHECK, 1, run="one-shot"))
    assert checks(read_run(folder.path)) is None


def charts_of(folder):
    return single(printable_run(read_run(folder.path))).charts


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
    spec = charts_of(folder)["widths"]["views"][""]
    assert [bar["name"] for bar in spec["series"]] == ["dense", "cut 1"]
    assert spec["texts"] == ["2 → 1"]


def test_a_report_that_cannot_be_made_is_a_line_and_no_error(tmp_path):
    folder = a_run(tmp_path)
    assert report_on_end(folder) == ""
    assert folder.report.is_file()
    folder.events.write_bytes(b"{}\n" + folder.events.read_bytes())
    assert report_on_end(folder).startswith("no report of this run: ")


def test_a_group_without_channels_has_no_column_among_the_votes(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, groups={"gone": 1, "x": 2, "last": 1}))
        log.write(at(ROUND, 1))
        for widths, kept in (
            ({"gone": 0, "x": 2, "last": 0}, (0, 1, 1, 0)),
            ({"gone": 0, "x": 1, "last": 0}, (0, 1)),
        ):
            scores = tuple(map(float, range(len(kept))))
            changes = {"votes": {"a": scores}, "consensus": scores, "kept": kept}
            log.write(at(CUT, 1, widths=widths, **changes))
    spec = charts_of(folder)["votes"]["views"][""]
    assert spec["columns"] == ["x: 1", "x: 2"]
    assert list(spec["heads"].values()) == [("x", 2)]


def test_figures_of_an_unfinished_run_come_from_its_events(tmp_path):
    data = read_run(a_run(tmp_path, upto=7, finished=False).path)
    assert not data.finished
    assert data.summary["bytes_up"] == sum(e.bytes_up for e in data.rounds())
    assert data.summary["params_final"] == round(DENSE * DENSITY[0])
    assert data.summary["cuts"] == 1
    assert data.summary["accuracy_final"] == data.rounds()[-1].accuracy
    assert len(data.curve()) == 7


def test_a_cut_that_was_taken_back_is_none_while_a_run_goes_on(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        for event in (CUT, at(CUT, 8, cycle=2), at(ROLLBACK, 9, cycle=2)):
            log.write(event)
    summary_ = read_run(folder.path).summary
    assert (summary_["cuts"], summary_["rollbacks"]) == (1, 1)


@pytest.mark.parametrize(("better", "kind"), [("higher", "worse"), ("lower", "better")])
def test_a_fall_of_the_score_is_a_gain_where_lower_is_better(tmp_path, better, kind):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, better=better, metric="perplexity"))
        log.write(at(ROUND, 1, run="dense", accuracy=9.0))
        log.write(at(ROUND, 1, accuracy=4.0))
    ((_, table),) = single(read_run(folder.path)).parts[0].tables
    assert table.rows[0][-1] == Cell(f"{MINUS}5.0000", kind=kind)


def test_a_client_that_a_control_put_aside_is_not_aside_in_the_run(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(CLIENT)
        log.write(at(ROUND, 1))
        log.write(at(ASIDE, 1, run="dense", back=9))
    run = read_run(folder.path)
    assert health(run).table.rows[0][1].text == "accepted"
    with EventLog(folder.events) as log:
        log.write(at(ASIDE, 1, back=9))
    assert health(read_run(folder.path)).table.rows[0][1].text == "put aside"
    with EventLog(folder.events) as log:
        log.write(at(CAME, 2))
    table = health(read_run(folder.path)).table
    assert table.rows[0][1].text == "accepted"
    assert table.head[-2:] == ("late, used", "validation")
    assert table.rows[0][-2].text == "1"


def test_of_many_clients_the_table_has_those_that_missed_most_and_says_so(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        for place in range(201):
            log.write(replace(CLIENT, client=f"c{place:03d}"))
        log.write(refused("c999"))
        for _ in range(201):
            log.write(DELIVERED)
    run = read_run(folder.path)
    found = health(run)
    names = [row[0].text for row in found.table.rows]
    assert (len(names), names[-1]) == (200, "c999")
    assert found.title == "Each client but 2, which missed least"
    assert "The first 200 of 201 are shown." in delivered(run).note


def test_the_votes_are_those_of_the_last_cut_that_stands(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(CUT)
        many = {f"c{place:03d}": (0.1, 0.2, 0.7) for place in range(66)}
        log.write(at(CUT, 8, cycle=2, votes=many))
    notes = {part.name: part.note for part in single(read_run(folder.path)).parts}
    assert notes["ballots"].endswith("2 more clients voted.")
    assert len(charts_of(folder)["votes"]["views"][""]["rows"]) == 66
    with EventLog(folder.events) as log:
        log.write(at(ROLLBACK, 9, cycle=2))
    assert charts_of(folder)["votes"]["views"][""]["rows"] == ["kept", "consensus", "a"]


def test_what_is_not_drawn_is_counted(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, groups={f"g{place}": 8 for place in range(62)}))
        counts = {f"c{place:03d}": (1, 2) for place in range(63)}
        log.write(LabelsCounted(classes=("no", "yes"), counts=counts))
    notes = {part.name: part.note for part in single(read_run(folder.path)).parts}
    assert "2 more are not drawn" in notes["kept"]
    assert "3 more clients are not drawn" in notes["data"]
    charts = charts_of(folder)
    assert len(charts["widths"]["views"][""]["names"]) == 60
    assert len(charts["labels"]["views"][""]["names"]) == 60


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
    assert "1,000 clients" in text
    assert len(text) < 2_000_000


def test_of_many_clients_those_that_were_missing_are_shown(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    names = [f"c{number:04d}" for number in range(400)]
    with EventLog(folder.events) as log:
        for round_ in range(1, 201):
            log.write(at(refused("c0399", "no"), round_))
            log.write(at(CLIENT, round_, client=names[round_]))
    spec = charts_of(folder)["took-part"]["views"][""]
    assert "c0399" in spec["rows"]
    assert sum(map(len, spec["cells"])) <= 24_000
    assert "clients that were missing less often are not shown" in " ".join(
        part.note for part in single(read_run(folder.path)).parts
    )


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


def test_a_run_is_not_compared_with_itself(tmp_path):
    path, other = a_run(tmp_path, "a").path, a_run(tmp_path, "b").path
    with pytest.raises(ConfigError, match="named twice"):
        write_report([path, other, path / ".." / path.name])
    assert not (tmp_path / "comparison.html").exists()


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


@pytest.mark.slow
@pytest.mark.parametrize("module", ["server.report", "server.devices.service"])
def test_reading_a_run_and_serving_devices_need_nothing_heavy(module):
    code = f"import sys, fedprune.{module}\n"
    code += "heavy = {'torch', 'matplotlib', 'starlette', 'uvicorn', 'ray', 'flwr'}\n"
    code += "sys.exit(', '.join(heavy & {*sys.modules}) or 0)"
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == 0


def test_of_devices_the_validation_is_the_headline_and_dashes_are_left_out(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(replace(STARTED, config={"task": {"data": "digits", "model": "mlp"}}))
        log.write(WAITING)
        log.write(at(ROUND, 1, accuracy=None, validation_accuracy=0.951))
    document = single(read_run(folder.path))
    assert (document.cards[0].name, document.cards[0].value) == (
        "accuracy, validation",
        "95.10 %",
    )
    assert "on the data of its devices" in document.about
    assert "digits" not in document.about
    ((_, table),) = document.parts[0].tables
    assert "latency" not in " ".join(row[0].text for row in table.rows).lower()
    assert set(charts_of(folder)["widths"]["views"][""]["names"]) == {"conv", "fc"}


def test_of_devices_that_tested_the_network_their_score_is_the_headline(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    told = {"accuracy_delivered": 0.9, "validation_accuracy_final": 0.4}
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(at(ROUND, 1, accuracy=None, validation_accuracy=0.4))
        log.write(replace(FINISHED, summary=told))
    write_json_atomic(folder.summary, told)
    run = read_run(folder.path)
    document = single(run)
    assert run.final_score == (0.9, True)
    assert (document.cards[0].name, document.cards[0].value) == (
        "accuracy, test data of the devices",
        "90.00 %",
    )
    ((_, table),) = document.parts[0].tables
    shown = {row[0].text: [cell.text for cell in row] for row in table.rows}
    assert "90.00 %" in shown["Accuracy on the devices' test data"]
    assert "40.00 %" in shown["Validation accuracy"]


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


def test_a_dark_system_has_the_colours_of_the_dark_theme_and_paper_the_light_ones(
    tmp_path,
):
    text = write_report([a_run(tmp_path).path]).read_text(encoding="utf-8")
    (style,) = re.findall(r"(?s)<style>(.*?)</style>", text)
    (system,) = re.findall(r"(?s)prefers-color-scheme: dark\) \{(.*?\}\n)\}", style)
    (chosen,) = re.findall(r'(?s):root\[data-theme="dark"\] \{(.*?)\}', style)
    assert system.strip() == f':root:not([data-theme="light"]) {{{chosen}}}'
    assert chosen.count("--") > 40
    light = re.search(r"(?s):root \{(.*?)\}", style)[1]
    paper = style[style.rindex("@media print") :]
    assert paper.startswith(
        '@media print {\n:root[data-theme="dark"], :root:not([data-theme]), :root {'
    )
    assert light in paper
    assert style.index("prefers-color-scheme") < style.rindex("@media print")
    assert style.count("{") == style.count("}")
