"""The search for the commit that made a program slow: real git, made-up races."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pages import make_program_comparison

from mlpprof.cli.bisect import CommitRaces, exit_code
from mlpprof.cli.main import run
from mlpprof.compare.bisect import Bisected, NothingToFind, TooCloseToFind, bisect, threshold
from mlpprof.compare.programs import TrainsDifferently
from mlpprof.errors import EXIT_FAILED, EXIT_INCONCLUSIVE, EXIT_OK, EXIT_USAGE, UsageError, WorkerKilled
from mlpprof.programs.bisection import Bisection, Commit
from mlpprof.programs.name import ProgramName
from mlpprof.report.terminal.bisect import print_bisected
from mlpprof.report.terminal.console import text_of
from mlpprof.results import Comparison, DifferentTraining, Training, Verdict

OPTIONS = {"arguments": (), "include": (), "exclude": (), "allow_writes": False, "step": "step", "resolution": 0.1}
PROGRAM = "SPEED = {}\ndef step():\n    pass\nwhile True:\n    step()\n"


def verdict(ratio: float, at_least: float | None = None, spread: float = 0.02) -> Verdict:
    outcome = None if at_least is None else "pass" if ratio >= at_least else "fail"
    return Verdict(outcome, ratio, ratio * (1 - spread), ratio * (1 + spread), at_least, 5, "as made up")


class MadeUp(CommitRaces):
    """Commits are as fast as they say in their program; 0 cannot be run, and nan is undecided."""

    def __init__(self) -> None:
        super().__init__(ProgramName.parse("train.py"), OPTIONS)
        self.raced: list[str] = []
        self.killed: list[str] = []

    def speed(self, commit: Commit) -> float:
        return float(self.code_of(commit)[""].split()[2])

    def race(self, old: Commit, new: Commit, at_least: float | None) -> Comparison:
        self.raced.append(new.title)
        if new.title in self.killed:
            self.killed.remove(new.title)
            raise WorkerKilled("the worker was killed")
        ratio = self.speed(new) / self.speed(old)
        if ratio == 0:
            raise UsageError("train.py:1: ImportError: no module 'gone'")
        one = make_program_comparison()
        if ratio != ratio:
            return replace(one, verdict=replace(verdict(0.9, 0.9), outcome="inconclusive"))
        return replace(one, old=f"train.py@{old.short}", verdict=verdict(ratio, at_least))

    def explained(self, old: Commit, new: Commit) -> Comparison:
        return self.race(old, new, None)


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a repository whose commits 0, 1, 2 ... have these speeds; a text changes another file only."""
    monkeypatch.chdir(tmp_path)

    def make(*speeds: float | str) -> None:
        commit = ["git", "-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "--message"]
        subprocess.run(["git", "init", "--quiet"], check=True)
        for number, speed in enumerate(speeds):
            if isinstance(speed, str):
                Path("notes.md").write_text(speed, encoding="utf-8")
            else:
                Path("train.py").write_text(PROGRAM.format(speed) + f"# {number}\n", encoding="utf-8")
            subprocess.run(["git", "add", "."], check=True)
            subprocess.run([*commit, str(number)], check=True)

    return make


def searched(races: CommitRaces, last: int, at_least: float | None = None) -> tuple[Bisected, list[str]]:
    said: list[str] = []
    with Bisection(races.name, f"HEAD~{last}", "HEAD") as git:
        found = bisect(git, races, at_least, said.append)
    return found, said


def test_the_first_slow_commit_is_found_and_the_repository_stays_as_it_was(history) -> None:
    history(1, 1.01, "words", 0.99, 0.8, "more words", 0.79, 0.8)
    Path("train.py").write_text("not committed", encoding="utf-8")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    races = MadeUp()
    found, said = searched(races, 7)
    assert found.first_slow.title == "4"
    assert exit_code(found) == EXIT_OK
    assert found.at_least == pytest.approx(0.894, abs=0.001)
    assert found.explained.old == f"train.py@{Bisection(races.name, 'HEAD~4', 'HEAD').good.short}"
    assert found.explained.verdict.ratio == pytest.approx(0.8 / 0.99)
    assert len(races.raced) <= 5
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before
    text = text_of(lambda console: print_bisected(found, console))
    assert text.startswith(f"The first slow commit is {found.first_slow.short} 4\n")
    assert "The most time is lost in new.py:17: tanh(z + 0 * z)" in text
    assert all(f"{one.commit.short} is {one.mark}: {one.reason}" in said for one in found.tested)


def test_a_commit_with_the_code_of_another_one_is_not_raced_again(history) -> None:
    history(1, "a", "b", 0.5)
    races = MadeUp()
    found, _ = searched(races, 3)
    assert found.first_slow.title == "3"
    assert races.raced == ["3", "3"]  # against the good one at first, and against the one before at the end
    assert [one.reason.startswith("it is the same code as ") for one in found.tested] == [True] * len(found.tested)


@pytest.mark.parametrize("speed", [0, float("nan")], ids=["cannot be run", "undecided"])
def test_a_commit_that_cannot_be_judged_is_skipped_with_its_reason(history, speed: float) -> None:
    history(1, 1, speed, 0.5, 0.5)
    found, _ = searched(MadeUp(), 4)
    assert found.first_slow is None
    assert exit_code(found) == EXIT_INCONCLUSIVE
    assert {commit.title for commit in found.possible} == {"2", "3"}
    [skipped] = [one for one in found.tested if one.mark == "skip"]
    assert skipped.reason.startswith("it is 0.9x as fast " if speed else "it cannot be run: train.py:1: ImportError")
    text = text_of(lambda console: print_bisected(found, console))
    assert ("needs a quieter machine, or more time: --budget SECONDS" in text) == bool(speed)


def test_a_race_whose_worker_was_killed_is_run_again_and_says_nothing_about_its_commit(history) -> None:
    history(1, 1, 0.5)
    races = MadeUp()
    races.killed = ["1"]
    found, _ = searched(races, 2)
    assert found.first_slow.title == "2"
    assert races.raced.count("1") == 2


@pytest.mark.parametrize(
    ("ratio", "at_least", "error"),
    [
        (1.1, None, NothingToFind),
        (0.99, None, TooCloseToFind),
        (0.95, None, TooCloseToFind),
        (0.95, 0.9, NothingToFind),
    ],
)
def test_without_a_clear_slowdown_nothing_is_searched(history, ratio: float, at_least: float, error: type) -> None:
    history(1, 1, ratio)
    races = MadeUp()
    with pytest.raises(error) as caught:
        searched(races, 2, at_least)
    assert caught.value.exit_code == (EXIT_FAILED if error is NothingToFind else EXIT_INCONCLUSIVE)
    assert len(races.raced) == 1


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8, 0.9])
def test_a_slow_and_a_fast_commit_lie_on_different_sides_of_the_threshold_by_what_the_verdict_needs(ratio) -> None:
    assert 1.1 * ratio <= threshold(verdict(ratio)) + 1e-12 < 1
    finer = replace(verdict(0.97, spread=0.005), resolution=0.02)
    assert threshold(finer) == pytest.approx(1.02 * 0.97)


def test_every_version_is_read_from_git_and_the_slow_one_is_profiled_even_if_it_trains_differently(
    history, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    history(1, 0.5)
    asked = []

    class Comparer:
        def __init__(self, requests, environment, wanted, say) -> None:
            self._names, self._wanted = [request.name.text for request in requests], wanted
            asked.append((*self._names, [request.step for request in requests], wanted))

        def compare(self, typed: str, progress: object) -> list[Comparison]:
            if self._wanted.check:
                different = Training(False, 20, "W differs after 1 step")
                raise TrainsDifferently(DifferentTraining(*self._names, ("step", "step"), different))
            one = make_program_comparison()
            return [replace(one, old=self._names[0], new=self._names[1], verdict=verdict(0.5, self._wanted.at_least))]

    monkeypatch.setattr("mlpprof.cli.bisect.ProgramComparer", Comparer)
    assert run(["bisect", "train.py", "--good", "HEAD~1", "--json", "--threads", "1"]) == EXIT_OK
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["first_slow"]["title"] == "1"
    assert "the two do not train the same: W differs after 1 step" in document["comparison"]["programs"]["notes"]
    good, bad = (f"train.py@{document[name]['sha'][:10]}" for name in ("good", "bad"))
    assert [words[:2] for words in asked] == [(good, bad)] * 3
    assert [words[2] for words in asked] == [[None, None], *[["old.py:Net.step", "new.py:Net.step"]] * 2]  # found once
    assert [words[3].profile_step is not None for words in asked] == [False, True, True]
    assert printed.err.startswith(f"mlpprof: 1 commit comes after {good.partition('@')[2]}, so there are about 2 races")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bisect train.py", "the option --good is missing"),
        ("bisect cached --good HEAD~1", "'cached' is not a program; expected train.py, work.ipynb"),
        ("bisect train.py@v1 --good HEAD~1", "type mlpprof bisect train.py --good v1"),
        ("bisect train.py --good v9", "there is no git ref 'v9'"),
        ("bisect train.py --good HEAD --bad HEAD", "'HEAD' and 'HEAD' are the same commit"),
        ("bisect train.py --good HEAD --bad HEAD~1", "comes after"),
        ("bisect train.py --good HEAD~1 -o out.xyz", "cannot write out.xyz"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_runs(history, capsys, words: str, said: str) -> None:
    history(1, 2)
    assert run(words.split()) == EXIT_USAGE
    assert said in capsys.readouterr().err
