"""The workshop: folder, texts, solutions, results, targets, and what a learner sees."""

from __future__ import annotations

import ast
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from workshop_results import SPEED, FakeRace, result

from mlpprof.catalog import find, ladder
from mlpprof.cli import workshop as command
from mlpprof.cli.main import COMMANDS, run
from mlpprof.compare.decide import Outcome, decide
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import Procedure
from mlpprof.compare.live_race import variant_race
from mlpprof.compare.verdict import add_replicates
from mlpprof.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    DataError,
    UsageError,
    WorkerDied,
)
from mlpprof.profile.counting import count_network
from mlpprof.profile.request import Request
from mlpprof.results import PhaseChange, Training
from mlpprof.results.advice import Expensive, Finding
from mlpprof.workloads import resolve
from mlpprof.workshop import bottleneck, check, conditions, gradebooks, result_text, solutions
from mlpprof.workshop import folder as folders
from mlpprof.workshop.as_used import measure_as_used, run_s
from mlpprof.workshop.bottleneck import next_bottleneck
from mlpprof.workshop.check import Examined, Places, _values, advice_on_speed, lost_time, measure_speed
from mlpprof.workshop.check_program import what_differs, without_options
from mlpprof.workshop.conditions import PROCEDURE, Conditions
from mlpprof.workshop.exercises import DIGITS_FILE, built_in
from mlpprof.workshop.folder import keep, result_file, stored_results
from mlpprof.workshop.gradebooks import points, stages
from mlpprof.workshop.learner import learner_name, parse_guess
from mlpprof.workshop.result import AsUsed, Result, read_result, result_json, write_result

COURSE = built_in()
EXERCISES = COURSE.exercises
RUNGS = ("per_sample", "naive", "float32", "no_input_delta", "cached", "sliced", "buffered")
"""The rung that each exercise ends with."""

text = COURSE.text
start_text = partial(solutions.start_text, COURSE)
solution_text = partial(solutions.solution_text, COURSE)
next_exercise = partial(folders.next_exercise, COURSE)
rows = partial(result_text.rows, COURSE)
last_line = partial(result_text.last_line, COURSE)
guess_error = partial(result_text.guess_error, COURSE)
otter_json, nbgrader_json, classroom_json = (
    partial(make, COURSE) for make in (gradebooks.otter_json, gradebooks.nbgrader_json, gradebooks.classroom_json)
)
described = partial(bottleneck.described, course=COURSE)

QUICK = Conditions(workload="tiny", procedure=Procedure(looks=(2, 3)), blocks=4, roofline=False)
"""Two or three short processes on the small embedded set, for tests in which the ratio does not matter."""


def silent(what: str, share: float) -> None:
    pass


def code_of(source: str) -> str:
    """The code without docstring and PARENT."""
    body = ast.parse(source).body[1:]
    return "\n".join(ast.unparse(node) for node in body if not ast.unparse(node).startswith("PARENT"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class") / "anna"
    folders.new_folder(folder, COURSE)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder of a learner, which is the working directory; checks are short."""
    mine = tmp_path / "anna"
    shutil.copytree(made, mine)
    monkeypatch.chdir(mine)
    monkeypatch.setattr(conditions, "CLASSROOM", QUICK)
    return mine


def solve(folder: Path, number: int) -> None:
    (folder / "my_mlp.py").write_text(solution_text(number), encoding="utf-8")


# The folder


def test_a_new_folder_has_everything_but_a_solution(made):
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    pages = {f"exercises/{e.file_name}" for e in EXERCISES}
    pictures = {f"exercises/figures/{name}.svg" for name in ("bias-row", "memory-order", "roofline")}
    assert names == {"README.md", "my_mlp.py", "digits.npz", *pages, *pictures}
    assert (made / "results").is_dir()
    assert code_of((made / "my_mlp.py").read_text(encoding="utf-8")) == code_of(ladder()["per_sample"].source())


def test_an_existing_folder_is_refused_and_an_empty_one_is_taken(tmp_path, capsys):
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    (full / "my_mlp.py").write_text("precious", encoding="utf-8")
    assert run(["workshop", "new", str(full)]) == EXIT_USAGE
    assert "does not overwrite anything" in capsys.readouterr().err
    assert (full / "my_mlp.py").read_text(encoding="utf-8") == "precious"
    empty.mkdir()
    assert run(["workshop", "new", str(empty)]) == EXIT_OK
    assert (empty / "my_mlp.py").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        folders.new_folder(tmp_path / "no" / "where", COURSE)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        folders.new_folder(tmp_path / "file", COURSE)


def test_an_interrupted_new_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mlpprof.workshop.folder.write_digits", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folders.new_folder(tmp_path / "anna", COURSE)
    assert list(tmp_path.iterdir()) == []


# Texts and solutions


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_a_page_has_its_five_parts_and_three_closed_hints(exercise):
    page = text(exercise.file_name)
    assert page.startswith(f"# Exercise {exercise.number}: {exercise.title}\n")
    for part in ("**What you learn.**", "**Predict.**", "**Do.**", "**In the profile.**"):
        assert part in page
    assert re.findall(r"<details><summary>Hint (\d)", page) == ["1", "2", "3"]
    assert page.count("</details>") == 3
    assert max(len(line) for line in page.splitlines()) <= 122
    assert len(page.splitlines()) < 80


def test_a_picture_has_a_file_an_alternative_text_and_a_text_diagram(made):
    for exercise in EXERCISES:
        page = text(exercise.file_name)
        pictures = re.findall(r"```\n\n!\[([^\]]{40,})\]\(([^)]+)\)", page)
        assert len(pictures) == page.count("![")
        assert all((made / "exercises" / file).is_file() for _, file in pictures)


def test_the_readme_leads_to_every_page(made):
    readme = (made / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (made / target).is_file()
    assert all(exercise.file_name in readme and exercise.title in readme for exercise in EXERCISES)


def test_commands_of_the_texts_exist():
    for name in ("README.md", "guide.md", "script.md", "answers.md", *(e.file_name for e in EXERCISES)):
        for words in re.findall(r"mlpprof workshop (\w+)", text(name)):
            assert words in command.command.commands
        for words in re.findall(r"(?:^|`)mlpprof (\w+)", text(name), re.MULTILINE):
            assert words in COMMANDS


@pytest.mark.slow
def test_counted_figures_of_the_pages_are_those_of_the_solutions(tmp_path, fresh_imports):
    shown = {0: ["16,038"], 1: ["106", "16,038", "45.1"], 2: ["106", "38.4", "19.2"]}
    shown |= {3: ["31.9", "45.1", "10.3", "19.2"], 5: ["8.0", "10.0"]}
    trained = resolve("workshop")
    figures: dict[int, set[str]] = {-1: set()}
    for number in range(6):
        file = tmp_path / f"solution_{number}.py"
        file.write_text(solution_text(number), encoding="utf-8")
        operations, _ = count_network(find(str(file)), trained.network, trained.batch)
        figures[number] = {
            f"{sum(o.times for o in operations):,}",
            f"{sum(o.flop for o in operations) / 1e6:.1f}",
            f"{sum(o.bytes_moved for o in operations) / 1e6:.1f}",
        }
    for number, expected in shown.items():
        assert set(expected) <= figures[number] | figures[number - 1]
        assert all(figure in text(EXERCISES[number].file_name) for figure in expected)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 5, 6])
def test_a_solution_is_the_code_of_its_rung(number, capsys):
    assert run(["workshop", "solution", str(number)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert code_of(printed) == code_of(ladder()[RUNGS[number]].source())
    assert printed.startswith(f'"""Exercise {number}, solved: ')
    assert max(len(line) for line in printed.splitlines()) <= 120


def test_solution_four_caches_and_keeps_the_memory_order_for_the_next_exercise():
    solved, cached = code_of(solution_text(4)), code_of(ladder()["cached"].source())
    assert solved != cached
    assert "derivative_from_A" in solved
    assert "order=" not in solved
    assert "order=" in cached


def test_the_start_shows_the_learner_what_to_type():
    assert "mlpprof workshop check" in start_text()
    assert "PARENT" not in start_text()


def test_an_exercise_that_is_not_there_is_refused(folder, capsys):
    assert run(["workshop", "solution", "8"]) == EXIT_USAGE
    assert run(["workshop", "check", "8"]) == EXIT_USAGE


def test_the_guide_is_printed_as_markdown_where_there_is_no_terminal(capsys):
    assert run(["workshop", "guide"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert printed == text("guide.md")
    for part in ("Ninety minutes", "A day", "Accelerate", "Hyper-threads", "Power saving", "roofline", "Questions"):
        assert part in printed


def test_the_guide_has_a_script_of_90_minutes_on_two_pages_and_the_answers_to_every_exercise(capsys):
    assert run(["workshop", "guide", "--script"]) == EXIT_OK
    script = capsys.readouterr().out
    parts = re.findall(r"^## (\d+) to (\d+):", script, re.MULTILINE)
    assert [int(begin) for begin, _ in parts[1:]] == [int(end) for _, end in parts[:-1]]
    assert (parts[0][0], parts[-1][1]) == ("0", "90")
    assert len(script.split()) < 1_000, "two pages"
    assert run(["workshop", "guide", "--answers"]) == EXIT_OK
    answers = capsys.readouterr().out
    assert all(f"## Exercise {e.number}: " in answers for e in EXERCISES)


# Results


def test_a_result_becomes_json_by_the_schema_and_comes_back(tmp_path):
    schema = json.loads((files("mlpprof.workshop") / "result.schema.json").read_text(encoding="utf-8"))
    for one in (
        result(),
        result(guess=2.5, notes=("a note",)),
        result(outcome="fail", stage="structure", speed=None, message="what", line=3, text="x = 1", facts=()),
        result(exercise=7, speed=replace(SPEED, share_of_limit=0.6, target=None)),
        result(as_used=AsUsed(100, 2.0, 0.5), bottleneck="line 7"),
    ):
        path = tmp_path / "one.json"
        write_result(one, path)
        jsonschema.validate(json.loads(path.read_text(encoding="utf-8")), schema)
        assert read_result(path) == one


SPEED_JSON = result_json(result())["speed"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"kind": "something"}, "not a result of a workshop"),
        ({"schema": 2}, "schema 2"),
        ({"learner": 5}, "learner: expected"),
        ({"learner": "x" * 100}, "learner: expected"),
        ({"exercise": "3"}, "exercise: expected"),
        ({"exercise": True}, "exercise: expected"),
        ({"outcome": "won"}, "outcome: expected"),
        ({"speed": {"ratio": 1}}, "damaged"),
        ({"speed": []}, "damaged"),
        ({"speed": SPEED_JSON | {"over_first": {"ratio": 9.0, "low": 1.0, "high": 5.0}}}, "lies outside its interval"),
        ({"speed": SPEED_JSON | {"over_first": {"ratio": 10**400, "low": 1, "high": 5}}}, "over_first.ratio: number"),
        ({"speed": SPEED_JSON | {"step_s": float("inf")}}, "Infinity"),
        ({"guess": -1}, "guess: expected"),
        ({"facts": "many"}, "facts: expected"),
    ],
)
def test_a_result_that_was_changed_by_hand_is_refused_by_name(tmp_path, changes, named):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(result_json(result()) | changes), encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(named)) as caught:
        read_result(path)
    assert "one.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"kind": NaN}', b"[" * 100_000, b"0" * 200_000])
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, content):
    path = tmp_path / "one.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"one\.json"):
        read_result(path)


def test_the_better_result_of_an_exercise_is_kept(tmp_path):
    slow, fast, failed = result(ratio=5.0), result(ratio=9.0), result(outcome="fail", speed=None, stage="load")
    assert keep(tmp_path, failed)[1]
    assert keep(tmp_path, slow)[1]
    assert keep(tmp_path, fast)[1]
    assert not keep(tmp_path, slow)[1]
    path, stored = keep(tmp_path, failed)
    assert not stored
    assert read_result(path) == fast
    assert stored_results(tmp_path) == {3: fast}


def test_results_of_learners_of_one_name_have_different_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    names = {result_file(tmp_path / name, "Student", 1).name for name in ("a", "b")}
    assert len(names) == 2


def test_the_next_exercise_is_the_first_that_is_not_passed():
    done = {0: result(0), 1: result(1), 2: result(2, outcome="inconclusive"), 3: result(3)}
    assert next_exercise({}) == 0
    assert next_exercise(done) == 2
    assert next_exercise({n: result(n) for n in range(8)}) == 7


# Names and guesses


def test_the_name_is_the_given_one_then_the_earlier_one_then_git_s_then_the_account_s(tmp_path):
    git, none, account = (lambda folder: "Git"), (lambda folder: ""), (lambda folder: "account")
    assert learner_name("  Berta \n B. ", {}, tmp_path) == "Berta B."
    assert learner_name(None, {1: result(1, learner="Anna")}, tmp_path, (git, account)) == "Anna"
    assert learner_name(None, {}, tmp_path, (git, account)) == "Git"
    assert learner_name(None, {}, tmp_path, (none, account)) == "account"
    assert learner_name(None, {}, tmp_path, (none, none)) == "learner"
    with pytest.raises(UsageError, match="not a valid name"):
        learner_name("x" * 81, {}, tmp_path)


@pytest.mark.parametrize(("typed", "guess"), [("2.5", 2.5), ("2,5", 2.5), (" 3 x ", 3.0), ("10×", 10.0), ("", None)])
def test_a_guess_is_read_as_people_type_it(typed, guess):
    assert parse_guess(typed) == guess


@pytest.mark.parametrize("typed", ["many", "-1", "0", "nan", "1e99"])
def test_a_guess_that_is_not_a_positive_number_is_refused(typed):
    with pytest.raises(UsageError, match="a number greater than 0"):
        parse_guess(typed)


# The race


def speed_of(step_ms: list[float], share: float | None, **options):
    """Race the reference, the start, the first version and the learner's."""
    return measure_speed(FakeRace(step_ms, **options), Places(0, 1, 2, 3), share, PROCEDURE, 1e9, silent)


def test_a_version_as_fast_as_the_solution_passes_at_the_first_look():
    speed = speed_of([1.0, 2.0, 20.0, 1.0], 0.6)
    assert (speed.outcome, speed.processes) == ("pass", 3)
    assert speed.over_start.ratio == pytest.approx(2.0, rel=0.01)
    assert speed.over_first.ratio == pytest.approx(20.0, rel=0.01)
    assert speed.target == pytest.approx(2.0**0.6, rel=0.01)


def test_a_version_that_gained_nothing_fails():
    speed = speed_of([1.0, 2.0, 20.0, 2.0], 0.6)
    assert (speed.outcome, speed.processes) == ("fail", 3)
    assert speed.over_start.ratio == pytest.approx(1.0, rel=0.01)


def test_the_target_is_a_part_of_what_the_solution_gains_on_this_machine():
    slow_machine = speed_of([10.0, 12.0, 400.0, 11.0], 0.5)
    fast_machine = speed_of([0.1, 0.9, 4.0, 0.25], 0.5)
    assert slow_machine.target == pytest.approx(1.2**0.5, rel=0.01)
    assert fast_machine.target == pytest.approx(9**0.5, rel=0.01)
    assert (slow_machine.outcome, fast_machine.outcome) == ("pass", "pass")


def test_a_race_on_a_machine_that_is_too_busy_is_inconclusive_after_all_looks():
    speed = speed_of([1.0, 2.0, 20.0, 1.45], 0.6, scatter=(1.0, 2.0, 0.5, 3.0, 0.3))
    assert (speed.outcome, speed.processes) == ("inconclusive", 8)


@pytest.mark.parametrize("sd", [0.01, 0.05])
def test_a_version_as_fast_as_required_is_not_refused_and_a_much_slower_one_does_not_pass(sd):
    rng = np.random.default_rng(0)

    def outcomes(true_ratio: float) -> set[Outcome | None]:
        found = set()
        for _ in range(300):
            values = rng.normal(np.log(true_ratio), sd, PROCEDURE.looks[-1])
            decisions = (decide(values[:look], 1.0, PROCEDURE).outcome for look in PROCEDURE.looks)
            found.add(next(outcome for outcome in decisions if outcome is not Outcome.CONTINUE))
        return found

    assert Outcome.FAIL not in outcomes(1.0)
    assert Outcome.PASS not in outcomes(0.88)


def test_a_clear_speedup_passes_although_the_budget_ends_the_race(ticking_clock):
    for mine, outcome, processes in ((1.0, "pass", 2), (1.05 * 40**0.4, "inconclusive", 3)):
        live = FakeRace([1.0, 40.0, 40.0, mine])
        speed = measure_speed(live, Places(0, 1, 2, 3), 0.6, PROCEDURE, 1e-9, silent, ticking_clock)
        assert (speed.outcome, speed.processes) == (outcome, processes)


def test_in_the_free_exercise_an_unchanged_version_passes_and_a_slower_one_does_not():
    outcomes = [
        measure_speed(FakeRace([1.0, 20.0, mine]), Places(0, 0, 1, 2), 0.0, PROCEDURE, 1e9, silent).outcome
        for mine in (0.9, 1.0, 1.12)
    ]
    assert outcomes == ["pass", "pass", "fail"]


def test_exercise_zero_claims_nothing_and_takes_the_first_look():
    speed = measure_speed(FakeRace([1.0, 40.0, 40.0]), Places(0, 1, 1, 2), None, PROCEDURE, 1e9, silent)
    assert (speed.outcome, speed.processes, speed.target) == ("pass", 3, None)
    assert speed.reference_over_start.ratio == pytest.approx(40.0)


def test_the_phase_that_lost_most_is_named_with_its_largest_statement():
    changes = (
        PhaseChange("forward", None, "", 1e-3, 0.9e-3, 0.0),
        PhaseChange("backward", None, "", 1e-3, 3e-3, 1.0),
        PhaseChange("backward", 1, "gradient", 0.5e-3, 2e-3, 0.7),
    )
    assert lost_time(changes) == (
        "backward takes 3.00 ms, but 1.00 ms in the solution; "
        "the largest part is 'gradient' in layer 1 (2.00 ms, 500 µs in the solution)"
    )
    assert lost_time(changes[:1]) == ""


# What a learner sees


def test_a_guess_is_shown_with_the_measured_speedup():
    assert dict(rows(result(guess=4.0)))["guess"] == "your guess was 4.00x, measured was 2.00x"
    assert guess_error(result(guess=4.0)) == pytest.approx(2.0)
    assert guess_error(result(guess=1.0)) == pytest.approx(2.0)
    assert guess_error(result()) is None


def test_the_next_bottleneck_and_a_fresh_process_have_rows_of_their_own():
    shown = dict(rows(result(as_used=AsUsed(100, 1.0, 0.25), bottleneck="line 7: the sigmoid, worth about 12 %")))
    assert shown["as used"].startswith("100 steps in a fresh process take 250 ms, loading and compiling included")
    assert shown["as used"].endswith("takes 1.00 s (4.00x)")
    assert shown["next"] == "line 7: the sigmoid, worth about 12 %"


def test_a_finding_is_described_with_its_line_its_worth_and_its_exercise():
    finding = Finding("recomputation", "my_mlp.py", 7, 7, 1, "`s(z)` runs twice", "", "", (0, 0), (0.1, 0.14), "")
    assert described(finding, step="my_mlp.py:f") == (
        "line 7: `s(z)` runs twice, worth about 12 % of the step (exercises/4-cached-activations.md is about it)"
    )
    other = replace(finding, category="slow-primitive", title="the step my_mlp.py:f computes in float64")
    assert described(other, step="my_mlp.py:f") == "line 7: the step computes in float64, worth about 12 % of the step"


def test_without_a_known_flaw_the_most_expensive_statement_is_named():
    most = Expensive("my_mlp.py", 9, 1, "W @ A", 1e-4, 0.26, "mlpprof knows no faster form of it.")
    assert bottleneck.rest_of(most) == (
        "no known flaw is left; line 9 is the most expensive: `W @ A` takes 26 % of the step. mlpprof knows no faster "
        "form of it."
    )
    assert "left; layers.py:9 is the most expensive" in bottleneck.rest_of(replace(most, file="layers.py"))


def test_options_of_other_commands_are_left_out_of_a_message_about_a_program():
    assert without_options("both differ. Name it with --step LINE. Use one order; --no-check leaves it out") == (
        "both differ. Use one order"
    )
    for message in ("name it with --step LINE", "my_mlp.py:3: ValueError: a -- b"):
        assert without_options(message) == message


def test_a_training_that_differs_is_described_with_what_to_look_at_and_its_notes():
    notes = ("my_mlp.py also changes v", "solution_1.py also changes u")
    found = Training(False, 20, "W differs", notes, parameter="W", first_step=1)
    known = "; my_mlp.py also changes v; the solution also changes u"
    assert what_differs(found, "solution_1.py") == f"W differs. Look at the gradient and at the update of W{known}"
    assert "The first step is right, so look at" in what_differs(replace(found, first_step=2), "solution_1.py")
    found = Training(None, 20, "solution_1.py does not repeat its training. The verdict is about time only")
    assert what_differs(found, "solution_1.py") == "the solution does not repeat its training"


def test_a_file_of_another_name_is_found(tmp_path):
    (tmp_path / "my_mpl.py").touch()
    with pytest.raises(UsageError, match=r"but there is my_mpl\.py; rename it: mv my_mpl\.py my_mlp\.py"):
        folders.require_folder(tmp_path)
    (tmp_path / "my_mpl.py").rename(tmp_path / "my_mlp (1).py")
    with pytest.raises(UsageError, match=r"mv 'my_mlp \(1\)\.py' my_mlp\.py"):
        folders.require_folder(tmp_path)


@pytest.mark.parametrize("source", ["", "def step():\n    pass\n"])
def test_a_file_without_a_class_is_reported_before_it_runs(folder, source):
    (folder / "my_mlp.py").write_text(source, encoding="utf-8")
    found = check.examine(folder, COURSE, COURSE.exercises[1], "Anna", QUICK, silent).result
    assert (found.outcome, found.stage) == ("fail", "load")
    assert "there is no class in my_mlp.py, or the file is empty" in found.message


def test_a_class_that_has_lost_its_methods_is_reported_with_how_to_get_them_back(folder):
    lost = "class MLP:\n    def train_step(self, X, Y, index):\n        pass\n"
    (folder / "my_mlp.py").write_text(lost, encoding="utf-8")
    found = check.examine(folder, COURSE, COURSE.exercises[1], "Anna", QUICK, silent).result
    assert (found.outcome, found.stage) == ("fail", "load")
    assert "copy them from a new folder: mlpprof workshop new DIR" in found.message
    assert "--" not in found.message


def test_a_bottleneck_is_not_looked_for_without_time(folder):
    assert next_bottleneck(folder / "my_mlp.py", COURSE, resolve("tiny"), 1.0, silent) == ""


def test_the_shortest_of_several_fresh_processes_counts():
    seconds = iter([2.0, 0.5, 1.0, 0.9])
    assert measure_as_used(Path("start.py"), Path("mine.py"), lambda file: next(seconds)) == AsUsed(100, 1.0, 0.5)


# Other systems of courses

WRONG_RESULT = result(outcome="fail", stage="structure", speed=None, message="a loop", line=7, text="for x in X:")


def test_each_stage_of_a_check_is_worth_a_point():
    assert [stage.status for stage in stages(result())] == ["pass"] * 4
    assert [stage.status for stage in stages(WRONG_RESULT)] == ["pass", "pass", "fail", "not run"]
    assert [stage.status for stage in stages(result(outcome="inconclusive"))] == ["pass", "pass", "pass", "error"]
    assert points(WRONG_RESULT) == 2


def test_otter_gets_a_test_for_each_stage_with_its_message():
    document = otter_json(WRONG_RESULT)
    assert [test["score"] for test in document["tests"]] == [1, 1, 0, 0]
    assert document["tests"][2]["output"] == "a loop (my_mlp.py:7: for x in X:)"
    assert document["output"].startswith("Exercise 3: ")


def test_nbgrader_gets_a_row_of_its_columns():
    row = nbgrader_json(WRONG_RESULT)
    assert (row["assignment"], row["student_id"]) == ("workshop-3-input-delta", "Anna")
    assert (row["raw_score"], row["score"], row["max_score"]) == (2.0, 2.0, 4.0)


def test_github_classroom_gets_a_status_for_the_whole_and_for_each_stage():
    document = classroom_json(WRONG_RESULT)
    assert (document["version"], document["status"], document["max_score"]) == (1, "fail", 4)
    assert [test["status"] for test in document["tests"]] == ["pass", "pass", "fail", "fail"]
    assert classroom_json(result(outcome="inconclusive"))["status"] == "error"


def test_a_check_writes_and_prints_the_form_that_is_asked_for(folder, checked, tmp_path, capsys):
    out = tmp_path / "results.json"
    assert run(["workshop", "check", "0", "--json", "--format", "otter", "-o", str(out)]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text(encoding="utf-8"))
    assert len(json.loads(out.read_text(encoding="utf-8"))["tests"]) == 4
    assert run(["workshop", "check", "0", "--format", "otter"]) == EXIT_USAGE
    assert "add --json to print it, or -o FILE" in " ".join(capsys.readouterr().err.split())


def test_the_last_line_shows_what_comes_next():
    assert last_line(result(3)).startswith("PASS. Next: exercise 4, exercises/4-cached-activations.md")
    assert "Well done!" in last_line(result(7))
    assert "three hints" in last_line(result(3, outcome="fail"))
    assert "No time was measured" in last_line(result(3, outcome="fail", stage="load", speed=None))
    assert last_line(result(3, outcome="inconclusive")).endswith("less busy: mlpprof workshop check 3")


@pytest.fixture
def checked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """Checks that pass at once, without a worker process; the list gets the guess of each race."""
    guesses: list[float | None] = []

    def examine(folder, course, exercise, name, conditions, progress):
        return known(exercise.number, result(exercise.number, name, speed=None), folder)

    def race(examined, guess, progress, as_used):
        guesses.append(guess)
        return replace(examined.result, guess=guess, speed=SPEED)

    monkeypatch.setattr(command, "examine", examine)
    monkeypatch.setattr(command, "race", race)
    return guesses


def known(number: int, begun: Result, folder: Path = Path()) -> Examined:
    """A learner's file that has passed everything but the race."""
    return Examined(COURSE, EXERCISES[number], folder, QUICK, resolve("tiny"), begun)


def test_a_check_goes_on_with_the_first_exercise_that_is_not_passed(folder, checked, capsys):
    assert run(["workshop", "check", "--predict", "12", "--name", "Anna"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "Exercise 0: Measure first" in printed
    assert "your guess was 12.0x" in printed
    assert run(["workshop", "check"]) == EXIT_OK
    assert "Exercise 1: The loop over samples" in capsys.readouterr().out
    assert checked == [12.0, None]
    assert {r.learner for r in stored_results(folder).values()} == {"Anna"}


def test_the_first_guess_is_the_one_that_counts(checked, capsys):
    for words in (["--predict", "2"], [], ["--predict", "3"]):
        assert run(["workshop", "check", "0", *words]) == EXIT_OK
    assert checked == [2.0, 2.0, 3.0]


def test_somebody_at_a_terminal_is_asked_and_may_type_nonsense_first(checked, monkeypatch, capsys):
    typed = iter(["many", "7,5"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *words, **options: next(typed))
    assert run(["workshop", "check", "0"]) == EXIT_OK
    assert checked == [7.5]
    assert "you gave 'many'" in " ".join(capsys.readouterr().err.split())


def test_an_inconclusive_race_is_exit_code_three(checked, monkeypatch, capsys):
    def race(examined, guess, progress, as_used):
        return replace(examined.result, outcome="inconclusive", speed=replace(SPEED, outcome="inconclusive"))

    monkeypatch.setattr(command, "race", race)
    assert run(["workshop", "check", "0"]) == EXIT_INCONCLUSIVE
    assert "INCONCLUSIVE" in capsys.readouterr().out


def test_an_interrupted_check_keeps_nothing(folder, checked, monkeypatch, capsys):
    def race(examined, guess, progress, as_used):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "race", race)
    assert run(["workshop", "check", "0"]) == EXIT_INTERRUPTED
    assert list((folder / "results").iterdir()) == []


def test_a_loop_over_samples_is_exit_code_one_and_the_result_is_kept_with_its_line(folder, capsys):
    assert run(["workshop", "check", "1", "--name", "Anna", "--json"]) == EXIT_FAILED
    document = json.loads(capsys.readouterr().out)
    assert (document["outcome"], document["stage"], document["speed"]) == ("fail", "structure", None)
    assert document["text"] in (folder / "my_mlp.py").read_text(encoding="utf-8").splitlines()[document["line"] - 1]
    assert stored_results(folder)[1].outcome == "fail"


def test_a_file_that_ends_its_process_is_reported_without_a_traceback(folder, capsys):
    (folder / "my_mlp.py").write_text(f"{start_text()}\nimport os\nos._exit(7)\n", encoding="utf-8")
    assert run(["workshop", "check", "1"]) == EXIT_FAILED
    printed = capsys.readouterr()
    assert "exit code 7" in printed.out
    assert "Traceback" not in printed.out + printed.err


def test_a_loop_without_end_is_one_sentence_with_its_line_and_exit_code_one(folder, monkeypatch, capsys):
    hurried = tuple(replace(exercise, longest_s=1.0) for exercise in EXERCISES)
    monkeypatch.setattr(command, "course_of", lambda folder: replace(COURSE, exercises=hurried))
    source = start_text().replace(
        "    def loss(self):\n", "    def loss(self):\n        while True:\n            pass\n"
    )
    (folder / "my_mlp.py").write_text(source, encoding="utf-8")
    assert run(["workshop", "check", "1", "--json"]) == EXIT_FAILED
    document = json.loads(capsys.readouterr().out)
    assert "the code ran for more than 1 seconds, so it was ended at my_mlp.py:" in document["message"]
    assert document["text"] in ("while True:", "pass")


def test_code_that_fails_only_in_the_race_has_failed_the_exercise(folder, monkeypatch):
    def crash(requests, batch, environment, blocks, rarely):
        raise WorkerDied("the worker process ended with exit code 7 before it answered")

    monkeypatch.setattr(check, "variant_race", crash)
    found = check.race(known(1, result(1, speed=None), folder), 2.0, silent)
    assert (found.outcome, found.stage, found.guess) == ("fail", "speed", 2.0)
    assert "exit code 7" in found.message


def test_a_version_that_is_near_the_target_and_one_that_is_probably_too_slow_get_differentadvice_on_speed():
    near = replace(SPEED, outcome="inconclusive", target=1.9)
    assert advice_on_speed(known(1, result()), near)[0].startswith("Measured 2.00x (required 1.90x), but the")
    assert "probably not fast enough" in advice_on_speed(known(1, result()), replace(near, target=2.2))[0]


def test_a_slow_version_is_shown_the_statement_that_mixes_memory_orders():
    slow = replace(SPEED, outcome="fail", lost="backward takes 2 ms, but 1 ms in the solution")
    examined = replace(known(1, result()), mixed=((17, "copy with operands in order F>C"),))
    message, line = advice_on_speed(examined, slow)
    assert "backward takes 2 ms" in message
    assert "combines a row-major (C) with a column-major (F) array (copy with operands in order F>C)" in message
    assert line == 17


def test_a_check_outside_of_a_folder_says_what_to_type(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["workshop", "check"]) == EXIT_USAGE
    assert "mlpprof workshop new" in capsys.readouterr().err


def test_damaged_digits_are_refused_with_what_to_do_and_missing_ones_are_written_again(tmp_path):
    digits = tmp_path / DIGITS_FILE
    assert Conditions().trained(tmp_path).network.layers[0] == 784
    whole = digits.read_bytes()
    digits.write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"delete digits\.npz"):
        Conditions().trained(tmp_path)
    digits.unlink()
    Conditions().trained(tmp_path)
    assert digits.read_bytes() == whole


class SlowRace(FakeRace):
    """The learner's version gathers twice as long as the solution and gains nothing."""

    described = {"machine": {"cpu_model_name": "a \x1b[31mcpu"}}  # noqa: RUF012 - a constant of a test

    def __init__(
        self, requests: list[Request], batch: int, environment: Environment, blocks: int, rarely: tuple[int, ...]
    ) -> None:
        super().__init__([1.0, 1.2, 20.0, 1.3])
        assert [Path(request.variant).stem for request in requests] == [
            *("cached_5", "no_input_delta_4"),
            "per_sample_0",
            "my_mlp",
        ]

    def waterfall(self, progress: object) -> tuple[PhaseChange, ...]:
        return (
            PhaseChange("fetch_batch", None, "", 0.1e-3, 0.2e-3, -1.0),
            PhaseChange("fetch_batch", None, "gather", 0.1e-3, 0.2e-3, -1.0),
        )


def test_the_solution_in_a_poor_memory_order_is_shown_what_costs_its_gain(folder, monkeypatch, capsys):
    monkeypatch.setattr(check, "variant_race", SlowRace)
    source = solution_text(4)
    for old, new in (
        ("self.A[0] = X[index].T", "self.A[0] = np.ascontiguousarray(X[index].T)"),
        ("A.shape[1]), A.dtype)", 'A.shape[1]), A.dtype, order="F")'),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    (folder / "my_mlp.py").write_text(source, encoding="utf-8")
    assert run(["workshop", "check", "4", "--json"]) == EXIT_FAILED
    document = json.loads(capsys.readouterr().out)
    assert (document["stage"], document["outcome"]) == ("speed", "fail")
    assert "fetch_batch takes 200 µs, but 100 µs in the solution; the largest part is 'gather'" in document["message"]
    assert "combines a row-major (C) with a column-major (F) array" in document["message"]
    assert document["text"] == "stacked[1:] = A"
    assert "\x1b" not in document["cpu"]


# With real time


@pytest.mark.slow
@pytest.mark.timing
def test_the_next_bottleneck_of_a_solution_is_what_the_next_exercise_removes(folder):
    solve(folder, 2)
    found = next_bottleneck(folder / "my_mlp.py", COURSE, Conditions().trained(folder), 100.0, silent)
    assert re.match(r"line \d+: nothing reads the result of `self\.W\[l \+ 1\]\.T @ delta`", found)
    assert found.endswith("(exercises/3-input-delta.md is about it)")


@pytest.mark.slow
@pytest.mark.timing
def test_a_fresh_process_trains_a_file_and_returns_its_seconds(folder):
    solve(folder, 5)
    assert 0.0 < run_s(folder / "my_mlp.py", resolve("tiny"), Environment(), silent) < 30.0


@pytest.mark.slow
@pytest.mark.timing
def test_a_whole_check_races_in_processes_and_leaves_nothing_behind(folder, monkeypatch, tmp_path, capsys):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    solve(folder, 1)
    assert run(["workshop", "check", "1", "--predict", "4", "--name", "Anna"]) in (EXIT_OK, EXIT_INCONCLUSIVE)
    kept = stored_results(folder)[1]
    assert kept.speed is not None
    assert kept.speed.over_start.ratio > 1.5
    assert kept.guess == 4.0
    assert [path.name for path in temporary.iterdir() if path.name.startswith("mlpprof-workshop")] == []


@pytest.mark.slow
@pytest.mark.timing
def test_the_target_of_every_exercise_is_reached_by_its_solution(made, tmp_path):
    """All solutions in one race on the classroom's network: each gains what its exercise asks, with room to spare."""
    trained = conditions.CLASSROOM.trained(made)
    paths = []
    for number in range(len(EXERCISES) - 1):
        paths.append(tmp_path / f"solution_{number}.py")
        paths[-1].write_text(solution_text(number), encoding="utf-8")
    requests = [Request(str(path), trained.network, trained.source) for path in paths]
    live = variant_race(requests, trained.batch, Environment())
    add_replicates(live, 2, silent)
    for exercise in EXERCISES[1:-1]:
        n = exercise.number
        values = _values(live.race(), Places(n, n - 1, 0, n), exercise.share)
        assert values.mean() > 0, f"the solution of exercise {n} does not reach its target on this machine"
