"""Findings as a person reads them on the terminal, from made-up records."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from advices import LOOP, SIGMOID, SOURCE, hostile_advice, make_advice
from rich.console import Console

from mlpprof.report.advice_words import cure_lines, evidence_text, excerpt, headline_text
from mlpprof.report.numbers import format_payoff, format_shares
from mlpprof.report.terminal.advise import print_advice
from mlpprof.results.advice import CATEGORIES

WIDTHS = (80, 100, 120)


def shown(advice, width=100, **options):
    buffer = io.StringIO()
    print_advice(advice, Console(file=buffer, width=width, **options))
    return buffer.getvalue()


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize("width", WIDTHS)
def test_findings_fit_the_screen_and_are_reported_whole(width):
    text = shown(make_advice(), width)
    assert max(map(len, text.splitlines())) <= width
    told = " ".join(text.split())
    for finding in make_advice().findings:
        for part in (finding.title, finding.why, f"{finding.file}:{finding.line}:{finding.column}", finding.category):
            assert part in told
    for part in ("net.py:Net.step", "20.0 ms", "median of 5 steps", "14.2–16.1 ms", "71–80 %", "net.py:18, net.py:7"):
        assert part in told
    assert "! The loop of line 22 was recorded for 8 of its 500 rounds." in told


def test_the_table_lists_findings_as_they_are_ordered_with_payoff_and_share():
    lines = squeezed(shown(make_advice(), 120))
    rows = lines[lines.index("# place category what time saved share") + 1 :][:3]
    assert rows[0] == "1 net.py:22:9 sample-loop the loop adds one outer product a sample 14.2–16.1 ms 71–80 %"
    assert [row.split()[2] for row in rows] == ["sample-loop", "recomputation", "float64"]


def test_what_no_finding_covers_and_small_findings_come_after_the_others_one_line_each():
    lines = squeezed(shown(make_advice(), 120))
    assert lines.index("Expensive, and not explained by a finding") > lines.index(
        "3 weights are float64, and make every product so"
    )
    known = "`A1 @ W2` takes 25.0 % of the step (5.00 ms). It is a product: nothing is known to cure."
    assert f"net.py:9 {known}" in lines
    at = lines.index("Small: each saves less than 1 % of the step")
    assert lines[at + 1] == "net.py:12 float64: `W * W` is small (0.4–0.6 %)"


def test_the_source_is_marked_at_the_findings_lines_and_column():
    lines = shown(make_advice(findings=(SIGMOID,))).splitlines()
    marked = next(i for i, line in enumerate(lines) if line.startswith("    > 21  "))
    begin = lines[marked + 1].index("^")
    assert lines[marked][begin:].startswith("sigmoid(self.Z1) * (1")
    assert [line[6:8] for line in lines[marked - 2 : marked]] == ["19", "20"]
    assert sum(line.startswith("    > ") for line in lines) == 1
    loop = shown(make_advice(findings=(LOOP,))).splitlines()
    assert [line[6:8] for line in loop if line.startswith("    > ")] == ["22", "23", "24"]
    assert not any(line.strip() == "^" for line in loop), "at the line's beginning it would tell nothing"


def test_tabs_and_bytes_beyond_ascii_leave_the_column_where_it_is():
    source = "if True:\n\tx = 'é' + f(y)\n"
    finding = replace(SIGMOID, line=2, end_line=2, column=12)
    advice = make_advice(findings=(finding,), source={"net.py": source})
    line = next(one for one in excerpt(advice, finding) if one.marked)
    assert line.text[line.begin :] == "f(y)"


def test_a_long_finding_shows_its_beginning_and_its_end():
    source = "\n".join(f"line{n}" for n in range(1, 101))
    finding = replace(LOOP, line=20, end_line=80, column=1)
    lines = excerpt(make_advice(findings=(finding,), source={"net.py": source}), finding)
    numbers = [line.number for line in lines]
    assert numbers == [18, 19, 20, 21, 22, 23, 24, None, 77, 78, 79, 80, 81, 82]
    assert all(line.text == f"line{line.number}" for line in lines if line.number)


def test_a_finding_of_exactly_the_most_lines_is_shown_whole():
    source = "\n".join(f"line{n}" for n in range(1, 101))
    for last in (28, 29):
        finding = replace(LOOP, line=20, end_line=last, column=1)
        lines = excerpt(make_advice(findings=(finding,), source={"net.py": source}), finding)
        assert (None in [line.number for line in lines]) is (last == 29)


@pytest.mark.parametrize("changes", [{"file": "other.py"}, {"line": 900, "end_line": 900}, {"line": 0}])
def test_a_finding_whose_source_is_not_there_is_reported_without_it(changes):
    finding = replace(SIGMOID, **changes)
    assert excerpt(make_advice(), finding) == []
    assert finding.why in " ".join(shown(make_advice(findings=(finding,))).split())


def test_a_cure_is_words_and_code_and_changes_and_its_code_is_moved_left_together():
    cure = "Words:\n         if x:\n-            a = 1\n+            b = 1\nand an end"
    assert [(line.kind, line.text) for line in cure_lines(cure)] == [
        ("words", "Words:"),
        ("code", "if x:"),
        ("-", "    a = 1"),
        ("+", "    b = 1"),
        ("words", "and an end"),
    ]
    commented = cure_lines("# keep both\n- a = 1\n+ b = 1")
    assert [(line.kind, line.text) for line in commented] == [("words", "keep both"), ("-", "a = 1"), ("+", "b = 1")]
    assert [line.kind for line in cure_lines("--- a.py\n+++ a.py\n@@ -1 +1 @@\n-a\n+b\n c")] == [*"@@@-+", "code"]


def test_added_and_removed_lines_have_their_colours_and_none_where_colours_are_off(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = shown(make_advice(), force_terminal=True, color_system="standard")
    for sign, code, colour in (("-", "for i in range", 31), ("+", "self.W2 -= rate", 32)):
        assert f"\x1b[{colour}m{sign}\x1b" in coloured
        assert f"\x1b[{colour}m{code}" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown(make_advice(), force_terminal=True, color_system="standard")


def test_evidence_is_one_line_with_units_by_the_names():
    evidence = {
        "copied_bytes": 2048,
        "replayed_s": 0.0012,
        "shape": [30, 500],
        "times": 1,
        "measured": "x",
        "none": None,
    }
    assert evidence_text(evidence) == "(30, 500), once per step, copied bytes 2.00 KiB, replayed 1.20 ms"
    assert evidence_text(
        {"shapes": [[3, 4], [4], [3, 4]], "waste_share": 0.25, "calls": {"exp": 3, "tanh_s": 2e-6}}
    ) == ("(3, 4) · (4,) · (3, 4), waste 25.0 %, calls exp 3, tanh_s 2.00 µs")
    found = {"operation": "matmul", "dtypes": ["float64"] * 2, "orders": ["F", "F"], "times_per_step": 6}
    assert evidence_text(found) == "matmul, float64, orders F · F, 6 times per step"
    assert evidence_text({"ratio": float("nan"), "merged": ["a", "b", "a"], "late": True}) == (
        "ratio –, merged a, b, late yes"
    )
    assert evidence_text({}) == ""


def test_evidence_on_many_operands_stays_on_one_line():
    found = {"shapes": [[4]] * 200, "dtypes": ["float32"] * 200, "orders": ["C"] * 200}
    assert evidence_text(found) == "(4,) × 200, float32, orders C × 200"
    assert evidence_text({"shapes": [[n] for n in range(9)]}) == "(0,) · (1,) · (2,) · (3,) · (4,) · (5,) · …"


def test_no_findings_are_reported_in_words_with_what_was_looked_for():
    text = " ".join(shown(make_advice(findings=())).split())
    assert "No findings" in text
    for what in CATEGORIES.values():
        assert what in text
    assert "payoff" not in text
    assert headline_text(make_advice(findings=())) == "Nothing found in net.py:Net.step"


def test_the_headline_names_the_largest_payoff():
    assert headline_text(make_advice()) == (
        "3 findings in net.py:Net.step; the largest gives 14.2–16.1 ms of its 20.0 ms (71–80 %)"
    )
    assert headline_text(make_advice(findings=(SIGMOID,))).startswith("One finding in net.py:Net.step; its cure gives")


def test_what_is_likely_is_reported_as_such():
    text = shown(make_advice())
    assert text.count("how sure") == 1
    assert "float64, likely" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_markup_and_escape_sequences_of_a_users_file_stay_text(width):
    text = shown(hostile_advice(), width, force_terminal=True, color_system=None)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for markup in ("[red]title[/red]", "[/nothing]", "[blink]", "[bold].py"):
        assert markup in text


def test_ranges_read_as_one_where_their_ends_read_the_same():
    assert format_payoff(0.001, 0.001) == "1.00 ms"
    assert format_payoff(0.0010001, 0.0010002) == "1.00 ms"
    assert format_payoff(0.0, 0.0) == "0 s"
    assert format_payoff(0.008, 0.009996) == "8.0–10.0 ms"
    assert format_payoff(-0.0001, 0.0002) == "-100 to 200 µs"
    assert (format_shares(0.101, 0.124), format_shares(0.004, 0.012)) == ("10–12 %", "0.4–1.2 %")
    assert (format_shares(0.1, 0.1), format_shares(0.0, float("nan"))) == ("10 %", "–")


def test_the_made_up_lines_are_the_ones_that_are_meant():
    lines = SOURCE.splitlines()
    assert lines[LOOP.line - 1][LOOP.column - 1 :].startswith("for i in")
    assert lines[SIGMOID.line - 1][SIGMOID.column - 1 :].startswith("sigmoid(self.Z1)")
