"""`mlpprof compare` as a user types it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pages import make_program_comparison
from rich.console import Console
from runs import make_run

from mlpprof.catalog import ladder
from mlpprof.cli import compare
from mlpprof.cli.main import run
from mlpprof.compare.variant_difference import waterfall
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, EXIT_USAGE, CheckFailed
from mlpprof.model import PHASES
from mlpprof.report.terminal.compare import print_comparison
from mlpprof.results import Comparison, Race, Verdict
from mlpprof.results.on_disk import save_run

TINY = ["--workload", "tiny"]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_comparison(outcome: str | None = "pass", old_s: float = 3e-3, new_s: float = 1e-3) -> Comparison:
    """A comparison without a clock; the phases come from runs at two batch sizes."""
    old, new = make_run((500,)), make_run((32,))
    turns_s = np.empty((8, 2, 2))
    turns_s[:, 0], turns_s[:, 1] = old_s, new_s
    ratio = old_s / new_s
    at_least = None if outcome is None else 1.5
    return Comparison(
        old="naive",
        new="cached",
        workload="digits",
        network=old.network,
        batch=500,
        race=Race(("naive", "cached"), ("float64", "float32"), 500, (turns_s, turns_s)),
        verdict=Verdict(outcome, ratio, 0.97 * ratio, 1.03 * ratio, at_least, 5, "as made up"),
        equivalent=True,
        waterfall=waterfall(old.results[0], new.results[0], old_s, new_s),
        machine=old.machine,
    )


def printed(comparison: Comparison, width: int) -> str:
    buffer = io.StringIO()
    print_comparison(comparison, Console(file=buffer, width=width, color_system=None))
    return buffer.getvalue()


# The layout


@pytest.mark.parametrize("width", [80, 100, 160])
def test_programs_are_shown_with_their_training_and_the_expression_that_lost_the_time(width: int) -> None:
    text = printed(make_program_comparison(), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    for said in (
        "both train the same: after 20 steps",
        "old.py:Net.step → new.py:Net.step",
        "the rest of the training loop takes 200 µs → 300 µs a step",
        "new.py:17 tanh(z + 0 * z)",
        "was: tanh(z)",
        "The most time is lost in new.py:17: tanh(z + 0 * z) (was: tanh(z)), 1.00 ms → 2.00 ms.",
    ):
        assert said in words
    assert "batch" not in words


@pytest.mark.parametrize("width", [80, 100, 160])
@pytest.mark.parametrize("new_s", [1e-3, 2.999e-3, 3e-3, 9e-3])
def test_the_report_fits_its_width_and_attributes_all_of_the_difference(width: int, new_s: float) -> None:
    comparison = make_comparison(new_s=new_s)
    text = printed(comparison, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.splitlines() == [line.rstrip() for line in text.splitlines()]
    for word in ("3.00 ms →", "5 processes", "PASS", "same gradients", "100 %", *PHASES, "rest", "OpenBLAS"):
        assert word in text
    rows = [line.split() for line in text.splitlines()]
    shares = [float(row[row.index("%") - 1]) for row in rows if "%" in row and row[0] in (*PHASES, "rest")]
    if new_s != 3e-3:
        assert sum(shares) == pytest.approx(100, abs=0.5 if new_s != 2.999e-3 else 5)


def test_what_got_slower_is_shown_as_lost_and_within_the_noise_as_such() -> None:
    assert "lost in a step of 3.00 ms" in printed(make_comparison(new_s=9e-3), 80)
    assert "within the noise" in printed(make_comparison(new_s=2.999e-3), 80)
    assert "within the noise" not in printed(make_comparison(), 80)


def test_statements_and_others_make_up_their_phase() -> None:
    lines = printed(make_comparison(), 100).splitlines()
    begin = next(i for i, line in enumerate(lines) if line.startswith("  backward"))
    end = next(i for i, line in enumerate(lines) if line.startswith("  update"))
    phase, *parts = [float(line.split("%")[0].split()[-1]) for line in lines[begin:end]]
    assert len(parts) >= 2
    assert sum(parts) == pytest.approx(phase, abs=0.5)


def test_a_pinned_kernel_is_a_warning() -> None:
    comparison = make_comparison()
    machine = {**comparison.machine, "blas_environment": {"OPENBLAS_CORETYPE": "Nehalem"}}
    machine["blas"] = [{"vendor": "openblas", "kernel": "Nehalem", "loaded_by": "numpy"}]
    assert "OPENBLAS_CORETYPE=Nehalem pins" in printed(replace(comparison, machine=machine), 80)


def test_without_a_claim_or_a_check_the_report_says_so() -> None:
    text = printed(replace(make_comparison(None), equivalent=None), 80)
    assert "none (use --at-least R to get pass or fail)" in text
    assert "not checked (--no-check)" in text


# The command


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["pass"], EXIT_OK),
        ([None], EXIT_OK),
        (["pass", "fail"], EXIT_FAILED),
        (["inconclusive", "pass"], EXIT_INCONCLUSIVE),
        (["inconclusive", "fail"], EXIT_FAILED),
    ],
)
def test_the_exit_code_is_that_of_the_worst_outcome(
    monkeypatch: pytest.MonkeyPatch, outcomes: list[str | None], code: int
) -> None:
    made = iter(outcomes)
    monkeypatch.setattr(compare, "compare", lambda *arguments, **options: [make_comparison(next(made))])
    assert run(["compare", "naive", *["cached"] * len(outcomes)]) == code


def test_every_new_is_compared_at_every_batch_with_the_options_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compared(requests, workload, batch, environment, *, typed, **options):
        assert typed.startswith("mlpprof")  # and what stands in sys.argv
        old, new = requests
        asked.append((old.name, new.name, new.network.text, batch, new.dtype, environment.threads))
        return [make_comparison(None)]

    monkeypatch.setattr(compare, "compare", compared)
    options = ["--batch", "30,60", "--layers", "20-4-3", "--dtype", "float64", "--threads", "2"]
    assert run(["compare", "naive", "cached", "sliced", *TINY, *options]) == EXIT_OK
    assert asked == [
        ("naive", name, "20-4-3", batch, "float64", 2) for batch in (30, 60) for name in ("cached", "sliced")
    ]


@pytest.mark.timing
@pytest.mark.slow
def test_the_json_of_a_measured_comparison_has_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["per_sample", "sliced", *TINY, "--batch", "60", "--no-waterfall", "--budget", "0.1"]
    assert run(["compare", *arguments, "--json"]) == EXIT_OK
    document = json.loads(capsys.readouterr().out)
    (one,) = document
    assert (one["old"], one["new"], one["batch"]) == ("per_sample", "sliced", 60)
    assert one["ratio"] > 2
    assert one["verdict"] is one["at_least"] is None
    assert one["equivalent"] is True
    assert one["phases"] == {}


@pytest.mark.timing
@pytest.mark.slow
def test_a_gate_fails_with_exit_code_1_and_shows_where_the_difference_lies(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--at-least", "1.0", "--no-check", "--budget", "0.1", "--json"]
    assert run(["compare", "sliced", "per_sample", *TINY, *asked]) == EXIT_FAILED
    (one,) = json.loads(capsys.readouterr().out)
    assert one["verdict"] == "fail"
    assert one["ratio"] < 0.5
    assert set(one["phases"]) == {*PHASES, "rest"}
    assert sum(phase["share_of_difference"] for phase in one["phases"].values()) == pytest.approx(1)
    assert sum(phase["old_s"] for phase in one["phases"].values()) == pytest.approx(one["old_s"])
    assert sum(phase["new_s"] for phase in one["phases"].values()) == pytest.approx(one["new_s"])


@pytest.mark.timing
@pytest.mark.slow
def test_a_wrong_variant_is_not_raced(capsys: pytest.CaptureFixture[str]) -> None:
    source = ladder()["sliced"].source()
    wrong = source.replace("self.A[l] - self.Y) / m", "self.A[l] - self.Y) * 2 / m")
    assert wrong != source
    Path("mine.py").write_text(wrong, encoding="utf-8")
    assert run(["compare", "sliced", "mine.py", *TINY]) == EXIT_FAILED
    assert "nothing was timed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cached"], "argument NEW is missing"),
        (["cached", "slicd"], "did you mean 'sliced'"),
        (["cached", "sliced", "-o", "out.xyz"], "cannot write out.xyz"),
        (["cached", "sliced", "-o", "out", "--format", "jsn"], "no format 'jsn'; did you mean 'json'"),
        (["cached", "sliced", "-o", "a.png", "--format", "markdown"], "--format markdown cannot be written into a.png"),
        (["cached", "sliced", "--format", "h5"], "--format h5 needs a file; add -o FILE"),
        (["cached", "sliced", "-o", "no/out.json"], "there is no folder no"),
        (["cached", "sliced", "--at-least", "0"], "--at-least"),
        (["run.h5", "sliced"], "run.h5"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["compare", *arguments]) == EXIT_USAGE
    assert said in capsys.readouterr().err


# In review


@pytest.mark.parametrize("outcome", ["fail", "pass", "inconclusive"])
def test_github_gets_an_annotation_at_the_line_that_moved_and_a_summary_of_the_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: str
) -> None:
    found = make_program_comparison()
    found = replace(found, new="src/new.py", verdict=replace(found.verdict, outcome=outcome))
    monkeypatch.setattr(compare, "compare", lambda *arguments, **options: [found])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    code = {"fail": EXIT_FAILED, "pass": EXIT_OK, "inconclusive": EXIT_INCONCLUSIVE}[outcome]
    assert run(["compare", "naive", "cached", "--format", "github"]) == code
    [line] = capsys.readouterr().out.splitlines()
    level = {"fail": "error", "pass": "notice", "inconclusive": "warning"}[outcome]
    assert line.startswith(f"::{level} file=src/new.py,line=17,title={outcome.upper()}%3A src/new.py over old.py%2C ")
    assert "%0Awhat moved: new.py:17: tanh(z + 0 * z) (was: tanh(z)), 1.00 ms → 2.00 ms%0A" in line
    summary = Path("summary.md").read_text(encoding="utf-8")
    row = f"| **{outcome.upper()}** | src/new.py over old.py | 1.15x | 0.800x (95 %: 0.780-0.820) | new.py:17: tanh"
    assert row in summary


def test_github_also_gets_an_annotation_if_both_do_not_compute_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(*arguments: object, **options: object) -> list[Comparison]:
        raise CheckFailed("cached: layer 2 deviates; nothing was timed")

    monkeypatch.setattr(compare, "compare", wrong)
    assert run(["compare", "naive", "cached", "--format", "github"]) == EXIT_FAILED
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("::error title=FAIL%3A cached over naive%2C nothing was measured::cached: layer 2 deviates")


def test_markdown_shows_phases_and_expressions_and_no_html_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make_program_comparison(text="<b>tanh|z</b>")
    monkeypatch.setattr(compare, "compare", lambda *arguments, **options: [found])
    assert run(["compare", "naive", "cached", "--format", "markdown"]) == EXIT_FAILED
    text = capsys.readouterr().out
    assert text.startswith("### mlpprof: 1 claim: 1 failed\n\n| | claim |")
    assert "| forward |" in text
    assert "| new.py:17 | &lt;b&gt;tanh\\|z&lt;/b&gt; |" in text
    assert run(["compare", "naive", "cached", "-o", "review.md"]) == EXIT_FAILED
    assert Path("review.md").read_text(encoding="utf-8") == text


# Stored runs


def test_stored_runs_stand_side_by_side_and_give_a_hint_but_no_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    for name, made in (("old.h5", make_run((32, 500), variant="naive")), ("new.h5", make_run((500,), seed=1))):
        save_run(made, Path(name))
    assert run(["compare", "old.h5", "new.h5"]) == EXIT_OK
    text = " ".join(capsys.readouterr().out.split())
    for words in ("naive → cached", "give no verdict", "ratio (a hint)", "batch 32", "batch 500"):
        assert words in text
    assert "batch sizes: 32, 500 | 500" in text
    for verdict in ("PASS", "FAIL", "INCONCLUSIVE"):
        assert verdict not in text


@pytest.mark.parametrize("option", [["--at-least", "1.1"], ["--json"], ["-o", "out.json"]])
def test_stored_runs_refuse_what_needs_a_paired_measurement(
    capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    save_run(make_run(), Path("old.h5"))
    assert run(["compare", "old.h5", "old.h5", *option]) == EXIT_USAGE
    assert "stored run" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-m", "nets"], ["-m nets"]], ids=["two words", "one quoted word"])
def test_a_module_is_named_as_for_python_or_as_reports_show_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", *words, *words]) == EXIT_USAGE
    assert "'-m nets' is given twice" in capsys.readouterr().err
