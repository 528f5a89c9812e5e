"""`advise` on programs in the styles found in the wild: every planted flaw is found, and nothing is told that is none.

What a cure is worth is measured, so a disturbed machine can move a finding across a threshold: a program whose
findings differ from the truth is looked at once more, and what the first look has said is printed.
"""

from __future__ import annotations

import ast
from dataclasses import asdict
from typing import Any

import pytest
from wild.truth import HERE, every, name, truth

from mlpprof.advise import Subject, find
from mlpprof.report.advice_words import cure_lines

pytestmark = pytest.mark.timing


def told(script) -> list[dict[str, Any]]:
    """What is found in a program's step."""
    advice = find(Subject(script, truth(script).step, threads=1))
    assert advice.step == truth(script).step
    assert advice.program is not None
    return [asdict(finding) for finding in advice.findings]


def differences(script, findings) -> dict[str, list[str]]:
    """Planted flaws that were missed, and findings that are wrong."""
    expected = truth(script)
    missed = [
        f"{flaw.category} in {', '.join(f'{p.file}:{p.line}' for p in flaw.places)}"
        for flaw in expected.missed(findings)
    ]
    wrong = [
        f"{one['category']} in {one['file']}:{one['line']}, {one['payoff_share']}: {one['title']}"
        for one in expected.wrong(findings)
    ]
    return {name: lines for name, lines in (("missed", missed), ("wrong", wrong)) if lines}


@pytest.mark.slow
@pytest.mark.parametrize("script", [*every(1, "planted"), *every(4, "clean")], ids=name)
def test_planted_flaws_are_found_and_nothing_else_is_reported(script):
    found = differences(script, told(script))
    if found:
        print(f"at first: {found}")
        found = differences(script, told(script))
    assert not found


def assert_cure_is_words_or_an_edit(finding, script):
    """That a cure is words, or words with edits: lines of the file that go, and Python after all edits."""
    lines = cure_lines(finding["cure"])
    assert lines[0].kind == "words"
    assert lines[0].text.startswith("By hand: ") == (not finding["edits"])
    source = script.read_text().splitlines(keepends=True)
    gone = [line.text.strip() for line in lines if line.kind == "-"]
    assert gone == [
        text.strip() for edit in finding["edits"] for text in source[edit["line"] - 1 : edit["end_line"] - 1]
    ]
    for edit in sorted(finding["edits"], key=lambda one: one["line"], reverse=True):
        source[edit["line"] - 1 : edit["end_line"] - 1] = [edit["text"]]
    ast.parse("".join(source))


@pytest.mark.slow
def test_findings_show_places_payoffs_and_reasons():
    script = HERE / "per_sample_backprop" / "planted.py"
    lines = script.read_text().splitlines()
    findings = told(script)
    assert findings
    for one in findings:
        assert one["file"] == "planted.py"
        assert 1 <= one["line"] <= one["end_line"] <= len(lines)
        assert 1 <= one["column"] <= len(lines[one["line"] - 1])
        assert 0 <= one["payoff_share"][0] <= one["payoff_share"][1] <= 1
        assert 0 <= one["payoff_s"][0] <= one["payoff_s"][1]
        assert one["title"]
        assert one["why"]
        assert_cure_is_words_or_an_edit(one, script)
        assert one["confidence"] == "likely" or one["category"] in ("layout", "slow-primitive", "float64")
        assert one["evidence"]["measured"]
    middles = [sum(one["payoff_s"]) for one in findings]
    assert middles == sorted(middles, reverse=True)
