"""`mlpprof advise` and `mlpprof profile --step` as a user types them; what they run is made up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from advices import make_advice
from runs import make_program_run

from mlpprof.catalog import ladder_folder
from mlpprof.cli import advise, profile
from mlpprof.cli.main import run
from mlpprof.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UsageError, VariantCrash
from mlpprof.profile.program import ProgramSettings
from mlpprof.programs.request import ProgramRequest
from mlpprof.report.json_documents import advice_json, profile_json


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text("print('hello')\n", encoding="utf-8")


@pytest.fixture
def subjects(monkeypatch):
    """What was asked for; the answers are made up."""
    asked = []

    def answer(made):
        def look(subject, *, progress=None):
            progress("recording", 0.5)
            asked.append(subject)
            return made

        return look

    def measure(request, settings, typed, progress):
        progress("recording", 0.5)
        asked.append(Profiled(request, settings))
        return make_program_run()

    monkeypatch.setattr(advise, "find", answer(make_advice()))
    monkeypatch.setattr(profile, "profile_program", measure)
    return asked


@dataclass(frozen=True)
class Profiled:
    """What `profile_program` was asked for."""

    request: ProgramRequest
    settings: ProgramSettings


def failing(error):
    def look(*asked, **options):
        raise error

    return look


ANNOUNCED = "mlpprof: net.py runs up to two times, and is stopped after the recorded steps\n"


def test_findings_are_printed_and_nothing_else_is_written(subjects, capsys):
    assert run(["advise", "net.py"]) == EXIT_OK
    captured = capsys.readouterr()
    assert "sigmoid(self.Z1) is evaluated again" in captured.out
    assert captured.err == ANNOUNCED
    assert [path.name for path in Path().iterdir()] == ["net.py"]


def test_how_often_a_script_is_run_is_announced_and_a_variant_is_no_script(subjects, capsys):
    for typed in (["advise", "net.py", "--step", "step"], ["profile", "net.py", "--step", "step"]):
        assert run(typed) == EXIT_OK
        assert "net.py runs once (twice if it makes fewer than 5 steps)" in capsys.readouterr().err
    assert run(["advise", "naive"]) == EXIT_OK
    assert capsys.readouterr().err == ""


def test_a_script_may_write_where_the_command_line_or_pyproject_says_so(subjects):
    for typed in (["advise", "net.py"], ["profile", "net.py", "--step", "step"]):
        run(typed)
        run([*typed, "--allow-writes"])
    Path("pyproject.toml").write_text("[tool.mlpprof.advise]\nallow-writes = true\n", encoding="utf-8")
    run(["advise", "net.py"])
    requests = [asked.request if isinstance(asked, Profiled) else asked for asked in subjects]
    assert [request.allow_writes for request in requests] == [False, True, False, True, True]


def test_everything_after_the_dashes_goes_to_the_script(subjects, capsys):
    typed = ["advise", "net.py", "--step", "Net.step", "--include", "a/*", "--exclude", "b", "--exclude", "c"]
    assert run([*typed, "--", "--json", "-o", "x", "--", "--help"]) == EXIT_OK
    (subject,) = subjects
    assert (subject.target, subject.step) == ("net.py", "Net.step")
    assert tuple(subject.arguments) == ("--json", "-o", "x", "--", "--help")
    assert (tuple(subject.include), tuple(subject.exclude)) == (("a/*",), ("b", "c"))
    assert capsys.readouterr().out.startswith("advise")


def test_a_variant_is_trained_on_what_the_options_say(subjects):
    typed = ["--workload", "tiny", "--batch", "7", "--dtype", "float64", "--rate", "0.25", "--seed", "3"]
    assert run(["advise", "naive", *typed, "--threads", "2"]) == EXIT_OK
    (subject,) = subjects
    request = subject.request
    assert (request.network.layers, request.network.rate, request.source.name) == ((20, 8, 5, 3), 0.25, "tiny")
    assert (request.dtype, request.seed, subject.batch, subject.threads) == ("float64", 3, 7, 2)


def test_a_script_brings_its_own_network_and_threads(subjects):
    assert run(["advise", "net.py"]) == EXIT_OK
    (subject,) = subjects
    assert (subject.request, subject.batch, subject.threads) == (None, None, None)


def test_threads_of_a_profiled_program_are_its_own_unless_they_are_given(subjects):
    for more in ([], ["--threads", "2"], ["--threads", "0"]):
        assert run(["profile", "net.py", *more]) == EXIT_OK
    assert [asked.settings.threads for asked in subjects] == [None, 2, None]


def test_json_goes_to_standard_output_alone(subjects, capsys):
    assert run(["advise", "net.py", "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(advice_json(make_advice())))


def test_the_ending_picks_the_format_of_findings(subjects, capsys):
    for name in ("a.html", "a.json", "a.txt", "b.HTML"):
        assert run(["advise", "net.py", "-o", name]) == EXIT_OK
    capsys.readouterr()
    assert Path("a.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert Path("b.HTML").read_bytes() == Path("a.html").read_bytes()
    assert json.loads(Path("a.json").read_text(encoding="utf-8"))["findings"][0]["category"] == "sample-loop"
    assert "No findings" not in Path("a.txt").read_text(encoding="utf-8")


def test_no_findings_are_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(advise, "find", lambda subject, progress: make_advice(findings=()))
    assert run(["advise", "naive"]) == EXIT_OK
    assert "No findings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["advise"], ["mlpprof advise train.py"]),
        (["advise", "net.py", "-o", "a.docx"], ["a.docx", ".html, .json, .txt, .md, .sarif or .patch"]),
        (["advise", "net.py", "-o", "nowhere/a.html"], ["nowhere"]),
        (["advise", "naive", "--", "--epochs"], ["--epochs", "naive"]),
        (["advise", "net.py", "--layers", "4-3", "--batch", "5"], ["--layers, --batch", "net.py"]),
        (["advise", "net.py", "--seed", "0"], ["--seed"]),
        (["advise", "naive", "--layers", "4-x"], ["4-x"]),
        (["advise", "naive", "--batch", "0"], ["0"]),
        (["advise", "net.py", "--threads", "0"], ["0"]),
        (["advise", "naive", "cached"], ["cached", "naive"]),
        (["profile", "net.py", "--step", "Net.step", "-o", "a.docx"], ["a.docx", ".h5, .json, .csv"]),
        (["profile", "net.py", "--layers", "4-3"], ["--layers", "net.py"]),
        (["profile", "net.py", "--step", "Net.step", "-o", "nowhere/a.json"], ["nowhere"]),
        (
            ["profile", "net.py", "--step", "Net.step", "--layers", "4-3", "--no-check", "--steps", "5"],
            ["--layers, --no-check, --steps"],
        ),
        (["profile", "naive", "--step", "MLP.train_step"], ["--step MLP.train_step", "variant"]),
        (["profile", "naive", "cached"], ["unexpected", "cached"]),
        (["profile", "naive", "--", "--epochs"], ["unexpected", "--epochs"]),
        (["profile", "naive", "--include", "a"], ["--include a", "variant"]),
        (["profile", "naive", "--exclude", "a"], ["--exclude a", "variant"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_gives_one_line_before_anything_runs(subjects, capsys, arguments, named):
    assert run(arguments) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    message = captured.err.strip().splitlines()[-1]
    for word in named:
        assert word in message
    assert subjects == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no step 'x'"), EXIT_USAGE),
        (VariantCrash("net.py:3: ValueError: bad"), EXIT_USAGE),
        (KeyboardInterrupt(), EXIT_INTERRUPTED),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("typed", [["advise", "net.py"], ["profile", "net.py", "--step", "x"]], ids=" ".join)
def test_what_goes_wrong_is_one_line_and_its_exit_code(monkeypatch, capsys, error, code, typed):
    monkeypatch.setattr(advise, "find", failing(error))
    monkeypatch.setattr(profile, "profile_program", failing(error))
    assert run(typed) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    announced, message = filter(None, captured.err.splitlines())
    assert announced.startswith("mlpprof: net.py runs")
    assert str(error) in message


def test_the_profile_of_a_program_is_printed_and_kept_and_its_arguments_are_passed_on(subjects, capsys):
    assert run(["profile", "net.py", "--step", "Net.step", "-v", "--", "--epochs", "3"]) == EXIT_OK
    (asked,) = subjects
    assert (asked.request.name.target, asked.request.step) == ("net.py", "Net.step")
    assert asked.request.arguments == ("--epochs", "3")
    printed = capsys.readouterr().out
    assert "np.outer(d1[:, i], X[:, i])" in printed
    (kept,) = Path("reports").iterdir()
    assert f"kept in {kept}" in printed
    assert run(["report", str(kept), "-v"]) == EXIT_OK
    assert capsys.readouterr().out.rstrip() == printed[: printed.index("kept in")].rstrip()


@pytest.mark.parametrize(
    ("more", "runs"),
    [
        ([], "up to two times"),
        (["--lines"], "up to three times"),
        (["--lines", "--stacks"], "up to four times"),
        (["-o", "a.html"], "up to three times"),
        (["--step", "step"], "once (twice if it makes fewer than 5 steps)"),
        (["--step", "step", "--stacks-file", "a.html"], "two times (three times if it makes fewer than 5 steps)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_view_of_a_program_is_a_run_that_is_announced(subjects, capsys, more, runs):
    run(["profile", "net.py", *more])
    assert f"net.py runs {runs}, and is stopped after the recorded steps" in capsys.readouterr().err
    (asked,) = subjects
    assert asked.settings.how_often(asked.request) == runs


def test_the_profile_of_a_program_as_json_and_as_files(subjects, capsys):
    assert run(["profile", "net.py", "--json", "-o", "a.csv"]) == EXIT_OK
    wanted = json.loads(json.dumps(profile_json(make_program_run())))
    assert json.loads(capsys.readouterr().out) == wanted
    assert Path("a.csv").read_text(encoding="utf-8").startswith("batch,pass,phase,")
    assert run(["profile", "net.py", "-o", "a.json"]) == EXIT_OK
    assert json.loads(Path("a.json").read_text(encoding="utf-8")) == wanted


def test_a_file_with_a_whole_variant_is_one_unless_a_step_is_named(subjects, capsys):
    source = (Path(ladder_folder()) / "naive.py").read_text(encoding="utf-8")
    Path("mine.py").write_text(source, encoding="utf-8")
    assert run(["profile", "mine.py", "--", "x"]) == EXIT_USAGE
    assert "a variant takes none" in capsys.readouterr().err
    assert subjects == []
    assert run(["profile", "mine.py", "--step", "train"]) == EXIT_OK
    assert subjects[0].request.name.target == "mine.py"


def test_defaults_of_a_variants_profile_in_pyproject_do_not_stand_in_the_way(subjects, capsys):
    Path("pyproject.toml").write_text("[tool.mlpprof.profile]\nthreads = 2\nno-check = true\n", encoding="utf-8")
    assert run(["profile", "net.py", "--step", "Net.step"]) == EXIT_OK
