"""Which findings are reported: by category, by comments in the source, and by a baseline."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlpprof.advise.selection import Baseline, FailOn, Selection, selected
from mlpprof.errors import UsageError
from mlpprof.results.advice import Advice, Finding
from mlpprof.results.place import Place

SOURCE = """a = f(x)
b = f(
    x
)
for i in range(3):
    c = f(x)
"""


def finding(line, category="recomputation", share=0.1, related=(), end_line=None):
    where = ("net.py", line, end_line or line, 1)
    return Finding(category, *where, "title", "why", "cure", (0.1, 0.1), (share, share), "likely", related)


def advice(*findings, source=SOURCE):
    return Advice("net.py:f", 1.0, 5, findings, source={"net.py": source, "other.py": "y = 1  # mlpprof: ignore\n"})


def lines(found, selection):
    return [one.line for one in selected(found, selection.wanted(found)).findings]


def test_categories_are_selected_and_ignored():
    found = advice(finding(1), finding(6, "float64"))
    assert lines(found, Selection()) == [1, 6]
    assert lines(found, Selection(select=("float64",))) == [6]
    assert lines(found, Selection(ignore=("float64",))) == [1]
    [note] = selected(found, [True, False]).notes
    assert note.startswith("one finding is not shown")
    with pytest.raises(UsageError, match="did you mean 'float64'"):
        Selection(select=("flaot64",))


@pytest.mark.parametrize(
    ("old", "new", "silenced"),
    [
        ("a = f(x)", "a = f(x)  # mlpprof: ignore", [1]),
        ("a = f(x)", "a = f(x)  # mlpprof: ignore[layout, recomputation]", [1]),
        ("a = f(x)", "a = f(x)  # mlpprof: ignore[layout]", []),
        ("a = f(x)", "a = '# mlpprof: ignore'", []),
        ("\n)\nfor", "\n)  # mlpprof: ignore[recomputation]\nfor", [2]),
        ("(3):", "(3):  # mlpprof: ignore", [5]),
    ],
)
def test_a_comment_on_its_statement_silences_a_finding(old, new, silenced):
    found = advice(*(finding(line) for line in (1, 2, 5, 6)), source=SOURCE.replace(old, new))
    assert lines(found, Selection()) == [line for line in (1, 2, 5, 6) if line not in silenced]


def test_a_comment_at_a_related_place_silences_a_finding_too():
    assert lines(advice(finding(1, related=(Place("other.py", 1),))), Selection()) == []


def test_a_baseline_knows_findings_although_lines_move(tmp_path):
    path = tmp_path / "baseline.json"
    Baseline.of(advice(finding(1))).write(path)
    moved = advice(finding(2), finding(7), source="import g\n" + SOURCE)
    assert lines(moved, Selection(baseline=Baseline.read(path))) == [7]
    twice = replace(moved, findings=(finding(2), finding(2)))
    assert lines(twice, Selection(baseline=Baseline.read(path))) == [2]
    with pytest.raises(UsageError, match="--update-baseline"):
        Baseline.read(tmp_path / "none.json")
    path.write_text("[]")
    with pytest.raises(UsageError, match="is not a baseline"):
        Baseline.read(path)


def test_findings_can_make_a_build_fail():
    found = advice(finding(1, share=0.04), finding(2, "layout", share=0.02))
    assert FailOn.parse("layout").fails(found)
    assert not FailOn.parse("gather").fails(found)
    assert FailOn.parse("3%").fails(found)
    assert not FailOn.parse("0.05").fails(found)
    for text in ("nonsense", "500%", "-1"):
        with pytest.raises(UsageError, match="expected a category"):
            FailOn.parse(text)
