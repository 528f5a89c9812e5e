"""The page in a real browser: headless Chromium opens it from file:// and uses it as a reader does."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from advices import hostile_advice, make_advice
from pages import HOSTILE, hostile_run, make_comparison, make_ladder
from runs import make_run
from sweeps import shown, sweep

from mlpprof.report.files.formats import ADVICE, COMPARISONS, LADDERS, RUNS
from mlpprof.report.page.sweep import sweep_html
from mlpprof.results.sweep import FAILED

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

PAGES = ("ladder", "run", "comparison", "hostile", "advice", "hostile_advice", "sweep")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, written once."""
    made = tmp_path_factory.mktemp("pages")
    LADDERS.write([make_ladder(names=("naive", "cached", "sliced"))], made / "ladder.html")
    RUNS.write([make_run((32, 500), lines=True)], made / "run.html")
    COMPARISONS.write([make_comparison()], made / "comparison.html")
    RUNS.write([hostile_run()], made / "hostile.html")
    ADVICE.write(make_advice(), made / "advice.html")
    ADVICE.write(hostile_advice(), made / "hostile_advice.html")
    cells = [shown(name, batch=batch, machine=HOSTILE) for name in ("naive", HOSTILE) for batch in (8, 30, 500, 60_000)]
    (made / "sweep.html").write_text(sweep_html(sweep(*cells, shown("scalar", state=FAILED, error=HOSTILE))))
    ADVICE.write(make_advice(findings=()), made / "no_findings.html")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as driver:
        # a container's root has no sandbox, and the page is our own
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@dataclass
class Opened:
    """A page in the browser, and everything that it complained about or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(browser: Any, folder: Path) -> Iterator[Any]:
    contexts = []

    def opener(name: str, width: int = 1280, scheme: str = "light", **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        opened = Opened(context.new_page())
        page = opened.page
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (opened.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto((folder / f"{name}.html").as_uri())
        return opened

    yield opener
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_from_a_file_asks_for_nothing_else_and_shows_its_pictures_on_screens_of_any_width(
    open_page, folder, name
):
    opened = open_page(name)
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    for width in (1280, 375):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        shown = page.evaluate(
            "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')]"
            ".filter(s => s.getBoundingClientRect().width > 0).length)"
        )
        assert shown
        assert set(shown) == {1}, "of the two renditions of each figure one is seen"
    assert opened.complaints == []
    assert opened.requests == [(folder / f"{name}.html").as_uri()]


def column(page: Any, table: Any, title: str) -> list[str]:
    heads = table.locator("thead th").all_inner_texts()
    place = next(i for i, head in enumerate(heads) if head.startswith(title))
    return [row.locator("th,td").nth(place).inner_text() for row in table.locator("tbody tr").all()]


def test_a_table_sorts_by_pointer_and_by_keyboard_and_says_so(open_page):
    page = open_page("ladder").page
    table = page.locator("table.sortable").first
    head = table.locator("thead th", has_text="step, median")
    before = column(page, table, "variant")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, table, "variant") == before[::-1], "every rung is faster than the one before"
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, table, "variant") == before
    names = table.locator("thead th", has_text="variant")
    names.locator("button").click()
    assert column(page, table, "variant") == sorted(before)
    assert head.get_attribute("aria-sort") == "none"


def test_switching_a_phase_off_takes_it_out_of_tables_and_figures_and_moves_the_rest(open_page):
    page = open_page("ladder").page
    bar = page.locator("#time figure .wide svg").first
    cell = page.locator("#time table.sortable [data-phase=forward]").first
    part = bar.locator("[data-phase=forward][data-width]").first
    after = bar.locator("[data-phase=backward][data-width]").first
    begin = after.bounding_box()["x"]
    assert cell.is_visible()
    assert part.is_visible()
    box = page.locator("input[data-switch=phase][value=forward]")
    box.focus()
    page.keyboard.press("Space")
    assert not cell.is_visible()
    assert not part.is_visible()
    page.wait_for_timeout(400)
    assert after.bounding_box()["x"] < begin - 20
    page.keyboard.press("Space")
    page.wait_for_timeout(400)
    assert cell.is_visible()
    assert abs(after.bounding_box()["x"] - begin) < 1


def test_switching_a_rung_off_takes_it_out_of_tables_figures_and_changes(open_page):
    page = open_page("ladder").page
    box = page.locator("label.chip", has_text="cached").locator("input")
    number = box.get_attribute("value")
    row = page.locator(f"#time tr[data-rung='{number}']").first
    change = page.locator(f"article[data-rung='{number}']")
    bar = page.locator(f"#time .wide [data-rung='{number}'][data-width]").first
    assert row.is_visible() and change.is_visible() and bar.is_visible()
    box.uncheck()
    assert not row.is_visible()
    assert not change.is_visible()
    assert not bar.is_visible()


def test_the_theme_follows_the_system_and_can_be_switched_and_is_kept(open_page):
    page = open_page("run", scheme="dark").page
    color = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(color)
    button = page.locator("#theme")
    assert button.inner_text() == "Light"
    button.click()
    light = page.evaluate(color)
    assert (dark, light) == ("rgb(20, 23, 28)", "rgb(255, 255, 255)")
    assert button.inner_text() == "Dark"
    page.reload()
    assert page.evaluate(color) == light


def test_the_skip_link_is_the_first_thing_that_the_keyboard_reaches(open_page):
    page = open_page("run").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdict"


def test_the_raw_data_download_as_json(open_page, tmp_path):
    page = open_page("ladder", accept_downloads=True).page
    with page.expect_download() as waiting:
        page.locator("#download").click()
    target = tmp_path / "data.json"
    waiting.value.save_as(target)
    assert waiting.value.suggested_filename == "mlpprof.json"
    found = json.loads(target.read_text(encoding="utf-8"))
    assert len(found["runs"]) == 3
    assert len(found["ladders"][0]["turns_s"]) == 5


def test_hostile_text_shows_as_text_and_runs_nowhere(open_page):
    opened = open_page("hostile")
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.wait_for_timeout(200)
    assert opened.complaints == []
    assert page.locator("script").count() == 2, "ours and the data"
    assert page.locator("img").count() == 0
    visible = page.locator("main").inner_text()
    assert visible.count("<script>alert(1)</script>") > 10
    assert "<img src=x onerror=alert(2)>" in visible
    data = json.loads(page.locator("#raw").text_content())
    assert data["runs"][0]["name"].startswith("<script>alert(1)</script>")
    assert HOSTILE in data["runs"][0]["source"]


def test_paper_is_light_and_has_everything_unfolded(open_page):
    page = open_page("ladder", scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("aside").is_visible()
    assert all(part.evaluate("part => part.open") for part in page.locator("main details").all())
    assert len(page.pdf()) > 20_000


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        *(("ladder", "light"), ("run", "dark"), ("comparison", "dark")),
        *(("advice", "light"), ("advice", "dark"), ("no_findings", "light")),
    ],
)
def test_axe_finds_no_serious_barrier(open_page, name, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page = open_page(name, scheme=scheme).page
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    violations = axe.Axe().run(page).response["violations"]
    serious = [
        (found["id"], found["help"], [node["html"][:200] for node in found["nodes"][:3]])
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_page_of_findings_leads_to_each_and_sorts_by_keyboard(open_page):
    page = open_page("advice").page
    page.locator("nav a", has_text="2. net.py:21").click()
    page.wait_for_timeout(600)
    assert page.locator("#finding-2 h3").bounding_box()["y"] < 400
    assert page.locator("#finding-2 tr.hot").inner_text().strip().startswith("21")
    assert page.locator("#finding-1 tr.hot").count() == 3
    table = page.locator("table.sortable").first
    payoff = table.locator("thead th", has_text="saves per step")
    payoff.locator("button").focus()
    page.keyboard.press("Enter")
    assert column(page, table, "category") == ["float64", "recomputation", "sample-loop"]
    assert page.locator("#unfold").count() == 0, "nothing is folded here"


def test_hostile_text_of_a_finding_shows_as_text(open_page):
    opened = open_page("hostile_advice")
    assert opened.complaints == []
    assert opened.page.locator("script").count() == 2
    assert opened.page.locator("main").inner_text().count("<script>alert(1)</script>") > 8
