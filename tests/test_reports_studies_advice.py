"""The study of advice: pairs and races, predicted ratios and how far they are off, the table, from made-up figures."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from advices import SIGMOID, make_advice
from click.testing import CliRunner

from mlpprof.catalog import ladder
from mlpprof.compare.ladder import main_line
from mlpprof.errors import EXIT_INTERRUPTED
from mlpprof.results import Race, Verdict
from mlpprof.results.advice import CATEGORIES, Advice, Finding
from mlpprof.workloads import resolve
from reports.studies import advice as study
from reports.studies.advice import Pair, Row, advice_text, as_json, is_within


def finding(category: str, low: float, high: float, file: str = "old.py", line: int = 7) -> Finding:
    return replace(SIGMOID, category=category, file=file, line=line, payoff_share=(low, high))


def said(*findings: Finding) -> Advice:
    return make_advice(findings=findings)


def row(ratio: float, *findings: Finding, low: float | None = None, category: str = "layout") -> Row:
    verdict = Verdict(None, ratio, low or 0.98 * ratio, 1.02 * ratio, None, 5, "no claim was made")
    return Row(Pair("old", "new", category, 500), said(*findings), verdict)


def test_every_rung_up_to_buffered_has_a_cure_and_the_last_ones_have_nothing_left():
    line = [entry.name for entry in main_line(ladder(), "scalar")]
    pairs = study.pairs_of(500)
    assert [(pair.parent, pair.child) for pair in pairs] == list(pairwise(line))[: len(pairs)]
    assert pairs[-1].child == "buffered"
    assert {pair.category for pair in pairs} <= set(CATEGORIES)
    known = ladder()
    assert [known[name].parent for name in study.SILENT] == [pairs[-1].parent, *study.SILENT[:-1]]


def test_slow_rungs_take_fewer_samples_and_race_apart():
    pairs = study.pairs_of(20_000)
    assert {pair.parent: pair.batch for pair in pairs if pair.reduced} == {"scalar": 10, "per_sample": 500}
    for batch in (5, 500, 20_000):
        pairs = study.pairs_of(batch)
        lines = study.lines_of(pairs)
        assert [pair for line in lines for pair in line] == list(pairs)
        assert [len(line) for line in lines] == [1, 1, 7]
        assert all(len({pair.batch for pair in line}) == 1 for line in lines)
    assert not any(pair.reduced for pair in study.pairs_of(5))


def test_the_predicted_ratio_is_what_is_left_of_the_step():
    one = row(2.0, finding("layout", 0.2, 0.3), finding("layout", 0.2, 0.3, line=9), finding("float64", 0.5, 0.6))
    assert one.places == ("old.py:7", "old.py:9")
    assert one.payoff_share == pytest.approx((0.4, 0.6))
    assert one.predicted == pytest.approx((1 / 0.6, 1 / 0.4))
    assert one.saved_share == pytest.approx(0.5)
    assert one.payoff_deviation == pytest.approx(0.0)
    assert one.ratio_deviation == pytest.approx(0.0)


def test_a_payoff_is_held_against_the_saving_and_not_only_against_the_ratio():
    small = row(1.02, finding("layout", 0.05, 0.07))
    assert small.payoff_deviation == pytest.approx(0.06 / (1 - 1 / 1.02) - 1)
    assert not is_within(small.payoff_deviation)
    assert is_within(small.ratio_deviation)
    large = row(72.0, finding("layout", 0.8, 0.9))
    assert is_within(large.payoff_deviation)
    assert not is_within(large.ratio_deviation)
    text = table(small, large)
    assert "ratio only" in text
    assert "payoff only" in text
    assert "the payoffs of 1 are within 30 %" in text
    assert "and 1 predict a ratio within 30 %" in text


@pytest.mark.parametrize(("deviation", "within"), [(0.3, True), (-0.3, True), (0.301, False), (None, False)])
def test_the_goal_is_thirty_percent_either_way(deviation, within):
    assert is_within(deviation) is within


def test_a_payoff_of_the_whole_step_promises_no_finite_ratio():
    whole = row(50.0, finding("layout", 0.9, 1.0), finding("layout", 0.3, 0.3))
    assert whole.payoff_share == (1.0, 1.0)
    assert whole.predicted == (float("inf"), float("inf"))
    assert whole.ratio_deviation == float("inf")
    assert "∞" in table(whole)
    (plain,) = json.loads(json.dumps(as_json([whole], {}), allow_nan=False))["rows"]
    assert plain["predicted_ratio"] == [None, None]
    assert plain["ratio_deviation"] is None
    assert plain["payoff_within"] is True


def test_a_rung_that_is_slower_than_its_parent_has_no_saving_to_be_held_against():
    slower = row(0.9, finding("layout", 0.1, 0.2))
    assert slower.payoff_deviation is None
    assert "is not certain here" in table(slower)


def table(*rows: Row, silent: dict[str, Advice] | None = None) -> str:
    return advice_text(rows, silent or {}, "digits", "784-70-30-10", 5)


def test_a_cure_that_is_not_found_is_shown_as_a_miss():
    text = table(row(1.5, finding("float64", 0.3, 0.4)))
    (line,) = [line for line in text.splitlines() if line.startswith("| `old`")]
    assert line == "| `old` | `new` | 500 | layout | **not found** | – | – | 1.50 (1.47–1.53) | – | – | **no** |"
    assert "Of 1 cures 0 are found, the payoffs of 0 are within" in text


def test_the_table_tells_place_payoff_ratio_and_deviation():
    text = table(row(2.0, finding("layout", 0.4, 0.5)))
    (line,) = [line for line in text.splitlines() if line.startswith("| `old`")]
    assert line == (
        "| `old` | `new` | 500 | layout | old.py:7 | 40–50 % | 1.67–2.00 | 2.00 (1.96–2.04) | -10 % | -9 % | yes |"
    )
    header, rule = text.splitlines()[3:5]
    assert header.count("|") == rule.count("|") == line.count("|")


def test_fewer_samples_an_uncertain_ratio_and_a_place_in_another_file_are_told():
    told = row(1.01, finding("layout", 0.1, 0.2, file="older.py"), low=0.99)
    told = replace(told, pair=replace(told.pair, batch=10, reduced=True))
    text = table(told)
    assert "more than 10 samples per step" in text
    assert "the interval of the measured ratio reaches 1" in text
    assert "names another file, older.py" in text
    plain = table(row(2.0, finding("layout", 0.4, 0.5)))
    assert not any(word in plain for word in ("samples per step", "reaches 1", "another file"))


def test_what_is_said_of_the_last_rungs_is_all_shown():
    silent = {"buffered": said(), "chunked": said(finding("gather", 0.02, 0.03), finding("layout", 0.1, 0.1))}
    text = table(silent=silent)
    assert "- `buffered`: no finding" in text
    assert "- `chunked`: gather at old.py:7, 2.0–3.0 % of the step" in text
    assert "- `chunked`: layout at old.py:7, 10 % of the step" in text
    assert [len(one["findings"]) for one in as_json([], silent)["nothing_left"].values()] == [0, 2]


def test_every_parent_is_asked_once_and_every_pair_is_held_against_its_own_ratio():
    workload = resolve("digits")
    pairs = study.pairs_of(workload.batch)
    asked, raced, shares = [], [], []

    def asking(workload, name, batch, progress):
        asked.append((name, batch))
        return said() if name in study.SILENT else said(*(finding(c, 0.4, 0.6, f"{name}.py") for c in CATEGORIES))

    def racing(workload, line, processes, progress):
        names = [line[0].parent, *(pair.child for pair in line)]
        raced.append((names, processes))
        progress("racing", 1.0)
        step_s = 2.0 ** -np.arange(len(names))
        turns = np.repeat(step_s[None, :, None], 2, axis=2).repeat(3, axis=0)
        return Race(tuple(names), ("float32",) * len(names), line[0].batch, (turns, 1.3 * turns, 0.9 * turns))

    rows, silent = study.measure(workload, pairs, 3, lambda what, share: shares.append(share), asking, racing)
    assert [one.pair for one in rows] == list(pairs)
    assert all(one.measured.ratio == pytest.approx(2.0) for one in rows)
    assert all(one.payoff_deviation == pytest.approx(0.0, abs=1e-9) for one in rows)
    assert all(one.places == (f"{one.pair.parent}.py:7",) for one in rows)
    assert asked == [*((pair.parent, pair.batch) for pair in pairs), *((name, 500) for name in study.SILENT)]
    assert [len(names) for names, _ in raced] == [2, 2, 8]
    assert list(silent) == list(study.SILENT)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def run(arguments, monkeypatch, measured):
    monkeypatch.setattr(study, "measure", measured)
    return CliRunner().invoke(study.main, arguments)


def test_the_study_writes_the_table_and_the_figures(tmp_path, monkeypatch):
    seen = []

    def measured(workload, pairs, processes, progress):
        seen.append((workload.name, workload.batch, processes))
        return [row(2.0, finding("layout", 0.4, 0.5))], {"buffered": said()}

    arguments = ["--workload", "tiny", "--batch", "20", "--quick", "--out", str(tmp_path / "new")]
    done = run(arguments, monkeypatch, measured)
    assert done.exit_code == 0, done.output
    assert seen == [("tiny", 20, study.QUICK_PROCESSES)]
    text = (tmp_path / "new" / "advice.md").read_text(encoding="utf-8")
    assert text.startswith("# Payoffs of `mlpprof advise`, compared with the ladder\n")
    assert "measured 20" in text
    document = json.loads((tmp_path / "new" / "advice.json").read_text(encoding="utf-8"))
    assert (document["workload"], document["batch"]) == ("tiny", 20)
    assert document["rows"][0]["advice"]["findings"][0]["category"] == "layout"
    assert document["machine"]


def test_a_study_that_is_stopped_writes_nothing(tmp_path, monkeypatch):
    def measured(workload, pairs, processes, progress):
        raise KeyboardInterrupt

    done = run(["--out", str(tmp_path)], monkeypatch, measured)
    assert done.exit_code == EXIT_INTERRUPTED
    assert list(tmp_path.iterdir()) == []
