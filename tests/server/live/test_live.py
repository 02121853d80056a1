"""A live page: who may ask, what is told, and that it only reads."""

import json
import os
import re
import threading
import time
from contextlib import contextmanager

import httpx
import pytest
from helpers.invented_run import a_round, a_run
from helpers.some_events import FINISHED, RESUMED, ROUND, STARTED, at

from fedprune.common.errors import ConfigError
from fedprune.server.live import watched as watched_module
from fedprune.server.live import watching
from fedprune.server.live.serving import LivePage, parse_place
from fedprune.server.live.watched import Watched
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder


@contextmanager
def served(folder=None):
    with LivePage("127.0.0.1", 0) as page:
        if folder is not None:
            page.follow(lambda: folder.path)
        base, token = page.address.split("/?token=")
        with httpx.Client(base_url=base, timeout=20) as client:
            yield client, token


@contextmanager
def inside(folder=None):
    """Yield a client that has come in by the printed address."""
    with served(folder) as (client, token):
        assert client.get("/", params={"token": token}).status_code == 303
        yield client


@pytest.fixture
def folder(tmp_path):
    return a_run(tmp_path, upto=2, finished=False)


def test_the_token_goes_from_the_address_into_a_cookie_that_no_script_reads(folder):
    with served(folder) as (client, token):
        answer = client.get("/", params={"token": token})
        assert answer.status_code == 303
        assert answer.headers["location"] == "/"
        said = answer.headers["set-cookie"].lower()
        assert "httponly" in said
        assert "samesite=strict" in said
        assert client.get("/").status_code == 200
        assert token not in client.get("/").text


@pytest.mark.parametrize("path", ["/", "/figures.json", "/report.html", "/../etc"])
@pytest.mark.parametrize(
    "given",
    [{}, {"headers": {"Authorization": "Bearer no"}}, {"params": {"token": "no"}}],
)
def test_without_the_token_nothing_is_told(path, given, folder):
    with served(folder) as (client, _):
        answer = client.get(path, **given)
        assert answer.status_code == 401
        assert "digits" not in answer.text


def test_a_wrong_token_in_the_address_is_refused_beside_a_right_cookie(folder):
    with inside(folder) as client:
        assert client.get("/", params={"token": "no"}).status_code == 401


@pytest.mark.slow
def test_programs_have_the_token_in_a_header(folder):
    with served(folder) as (client, token):
        headers = {"Authorization": f"Bearer {token}"}
        found = client.get("/figures.json", headers=headers).json()
        assert "digits" in found["title"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "", "127.0.0.1:1"])
def test_a_foreign_name_that_was_pointed_here_is_refused(host, folder):
    with served(folder) as (client, token):
        headers = {"Host": host, "Authorization": f"Bearer {token}"}
        answer = client.get("/figures.json", headers=headers)
        assert answer.status_code in (400, 421)
        assert "digits" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_but_read(method, folder):
    with inside(folder) as client:
        assert client.request(method, "/figures.json").status_code == 405


@pytest.mark.slow
def test_every_answer_forbids_what_a_page_does_not_need(folder):
    with served(folder) as (client, token):
        bearer = {"Authorization": f"Bearer {token}"}
        for answer in (
            client.get("/"),
            client.get("/", headers=bearer),
            client.get("/figures.json", headers=bearer),
            client.get("/nothing", headers=bearer),
        ):
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'sha256-")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"


def test_the_page_is_the_report_with_a_script_that_asks_again(folder):
    with inside(folder) as client:
        text = client.get("/").text
        assert "<body data-live>" in text
        assert "connect-src &#39;self&#39;" in text
        assert "not finished: round 2 of 24" in text


@pytest.mark.slow
def test_without_a_run_the_page_waits_for_one():
    with inside() as client:
        assert client.get("/figures.json").json()["title"] == "No run yet"


@pytest.mark.slow
def test_a_request_that_knows_all_waits_for_the_next_round(folder):
    with inside(folder) as client:
        first = client.get("/figures.json")
        tag = first.headers["etag"]
        told = []

        def ask():
            told.append(client.get("/figures.json", headers={"If-None-Match": tag}))

        waiting = threading.Thread(target=ask)
        waiting.start()
        time.sleep(0.5)
        assert told == []
        with EventLog(folder.events) as log:
            log.write(at(ROUND, 3))
        waiting.join(20)
        assert told[0].status_code == 200
        assert "round 3 of" in told[0].json()["parts"]["head"]


def texts(watched):
    """Return the head of what a page is told, without its markup."""
    head = json.loads(watched.told().body)["parts"]["head"]
    return re.sub(r"<[^>]+>", "", head)


def test_what_is_told_follows_the_log_and_its_torn_last_line(folder):
    watched = Watched()
    watched.follow(lambda: folder.path)
    assert "round 2 of 24" in texts(watched)
    whole = folder.events.read_bytes()
    with EventLog(folder.events) as log:
        log.write(at(ROUND, 3, rounds=24))
    line = folder.events.read_bytes()[len(whole) :]
    os.truncate(folder.events, len(whole) + 20)
    watched._made_at = 0.0
    assert "round 2 of 24" in texts(watched)
    with folder.events.open("ab") as file:
        file.write(line[20:])
    watched._made_at = 0.0
    assert "round 3 of 24" in texts(watched)


def test_a_log_that_a_resume_rewrote_is_read_anew_even_when_it_is_longer(tmp_path):
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        for event in (STARTED, at(ROUND, 1), at(ROUND, 2)):
            log.write(event)
    watched = Watched()
    watched.follow(lambda: folder.path)
    assert "2 rounds" in texts(watched)
    with EventLog(folder.events) as log:
        log.drop_after(1)
        for event in (RESUMED, at(ROUND, 2), at(ROUND, 3), at(ROUND, 4)):
            log.write(event)
    watched._made_at = 0.0
    assert "4 rounds" in texts(watched)
    assert len(watched._log.events) == 6


def test_a_log_that_cannot_be_read_is_said_on_the_page_which_stays(folder):
    watched = Watched()
    watched.follow(lambda: folder.path)
    assert "round 2" in texts(watched)
    with folder.events.open("ab") as file:
        file.write(b'{"event":"forged"}\n')
    said = texts(watched)
    assert "round 2" in said
    assert "the run cannot be shown: IntegrityError" in said
    assert watched.told() is watched.told()


def test_a_run_that_cannot_be_shown_is_not_tried_again_before_there_is_more(
    folder, monkeypatch
):
    tries = []

    def fail(run, *, rounds):
        tries.append((run, rounds))
        raise ValueError

    monkeypatch.setattr(watched_module, "single", fail)
    watched = Watched()
    watched.follow(lambda: folder.path)
    for _ in range(3):
        assert "the run cannot be shown: ValueError" in texts(watched)
    assert len(tries) == 1


def test_hostile_names_of_clients_are_text_in_what_is_told(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    folder = RunFolder.create(tmp_path, "a")
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(at(ROUND, 1))
        from helpers.some_events import refused

        log.write(refused(evil, evil))
    watched = Watched()
    watched.follow(lambda: folder.path)
    told = json.loads(watched.told().body)
    assert not any("<img" in markup for markup in told["parts"].values())
    assert any("&lt;img src=x" in markup for markup in told["parts"].values())


def test_the_end_is_told_to_an_open_page_before_the_server_ends(folder):
    with LivePage("127.0.0.1", 0) as page:
        page.follow(lambda: folder.path)
        base, token = page.address.split("/?token=")
        bearer = {"Authorization": f"Bearer {token}"}
        first = httpx.get(f"{base}/figures.json", headers=bearer)
        assert not first.json()["ended"]
        told = []

        def ask():
            known = {**bearer, "If-None-Match": first.headers["etag"]}
            told.append(httpx.get(f"{base}/figures.json", headers=known, timeout=20))

        waiting = threading.Thread(target=ask)
        waiting.start()
        time.sleep(0.4)
        with EventLog(folder.events) as log:
            log.write(FINISHED)
    waiting.join(20)
    assert told[0].json()["ended"]
    assert not page.thread.is_alive()


@pytest.mark.slow
def test_watching_reads_and_writes_nothing(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    with inside(folder) as client:
        client.get("/")
        client.get("/figures.json")
    assert {p: p.stat().st_mtime_ns for p in folder.path.rglob("*")} == before


@pytest.mark.parametrize(
    "place", ["", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"]
)
def test_a_place_that_is_none_is_refused(place):
    with pytest.raises(ConfigError, match="--watch-at: found"):
        parse_place(place)


def test_all_addresses_at_once_are_refused_and_so_is_a_port_in_use():
    with pytest.raises(ConfigError, match="one address that browsers call"):
        LivePage("0.0.0.0", 0)  # noqa: S104
    with LivePage("127.0.0.1", 0) as page:
        port = int(page.address.split(":")[2].split("/")[0])
        with pytest.raises(ConfigError, match=r"cannot listen at .* for a free one$"):
            LivePage("127.0.0.1", port)


def test_the_address_is_printed_to_standard_error_only(capsys):
    with watching(wanted=True, at="127.0.0.1:0") as page:
        out, err = capsys.readouterr()
        assert err == f"live page: {page.address}\n"
        assert out == ""
    with watching(wanted=False, at="") as page:
        assert page is None
    assert capsys.readouterr().err == ""


def test_many_rounds_at_once_make_few_documents(tmp_path, monkeypatch):
    import numpy as np

    folder = a_run(tmp_path, upto=2, finished=False)
    watched = Watched()
    watched.follow(lambda: folder.path)
    watched.told()
    made = []
    monkeypatch.setattr(watched, "_make", lambda log: made.append(len(log.events)))
    watched._made_at = time.monotonic() + 100  # a document was made just now
    with EventLog(folder.events) as log:
        a_round(log, 3, ["client-000"], np.random.default_rng(0))
    for _ in range(5):
        watched.told()
    assert made == []
