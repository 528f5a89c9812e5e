"""How a program is named: a script, a module or a notebook, perhaps at a git ref."""

from __future__ import annotations

import pytest

from mlpprof.errors import UsageError
from mlpprof.programs.name import ProgramName, has_variant, is_program

METHODS = ("fetch_batch", "forward", "loss", "backward", "update", "train_step", "parameters", "gradients", "predict")
WHOLE = "class MLP:\n" + "".join(f"    def {name}(self): ...\n" for name in ("__init__", *METHODS))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train.py", "odd@name.py", "work.ipynb"):
        (tmp_path / name).write_text("x = 1\n")
    (tmp_path / "mine.py").write_text(WHOLE)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.py", ProgramName("script", "train.py")),
        ("train.py@HEAD~1", ProgramName("script", "train.py", "HEAD~1")),
        ("odd@name.py", ProgramName("script", "odd@name.py")),
        ("odd@name.py@main", ProgramName("script", "odd@name.py", "main")),
        ("work.ipynb", ProgramName("notebook", "work.ipynb")),
        (" -m package.train", ProgramName("module", "package.train")),
        ("-m package.train@v1.0", ProgramName("module", "package.train", "v1.0")),
        ("gone.py@v1.0", ProgramName("script", "gone.py", "v1.0")),
    ],
)
def test_a_program_is_named_by_file_or_module_and_git_ref(folder, text, expected):
    assert ProgramName.parse(text) == expected
    assert ProgramName.parse(expected.text) == expected
    assert is_program(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian.py", "did you mean 'train.py'"),
        ("train.py@", "write train.py@HEAD~1"),
        ("-m package/train", "is not the name of a module"),
        ("data.csv", "is not a program; expected train.py"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(folder, text, message):
    with pytest.raises(UsageError, match=message):
        ProgramName.parse(text)


def test_a_file_is_a_variant_if_a_class_has_the_whole_interface(folder):
    assert not is_program("mine.py")
    assert not is_program("train.py:Net")
    assert not is_program("cached")
    part = folder / "part.py"
    part.write_text(WHOLE.replace("    def predict(self): ...\n", ""))
    assert is_program("part.py")
    part.write_text(WHOLE.replace("class MLP", "class Base") + "class Fast(Base):\n    def forward(self): ...\n")
    assert has_variant(part)
    part.write_text("from other import Base\nclass Fast(Base):\n    def forward(self): ...\n")
    assert has_variant(part)
    part.write_text("from other import Base\nclass Net(Base):\n    def fit(self): ...\n")
    assert not has_variant(part)
