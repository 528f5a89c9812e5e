"""Programs in a race, each in a process of its own: their steps, their ends, their threads, and how often they run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from mlpprof.cli.compare import step_of
from mlpprof.cli.main import run
from mlpprof.compare.entrants import Environment, ProgramSubject
from mlpprof.compare.history import history
from mlpprof.compare.program_difference import expression_changes, phase_changes
from mlpprof.compare.programs import (
    ProgramComparer,
    ProgramRace,
    Wanted,
    announcement,
    found_sentence,
    longer_between,
    require_different,
)
from mlpprof.compare.variant_difference import averaged
from mlpprof.errors import EXIT_FAILED, ProgramEnded, UsageError
from mlpprof.programs.name import ProgramName
from mlpprof.programs.request import request_for
from mlpprof.results import ExpressionChange, ProgramPair
from mlpprof.results.step_profile import ITERATOR, Expression, StepProfile

ONE_THREAD = Environment(1)

TRAINING = """
import numpy as np
X = np.ones((8, 3))
W = np.random.default_rng().standard_normal((3, 2))
def step():
    global W
    W = W - RATE * X.T @ (X @ W)
"""


def quiet(what: str, share: float) -> None:
    pass


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes programs into a folder of their own, and returns their requests."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, text: str, step: str | None = "step", **options):
        path = tmp_path / name
        path.write_text(text)
        return request_for(path, step=step, **options)

    return write


def training(rate: str = "0.01", steps: int = 1_000_000, more: str = "", loop: str = "step()") -> str:
    return f"{TRAINING.replace('RATE', rate)}{more}\nfor number in range({steps}):\n    {loop}\n"


def race_of(*requests, blocks=2, turn_s=0.001, by_processor=False):
    subjects = [ProgramSubject(request, "twice", by_processor=by_processor) for request in requests]
    return ProgramRace(subjects, ONE_THREAD, blocks=blocks, turn_s=turn_s)


def comparer(requests, said=None, **wanted):
    return ProgramComparer(requests, ONE_THREAD, Wanted(**wanted), (said if said is not None else []).append)


# What is refused before anything runs.


def test_the_same_file_twice_and_a_copy_of_the_same_bytes_are_refused(written):
    one, other = written("old.py", training()), written("new.py", training())
    with pytest.raises(UsageError, match=r"given twice.* type: mlpprof compare .*old.py@HEAD~1 .*old.py$"):
        require_different(one, one)
    with pytest.raises(UsageError, match="the same code .1 file with identical bytes."):
        require_different(one, other)


def test_a_copy_with_another_comment_or_another_module_is_raced(written, tmp_path):
    plain = written("old.py", training())
    require_different(plain, written("new.py", training() + "# another comment\n"))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in "ab":
        (tmp_path / folder / "layers.py").write_text(f"name = '{folder}'\n")
    require_different(written("a/train.py", "import layers\n"), written("b/train.py", "import layers\n"))


@pytest.mark.parametrize(
    ("steps", "old", "new"),
    [
        ((), None, None),
        (("Net.fit",), "Net.fit", "Net.fit"),
        (("old.py:Net.fit", "new.py:fit_fast"), "old.py:Net.fit", "new.py:fit_fast"),
        (("old.py:Net.fit", "fit_fast"), "old.py:Net.fit", "fit_fast"),
        (("layers.py:Net.fit",), "layers.py:Net.fit", "layers.py:Net.fit"),
    ],
)
def test_each_program_gets_the_step_with_its_file_or_the_one_that_is_for_all(steps, old, new):
    names = [ProgramName("script", "old.py"), ProgramName("script", "new.py")]
    assert [step_of(name, steps, names) for name in names] == [old, new]


def test_versions_of_one_file_can_have_different_steps():
    names = [ProgramName("script", "net.py", "v1"), ProgramName("script", "net.py")]
    steps = ("net.py@v1:fit", "net.py:fit_fast")
    assert step_of(names[0], steps, names) == "net.py:fit"
    assert step_of(names[0], ("net.py@v1:layers.py:fit",), names) == "layers.py:fit"
    modules = [ProgramName("module", "net.train", "v1"), ProgramName("module", "net.train")]
    steps_of_modules = ("-m net.train@v1:fit", "-m net.train:fit_fast")
    assert [step_of(name, steps_of_modules, modules) for name in modules] == ["fit", "fit_fast"]
    with pytest.raises(UsageError, match="two steps"):
        step_of(names[1], ("net.py:fit", "net.py:fit_fast"), names)


# Where the difference lies.


def profile(*parts: tuple[str, str, float, str], phases_from: str = "calls") -> StepProfile:
    """A profile of expressions, given as (text, phase, seconds, operation)."""
    expressions = tuple(
        Expression("net.py", number, 1, text, phase, 1, (seconds,) * 3, "ufunc", name, "float64", (3, 2), "", 0, 0, 0)
        for number, (text, phase, seconds, name) in enumerate(parts, start=1)
    )
    whole_s = sum(seconds for _, _, seconds, _ in parts)
    phases = {phase: (0.0,) * 3 for _, phase, _, _ in parts}
    return StepProfile("net.py:step", (whole_s,) * 3, (whole_s,) * 3, phases, phases_from, expressions)


OLD = profile(("a @ b", "forward", 6.0, "matmul"), ("tanh(z)", "forward", 3.0, "tanh"), ("w - d", "update", 1.0, "sub"))
NEW = profile(
    ("a @ b", "forward", 6.0, "matmul"),
    ("tanh(z + 0 * z)", "forward", 3.0, "tanh"),
    ("0 * z", "forward", 1.0, "mul"),
    ("w - d", "update", 1.0, "sub"),
)


def test_an_expression_that_was_added_is_named_and_a_changed_one_belongs_to_what_it_was():
    changes = expression_changes([(OLD, NEW)], (10.0, 11.0))
    assert [(one.text, one.old_s) for one in changes] == [("0 * z", None)]
    slower = profile(("a @ b", "forward", 6.0, "matmul"), ("tanh(2 * z)", "forward", 5.0, "tanh"))
    [first, *_] = expression_changes([(OLD, slower)], (10.0, 11.0))
    assert (first.text, first.old_text, first.new_s) == ("tanh(2 * z)", "tanh(z)", pytest.approx(5.0))


def test_several_pairs_of_profiles_give_the_mean_of_each_difference_and_its_interval():
    pairs = [
        (OLD, profile(("a @ b", "forward", 6.0 + chance, "matmul"), ("tanh(z)", "forward", 5.0, "tanh")))
        for chance in (0.0, 0.3, -0.3)
    ]
    by_text = {one.text: one for one in expression_changes(pairs, (10.0, 11.0))}
    slower = by_text["tanh(z)"]
    assert (slower.old_s, slower.new_s) == (pytest.approx(3.0), pytest.approx(5.0, abs=0.01))
    assert 0 < slower.low_s < slower.lost_s < slower.high_s < 4
    assert by_text["w - d"].new_s is None
    phase = averaged([phase_changes(*pair, (10.0, 11.0)) for pair in pairs])[0]
    assert (phase.phase, phase.low_s, phase.high_s) == ("forward", pytest.approx(2.0), pytest.approx(2.0))
    assert expression_changes(pairs[:1], (10.0, 11.0))[0].low_s is None


def test_what_the_training_loop_runs_over_is_compared_although_its_text_has_changed():
    old, new = (
        profile(("a @ b", "forward", 1.0, "matmul"), (text, ITERATOR, seconds, ""), ("len(x)", "forward", 0.1, ""))
        for text, seconds in (("batches(X)", 1.0), ("zip(batches(X), batches(Y))", 4.0))
    )
    [one, *_] = expression_changes([(old, new)], (2.1, 5.1))
    assert (one.old_text, one.text) == ("batches(X)", "zip(batches(X), batches(Y))")
    assert (one.old_s, one.new_s) == (pytest.approx(1.0), pytest.approx(4.0))


def test_times_are_shares_of_the_steps_of_the_race():
    changes = phase_changes(OLD, NEW, (1.0, 2.2))
    assert {one.phase: (one.old_s, one.new_s) for one in changes} == {
        "forward": (pytest.approx(0.9), pytest.approx(2.0)),
        "update": (pytest.approx(0.1), pytest.approx(0.2)),
    }
    assert phase_changes(OLD, profile(("x", "other", 1.0, "")), (1.0, 1.0)) == ()


def test_changed_code_that_explains_the_difference_comes_before_the_same_code_that_took_longer_by_chance():
    def change(text, old_s, new_s):
        return ExpressionChange("net.py", 1, text, "", old_s, new_s)

    changes = (change("a @ b", 1.0, 1.4), change("0 * z", None, 0.3), change("small", None, 0.01))
    pair = ProgramPair(("s", "s"), (0.0, 0.0), None, changes)
    assert pair.lost(0.4).text == "0 * z"
    assert pair.lost(4.0).text == "a @ b"
    uncertain, certain = replace(changes[0], low_s=-0.1, high_s=0.9), replace(changes[1], low_s=0.1, high_s=0.5)
    assert ProgramPair(("s", "s"), (0.0, 0.0), None, (uncertain, certain)).lost(4.0).text == "0 * z"
    assert ProgramPair(("s", "s"), (0.0, 0.0), None).lost(1.0) is None


def test_a_loss_between_the_steps_is_no_part_of_the_verdict_but_a_note_names_it():
    assert list(longer_between(0.04e-3, 1e-3)) == []
    [note] = longer_between(0.5e-3, 1e-3)
    assert "takes at least 0.5 ms a step longer than before" in note
    assert "name the loop by its line: --step LINE" in note


# In processes.


@pytest.mark.slow
def test_steps_of_both_programs_are_timed_in_their_own_processes_and_nothing_is_left(written, tmp_path):
    old = written("old.py", training(more="import time\n", loop="step(); time.sleep(0.001)"))
    new = written("new.py", training("0.02", loop="step()"))
    before = psutil.Process().children(recursive=True)
    live = race_of(old, new)
    live.run(quiet)
    turns_s = live.race().turns_s[0]
    assert turns_s.shape == (2, 2, 2)
    assert (turns_s > 0).all()
    assert turns_s.max() < 0.001  # the sleep is between the steps
    assert live.between_s(0) > 0.001
    assert live.longer_between_s() < -0.0005
    assert live.race().variants == (f"{tmp_path}/old.py", f"{tmp_path}/new.py")
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.slow
def test_by_the_processor_s_clock_a_step_that_waits_takes_only_what_it_computes(written):
    waiting = training(more="import time\ndef wait():\n    time.sleep(0.02)\n    step()\n", loop="wait()")
    child = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])\n"
    requests = [written("old.py", waiting, "wait"), written("new.py", child + waiting, "wait")]
    live = race_of(*requests, by_processor=True)
    live.run(quiet)
    [turns_s] = live.race().turns_s
    assert turns_s[:, 0].max() < 0.01
    assert turns_s[:, 1].min() > 0.02  # the time of a child process is known too coarsely


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "blocks"), [(5, 2), (30, 2)])
def test_a_program_of_few_steps_is_timed_with_those(written, steps, blocks):
    live = race_of(written("old.py", training(steps=steps)), written("new.py", training("0.02", steps=steps)))
    live.run(quiet)
    live.run(quiet)
    assert [turns_s.shape[0] for turns_s in live.race().turns_s] == [blocks, blocks]


@pytest.mark.slow
def test_a_program_that_ends_earlier_than_in_the_first_replicate_is_timed_again_with_fewer_steps(written, tmp_path):
    text = TRAINING.replace("RATE", "0.01") + "import pathlib\nmark = pathlib.Path({!r})\nsteps = "
    text += "5 if mark.exists() else 1_000_000\nmark.touch()\nfor number in range(steps):\n    step()\n"
    names = ("old", "new")
    live = race_of(*(written(f"{one}.py", text.format(str(tmp_path / one)), allow_writes=True) for one in names))
    live.run(quiet)
    live.run(quiet)
    assert [turns_s.shape[0] for turns_s in live.race().turns_s] == [2, 2]


@pytest.mark.slow
def test_a_program_of_too_few_steps_is_refused_with_their_number(written):
    live = race_of(written("old.py", training()), written("new.py", training("0.02", steps=2)))
    with pytest.raises(UsageError, match=r"new.py makes 2 steps and ends; a comparison needs at least 3"):
        live.run(quiet)


class EndingWorker:
    """A fake worker whose program ends while it warms up. lengths: the number of steps of each run."""

    def __init__(self, lengths: Iterator[int]) -> None:
        self.lengths = lengths

    def __enter__(self) -> EndingWorker:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def call(self, name: str, *arguments: object, **named: object) -> object:
        if name == "warm_up":
            raise ProgramEnded("the program ended")
        made = {"steps": next(self.lengths), "has_ended": True, "notes": [], "between_s": 0.0} if name == "made" else {}
        return {
            "load": {"dtype": "", "spans_steps": False, "compiles": False},
            "first_run": {"first_s": 0.1, "engine": ""},
            "describe": {"machine": {}},
            "made": made,
        }[name]


def test_programs_that_end_after_another_number_of_steps_each_time_are_refused_and_not_run_for_ever(written):
    lengths = iter([7, 9, 5, 9, 7, 9])
    subjects = [ProgramSubject(written(f"{name}.py", training()), "twice") for name in ("old", "new")]
    live = ProgramRace(subjects, ONE_THREAD, start=lambda entrants: EndingWorker(lengths))
    with pytest.raises(UsageError, match=r"old.py makes 5 steps and ends; this is too early to time them"):
        live.run(quiet)


@pytest.mark.slow
def test_a_step_in_another_thread_is_timed_there_and_the_program_sees_only_its_own_threads(written):
    more = "import threading\ndef train():\n    for _ in range(100_000):\n        step()\n"
    more += "assert threading.active_count() == 1, threading.enumerate()\n"
    threaded = f"{TRAINING.replace('RATE', '0.01')}{more}threading.Thread(target=train).start()\n"
    live = race_of(written("old.py", threaded), written("new.py", training("0.02")))
    live.run(quiet)
    assert (live.race().turns_s[0] > 0).all()


@pytest.mark.slow
def test_a_program_finds_its_signal_handlers_as_under_plain_python(written):
    more = "import signal\nassert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    more += "assert signal.getsignal(signal.SIGINT) in (signal.default_int_handler, signal.SIG_IGN)\n"
    live = race_of(written("old.py", training(more=more)), written("new.py", training("0.02", more=more)))
    live.run(quiet)


@pytest.mark.slow
def test_an_exception_of_a_program_is_an_error_with_its_place(written):
    broken = training("0.02", more="\nraise ValueError('no data')\n")
    with pytest.raises(Exception, match=r"new.py:9: ValueError: no data"):
        race_of(written("old.py", training()), written("new.py", broken)).run(quiet)


@pytest.mark.slow
def test_programs_that_train_differently_are_not_timed_and_the_document_says_where_they_differ(written, capsys):
    names = [written("old.py", training()).name.text, written("new.py", training("0.01001")).name.text]
    assert run(["compare", *names, "--step", "step", "--json"]) == EXIT_FAILED
    printed = capsys.readouterr()
    [document] = json.loads(printed.out)
    assert (document["same"], document["steps"]) == (False, ["step", "step"])
    training_of_both = document["training"]
    assert training_of_both["parameter"].startswith("W (")
    assert 1e-3 > training_of_both["difference"] > 100 * training_of_both["allowed"]
    assert (training_of_both["steps"], training_of_both["first_step"]) == (20, 1)
    assert "new.py does not train the same as " in printed.err
    assert training_of_both["reason"] in printed.err


@pytest.mark.slow
def test_a_program_that_does_not_repeat_itself_cannot_be_compared(written):
    chance = "import os\nW = W + os.urandom(1)[0] + 1e-3 * os.getpid()\n"
    old, new = written("old.py", training(more=chance)), written("new.py", training("0.02"))
    one = comparer([old, new])
    found = one.training(ProgramSubject(old, "twice"), ProgramSubject(new, "twice"), quiet)
    assert found.is_same is None
    assert "old.py does not even repeat its own training" in found.reason


@pytest.mark.slow
def test_programs_run_no_more_often_than_announced_and_the_difference_is_shown(written, tmp_path):
    runs = tmp_path / "runs.txt"
    count = f"with open({str(runs)!r}, 'a') as f:\n    f.write(__file__ + chr(10))\n"
    old = written("old.py", training(more=count), None, allow_writes=True)
    new = written("new.py", training(more=count).replace("X @ W", "X @ (W + 0 * W)"), None, allow_writes=True)
    said: list[str] = []
    wanted = Wanted(blocks=1, turn_s=0.001, check=True)
    third = written("third.py", training(more=count).replace("X @ W", "X @ (W + 0.0)"), None, allow_writes=True)
    most = [int(re.search(r"up to (\d+) times", text)[1]) for text in announcement([old, new, third], wanted)]
    one = ProgramComparer([old, new, third], ONE_THREAD, wanted, said.append)
    found, other = one.compare("typed", quiet)
    times = [Path(line).name for line in runs.read_text().split()]
    assert 0 < times.count("old.py") <= most[0]
    assert 0 < times.count("new.py") <= most[1]
    assert 0 < times.count("third.py") <= most[2]
    assert [version.name for version in history([found, other])] == [one.name.text for one in (old, new, third)]
    assert found.equivalent
    assert found.programs.steps == ("old.py:step", "new.py:step")
    assert "the step of old.py is old.py:step" in said


@pytest.mark.slow
def test_closing_a_race_in_the_middle_leaves_no_process(written):
    live = race_of(written("old.py", training()), written("new.py", training("0.02")))
    before = psutil.Process().children(recursive=True)

    def interrupt(what: str, share: float) -> None:
        if what == "racing":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        live.run(interrupt)
    assert psutil.Process().children(recursive=True) == before


def test_a_program_that_loads_for_long_is_announced_with_the_time_of_all_runs():
    assert found_sentence("train.py", "train.py:step", 2.0, 12) == "the step of train.py is train.py:step"
    assert found_sentence("train.py", "train.py:step", 60.0, 12).endswith(
        "that run took 60 s, and up to 12 more take as long: 12 min at most"
    )
