"""What the wheel holds: the package with its variants and texts, and nothing of what only the repository needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpprof.catalog import ladder
from mlpprof.workshop.exercises import built_in

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def held() -> set[str]:
    builders = pytest.importorskip("hatchling.builders.wheel")
    return {file.distribution_path for file in builders.WheelBuilder(str(ROOT)).recurse_included_files()}


def test_the_wheel_holds_every_module_and_every_variant(held):
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("mlpprof/**/*.py")}
    variants = {f"mlpprof/{entry.path.relative_to(ROOT)}" for entry in ladder().values()}
    assert modules | variants <= held
    assert len(variants) > 30


def test_the_wheel_holds_texts_templates_and_schemas(held):
    kinds = ("html", "css", "js", "json", "md", "jinja", "toml")
    others = {str(path.relative_to(ROOT)) for kind in kinds for path in ROOT.glob(f"mlpprof/**/*.{kind}")}
    assert {f"mlpprof/workshop/texts/{exercise.file_name}" for exercise in built_in().exercises} <= others
    assert others <= held
    assert "mlpprof/py.typed" in held


def test_the_wheel_holds_neither_reports_nor_tests(held):
    assert {path.split("/")[0] for path in held} == {"mlpprof"}
