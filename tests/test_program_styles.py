"""Programs in the styles in which people write them, through every command: each with its hand-optimized twin.

The speeds are measured on a machine that may do other things meanwhile, so the twins differ clearly.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from program_styles.twins import EVERYTHING, SHORTER, STYLES, Twins, write
from under_instruments import outputs

from mlpprof.advise import Subject, find
from mlpprof.profile.program import ProgramSettings, profile_program
from mlpprof.programs.request import request_for
from mlpprof.results.step_profile import ITERATOR
from mlpprof.testing import assert_speedup

NOT_LOOKED_INTO = "gets its next item, as from a generator of batches"
"""What a note says of a program whose flaw is in the generator that the training loop runs over."""


SOME = pytest.mark.parametrize("twins", SHORTER if EVERYTHING else SHORTER[::2], indirect=True)
FEW = pytest.mark.parametrize("twins", SHORTER if EVERYTHING else SHORTER[:1], indirect=True)
"""What takes minutes is tested in some styles only: see SHORTER."""


@pytest.fixture(params=STYLES)
def twins(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    """The programs of a style in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write(request.param, tmp_path)


def in_silence(what: str, share: float) -> None:
    """Progress that nobody reads."""


def test_every_program_has_one_step_and_one_flaw_and_its_twin_lacks_the_flaw(twins: Twins) -> None:
    assert len({flaw.category for flaw in twins.truth.flaws if flaw.planted}) == 1
    for side in ("slow", "fast"):
        files = [path for path in Path().rglob("*") if side in str(path) and path.is_file()]
        marks = sum(path.read_text().count("# planted: ") for path in files)
        assert marks == (sum(flaw.planted for flaw in twins.truth.flaws) if side == "slow" else 0)


@pytest.mark.slow
def test_twins_train_the_same_parameters(tmp_path: Path) -> None:
    jobs = []
    for style in STYLES:
        folder = tmp_path / style
        folder.mkdir()
        twins = write(style, folder)
        few = {"arguments": twins.few(30), "folder": str(folder), "mode": "plain"}
        jobs += [{"script": name, **few} for name in (twins.slow, twins.fast)]
    printed = [np.array([float(part.split(":")[0]) for part in text.split()]) for text in outputs(*jobs)]
    for style, slow, fast in zip(STYLES, printed[::2], printed[1::2], strict=True):
        assert len(slow) > 1
        np.testing.assert_allclose(slow, fast, rtol=1e-9, err_msg=style)


@pytest.mark.timing
@SOME
def test_advise_finds_the_step_and_the_flaw(twins: Twins) -> None:
    advice = find(Subject(twins.slow, threads=1))
    assert advice.step == twins.steps[0]
    told = []
    for one in advice.findings:
        file, line = twins.here(one.file, one.line, one.cell)
        told.append({**asdict(one), "file": file, "line": line, "end_line": line + one.end_line - one.line})
    if twins.style == "generator of batches":
        assert NOT_LOOKED_INTO in " ".join(advice.notes)
    else:
        assert not twins.truth.missed(told), [f"{one['category']} {one['file']}:{one['line']}" for one in told]


@pytest.mark.timing
@FEW
def test_profile_shows_the_time_of_the_flaw(twins: Twins) -> None:
    run = profile_program(request_for(twins.slow), ProgramSettings(threads=1, limits=False), "", in_silence)
    assert run.program is not None
    assert run.program.is_found
    shown = {twins.here(one.file, one.line, one.cell) for one in run.program.expressions if one.seconds[0] > 0}
    if twins.style == "generator of batches":
        assert NOT_LOOKED_INTO in " ".join(run.warnings)
        assert run.results[0].phase_shares[ITERATOR] > 0.5
    else:
        flaws = [place for flaw in twins.truth.flaws for place in flaw.places]
        assert all(
            any(file == place.file and place.line <= line <= place.end_line for file, line in shown) for place in flaws
        )


@pytest.mark.timing
@FEW
def test_it_is_proven_that_the_twin_trains_the_same_and_is_faster(twins: Twins) -> None:
    """Compared as `mlpprof compare` and the fixture `speedup` do."""
    over_step, step = twins.steps
    shown = assert_speedup(twins.fast, over=twins.slow, at_least=1.1, step=step, over_step=over_step)
    assert shown.verdict.outcome == "pass"
    assert "parameters are the same" in shown.subject
