"""The programs of reports/: each explains itself, and bad input ends it with one line and the exit code 2."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mlpprof.errors import EXIT_INTERRUPTED, EXIT_USAGE, CheckFailed, MlpprofError, UsageError
from reports.program import Program

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ("advice", "goals", "memory", "scaling", "scaling_network", "shapes", "streaming")
PROGRAMS = (
    *(f"reports.studies.{study}" for study in STUDIES),
    "reports.verdicts.simulated",
    "reports.verdicts.real_trials",
    "reports.verdicts.programs",
    "reports.verdicts.bias",
    "reports.verdicts.elsewhere",
    "reports.advise.calibration",
    "reports.advise.mutants",
    "reports.advise.opt95",
    "reports.build_notebook",
    "reports.refresh",
    "reports.studies.sweep_kills",
    "reports.workshop.submissions",
    "reports.workshop.raced",
    "reports.workshop.seconds",
    "reports.workshop.figures",
)
READMES = [*ROOT.glob("reports/**/README.md"), ROOT / "variants" / "README.md"]


def main_of(program: str) -> click.Command:
    main: click.Command = importlib.import_module(program).main
    return main


def test_every_program_stands_in_a_readme_and_every_readme_names_programs_that_exist():
    texts = [path.read_text(encoding="utf-8") for path in [*READMES, ROOT / "README.md"]]
    named = set(re.findall(r"python -m (reports\.[a-z0-9_.]+[a-z0-9])(?![\w.])", "\n".join(texts)))
    assert named == set(PROGRAMS)


@pytest.mark.parametrize("readme", READMES, ids=lambda readme: str(readme.relative_to(ROOT)))
def test_every_link_of_a_readme_leads_somewhere(readme):
    for target in re.findall(r"\]\(([^)#:]+)[)#]", readme.read_text(encoding="utf-8")):
        assert (readme.parent / target).exists(), target


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_explains_itself_under_the_name_that_you_type(program):
    source = (ROOT / program.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
    assert f'main(prog_name="python -m {program}")' in source
    shown = CliRunner().invoke(main_of(program), ["-h"])
    assert shown.exit_code == 0
    assert "Options:" in shown.output


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_refuses_a_folder_that_cannot_be_written(study, tmp_path):
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main_of(f"reports.studies.{study}"), ["--quick", "--out", str(tmp_path / "file" / "in")])
    assert done.exit_code == EXIT_USAGE
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlpprof: cannot write into")


@pytest.mark.parametrize(
    ("program", "arguments", "words"),
    [
        ("reports.studies.goals", ["--work", "S9"], "no workload begins with S9; the workloads are: S1 batch 32"),
        ("reports.studies.advice", ["--batch", "70000"], "batch 70000 is out of range"),
        ("reports.verdicts.simulated", ["--noise", "nothing.npz"], "nothing.npz"),
        ("reports.build_notebook", ["pyproject.toml", "no/such/folder/a.ipynb"], "cannot write no/such/folder/a.ipynb"),
    ],
)
def test_bad_input_is_named_in_one_line(program, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if "studies" in program:
        arguments = [*arguments, "--out", str(tmp_path)]
    done = CliRunner().invoke(main_of(program), arguments)
    assert done.exit_code == EXIT_USAGE, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlpprof: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stop", "code", "words"),
    [
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "interrupted"),
        (UsageError("no such thing"), EXIT_USAGE, "no such thing"),
        (CheckFailed("layer 2 deviates"), CheckFailed.exit_code, "layer 2 deviates"),
    ],
)
def test_a_program_that_is_stopped_says_why_and_ends_as_mlpprof_does(stop: MlpprofError, code, words):
    @click.command(cls=Program)
    def stopped() -> None:
        raise stop

    done = CliRunner().invoke(stopped, [])
    assert done.exit_code == code
    assert done.stderr == f"mlpprof: {words}\n"
