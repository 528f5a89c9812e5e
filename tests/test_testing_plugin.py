"""The pytest plugin in a sample project: passes, catches a reverted optimization, and never passes in silence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlpprof.catalog import ladder

pytest_plugins = ("pytester",)

OPTIONS = ("-p", "no:cacheprovider", "-p", "no:benchmark")


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose own MLP, the cached rung, is claimed to be faster than the per-sample loop."""
    pytester.makepyfile(mine=ladder()["cached"].source())
    return pytester


@pytest.mark.timing
def test_a_true_speedup_passes_and_stands_in_the_summary_and_in_junit(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        def test_mine_is_fast(speedup):
            speedup("mine.py", over="per_sample", at_least=1.5, workload="tiny")
        """
    )
    result = project.runpytest_subprocess(*OPTIONS, "--junitxml=junit.xml")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*speedups (mlpprof)*", "*mine over per_sample >= 1.5*PASS*"])
    junit = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="mlpprof_verdict" value="pass"' in junit
    assert 'name="mlpprof_ratio"' in junit


@pytest.mark.timing
def test_a_reverted_optimization_fails_and_the_phase_that_got_slower_is_named(project: pytest.Pytester) -> None:
    slow = (
        ladder()["sliced"]
        .source()
        .replace(
            "            Z += self.W[l][:, :1]  # phase: bias",
            "            for j in range(len(Z)):  # phase: bias\n                for i in range(Z.shape[1]):\n"
            "                    Z[j, i] += self.W[l][j, 0]",
        )
    )
    project.makepyfile(mine=slow)
    project.makepyfile(
        """
        import pytest

        @pytest.mark.speedup(new="mine.py", over="cached", at_least=0.95, workload="tiny")
        def test_mine_is_as_fast():
            raise AssertionError("the body must not run after a failed claim")
        """
    )
    result = project.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*claimed*at least 0.95*", "*measured*95 %*", "*verdict*FAIL*", "*slower*forward*bias*", "*mlpprof compare*"]
    )
    assert "the body must not run" not in result.stdout.str().split("short test summary")[-1]


@pytest.mark.timing
def test_closures_are_measured_in_this_process_and_the_message_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np

        def test_vectorized(speedup):
            x = np.arange(20_000.0)
            def fast():
                return x.sum()
            def slow():
                return sum(x)
            result = speedup(fast, over=slow, at_least=2.0)
            assert result.verdict.in_process
            assert "this process" in result.notes[0]
        """
    )
    pytester.runpytest_subprocess(*OPTIONS).assert_outcomes(passed=1)


@pytest.mark.timing
def test_importable_functions_are_measured_in_processes_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import numpy as np

        def arguments():
            return (np.arange(20_000.0),)

        def fast(x):
            return x.sum()

        def slow(x):
            return sum(x)

        def test_vectorized(speedup):
            result = speedup(fast, over=slow, at_least=2.0, args=arguments)
            assert not result.verdict.in_process

        def test_different_results_are_not_timed(speedup):
            speedup(np.zeros_like, over=fast, args=arguments)
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*compute different results*"])


def test_skip_skips_where_a_speedup_is_measured(project: pytest.Pytester) -> None:
    project.makepyfile("def test_mine(speedup):\n    speedup('mine.py', over='naive', at_least=99)\n")
    project.runpytest_subprocess(*OPTIONS, "--mlpprof-skip").assert_outcomes(skipped=1)


@pytest.mark.timing
@pytest.mark.parametrize(("action", "outcome"), [("warn", "passed"), ("fail", "failed"), ("skip", "skipped")])
def test_an_undecided_claim_is_never_a_silent_pass(project: pytest.Pytester, action: str, outcome: str) -> None:
    project.makepyfile(
        "def test_mine(speedup):\n    speedup('mine.py', over='mine.py', at_least=1.0, workload='tiny')\n"
    )
    result = project.runpytest_subprocess(*OPTIONS, "--mlpprof-budget=0.01", f"--mlpprof-inconclusive={action}")
    result.assert_outcomes(**{outcome: 1}, **({"warnings": 1} if action == "warn" else {}))
    assert "INCONCLUSIVE" in result.stdout.str()


def test_a_wrong_name_fails_in_one_line_without_a_traceback(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(speedup):\n    speedup('cachd', over='naive')\n")
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no variant 'cachd'; did you mean 'cached'*"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("option", "named"), [("--mlpprof-inconclusive=maybe", "maybe"), ("--mlpprof-budget=soon", "soon")]
)
def test_an_impossible_option_is_refused(pytester: pytest.Pytester, option: str, named: str) -> None:
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_subprocess(*OPTIONS, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert named in result.stderr.str() + result.stdout.str()


def test_the_ini_file_sets_the_options(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmlpprof_inconclusive = never\n")
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_subprocess(*OPTIONS)
    assert "never" in result.stderr.str() + result.stdout.str()


def test_under_xdist_only_correctness_is_checked_and_a_warning_says_so(project: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    project.makepyfile(
        "def test_mine(speedup):\n    assert speedup('mine.py', over='naive', workload='tiny') is None\n"
    )
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:benchmark", "-n", "2")
    result.assert_outcomes(passed=1, warnings=1)
    assert "only correctness was checked" in result.stdout.str()


def test_it_lives_beside_pytest_benchmark(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pytest_benchmark")
    pytester.makepyfile(
        "def test_both(speedup, benchmark):\n    benchmark.pedantic(int, rounds=1)\n    assert speedup\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_pytest_starts_without_numpy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import sys\n\ndef test_light():\n    assert 'numpy' not in sys.modules\n")
    pytester.runpytest_subprocess(*OPTIONS, "-p", "no:hypothesispytest").assert_outcomes(passed=1)


@pytest.mark.timing
def test_the_five_lines_of_the_readme_pass(pytester: pytest.Pytester) -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n([^`]*def test_[^`]*speedup[^`]*)```", readme)
    pytester.makepyfile(snippet)
    result = pytester.runpytest_subprocess(*OPTIONS)
    result.assert_outcomes(passed=snippet.count("def test_"))
