"""The pytest plugin in a sample project: it passes, finds a reverted optimization, and never passes without an answer.

Most sessions run in this process with canned outcomes. Two sessions and the README's test measure in processes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import mlpprof.testing.speedup  # noqa: F401  # or each inner session would load and forget NumPy's modules
from mlpprof.catalog import ladder

pytest_plugins = ("pytester",)

HURRY = "--mlpprof-budget=0.1"
"""Three replicates; what they leave undecided is a warning."""

OPTIONS = ("-p", "no:cacheprovider", "-p", "no:benchmark", "-W", "always")
"""Warnings stay warnings, also in a session within this process, where they are errors."""

CANNED = '''
"""Measures nothing: the name of `new` is the outcome."""

import time

import mlpprof.testing.speedup as real
from mlpprof.errors import CheckFailed
from mlpprof.results import PhaseChange, Speedup, Verdict

CALLS = []


def measure_speedup(new, *, over, at_least=None, workload="digits", batch=None, measuring=None):
    CALLS.append((new, over, at_least, workload, batch, measuring))
    with open("measured.txt", "a") as file:
        file.write("begin ")
        file.flush()
        time.sleep(0.02)
        file.write("end ")
    if new == "wrong":
        raise CheckFailed("wrong: layer 2: gradients deviate")
    outcome = "pass" if callable(new) else new
    verdict = Verdict(outcome, 1.5, 1.4, 1.6, at_least, 5, "as canned")
    moved = (PhaseChange("update", None, "", 1e-3, 2e-3, 1.0),) if outcome == "fail" else ()
    return Speedup(str(new), str(over), workload, verdict, moved, command="mlpprof compare", notes=("canned",))


def require_equivalent(new, *, over, measuring=None):
    if new == "wrong":
        raise CheckFailed("wrong: layer 2: gradients deviate")


MEASURED = real.measure_speedup, real.require_equivalent
real.measure_speedup, real.require_equivalent = measure_speedup, require_equivalent


def pytest_unconfigure():
    real.measure_speedup, real.require_equivalent = MEASURED
'''


@pytest.fixture(autouse=True)
def outside_of_xdist(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample projects' runs are no workers, though this suite may be."""
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def canned(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project in which the name of the new variant is the outcome."""
    pytester.makeconftest(CANNED)
    return pytester


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose own MLP is the sliced rung, with its tests."""
    pytester.makepyfile(mine=ladder()["sliced"].source())
    pytester.makepyfile(
        test_mine="""
        import pytest

        def test_mine_beats_the_loop(speedup):
            speedup("mine.py", over="per_sample", at_least=1.5, workload="tiny")

        @pytest.mark.speedup(new="mine.py", over="sliced", at_least=0.6, workload="tiny")
        def test_mine_keeps_up_with_the_rung():
            pass
        """
    )
    return pytester


# Measured for real


@pytest.mark.timing
@pytest.mark.slow
def test_true_speedups_pass_and_stand_in_the_summary_in_junit_and_in_json(project: pytest.Pytester) -> None:
    result = project.runpytest_subprocess(*OPTIONS, "--junitxml=junit.xml", "--mlpprof-json=claims.json")
    outcomes = result.parseoutcomes()
    assert outcomes["passed"] == 2
    result.stdout.fnmatch_lines(
        ["*speedups (mlpprof)*", "*mine over per_sample >= 1.5*PASS", "*mine over sliced >= 0.6*"]
    )
    junit = (project.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="mlpprof_verdict" value="pass"' in junit
    assert 'name="mlpprof_ratio"' in junit
    document = json.loads((project.path / "claims.json").read_text(encoding="utf-8"))
    assert [claim["at_least"] for claim in document["claims"]] == [1.5, 0.6]


@pytest.mark.timing
@pytest.mark.slow
def test_a_reverted_optimization_fails_and_the_phase_that_got_slower_is_named(project: pytest.Pytester) -> None:
    fast = "            Z += self.W[l][:, :1]  # phase: bias\n"
    slow = (
        "            for j in range(len(Z)):  # phase: bias\n                for i in range(Z.shape[1]):\n"
        "                    Z[j, i] += self.W[l][j, 0]\n"
    )
    source = ladder()["sliced"].source()
    assert source.count(fast) == 1
    project.makepyfile(mine=source.replace(fast, slow))
    result = project.runpytest_subprocess(*OPTIONS, "-k", "rung")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*but the test requires 0.6x",
            "*measured*95 %*",
            "*verdict*FAIL*",
            "*slower*forward*bias*",
            "*mlpprof compare*",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*mlpprof/testing/*")


@pytest.mark.timing
@pytest.mark.slow
def test_the_five_lines_of_the_readme_pass(pytester: pytest.Pytester) -> None:
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n([^`]*def test_[^`]*speedup[^`]*)```", readme)
    pytester.makepyfile(snippet)
    result = pytester.runpytest_subprocess(*OPTIONS, HURRY)
    result.assert_outcomes(passed=snippet.count("def test_"))


# What becomes of an outcome


def test_every_claim_stands_in_the_summary_with_its_outcome(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        def test_good(speedup):
            assert speedup("pass", over="naive", at_least=1.15).verdict.ratio == 1.5
            speedup.not_slower("pass", than="cached", tolerance=0.25)

        def test_bad(speedup):
            speedup("fail", over="naive", at_least=9)
            raise RuntimeError("the test must end at a failed claim")
        """
    )
    result = canned.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*speedups (mlpprof)*",
            "*::test_good *pass over naive >= 1.15 *1.500 (1.400-1.600) *PASS",
            "*::test_good *pass over cached >= 0.8 *PASS",
            "*::test_bad *fail over naive >= 9 *FAIL",
            "note: canned",
        ]
    )
    result.stdout.no_fnmatch_line("*RuntimeError*")


@pytest.mark.parametrize(
    ("action", "outcome"), [(None, "passed"), ("warn", "passed"), ("fail", "failed"), ("skip", "skipped")]
)
def test_an_undecided_claim_is_never_a_silent_pass(canned: pytest.Pytester, action: str | None, outcome: str) -> None:
    canned.makepyfile("def test_mine(speedup):\n    speedup('inconclusive', over='naive')\n")
    options = () if action is None else (f"--mlpprof-inconclusive={action}",)
    result = canned.runpytest_inprocess(*OPTIONS, *options)
    result.assert_outcomes(**{outcome: 1}, **({"warnings": 1} if outcome == "passed" else {}))
    assert "INCONCLUSIVE: required 1x; as canned" in result.stdout.str() or outcome == "skipped"
    result.stdout.fnmatch_lines(["*inconclusive over naive*INCONCLUSIVE"])


def test_github_gets_all_claims_with_what_moved_also_those_that_could_not_be_measured(
    canned: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = canned.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    canned.makepyfile(
        """
        def test_good(speedup):
            speedup("pass", over="naive")

        def test_bad(speedup):
            speedup("fail", over="naive")

        def test_wrong(speedup):
            speedup("wrong", over="naive")
        """
    )
    result = canned.runpytest_inprocess(*OPTIONS, "--mlpprof-format=github")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "::notice title=PASS%3A pass over naive%2C measured 1.50x (95 %25%3A *",
            "::error title=FAIL%3A fail over naive%2C *%0Awhat moved: slower: update: 1.00 ms → 2.00 ms%0A*",
            "::error title=FAIL%3A wrong over naive%2C nothing was measured*::wrong: layer 2: gradients deviate",
        ]
    )
    lines = summary.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "### mlpprof: 3 claims: 2 failed, 1 passed"
    assert lines[4].startswith("| **FAIL** | fail over naive | 1x | 1.50x (95 %: 1.40-1.60) | slower: update: ")
    assert lines[6].startswith("| **PASS** |")  # what needs attention comes first


def test_a_test_that_claims_nothing_gets_a_warning(canned: pytest.Pytester) -> None:
    canned.makepyfile("def test_mine(speedup):\n    pass\n")
    result = canned.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*takes the fixture 'speedup' but claims nothing*"])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("speedup('wrong', over='naive')", "*wrong: layer 2: gradients deviate*"),
        ("speedup('pass', over='naive', worklaod='tiny')", "*unexpected keyword argument 'worklaod'*"),
        ("speedup.not_slower('pass', than='naive', tolerance=-1)", "*tolerance is -1*"),
    ],
)
def test_a_claim_that_cannot_be_decided_fails_in_one_line(canned: pytest.Pytester, call: str, said: str) -> None:
    canned.makepyfile(f"def test_mine(speedup):\n    {call}\n")
    result = canned.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([said])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*claims.py*")


def test_a_wrong_name_fails_with_the_nearest_one(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(speedup):\n    speedup('cachd', over='naive')\n")
    result = pytester.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no variant 'cachd'; did you mean 'cached'*"])


# The marker


def test_a_marked_test_s_claim_is_decided_before_its_body_runs(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        import pytest
        from conftest import CALLS

        @pytest.mark.speedup(new="pass", over="naive", at_least=1.2, workload="tiny", batch=7)
        def test_good(tmp_path):
            assert CALLS[0][:5] == ("pass", "naive", 1.2, "tiny", 7)

        @pytest.mark.speedup(new="fail", over="naive")
        def test_bad():
            raise RuntimeError("the body must not run")

        @pytest.mark.speedup(new="pass", over="naive")
        @pytest.mark.speedup(new="pass", over="cached")
        def test_two_claims():
            pass
        """
    )
    result = canned.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=2, failed=1)
    assert result.stdout.str().count(" over naive >= 1") == 3
    result.stdout.no_fnmatch_line("*RuntimeError*")


def test_without_new_the_test_s_own_function_is_the_new_one(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        import pytest
        from conftest import CALLS

        def old():
            pass

        @pytest.fixture(autouse=True)
        def something():
            pass

        @pytest.mark.speedup(over=old, at_least=2)
        def test_new():
            if CALLS:
                assert CALLS[0][:3] == (test_new, old, 2)

        @pytest.mark.speedup(over=old)
        def test_with_a_fixture(tmp_path):
            pass

        @pytest.mark.speedup("pass")
        def test_without_over():
            pass
        """
    )
    result = canned.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["*which then cannot take fixtures*", "*takes only keywords, and needs over=*"])


# Options


def test_skip_skips_where_a_speedup_is_claimed(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        import pytest

        def test_fixture(speedup):
            speedup("fail", over="naive")

        @pytest.mark.speedup(new="fail", over="naive")
        def test_marker():
            pass
        """
    )
    canned.runpytest_inprocess(*OPTIONS, "--mlpprof-skip").assert_outcomes(skipped=2)
    canned.makeini("[pytest]\nmlpprof_skip = true\n")
    canned.runpytest_inprocess(*OPTIONS).assert_outcomes(skipped=2)


def test_options_reach_the_measurement_and_win_over_the_ini_file(canned: pytest.Pytester) -> None:
    canned.makeini(
        "[pytest]\nmlpprof_budget = 7\nmlpprof_threads = 3\nmlpprof_native_blas = true\nmlpprof_resolution = 2%\n"
    )
    canned.makepyfile(
        """
        from conftest import CALLS

        def test_mine(speedup, request):
            speedup("pass", over="naive")
            measuring = CALLS[0][5]
            assert measuring.budget_s == 7
            assert measuring.environment.threads == 2
            assert measuring.environment.native_blas
            assert measuring.resolution == 0.02
            assert measuring.baselines == request.config.rootpath / "claims.toml"
        """
    )
    options = ("--mlpprof-threads=2", "--mlpprof-baselines=claims.toml")
    canned.runpytest_inprocess(*OPTIONS, *options).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--mlpprof-inconclusive=maybe", "expected one of warn, fail, skip"),
        ("--mlpprof-budget=soon", "budget is 'soon'"),
        ("--mlpprof-budget=0", "budget is '0'"),
        ("--mlpprof-threads=-1", "threads is '-1'"),
        ("--mlpprof-resolution=0.001", "expected 1 to 50 %"),
        ("--mlpprof-json=no/such/folder.json", "there is no folder"),
        ("--mlpprof-json=.", "it is a folder"),
        ("--mlpprof-format=sarif", "expected one of github, markdown"),
    ],
)
def test_an_impossible_option_is_refused(pytester: pytest.Pytester, option: str, named: str) -> None:
    pytester.makepyfile("def test_nothing():\n    pass\n")
    result = pytester.runpytest_inprocess(*OPTIONS, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert named in result.stderr.str() + result.stdout.str()


def test_claims_that_cannot_be_written_after_all_are_shown_with_a_sentence(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        import os

        def test_mine(speedup):
            speedup("pass", over="naive")
            os.mkdir("claims.json")
        """
    )
    result = canned.runpytest_inprocess(*OPTIONS, "--mlpprof-json=claims.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["mlpprof json: cannot write *claims.json: it is a folder*", "*pass over naive*PASS"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_help_shows_the_options_and_the_marker(pytester: pytest.Pytester) -> None:
    shown = pytester.runpytest_inprocess("--help").stdout.str()
    for name in ("skip", "budget", "inconclusive", "threads", "native-blas", "baselines", "json", "format"):
        assert f"--mlpprof-{name}" in shown
        assert f"mlpprof_{name.replace('-', '_')}" in shown
    assert "speedup(over, new=None" in pytester.runpytest_inprocess("--markers").stdout.str()


# Other plugins


@pytest.mark.slow
def test_under_xdist_only_correctness_is_checked_and_a_warning_says_so(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        def test_mine(speedup):
            assert speedup("fail", over="naive") is None

        def test_wrong(speedup):
            speedup("wrong", over="naive")
        """
    )
    result = canned.runpytest_subprocess(*OPTIONS, "-n", "2", "--mlpprof-json=claims.json")
    result.assert_outcomes(passed=1, failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*only correctness was checked*", "*fail over naive*NOT TIMED"])
    claims = json.loads((canned.path / "claims.json").read_text(encoding="utf-8"))["claims"]
    assert {claim["new"]: claim["verdict"] for claim in claims} == {"fail": None, "wrong": "fail"}


@pytest.mark.slow
def test_under_xdist_s_loadgroup_no_two_timing_tests_run_at_the_same_time(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        import os
        import pytest

        @pytest.mark.parametrize("i", range(6))
        def test_timed(speedup, i):
            speedup("pass", over=os.environ["PYTEST_XDIST_WORKER"])

        @pytest.mark.speedup(new="pass", over="naive")
        def test_marked():
            pass

        @pytest.mark.parametrize("i", range(6))
        def test_other(i):
            pass
        """
    )
    result = canned.runpytest_subprocess(*OPTIONS, "-n", "2", "--dist", "loadgroup")
    result.assert_outcomes(passed=13)
    assert result.stdout.str().count("PASS\n") == 7
    log = (canned.path / "measured.txt").read_text(encoding="utf-8").split()
    assert log == ["begin", "end"] * 7  # no two at the same time


def test_it_lives_beside_pytest_benchmark(canned: pytest.Pytester) -> None:
    canned.makepyfile(
        """
        def test_both(speedup, benchmark):
            benchmark.pedantic(int, rounds=1)
            speedup("pass", over="naive")
        """
    )
    canned.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_without_the_plugin_there_is_no_fixture_and_no_option(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_mine(speedup):\n    pass\n")
    result = pytester.runpytest_inprocess(*OPTIONS, "-p", "no:mlpprof")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'speedup' not found*"])


def test_pytest_starts_without_numpy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light(request):
            assert request.config.pluginmanager.hasplugin("mlpprof")
            assert not {"numpy", "scipy", "rich", "click", "h5py"} & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess(*OPTIONS, "-p", "no:hypothesispytest").assert_outcomes(passed=1)
