"""The doctor's report and its JSON."""

from __future__ import annotations

import io
import json
import math

import pytest
from click.testing import CliRunner
from rich.console import Console
from runs import MACHINE

from mlpprof.cli import doctor
from mlpprof.machine.doctor import Examination, Gain, Tried
from mlpprof.machine.settings import Setting, Task
from mlpprof.report.json_documents import doctor_json
from mlpprof.report.terminal.doctor import print_examination

TASK = Task("a step", "step", 500)


def tried(what: str, line: str, ratio: float, low: float, high: float, pairs: int = 5) -> Tried:
    return Tried(Setting(what, line, (), TASK), Gain(ratio, low, high, pairs))


FOUND = Examination(
    machine=dict(MACHINE),
    limits={
        "gemm_float32_1_thread": {"value": 90.1, "unit": "GFLOP/s"},
        "gemm_float32_4_threads": {"value": 350.0, "unit": "GFLOP/s"},
        "product_float32_70x784x500_1_thread": {"value": 80.5, "unit": "GFLOP/s"},
        "bandwidth_1MiB": {"value": 66.0, "unit": "GB/s"},
        "ufunc_call": {"value": 0.48, "unit": "us"},
    },
    tried=(
        tried("OPENBLAS_CORETYPE=Nehalem pins the kernel", "unset OPENBLAS_CORETYPE", 4.1, 3.9, 4.3),
        tried("[red]markup[/red] in a name", "export A=1", 1.01, 0.98, 1.04),
        tried("one pair", "export B=1", 40.0, 0.0, math.inf, 1),
    ),
    not_known=("the governor",),
    notes=("the load was 3.0",),
    steal_share=0.004,
    quick=False,
)


def text(found: Examination, width: int = 110) -> str:
    buffer = io.StringIO()
    print_examination(found, Console(file=buffer, width=width, color_system=None))
    return buffer.getvalue()


def test_the_report_shows_machine_limits_advice_and_what_is_not_known():
    shown = text(FOUND)
    assert "AMD EPYC 9R14" in shown
    assert "kernel SkylakeX" in shown
    row = next(line for line in shown.splitlines() if "largest products, float32" in line)
    assert "90.1" in row
    assert "350" in row
    assert "0.480" in next(line for line in shown.splitlines() if "ufunc call" in line)
    advice = shown[shown.index("Advice") : shown.index("Tried, not confirmed")]
    assert "4.10 x  (3.90 to 4.30, 5 pairs)" in advice
    assert "unset OPENBLAS_CORETYPE" in advice
    assert "export A=1" not in advice
    assert "the governor" in shown[shown.index("Not known") :]
    assert "the load was 3.0" in shown


def test_an_unconfirmed_setting_is_shown_with_its_figure_and_names_stay_text():
    shown = text(FOUND)
    rest = shown[shown.index("Tried, not confirmed") :]
    assert "[red]markup[/red]" in rest
    assert "1.01 x" in rest
    assert "40.0 x in one pair; there was no time for more pairs" in rest


def test_no_advice_is_said_in_words():
    quiet = Examination(dict(MACHINE), {}, (), (), (), None, True)
    assert "none: no setting that was tried makes steps at least 3 % faster" in text(quiet)


def test_the_json_keeps_its_contract():
    document = doctor_json(FOUND)
    assert list(document) == ["schema", "machine", "limits", "advice"]
    assert document["schema"] == 1
    assert document["limits"]["bandwidth_1MiB"] == {"value": 66.0, "unit": "GB/s"}
    assert document["advice"] == [
        {
            "what": "OPENBLAS_CORETYPE=Nehalem pins the kernel",
            "setting": "unset OPENBLAS_CORETYPE",
            "gain": 4.1,
            "interval": [3.9, 4.3],
        }
    ]
    beside = document["machine"]["doctor"]
    assert beside["not_known"] == ["the governor"]
    assert [t["pairs"] for t in beside["tried"]] == [5, 5, 1]
    assert beside["tried"][2]["interval"] == [0.0, None]  # JSON has no infinity
    json.dumps(document, allow_nan=False)


@pytest.fixture
def examined(monkeypatch):
    asked = []

    def examine(progress, **options):
        progress("limits", 0.5)
        asked.append(options)
        return FOUND

    monkeypatch.setattr(doctor, "examine", examine)
    return asked


def test_the_command_prints_a_report_or_json(examined):
    runner = CliRunner()
    shown = runner.invoke(doctor.command, ["--quick"])
    assert shown.exit_code == 0
    assert "Advice" in shown.stdout
    answer = runner.invoke(doctor.command, ["--json", "--fresh"])
    assert json.loads(answer.stdout)["advice"][0]["gain"] == 4.1
    assert examined == [{"quick": True, "forget": False}, {"quick": False, "forget": True}]
