"""No instrument changes what a program prints or computes, to the last bit, in any of its forms."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from program_styles import twins
from under_instruments import STEPS, UNAVAILABLE, outputs
from wild.truth import HERE, every, truth

from mlpprof.catalog import ladder, load
from mlpprof.errors import MissingExtra

HARD_CASES = str(HERE / "hard_cases.py")
SURROUNDINGS = str(HERE / "hard_surroundings.py")
OWN_VARIANTS = sorted(name for name, entry in ladder().items() if entry.extra != "peers")
QUICK_VARIANTS = [name for name in OWN_VARIANTS if ladder()[name].extra is None or name == "compiled"]
MODES = ("undisturbed", "clocked", "observed", "sought", "all clocked", "all observed")

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each program runs in a fork of one process"),
    pytest.mark.slow,
]


def assert_equal_to_the_first(found, names):
    first, *others = found
    assert "Traceback" not in first
    for name, other in zip(names, others, strict=True):
        assert other == first, name


def test_the_hard_cases_print_the_same_and_have_the_same_state_in_every_form():
    jobs = [{"script": HARD_CASES, "step": "main", "mode": mode} for mode in ("plain", *MODES)]
    jobs.append({"script": HARD_CASES, "step": "train.step", "mode": "in turns"})
    assert_equal_to_the_first(outputs(*jobs), (*MODES, "in turns"))


def test_dtypes_generators_recursion_threads_and_closures_are_as_they_were_in_every_form():
    modes = (*MODES, "in turns")
    jobs = [{"script": SURROUNDINGS, "step": "step", "mode": mode} for mode in ("plain", *modes)]
    found = outputs(*jobs)
    assert found[0].endswith("\nend\n")
    assert_equal_to_the_first(found, modes)


def chunks(names, size):
    return [names[first : first + size] for first in range(0, len(names), size)]


@pytest.mark.parametrize("some", chunks(every(5, "planted"), 6), ids=lambda some: some[0].parent.name)
def test_programs_print_the_same_when_their_step_is_sought_timed_and_observed(some):
    modes = ("plain", "sought", "in turns")
    jobs = [{"script": str(script), "step": truth(script).step, "mode": mode} for script in some for mode in modes]
    for script, found in zip(some, chunks(outputs(*jobs), len(modes)), strict=True):
        assert_equal_to_the_first(found, [f"{script.relative_to(HERE)} {mode}" for mode in modes[1:]])


def test_a_program_of_every_style_has_the_state_that_python_gives_it(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    modes = ("plain", "sought", "clocked", "in turns", "paused")
    alone, jobs = [], []
    for style in twins.SHORTER:
        folder = tmp_path / style
        folder.mkdir()
        program = twins.write(style, folder)
        few = program.few(12)
        command = [sys.executable, *program.under_python(folder), *few]
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        assert run.stdout
        alone.append(run.stdout)
        job = {"script": program.slow, "step": program.steps[0], "arguments": few, "folder": str(folder)}
        jobs += [{**job, "mode": mode} for mode in modes]
    for style, printed, found in zip(twins.SHORTER, alone, chunks(outputs(*jobs), len(modes)), strict=True):
        assert_equal_to_the_first([printed, *found], [f"{style} {mode}" for mode in modes])


@pytest.mark.parametrize(
    "some", chunks(OWN_VARIANTS if twins.EVERYTHING else QUICK_VARIANTS[::3], 6), ids=lambda some: some[0]
)
def test_variants_have_the_same_parameters_gradients_and_losses_in_every_form(some):
    jobs = [{"variant": name, "mode": mode} for name in some for mode in ("plain", "in turns")]
    for name, (plain, in_turns) in zip(some, chunks(outputs(*jobs), 2), strict=True):
        if plain.startswith(UNAVAILABLE):
            assert ladder()[name].extra is not None
        else:
            assert len(plain.split()) == 3 * STEPS + 1
            assert in_turns == plain, name


@pytest.mark.parametrize("name", sorted(name for name in ladder() if name not in OWN_VARIANTS))
def test_a_framework_has_the_same_state_in_every_form(name):
    try:
        load(ladder()[name])
    except MissingExtra as error:
        pytest.skip(str(error))
    plain, in_turns = outputs({"variant": name, "mode": "plain"}, {"variant": name, "mode": "in turns"})
    assert in_turns == plain
