"""Cures as edits: they are applied together, they conflict, and they become a diff that git applies."""

from __future__ import annotations

import subprocess

import libcst as cst

from mlpprof.advise.editing.cure import Cure, LineEdit, applied, diff, line_edits
from mlpprof.advise.editing.source import SourceTree, before, expression, replaced, statement, transformed
from mlpprof.advise.proof.patch import line_end
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.source_lines import lines_of

TEXT = """import numpy as np

# the forward pass
def forward(x):  # of one batch
    z = np.dot(x, W)   # é
    a = f(z); b = f(z)
    return a + b
"""
SOURCES = {"/p/net.py": TEXT}


def site(line, text):
    raw = lines_of(TEXT)[line - 1].encode()
    column = raw.rindex(text.encode())
    return Site("/p/net.py", line, column, None, line, column + len(text.encode()))


def test_a_node_is_found_by_its_place_and_replaced_with_all_comments_kept():
    tree = SourceTree(TEXT)
    node = tree.of(site(6, "f(z)"))
    loop = tree.statement_at(5)
    module = replaced(
        tree.module,
        {node: lambda _: expression("a"), loop: lambda one: before(one, [statement(f"{tree.fresh_name('z')} = 1\n")])},
    )
    assert module.code == TEXT.replace("b = f(z)", "b = a").replace("    z = np", "    z2 = 1\n    z = np")


def test_cures_on_different_lines_are_applied_together_and_others_conflict():
    first = Cure("safe", tuple(line_edits("/p/net.py", TEXT, TEXT.replace("b = f(z)", "b = a"))))
    second = Cure("safe", (LineEdit("/p/net.py", 0, 0, ("import math\n",)),))
    third = Cure("safe", tuple(line_edits("/p/net.py", TEXT, TEXT.replace("a = f(z)", "a = g(z)"))))
    assert not first.conflicts_with(second)
    assert first.conflicts_with(third)
    assert applied(SOURCES, [first, second]) == {"/p/net.py": "import math\n" + TEXT.replace("b = f(z)", "b = a")}
    assert applied(SOURCES, [second, second]) == {"/p/net.py": "import math\n" + TEXT}


def test_a_change_that_is_no_python_makes_no_cure():
    def broken(module):
        return module.with_changes(body=[*module.body, cst.SimpleStatementLine([cst.Return(cst.Name("x"))])])

    assert transformed("safe", SOURCES, {"/p/net.py": broken}) is None
    assert transformed("safe", SOURCES, {"/p/net.py": lambda module: module}) is None


def test_git_applies_the_diff_also_without_a_newline_at_the_end(tmp_path):
    old, new = {"net.py": "a\nb\nc"}, {"net.py": "a\nB\nc\n"}
    (tmp_path / "net.py").write_text(old["net.py"])
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    patch = diff(old, new, lambda path: path, lambda path: "\n")
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=tmp_path, check=True)
    assert (tmp_path / "net.py").read_text() == new["net.py"]


def test_git_applies_the_diff_of_a_file_with_the_line_ends_of_windows(tmp_path):
    path = tmp_path / "net.py"
    path.write_bytes(b"a\r\nb\r\nc\r\n")
    patch = diff({str(path): "a\nb\nc\n"}, {str(path): "a\nB\nc\n"}, lambda path: "net.py", line_end)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "apply", "-"], input=patch.encode(), cwd=tmp_path, check=True)
    assert path.read_bytes() == b"a\r\nB\r\nc\r\n"
