"""Exercises of a teacher's own: how a folder is read, and how `mlpprof workshop author` makes one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from workshop_results import FakeRace, result

from mlpprof.catalog import ladder
from mlpprof.cli.main import run
from mlpprof.compare.entrants import Environment
from mlpprof.errors import EXIT_OK, EXIT_USAGE, UsageError
from mlpprof.results import Verdict
from mlpprof.results.advice import Finding
from mlpprof.workloads import resolve
from mlpprof.workshop import conditions
from mlpprof.workshop.author import Wanted, author
from mlpprof.workshop.check import examine
from mlpprof.workshop.exercises import Version, built_in, read_course
from mlpprof.workshop.fair_play import foreign_import
from mlpprof.workshop.folder import course_of, new_folder
from mlpprof.workshop.pair import Measured, limits, measure_programs, measure_variants, require_faster
from mlpprof.workshop.result import write_result
from mlpprof.workshop.right_structure import Broken
from mlpprof.workshop.solutions import solution_text, solved_in, written_versions

SLOW = '''"""A script that forgets what it knows."""

import numpy as np

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4))
Y = X[:, :1] > 0
W = rng.normal(size=(4, 1))


def train_step(x, y):
    global W
    A = np.tanh(x @ W)
    D = 1 - np.tanh(x @ W) ** 2
    W = W - 0.1 * x.T @ ((A - y) * D)


for step in range(40):
    train_step(X[:30], Y[:30])
'''
FAST = SLOW.replace("1 - np.tanh(x @ W) ** 2", "1 - A**2")


def silent(what: str, share: float) -> None:
    pass


def verdict(ratio: float) -> Verdict:
    return Verdict(None, ratio, 0.95 * ratio, 1.05 * ratio, None, 5, "")


RECOMPUTED = Finding(
    *("recomputation", "start.py", 14, 14, 9, "`np.tanh(x @ W)` computes again what line 13 has computed"),
    *("Nothing has changed.", "", (0.1, 0.2), (0.1, 0.2), "certain"),
)
MEASURED = Measured(
    "all parameters are the same",
    verdict(1.4),
    {"evaluations": 2, "operations": 12},
    {"evaluations": 1, "operations": 11},
    {"evaluations": 1},
    None,
    (RECOMPUTED,),
    ("start.py:train_step", "solution.py:train_step"),
)


@pytest.fixture
def pair(tmp_path: Path) -> Wanted:
    """Two scripts that the working directory has, one slower than the other."""
    for name, text in (("slow.py", SLOW), ("fast.py", FAST)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return Wanted(str(tmp_path / "slow.py"), str(tmp_path / "fast.py"))


@pytest.fixture
def authored(pair: Wanted, tmp_path: Path) -> Path:
    """The folder of an exercise, made of measurements that are handed in."""
    author(pair, tmp_path / "Tanh again", silent, lambda slow, fast, wanted, progress: MEASURED)
    return tmp_path / "Tanh again"


# Making a folder


def test_a_pair_becomes_a_folder_that_is_read_like_the_built_in_exercises(authored):
    course = read_course(authored)
    [exercise] = course.exercises
    assert (course.name, course.kind, exercise.file_name) == ("tanh-again", "program", "0-tanh-again.md")
    assert course.start.step == "start.py:train_step"
    assert exercise.at_most == {"evaluations": 1}
    assert exercise.teaches == ("recomputation",)
    assert solution_text(course, 0) == FAST
    assert sorted(path.name for path in authored.iterdir()) == sorted({*course.texts(), "course.toml"})


def test_the_page_has_a_question_and_three_hints_from_the_findings_and_the_difference(authored):
    page = (authored / "0-tanh-again.md").read_text(encoding="utf-8")
    assert page.startswith("# Exercise 0: A result that is computed again from the same values\n")
    for part in ("**What you learn.**", "**Predict.** How many times faster", "**Do.**", "**In the profile.**"):
        assert part in page
    first, second, third = re.findall(r"<summary>Hint \d.*?</summary>\n(.*?)</details>", page, re.S)
    assert "`train_step`" in first
    assert "Line 14: `np.tanh(x @ W)` computes again" in second
    assert "-    D = 1 - np.tanh(x @ W) ** 2\n+    D = 1 - A**2\n" in third
    assert "- at most 1 evaluation of exp, tanh or the like" in page
    assert "2 before, 1 after" in page
    assert max(map(len, page.splitlines())) <= 120


def test_a_version_with_a_byte_order_mark_is_read(pair, tmp_path):
    (tmp_path / "slow.py").write_text(f"\ufeff{SLOW}", encoding="utf-8")
    author(pair, tmp_path / "out", silent, lambda *words: MEASURED)
    assert (tmp_path / "out" / "start.py").read_text(encoding="utf-8") == SLOW


def test_a_fact_is_required_where_the_two_steps_differ_enough():
    assert limits({"flop": 4_000_000}, {"flop": 2_000_000}) == {"flop": 2_830_000}
    assert limits({"operations": 900, "flop": 105}, {"operations": 100, "flop": 100}) == {"operations": 300}
    assert limits({"float64_arrays": 9, "copies": 2}, {"float64_arrays": 1, "copies": 1}) == {"copies": 1}
    assert limits({"float64_arrays": 9}, {"float64_arrays": 0}) == {"float64_arrays": 0}
    assert limits({"sample_loops": 1, "copies": 10}, {"copies": 9}) == {}
    loop, none = {"sample_loops": 0, "array_operations": 900}, {"sample_loops": 0, "array_operations": 100}
    assert limits(loop, none) == {"array_operations": 300}
    assert limits(loop | {"sample_loops": 1}, none) == {"sample_loops": 0}


def test_without_a_finding_the_second_hint_is_what_breaks_the_first_fact(pair, tmp_path):
    flaw = Broken("no float64 array", 7, "add makes a float64 array (3 x 4)", "Give np.ones a dtype")
    measured = replace(MEASURED, findings=(), flaw=flaw)
    author(pair, tmp_path / "out", silent, lambda *words: measured)
    page = (tmp_path / "out" / "0-out.md").read_text(encoding="utf-8")
    assert "Line 7: add makes a float64 array (3 x 4). Give np.ones a dtype." in page


def test_a_pair_with_the_same_operations_and_little_gain_makes_no_exercise(pair, tmp_path):
    same = Measured("", verdict(1.1), {"operations": 9}, {"operations": 9})
    with pytest.raises(UsageError, match=r"1\.10 times as fast as SLOW, and both make nearly the same operations"):
        author(pair, tmp_path / "out", silent, lambda *words: same)
    assert not (tmp_path / "out").exists()


def test_a_version_that_is_not_faster_is_refused_with_its_interval():
    assert require_faster(FakeRace([2.0, 1.0]), silent).ratio == pytest.approx(2.0, rel=0.01)
    with pytest.raises(UsageError, match=r"FAST is not faster than SLOW: it is 0\.50"):
        require_faster(FakeRace([1.0, 2.0]), silent)


def test_the_third_hint_has_changed_lines_that_begin_with_a_sign_too(pair, tmp_path):
    for name, text, sign in ((pair.slow, SLOW, "--"), (pair.fast, FAST, "++")):
        Path(name).write_text(f"{text}{sign}np.sum(W)\n", encoding="utf-8")
    author(pair, tmp_path / "out", silent, lambda *words: MEASURED)
    page = (tmp_path / "out" / "0-out.md").read_text(encoding="utf-8")
    assert "\n---np.sum(W)\n+++np.sum(W)\n" in page


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("start.py",), "files has 'start.py', which mlpprof itself writes"),
        (("workshop.ipynb",), "files has 'workshop.ipynb', which mlpprof itself writes"),
        (("0-out.md",), "a page or a version of the course"),
        (("solution_1.py",), "expected another name, so rename the file"),
        (("a/data.csv", "b/data.csv"), "files has 'data.csv' twice"),
        (("a:b.csv",), "'a:b.csv' is not a file of this folder"),
    ],
)
def test_a_further_file_whose_name_is_taken_is_refused_before_anything_is_measured(pair, tmp_path, names, message):
    def measure(*words: object) -> Measured:
        raise AssertionError("measured")

    wanted = replace(pair, files=tuple(tmp_path / "more" / name for name in names))
    for path in wanted.files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with pytest.raises(UsageError, match=f"--file cannot be used: .*{re.escape(message)}"):
        author(wanted, tmp_path / "out", silent, measure)


def test_a_variant_that_imports_an_engine_of_mlpprof_makes_no_exercise(tmp_path):
    for name, rung in (("start.py", "cached"), ("solution.py", "blocked")):
        (tmp_path / name).write_text(ladder()[rung].source(), encoding="utf-8")
    pair = tmp_path / "start.py", tmp_path / "solution.py"
    with pytest.raises(UsageError, match=r"FAST cannot be part of an exercise: solution\.py:\d+ imports .* Choose"):
        measure_variants(*pair, resolve("tiny"), silent, Environment())


def two_classes(folder: Path) -> tuple[str, str]:
    method = "    def train_step(self):\n        pass\n\n\n"
    (folder / "both.py").write_text(f"class A:\n{method}class B:\n{method}", encoding="utf-8")
    return f"{folder / 'both.py'}:A", f"{folder / 'both.py'}:B"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (lambda folder, slow, fast: (slow, slow), "is given twice"),
        (lambda folder, slow, fast: (slow, "cached"), "is a program and 'cached' is a variant"),
        (lambda folder, slow, fast: ("cached", "cached"), "is given twice"),
        (lambda folder, slow, fast: (slow, "none.py"), "there is no file 'none.py'"),
        (lambda folder, slow, fast: two_classes(folder), "learners would get the solution too"),
        (lambda folder, slow, fast: ("cached", two_classes(folder)[0]), "both.py has several variants; put A into"),
        (lambda folder, slow, fast: (slow, fast, "-o", str(folder)), "is not empty"),
        (lambda folder, slow, fast: (slow, fast, "--workload", "tiny"), "--workload tiny is for variants"),
        (lambda folder, slow, fast: ("naive", "cached", "--step", "f"), "--step f is for programs"),
        (lambda folder, slow, fast: (slow, fast, "--step", "12"), "--step 12 fits one file only"),
        (lambda folder, slow, fast: ("naive", "cached", "--workload", "non"), "there is no workload 'non'"),
    ],
)
def test_what_makes_no_exercise_is_refused_before_anything_is_measured(pair, tmp_path, capsys, words, message):
    arguments = words(tmp_path, pair.slow, pair.fast)
    out = () if "-o" in arguments else ("-o", str(tmp_path / "out"))
    assert run(["workshop", "author", *arguments, *out]) == EXIT_USAGE
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


# Reading a folder


def test_the_built_in_exercises_are_valid_and_require_more_from_one_to_the_next():
    course = built_in()
    assert [exercise.number for exercise in course.exercises] == list(range(8))
    assert list(course.exercises[3].at_most) == ["sample_loops", "float64_arrays", "input_deltas"]
    assert course.last.facts == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 2", "has format 2; this mlpprof reads 'format = 1'"),
        ("format = 1", "", "has no format"),
        ("share = ", "shar = ", "has the unknown key 'exercises[0].shar'; did you mean 'share'?"),
        ("share = 0.5", "share = 5", "exercises[0].share: expected"),
        ("evaluations = 1", "evalutions = 1", "has 'evalutions'; did you mean 'evaluations'?"),
        ("evaluations = 1", "evaluations = -1", "at_most[...]: expected"),
        ('teaches = ["recomputation"', 'teaches = ["recomputing"', "did you mean 'recomputation'?"),
        ('file = "solution.py"', 'file = "../solution.py"', "is not a file of this folder"),
        ('file = "solution.py"', 'file = "sol.py"', "there is no file"),
        ('file = "solution.py"', 'rung = "cached"', "rung is for variants; expected 'file'"),
        ('kind = "program"', 'kind = "script"', "kind: expected"),
        ("title = ", "title = = ", "is not valid TOML"),
    ],
)
def test_a_file_that_was_changed_by_hand_is_refused_by_its_key(authored, capsys, tmp_path, old, new, message):
    file = authored / "course.toml"
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert run(["workshop", "new", str(tmp_path / "anna"), "--exercises", str(authored)]) == EXIT_USAGE
    shown = " ".join(capsys.readouterr().err.split())
    assert message in shown
    assert "course.toml" in shown
    assert not (tmp_path / "anna").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('rung = "sliced"', 'rung = "slicd"', "exercises[0].solution.rung: there is no rung 'slicd'; did you mean"),
        ('title = "Slices"', 'title = "Slices"\nworkload = "cat"', "workload: there is no workload 'cat'"),
        ('rung = "sliced"', 'rung = "sliced", file = "a.py"', "needs either 'file' or 'rung', and has both"),
        ('rung = "sliced"', 'rung = "sliced", of = "cached"', "needs 'function' and 'of' together"),
        ("copies_of_batch = 0", "sample_loops = 2", "at_most.sample_loops is 2; expected 0"),
        ('rung = "sliced"', 'rung = "sliced", of = "cached", function = "f"', "the rung sliced has 0 functions 'f'"),
        ('"cached" }', '"cached", docstring = \'a """ b\' }', "start.docstring cannot stand between three quotation"),
        ('"cached" }', "\"cached\", docstring = 'a\\N' }", "expected a text without a backslash"),
        (
            'title = "Slices"',
            'title = "S"\nfiles = ["my_mlp.py"]',
            "files has 'my_mlp.py', which",
        ),
        ('title = "Slices"', 'title = "S"\nfiles = ["digits.npz"]', "files has 'digits.npz'"),
        ('title = "Slices"', 'title = "S"\nfiles = ["sliced_1.py"]', "files has 'sliced_1.py'"),
        ('title = "Slices"', 'title = "S"\nfiles = ["data.txt"]', "'data.txt' is a link to a file outside this folder"),
    ],
)
def test_a_course_of_rungs_is_read_and_what_it_does_not_know_is_refused(tmp_path, old, new, message):
    text = 'format = 1\nname = "own"\ntitle = "Slices"\nstart = { rung = "cached" }\n[[exercises]]\nname = "slices"\n'
    text += 'title = "One"\nsolution = { rung = "sliced" }\nat_most = { copies_of_batch = 0 }\n'
    for name, content in (("course.toml", text), ("README.md", ""), ("0-slices.md", "")):
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "data.txt").symlink_to(__file__)
    assert read_course(tmp_path).exercises[0].facts == ("no copy of a batch in forward and backward",)
    (tmp_path / "course.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError, match=re.escape(message)):
        read_course(tmp_path)


def test_an_exercise_starts_where_the_one_before_it_ends_and_requires_what_that_requires(authored):
    file = authored / "course.toml"
    more = '\n[[exercises]]\nname = "free"\ntitle = "Free"\nat_most = { operations = 9 }\n'
    file.write_text(file.read_text(encoding="utf-8") + more, encoding="utf-8")
    (authored / "1-free.md").touch()
    course = read_course(authored)
    assert course.exercises[1].at_most == {"evaluations": 1, "operations": 9}
    assert [solved_in(course, number) for number in (-1, 0, 1)] == [-1, 0, 0]
    with written_versions(course, (0, -1)) as versions:
        assert [(one.path.name, one.step) for one in versions] == [
            ("solution_1.py", "solution_1.py:train_step"),
            ("start_0.py", "start_0.py:train_step"),
        ]
        assert [one.path.read_text(encoding="utf-8") for one in versions] == [FAST, SLOW]
    assert not versions[0].path.exists()


def test_two_versions_of_one_name_are_two_files(authored):
    course = read_course(authored)
    rung = Version(rung="cached")
    with_function = replace(rung, function="add_bias_row", of="no_input_delta")
    solved = (replace(course.exercises[0], solution=with_function),)
    with written_versions(replace(course, start=rung, exercises=solved), (0, -1)) as versions:
        assert len({one.path.read_text(encoding="utf-8") for one in versions}) == 2


def test_a_picture_that_is_a_link_out_of_the_folder_is_not_read(authored, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    (authored / "figures").mkdir()
    (authored / "figures" / "own.png").write_bytes(b"own")
    (authored / "figures" / "linked.png").symlink_to(tmp_path / "secret.png")
    assert read_course(authored).pictures() == {"own.png": b"own"}


def test_a_folder_without_exercises_is_refused_with_what_makes_one(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "none"):
        assert run(["workshop", "new", str(tmp_path / "anna"), "--exercises", str(folder)]) == EXIT_USAGE
        assert "mlpprof workshop author SLOW.py FAST.py makes such a folder" in " ".join(
            capsys.readouterr().err.split()
        )


# What learners and teachers do with it


@pytest.fixture
def learner(authored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a learner, which is the working directory."""
    new_folder(tmp_path / "anna", read_course(authored))
    monkeypatch.chdir(tmp_path / "anna")
    return tmp_path / "anna"


def test_a_learner_gets_the_start_the_page_and_a_copy_of_the_exercise(learner, capsys):
    assert (learner / "my_mlp.py").read_text(encoding="utf-8") == SLOW
    assert (learner / "exercises" / "0-tanh-again.md").is_file()
    assert not (learner / "digits.npz").exists()
    assert course_of(learner).name == "tanh-again"
    assert run(["workshop", "solution", "0"]) == EXIT_OK
    assert capsys.readouterr().out == FAST
    assert run(["workshop", "check", "1"]) == EXIT_USAGE
    assert "there is no exercise 1; expected 0" in capsys.readouterr().err
    assert run(["workshop", "check", "--as-used"]) == EXIT_USAGE


def test_code_that_takes_the_solution_out_of_the_copy_of_the_exercise_is_refused_with_its_line():
    taken = "import sys\nsys.path.insert(0, './.course')\nself.course = 1\n"
    assert "my_mlp.py:2 names .course" in (foreign_import(taken, "my_mlp.py", is_free=True) or "")
    assert foreign_import("self.course = '.courses'\n", "my_mlp.py", is_free=False) is None


def test_other_files_of_the_exercise_are_given_to_learners(pair, tmp_path):
    (tmp_path / "data.csv").write_text("1,2", encoding="utf-8")
    wanted = Wanted(pair.slow, pair.fast, files=(tmp_path / "data.csv",))
    author(wanted, tmp_path / "out", silent, lambda *words: MEASURED)
    new_folder(tmp_path / "anna", read_course(tmp_path / "out"))
    assert (tmp_path / "anna" / "data.csv").read_text(encoding="utf-8") == "1,2"


def test_a_board_has_the_results_of_its_own_exercises(authored, tmp_path, capsys):
    (tmp_path / "class").mkdir()
    for name, course in (("ours", "tanh-again"), ("theirs", "")):
        write_result(result(0, place=name, course=course), tmp_path / "class" / f"{name}.json")
    out = tmp_path / "board.html"
    words = ["workshop", "board", str(tmp_path / "class"), "-o", str(out)]
    assert run([*words, "--exercises", str(authored)]) == EXIT_OK
    shown = capsys.readouterr()
    assert "1 learner, 1 result" in shown.out
    assert "theirs.json is a result of the exercises that come with mlpprof" in " ".join(shown.err.split())
    assert "A result that is computed again" in out.read_text(encoding="utf-8")
    assert run(words) == EXIT_OK
    assert "add --exercises with their folder" in " ".join(capsys.readouterr().err.split())


# With real time


@pytest.fixture
def really(pair: Wanted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a learner, for an exercise that was really measured."""
    author(pair, tmp_path / "tanh", silent, real_programs)
    new_folder(tmp_path / "anna", read_course(tmp_path / "tanh"))
    monkeypatch.chdir(tmp_path / "anna")
    return tmp_path / "anna"


def real_programs(slow: Path, fast: Path, wanted: Wanted, progress: object) -> Measured:
    found = measure_programs(slow, fast, None, silent, Environment(), race_of=lambda programs: FakeRace([2.0, 1.0]))
    assert found.findings[0].category == "recomputation"
    return found


@pytest.mark.slow
def test_an_exercise_about_a_script_fails_its_start_passes_its_solution_and_names_what_trains_differently(really):
    course = course_of(really)
    assert course.exercises[0].at_most["evaluations"] == 1

    def outcome(text: str) -> tuple[str, str, str]:
        (really / "my_mlp.py").write_text(text, encoding="utf-8")
        found = examine(really, course, course.exercises[0], "Anna", conditions.CLASSROOM, silent).result
        return found.outcome, found.stage, f"{found.message} {found.text}"

    assert outcome(FAST)[:2] == ("pass", "speed")
    failed, stage, message = outcome(SLOW)
    assert (failed, stage) == ("fail", "structure")
    assert "evaluates functions such as exp, tanh or the sigmoid 2 times" in message
    assert message.endswith("D = 1 - np.tanh(x @ W) ** 2")
    failed, stage, message = outcome(FAST.replace("1 - A**2", "1 - A"))
    assert (failed, stage) == ("fail", "correctness")
    assert "Look at the gradient and at the update of W" in message
    failed, stage, message = outcome(FAST.replace("range(40)", "range(12)"))
    assert (failed, stage) == ("fail", "correctness")
    assert "makes 12 training steps, and the solution makes" in message
    failed, stage, message = outcome(FAST.replace("A = np", "A = None + np"))
    assert (failed, stage) == ("fail", "load")
    assert "TypeError" in message


@pytest.mark.slow
def test_two_scripts_that_train_differently_make_no_exercise(pair, tmp_path):
    (tmp_path / "fast.py").write_text(FAST.replace("0.1 *", "0.2 *"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"do not train the same: .* W .* differs by"):
        author(pair, tmp_path / "out", silent, real_programs)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_an_exercise_about_two_variants_requires_what_the_first_lacks(tmp_path):
    slow, fast = tmp_path / "start.py", tmp_path / "solution.py"
    for path, rung in ((slow, "contiguous"), (fast, "cached")):
        path.write_text(ladder()[rung].source(), encoding="utf-8")
    race = FakeRace([2.0, 1.0])
    found = measure_variants(slow, fast, resolve("tiny"), silent, Environment(), lambda requests: race)
    assert found.at_most == {"evaluations_in_backward": 0}
    assert found.flaw is not None
    assert "in backward evaluates the activation again" in found.flaw.what
    slow.write_text(slow.read_text(encoding="utf-8").replace("@ self.A_bias[l - 1].T", "@ -self.A_bias[l - 1].T"))
    with pytest.raises(UsageError, match=r"SLOW does not train right: "):
        measure_variants(slow, fast, resolve("tiny"), silent, Environment(), lambda requests: race)
