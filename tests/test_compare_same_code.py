"""Variants and callables that are the same code are not compared; programs are in test_compare_programs.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpprof.catalog import find, ladder
from mlpprof.cli.main import run
from mlpprof.compare.same_code import SameCode, require_different_functions, require_different_variants
from mlpprof.errors import EXIT_USAGE


class Holder:
    def step(self) -> None:
        pass


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files with the same bytes, in folders of their own."""
    monkeypatch.chdir(tmp_path)
    for folder in ("v1", "v2"):
        Path(folder).mkdir()
        Path(folder, "mine.py").write_text(ladder()["sliced"].source(), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("command", ["compare", "calibrate"])
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [("cached", "cached", "'cached' is given twice"), ("v1/mine.py", "v2/mine.py", "are the same code (1 file with")],
)
def test_the_same_variant_and_a_copy_of_its_file_are_refused(copies, capsys, command, old, new, said) -> None:
    assert run([command, old, new, "--workload", "tiny"]) == EXIT_USAGE
    assert said in capsys.readouterr().err


def test_copies_that_import_different_modules_beside_them_are_different(copies) -> None:
    for folder in ("v1", "v2"):
        path = Path(folder, "mine.py")
        path.write_text(path.read_text(encoding="utf-8") + "import activations\n", encoding="utf-8")
        Path(folder, "activations.py").write_text(f"name = '{folder}'\n", encoding="utf-8")
    require_different_variants(find("v1/mine.py"), find("v2/mine.py"))


def test_the_same_function_is_refused_also_as_a_method_that_is_bound_twice() -> None:
    one, other = Holder(), Holder()
    with pytest.raises(SameCode, match="Holder.step is given twice"):
        require_different_functions(one.step, one.step)
    require_different_functions(one.step, other.step)
