"""Counted facts that differ between two steps, and the sentences about them."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import replace

import pytest
from pages import make_program_comparison

from mlpprof.compare.counted_difference import counted_of_programs, counted_of_variants
from mlpprof.report.claims import counted_text
from mlpprof.report.files.claims import comparisons_markdown
from mlpprof.report.notebook.views import ComparisonView
from mlpprof.report.page.page import page_html
from mlpprof.report.story import Story
from mlpprof.report.terminal.compare import print_comparison
from mlpprof.report.terminal.console import text_of
from mlpprof.results import Comparison, CountedChange, Operation, PhaseChange
from mlpprof.results.step_profile import Expression, StepProfile

PRODUCT = Expression(
    *("net.py", 12, 5, "delta @ A.T", "backward", 1, (1.0,) * 3, "product", "matmul", "float32", (10, 500, 30), "C·F"),
    *(300_000, 100_000, 1_200),
)
TANH = replace(
    PRODUCT, line=9, text="np.tanh(Z)", kind="evaluation", name="tanh", shape=(30, 500), orders="C", flop=15_000
)


STATEMENT = Operation(
    *("backward", 2, "derivative", 30, "arithmetic", "multiply", "float32", (30, 500), "C·F", 1),
    *(15_000, None, 180_000, None, 60_000, 0),
)


def step(*expressions: Expression) -> StepProfile:
    return StepProfile("net.py:step", (2.0,) * 3, (2.0,) * 3, {"backward": (2.0,) * 3}, "calls", expressions)


def sentences(old: StepProfile, new: StepProfile) -> list[str]:
    return [counted_text(one) for one in counted_of_programs(old, new)]


def test_an_operand_that_lost_its_contiguity_is_named_with_its_expression() -> None:
    found = sentences(step(PRODUCT, TANH), step(replace(PRODUCT, orders="C·?", bytes_copied=60_000), TANH))
    assert found == [
        "the step copies 58.6 KiB instead of 0 B",
        "net.py:12: `A.T` in `delta @ A.T` is no longer contiguous (memory order F → ?)",
        "net.py:12: `delta @ A.T` copies 58.6 KiB instead of 0 B",
    ]
    both = replace(PRODUCT, orders="F·C")
    assert sentences(step(PRODUCT), step(both)) == [
        "net.py:12: the operands of `delta @ A.T` have the memory orders F·C instead of C·F"
    ]


def test_a_dtype_an_allocation_and_new_arithmetic_are_facts_and_a_slower_clock_is_none() -> None:
    wide = replace(TANH, dtype="float64", bytes_allocated=120_000)
    more = replace(TANH, line=10, text="0 * Z", name="multiply", shape=(30, 500), flop=15_000, bytes_allocated=0)
    assert sentences(step(PRODUCT, TANH), step(PRODUCT, wide, more)) == [
        "the step allocates 118 KiB instead of 2.34 KiB",
        "the step computes 330,000 floating-point operations instead of 315,000",
        "net.py:10: `0 * Z` computes 15,000 floating-point operations instead of 0",
        "net.py:9: `np.tanh(Z)` computes in float64 instead of float32",
        "net.py:9: `np.tanh(Z)` allocates 117 KiB instead of 1.17 KiB",
    ]
    assert sentences(step(PRODUCT, TANH), step(PRODUCT))[-1:] == [
        "net.py:9: `np.tanh(Z)` allocates 0 B instead of 1.17 KiB"  # it is gone, and one fact shows that
    ]
    twice = replace(PRODUCT, dtype="float64", bytes_allocated=2_400)
    assert sentences(step(PRODUCT), step(twice)) == [
        "the step allocates 2.34 KiB instead of 1.17 KiB",
        "net.py:12: `delta @ A.T` computes in float64 instead of float32",  # which explains its bytes
    ]
    assert sentences(step(PRODUCT), step(replace(PRODUCT, seconds=(3.0,) * 3))) == []


def test_the_statements_of_variants_belong_together_by_phase_layer_and_label() -> None:
    one = STATEMENT
    old, new = (one, replace(one, layer=1)), (replace(one, orders="C·C"), replace(one, layer=1, dtype="float64"))
    facts = [
        "backward: the operands of `derivative of layer 2` have the memory orders C·C instead of C·F",
        "backward: `derivative of layer 1` computes in float64 instead of float32",
    ]
    assert [counted_text(fact) for fact in counted_of_variants(old, new)] == facts
    slower = PhaseChange("backward", 1, "derivative", 1e-3, 2e-3, 1.0)
    assert [counted_text(fact) for fact in counted_of_variants(old, new, [slower])] == facts[::-1]


def test_without_counts_no_fact_differs() -> None:
    assert counted_of_variants((), ()) == ()


def test_a_dtype_that_changed_in_many_statements_is_one_fact_about_the_step() -> None:
    old = [replace(STATEMENT, layer=layer) for layer in range(3)]
    new = [replace(one, dtype="float64", bytes_allocated=2 * one.bytes_allocated) for one in old]
    assert [counted_text(fact) for fact in counted_of_variants(old, new)] == [
        "the step computes in float64 instead of float32",
        "the step allocates 352 KiB instead of 176 KiB",
    ]


SHOWS: dict[str, Callable[[Comparison], str]] = {
    "terminal": lambda one: text_of(lambda console: print_comparison(one, console)),
    "markdown": lambda one: comparisons_markdown([one]),
    "page": lambda one: html.unescape(page_html(Story.of(comparisons=[one]))),
    "notebook": lambda one: html.unescape(ComparisonView([one])._repr_html_().partition("<details>")[0]),
}


@pytest.mark.parametrize("show", SHOWS.values(), ids=SHOWS)
def test_the_report_of_a_failed_comparison_shows_the_facts(show) -> None:
    fact = CountedChange("net.py:12", "delta @ A.T", "memory order", "C·F", "C·?", "A.T")
    text = show(replace(make_program_comparison(), counted=(fact,)))
    assert "net.py:12: `A.T` in `delta @ A.T` is no longer contiguous (memory order F → ?)" in text
