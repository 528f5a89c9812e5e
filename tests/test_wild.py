"""The programs in the styles found in the wild: each runs alone, twins compute the same, and the marks can be read."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from wild.truth import HERE, Flaw, Place, Truth, clean, every, files_of, name, scripts, truth

CATEGORIES = frozenset(
    (
        *("sample-loop", "neuron-loop", "recomputation", "layout", "float64", "bias-stacking", "gather", "temporaries"),
        *("dead-computation", "slow-primitive", "second-forward", "work-in-step", "small-product"),
    )
)
PLANTED = scripts("planted")
CLEAN = scripts("clean")


@cache
def output_of(script: Path) -> list[str]:
    """What a program prints when it is run with NumPy alone, from another folder, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-W", "ignore::PendingDeprecationWarning", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert not run.stderr
    return run.stdout.splitlines()


def result_of(script: Path) -> np.ndarray:
    """The figures of a program's last line: its loss and the sums of its parameters."""
    return np.array([float(figure) for figure in output_of(script)[-1].split()])


@pytest.mark.slow
@pytest.mark.parametrize("script", [*every(3, "planted"), *every(3, "clean")], ids=name)
def test_a_program_runs_alone_and_ends_with_finite_figures(script):
    assert np.isfinite(result_of(script)).all()
    assert len(result_of(script)) > 2


@pytest.mark.slow
@pytest.mark.parametrize("planted", every(3, "planted"), ids=name)
def test_twins_train_the_same_parameters(planted):
    np.testing.assert_allclose(result_of(planted), result_of(clean(planted)), rtol=1e-4)


@pytest.mark.parametrize("script", [*PLANTED, *CLEAN], ids=name)
def test_every_mark_names_a_category_and_every_program_one_step(script):
    told = truth(script)
    assert {flaw.category for flaw in told.flaws} <= CATEGORIES
    assert re.fullmatch(r"\w+\.py:([\w.]+)", told.step)
    # A mark that is written wrongly would be read as none.
    comments = re.findall("(?:planted|acceptable)", "".join(path.read_text() for path in files_of(script)))
    assert len(comments) == sum(len(flaw.places) for flaw in told.flaws)


def test_only_planted_twins_have_flaws():
    assert all(any(flaw.planted for flaw in truth(script).flaws) for script in PLANTED)
    assert not any(truth(script).flaws for script in CLEAN)


def test_every_category_but_small_product_is_planted_somewhere():
    planted = {flaw.category for script in PLANTED for flaw in truth(script).flaws if flaw.planted}
    assert planted == CATEGORIES - {"small-product"}


def test_a_finding_is_judged_by_category_file_and_overlapping_lines(tmp_path):
    script = tmp_path / "planted.py"
    script.write_text(
        "def f(x):  # step\n"
        "    for i in x:  # planted: sample-loop; acceptable: small-product\n"
        "        y = i\n"
        "    a = g(x)  # planted: recomputation [g]\n"
        "    return (\n"
        "        g(x)\n"
        "    )  # planted: recomputation [g]\n"
    )
    told = truth(script)
    loop = Flaw("sample-loop", True, (Place("planted.py", 2, 3),))
    again = Flaw("recomputation", True, (Place("planted.py", 4, 4), Place("planted.py", 5, 7)))
    acceptable = Flaw("small-product", False, (Place("planted.py", 2, 3),))
    assert told == Truth(script, "planted.py:f", (loop, acceptable, again))
    found = {"category": "recomputation", "file": "planted.py", "line": 6, "end_line": 6}
    assert told.missed([found]) == [loop]
    elsewhere = [{**found, "line": 1, "end_line": 1}, {**found, "file": "other.py"}, {**found, "category": "layout"}]
    assert told.wrong([found, *elsewhere]) == elsewhere
    assert told.missed(elsewhere) == [loop, again]


def test_a_loop_that_is_the_step_is_named_by_its_line(tmp_path):
    (tmp_path / "main.py").write_text(
        "class A:\n    def fit(self):\n        for i in self:  # step\n            pass\n"
    )
    assert truth(tmp_path / "main.py").step == "main.py:3"
    (tmp_path / "other.py").write_text("for i in range(3):  # step\n    pass\n")
    with pytest.raises(ValueError, match="marks 2 steps"):
        truth(tmp_path / "main.py")


def test_the_hard_cases_print_the_same_digest_every_time():
    first = output_of(HERE / "hard_cases.py")
    output_of.cache_clear()
    assert output_of(HERE / "hard_cases.py") == first
    assert re.fullmatch("[0-9a-f]{64}", first[-1])
