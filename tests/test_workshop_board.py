"""The board is made from other people's files. It ranks learners, escapes their texts, and needs no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import zipfile
from dataclasses import replace
from functools import partial
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from workshop_results import SPEED, result

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_OK, EXIT_USAGE
from mlpprof.report.figures.canvas import THEME
from mlpprof.workshop import board
from mlpprof.workshop.exercises import built_in
from mlpprof.workshop.result import Ratio, result_json, write_result

COURSE = built_in()
board_html = partial(board.board_html, course=COURSE)
read_folders = partial(board.read_folders, course=COURSE)
rows_of = partial(board.rows_of, course=COURSE)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Page(HTMLParser):
    """Tags with their attributes, and the texts of the table's cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "td":
            self.cells.append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def test_learners_are_ranked_by_speed_over_the_first_version():
    results = [result(3, "Anna", "a", 10.0), result(6, "Anna", "a", 40.0), result(3, "Berta", "b", 50.0)]
    results += [result(1, "Carl", "c", 99.0, outcome="fail"), result(0, "Dora", "d")]
    assert [(row.name, row.ratio, row.passed) for row in rows_of(results)] == [
        ("Berta", 50.0, 1),
        ("Anna", 40.0, 2),
        ("Dora", 0.0, 1),
        ("Carl", 0.0, 0),
    ]


def test_learners_of_one_name_stay_apart_and_files_of_one_learner_come_together():
    results = [result(1, "Student", "a"), result(2, "Student", "a"), result(1, "Student", "b")]
    assert [row.passed for row in rows_of(results)] == [2, 1]


def test_a_cell_shows_the_speedup_of_its_exercise_and_whether_it_was_tried():
    row = rows_of([result(3), result(4, outcome="inconclusive"), result(0)])[0]
    assert [cell.state for cell in row.cells] == ["pass", "none", "none", "pass", "open", "none", "none", "none"]
    assert row.cells[3].text == "2.00 ×"
    assert row.cells[0].text == "✓"


def test_guesses_and_the_share_of_the_limit_are_on_the_board():
    last = result(7, speed=replace(SPEED, share_of_limit=0.5), guess=4.0)
    row = rows_of([last, result(1, guess=1.0), result(2, guess=2.2)])[0]
    assert (row.share, row.off) == ("50.0 %", "2.00 ×")


def test_a_name_that_is_html_is_shown_as_text():
    page = board_html([result(learner=EVIL, workload=EVIL)], [f"{EVIL}.json is damaged"], EVIL)
    parsed = Page(page)
    assert EVIL in [cell.strip() for cell in parsed.cells]
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in parsed.tags]
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_the_page_needs_no_network_and_fits_phone_and_projector():
    page = board_html([result()], [], "now")
    parsed = Page(page)
    assert not any({"src", "href"} & set(attributes) for _, attributes in parsed.tags)
    assert "http" not in page.replace("http-equiv", "")
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parsed.tags
    assert "prefers-color-scheme: dark" in page
    assert "overflow-x: auto" in page


def test_the_page_has_the_colours_of_the_other_pages():
    page = board_html([result()], [], "now")
    for role, (light, dark) in THEME.items():
        assert f"--{role}: {light};" in page
        assert f"--{role}: {dark};" in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here: apt-get install chromium")
def test_all_columns_are_visible_at_1280_pixels(tmp_path: Path):
    fast = replace(SPEED, over_start=Ratio(12.34, 12, 13), over_first=Ratio(123.4, 120, 130), share_of_limit=0.678)
    name = "a long name of forty characters or so"
    page = board_html([result(n, name, speed=fast, guess=1.0) for n in range(8)], [], "now")
    hidden = "const box = document.querySelector('.scroll'); document.title = box.scrollWidth - box.clientWidth"
    page = page.replace("Content-Security-Policy", "the measuring script is none of the page's own")
    (tmp_path / "board.html").write_text(f"{page}<script>{hidden}</script>", encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1280,900", "--dump-dom"]
    shown = subprocess.run(
        [CHROMIUM, *options, (tmp_path / "board.html").as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "<title>0</title>" in shown.stdout


def test_every_column_can_be_sorted_by_keyboard():
    parsed = Page(board_html([result()], [], "now"))
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("th") == tags.count("button") == 14
    assert sum(attributes.get("aria-sort") == "descending" for tag, attributes in parsed.tags if tag == "th") == 1


def test_a_broken_and_a_foreign_file_are_listed_and_skipped(tmp_path: Path, capsys):
    folder = tmp_path / "class"
    (folder / "anna" / "results").mkdir(parents=True)
    write_result(result(), folder / "anna" / "results" / "a.json")
    (folder / "broken.json").write_text("{", encoding="utf-8")
    (folder / "foreign.json").write_text('{"kind": "something"}', encoding="utf-8")
    (folder / "huge.json").write_text(json.dumps(result_json(result()) | {"learner": "x" * 999}), encoding="utf-8")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "state.json").write_text("{", encoding="utf-8")
    results, skipped = read_folders([folder, folder / "anna"])
    assert len(results) == 1
    assert [re.search(r"(\w+)\.json", reason).group(1) for reason in skipped] == ["broken", "foreign", "huge"]
    out = tmp_path / "board.html"
    assert run(["workshop", "board", str(folder), "-o", str(out)]) == EXIT_OK
    printed = capsys.readouterr()
    assert "1 learner, 1 result" in printed.out
    assert printed.err.count("skipped: ") == 3
    assert "foreign.json" in out.read_text(encoding="utf-8")


def test_results_come_out_of_a_zip_file_too_and_what_is_no_result_is_named_by_its_place(tmp_path: Path):
    archive = tmp_path / "class.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("anna/results/a.json", json.dumps(result_json(result())))
        file.writestr("../outside.json", json.dumps(result_json(result(learner="Berta", place="b"))))
        file.writestr("broken.json", "{")
        file.writestr("bomb.json", " " * 10_000_000)
        file.writestr("my_mlp.py", "")
    (tmp_path / "no.zip").write_bytes(b"PK")
    results, skipped = read_folders([archive, tmp_path / "no.zip"])
    assert sorted(one.learner for one in results) == ["Anna", "Berta"]
    assert [any(name in reason for reason in skipped) for name in ("class.zip/broken.json", "class.zip/bomb", "no.zip")]
    assert len(skipped) == 3
    assert not (tmp_path / "outside.json").exists()


def test_names_are_shown_only_if_they_are_asked_for(tmp_path: Path):
    write_result(result(learner="Anna", place="0123abcd"), tmp_path / "a.json")
    out = tmp_path / "board.html"
    for words, shown, hidden in (([], "learner 0123abcd", "Anna"), (["--names"], "Anna", "0123abcd")):
        assert run(["workshop", "board", str(tmp_path), "-o", str(out), *words]) == EXIT_OK
        page = out.read_text(encoding="utf-8")
        assert shown in page
        assert hidden not in page


@pytest.mark.parametrize(("words", "named"), [(["-o", "board.txt"], ".html"), ([], "no results")])
def test_a_board_that_cannot_be_made_says_why(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    assert run(["workshop", "board", ".", *words]) == EXIT_USAGE
    assert named in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_page_may_run_its_own_script_and_load_nothing():
    html = board_html([result()], [], "now")
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="(.*?)">', html)[1]
    assert "default-src 'none'" in unescape(policy)
    assert f"script-src 'sha256-{digest}'" in unescape(policy)


@pytest.mark.parametrize("number", ["1e-320", "0", "-1", "1e10", "NaN", "1e999", "9" * 400, "[" * 500, '"3"'])
def test_a_guess_that_nobody_can_have_made_is_skipped_with_a_sentence(tmp_path, number):
    document = json.dumps(result_json(result(1, guess=4.0))).replace('"guess": 4.0', f'"guess": {number}')
    assert number in document
    (tmp_path / "1.json").write_text(document, encoding="utf-8")
    results, [reason] = read_folders([tmp_path])
    assert results == []
    assert "1.json" in reason
