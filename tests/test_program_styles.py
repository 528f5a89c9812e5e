"""Programs in the styles in which people write them, through every command: each with its hand-optimized twin."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from program_styles.twins import STYLES, Twins, write

from mlpprof.advise import Subject, find

pytestmark = pytest.mark.slow


@pytest.fixture(params=STYLES)
def twins(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Twins:
    """The programs of a style in the working directory."""
    monkeypatch.chdir(tmp_path)
    return write(request.param, tmp_path)


@pytest.mark.timing
def test_advise_finds_the_step_and_the_planted_flaw(twins: Twins) -> None:
    advice = find(Subject(twins.slow, threads=1))
    assert advice.step in twins.steps
    told = [{**asdict(finding), "file": Path(finding.file).name} for finding in advice.findings]
    assert not twins.truth.missed(told), [f"{one['category']} {one['file']}:{one['line']}" for one in told]
