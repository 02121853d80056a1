"""Pages in a real browser: edges, console, accessibility, keyboard, theme, hover."""

import re

import numpy as np
import pytest
from helpers.invented_run import a_round, a_run, a_run_of_devices
from helpers.some_events import ROUND, STARTED, at, refused

from fedprune.server.live.serving import LivePage
from fedprune.server.report import write_report
from fedprune.server.runs.events import EventLog
from fedprune.server.runs.folder import RunFolder
from fedprune.simulations.benchmarks.kit.page.browser import (
    SCHEMES,
    WIDTHS,
    chromium,
    examine,
    missing,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
]
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory):
    """Return the address of each kind of page."""
    base = tmp_path_factory.mktemp("runs")
    runs = [a_run(base, f"density-{n}", seed=n).path for n in (0, 1, 2)]
    devices = a_run_of_devices(base)
    unfinished = a_run(base, upto=7, finished=False)
    files = {
        "single": write_report(runs[:1]),
        "comparison": write_report(runs),
        "devices": write_report([devices.path]),
        "unfinished": write_report([unfinished.path]),
        "hostile": write_report([hostile(base).path]),
        "large": write_report([a_run(base, clients=300, upto=2).path]),
    }
    with LivePage("127.0.0.1", 0) as live:
        live.follow(lambda: unfinished.path)
        found = {name: path.as_uri() for name, path in files.items()}
        yield found | {"live": live.address}


def hostile(base):
    folder = RunFolder.create(base, "evil", manifest={"command": EVIL})
    with EventLog(folder.events) as log:
        log.write(STARTED)
        log.write(at(ROUND, 1))
        for number in range(3):
            log.write(refused(f"{EVIL}{number}", EVIL * 5))
    return folder


PAGES = ["single", "comparison", "devices", "unfinished", "hostile", "large", "live"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_lost_said_or_in_the_way(browser, addresses, name, scheme, width):
    seen = examine(browser, addresses[name], scheme, width)
    assert seen.lost == 0
    assert seen.errors == ()
    assert seen.violations == ()
    assert seen.requests == ()


@pytest.fixture
def page(browser, addresses):
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto(addresses["single"])
    yield shown
    shown.close()


CONTROLS = "button, summary, input, a[href], [tabindex='0']"
VISIBLE = f"""() => {{
  let count = 0;
  for (const one of document.querySelectorAll("{CONTROLS}")) {{
    count += one.checkVisibility();
  }}
  return count;
}}"""
REACHED = f"""() => {{
  let count = 0;
  for (const one of window.reached) count += one.matches("{CONTROLS}");
  return count;
}}"""


@pytest.mark.parametrize("name", ["single", "comparison", "live"])
def test_the_keyboard_reaches_every_control(browser, addresses, name):
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto(addresses[name])
    wanted = shown.evaluate(VISIBLE)
    shown.evaluate("window.reached = new Set()")
    for _ in range(wanted + 5):
        shown.keyboard.press("Tab")
        shown.evaluate("reached.add(document.activeElement)")
    assert wanted > 5
    assert shown.evaluate(REACHED) == wanted
    shown.close()


def test_arrow_keys_show_the_values_of_a_plot(page):
    page.locator("[data-chart=accuracy] .canvas").focus()
    page.keyboard.press("End")
    tip = page.locator("[data-chart=accuracy] .tip")
    assert "rounds completed: 24" in tip.inner_text()
    assert "FedPrune: 96.39 %" in tip.inner_text()
    page.keyboard.press("ArrowLeft")
    assert "rounds completed: 23" in tip.inner_text()


def test_the_pointer_shows_values_and_names_of_clients_as_text(browser, addresses):
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    said = []
    shown.on("dialog", lambda one: said.append(one.message) or one.dismiss())
    shown.goto(addresses["hostile"])
    shown.locator("[data-chart=took-part] .canvas").focus()
    shown.keyboard.press("ArrowRight")
    tip = shown.locator("[data-chart=took-part] .tip")
    assert "<img src=x onerror=alert(1)>" in tip.inner_text()
    assert shown.locator("main img, main script").count() == 0
    assert said == []
    shown.close()


def test_a_view_a_log_axis_and_a_zoom_stay_on_while_the_theme_changes(page):
    plot = page.locator("[data-chart=bytes]")
    plot.get_by_role("button", name="by parameters").click()
    plot.get_by_role("button", name="logarithmic x axis").click()
    plot.get_by_role("button", name="zoom in").click()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for _ in range(2):
        page.get_by_role("button", name=re.compile("Theme")).click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    for name in ("by parameters", "logarithmic x axis"):
        button = plot.get_by_role("button", name=name)
        assert button.get_attribute("aria-pressed") == "true"
    assert plot.get_by_role("button", name="whole range").count() == 1


def test_runs_are_sorted_by_a_column_and_found_by_words(browser, addresses):
    shown = browser.new_page(viewport={"width": 1280, "height": 900})
    shown.goto(addresses["comparison"])
    table = shown.locator("#runs table")
    first = table.locator("tbody tr").first
    table.get_by_role("button", name="accuracy").click()
    assert "density-2" in first.inner_text()
    table.get_by_role("button", name="accuracy").click()
    assert "density-0" in first.inner_text()
    shown.get_by_label("Find rows of Runs").fill("density-1")
    assert table.locator("tbody tr:visible").count() == 1
    assert "96.39 % (best)" in table.locator(".best").first.text_content()
    shown.close()


def test_without_javascript_all_tables_are_there(browser, addresses):
    context = browser.new_context(java_script_enabled=False)
    shown = context.new_page()
    shown.goto(addresses["single"])
    text = shown.locator("main").inner_text()
    assert "96.11 %" in text
    assert "The plot needs JavaScript" in text
    assert "Refused updates" in text
    context.close()


def next_round(folder, shown):
    """Write the fourth round of a run and wait until a live page shows it."""
    with EventLog(folder.events) as log:
        names = [f"client-{place:03d}" for place in range(10)]
        a_round(log, 4, names, np.random.default_rng(1))
    shown.get_by_text("round 4 of").wait_for(timeout=10_000)


def test_a_live_page_shows_the_next_round_and_keeps_what_the_reader_did(
    browser, tmp_path
):
    folder = a_run(tmp_path, upto=3, finished=False)
    with LivePage("127.0.0.1", 0) as live:
        live.follow(lambda: folder.path)
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(live.address)
        assert "token" not in shown.url
        shown.get_by_text("round 3 of").wait_for()
        shown.get_by_text("Figures of each round").click()
        losses = shown.locator("[data-chart=loss]")
        losses.get_by_role("button", name="training").click()
        next_round(folder, shown)
        assert shown.locator("#by-round details").evaluate("(one) => one.open")
        button = losses.get_by_role("button", name="training")
        assert button.get_attribute("aria-pressed") == "true"
        assert shown.locator("#by-round tbody tr").count() == 4
        shown.close()


def test_a_table_that_a_reader_is_in_is_as_new_as_the_others_once_it_is_left(
    browser, tmp_path
):
    folder = a_run(tmp_path, upto=3, finished=False)
    with LivePage("127.0.0.1", 0) as live:
        live.follow(lambda: folder.path)
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(live.address)
        shown.get_by_text("round 3 of").wait_for()
        shown.locator("#main .scroll").focus()
        before = shown.locator("#main table").inner_text()
        next_round(folder, shown)
        assert shown.locator("#main table").inner_text() == before
        shown.get_by_role("button", name="Theme").focus()
        shown.wait_for_timeout(300)
        assert shown.locator("#main table").inner_text() != before
        shown.close()
