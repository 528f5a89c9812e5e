"""A notebook as one program: what is kept of its cells, what is left out, and where a line is."""

from __future__ import annotations

import ast
import difflib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notebooks import notebook_text

from mlpprof.errors import UsageError
from mlpprof.programs.notebook import Notebook, SourceEdit, parts_of, place_of, read_notebook, with_edits

KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def read(*cells: str, **changes: Any) -> Notebook:
    return read_notebook("folder/work.ipynb", notebook_text(*cells, **changes))


def ran(*cells: str) -> dict[str, Any]:
    """The names that a notebook leaves."""
    notebook = read(*cells)
    names = notebook.namespace()
    exec(compile(notebook.source, "work.ipynb", "exec"), names)
    return names


def test_the_code_cells_follow_each_other_and_empty_ones_are_not_counted():
    notebook = read("x = 1", "  \n\n", "y = x\n\nz = y", "# only a comment", "w = z\n")
    assert notebook.source == "x = 1\ny = x\n\nz = y\n# only a comment\nw = z\n"
    assert [cell.number for cell in notebook.cells] == [1, 2, 3, 4]
    assert [notebook.place(line) for line in range(1, 7)] == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1), (4, 1)]
    assert notebook.notes == ()


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("%matplotlib inline", "pass  # %matplotlib inline"),
        ("    %matplotlib inline\n    x = 2", "pass  # %matplotlib inline\nx = 2"),
        ("!pip install numpy", "pass  # !pip install numpy"),
        ("!!ls", "pass  # !!ls"),
        ("!echo 'it is \\\n   long'\nx = 1", "pass  # !echo 'it is\n#    long'\nx = 1"),
        ("?sum", "pass  # ?sum"),
        ("sum?", "pass  # sum?"),
        ("sum??  # what is it", "pass  # sum??  # what is it"),
        ("files = !ls", "pass  # files = !ls"),
        ("here = %pwd", "pass  # here = %pwd"),
        ("a.b[0] = %pwd", "pass  # a.b[0] = %pwd"),
        ("%timeit x = 1", "pass  # %timeit x = 1"),
        ("%time x = 1", "x = 1"),
        ("%time", "pass  # %time"),
        ("x = %time sum([1])", "x = sum([1])"),
        ("%prun -l 5 -s cumtime x = -1", "x = -1"),
        ("if True:\n    %time x = 1\n    !ls\n", "if True:\n    x = 1\n    pass  # !ls"),
        ("/sum (1, 2)", "pass  # /sum (1, 2)"),
        ("pip install numpy", "pass  # pip install numpy"),
        ("ls", "pass  # ls"),
        ("%%time\nx = 1", "# %%time\nx = 1"),
        ("\n%%capture out\n%%time\nx = 1\n%pwd", "\n# %%capture out\n# %%time\nx = 1\npass  # %pwd"),
        ("%%mlpprof --steps 5\nx = 1", "# %%mlpprof --steps 5\nx = 1"),
        ("%%bash\nls\n\n# x", "# %%bash\n# ls\n#\n# # x"),
        ("%%writefile a.py\n'''", "# %%writefile a.py\n# '''"),
        ("%%timeit\nx = 1", "# %%timeit\n# x = 1"),
    ],
)  # fmt: skip
def test_what_only_jupyter_understands_becomes_a_comment_or_what_it_runs(cell, kept):
    assert read(cell).source == f"{kept}\n"


@pytest.mark.parametrize(
    "cell",
    [
        "text = '''\n%matplotlib inline\n!ls\nwhat?\n'''\n",
        'text = """\n%no "quoted" \'\'\'\n!no\n"""',
        "x = (7\n%2)\n",
        "y = [1,\n  # a bracket ( in a comment\n  7\n  %4]\n",
        "x = 17 \\\n  %4\n",
        "text = 'a \\\n%b'\n",
        "text = '#' ; x = 1  # why?\n",
        "d = {'a': '%s'}\nx = '%s' % d\n",
        "x = 7; x %= 4\n",
        "text = 'x = !ls'\n",
        "ls = 1\nls\n",
        "x = r'\\' !ls'\n",
    ],
)
def test_what_looks_like_a_magic_but_is_python_is_kept(cell):
    notebook = read(cell)
    assert notebook.source == (cell if cell.endswith("\n") else f"{cell}\n")
    assert notebook.notes == ()


@given(st.lists(st.sampled_from([
    "%time x = 1", "!ls \\", "x = (1,", " 2)", "'''", '"', "# it's", "x = !ls", "", "    %pwd", "if 1:", "    x = 1",
    "%%bash", "%%time", "x?", "\\", "f'{1}'", "x = '#' # \"", "ls", ")", "from __future__ import annotations",
]), min_size=1), st.booleans())  # fmt: skip
def test_a_cell_keeps_its_number_of_lines_and_parts_cover_the_source(lines, at_the_end):
    cell = "\n".join(lines) + ("\n" if at_the_end else "")
    try:
        notebook = read("x = 0", cell)
    except UsageError:
        return
    first, *rest = notebook.cells
    assert first.source.count("\n") == 1
    for one in rest:
        assert one.source.count("\n") == one.text.count("\n") == len(cell.removesuffix("\n").split("\n"))
    ast.parse(notebook.source)


def ipythons_view(cell: str) -> list[int]:
    """The lines of a cell that IPython changes."""
    manager = pytest.importorskip("IPython.core.inputtransformer2").TransformerManager()
    after = manager.transform_cell(cell).split("\n")
    return [
        i for i, (one, other) in enumerate(zip(cell.split("\n"), after, strict=False)) if one.strip() != other.strip()
    ]


@given(st.lists(st.sampled_from([
    "x = 7", "%pwd", "!ls", "x = [1,", "  %3]", "x = '''", "%a", "'''", "y = !ls", "print('%s' % 7)", "x?", "# !ls",
    "if x:", "    %pwd", "    y = 1", "s = \"!x\"",
]), min_size=1))  # fmt: skip
def test_ipython_takes_the_same_lines_for_magics(lines):
    cell = "\n".join(lines) + "\n"
    try:
        notebook = read("x = 0", cell)
    except UsageError:
        return
    kept = notebook.cells[1].source.split("\n")
    changed = [
        i for i, (one, other) in enumerate(zip(cell.split("\n"), kept, strict=True)) if one.strip() != other.strip()
    ]
    assert changed == ipythons_view(cell)


@given(
    st.lists(st.sampled_from(["x = 1\n", "def f():\n    return 1\n", "\n\nx = 2", "class A: pass  # a"]), min_size=1)
)
def test_cells_without_magics_are_joined_as_they_are(cells):
    assert read(*cells).source == "".join(cell if cell.endswith("\n") else f"{cell}\n" for cell in cells)


def test_a_future_import_of_any_cell_holds_for_the_whole_program_and_lines_stay_where_they_are():
    cells = ("x = 1", "from __future__ import (annotations,\n    division); y = 2\nz: nothing = 3")
    notebook = read(*cells)
    assert ran(*cells)["z"] == 3
    assert notebook.source.split("\n")[0] == "from __future__ import annotations, division"
    assert notebook.place(2) == (1, 1)
    assert notebook.place(5) == (2, 3)
    assert notebook.line(2, 3) == 5
    assert notebook.place(1) == (1, 1)


def test_a_future_import_in_the_first_cell_alone_needs_no_line_of_its_own():
    notebook = read("# first\nfrom __future__ import annotations\nx: nothing = 1", "y = 2")
    assert notebook.place(3) == (1, 3)
    assert ran("from __future__ import annotations\nx: nothing = 1", "y = 2")["y"] == 2


def test_the_notes_name_what_was_left_out_and_where():
    cells = ["import os\n%matplotlib inline", "!ls\n%time x = 1", "%%bash\nls", *["!pwd"] * 9]
    lines, whole = read(*cells).notes
    assert lines == (
        "mlpprof left out of work.ipynb what only Jupyter understands: `%matplotlib inline` (cell 1:2), `!ls` (cell "
        "2:1), `%time` (cell 2:2), `!pwd` (cell 4:1), `!pwd` (cell 5:1), `!pwd` (cell 6:1), and 6 more"
    )
    assert whole == "mlpprof left out whole cells of work.ipynb, because of their magics: cell 3 (`%%bash`)"


def test_what_jupyter_provides_does_nothing():
    names = ran(
        "display(1, raw=True)",
        "shell = get_ipython()\nif shell:\n    raise RuntimeError\nshell.run_line_magic('matplotlib', 'inline')\n"
        "inside = 'IPKernelApp' in get_ipython().config\nnumber = len([*shell])",
    )
    assert names["inside"] is False
    assert names["number"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "work.ipynb is damaged, or not a notebook: expected JSON, found: "),
        ("[]", "not a Jupyter notebook: the entry 'nbformat' is missing"),
        ("{}", "not a Jupyter notebook"),
        (notebook_text("x = 1", nbformat=3), "version 3 of the notebook format; expected 4. To convert it, type: "),
        (notebook_text("x = 1", cells=7), "is damaged: it has no list of cells"),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": 1.5}]}', "is damaged: the source of a cell is 1.5"),
        ('{"nbformat": 4, "cells": ' + '[' * 100_000, "nested too deep"),
        (notebook_text("x = 1", metadata={"language_info": {"name": "julia"}}), "is written in julia; mlpprof runs"),
        (notebook_text("x = 1", metadata={"kernelspec": {"language": "R", "name": "ir"}}), "is written in R"),
        (notebook_text(), "has no code: all of its cells are empty or text"),
        (notebook_text(" \n"), "has no code"),
        (notebook_text("x = 1", "y = 2\nx = ="), "work.ipynb:cell 2:2: SyntaxError: invalid syntax"),
        (notebook_text("x = 1", "return x"), "work.ipynb:cell 2:1: SyntaxError: 'return' outside function"),
        (notebook_text("x = [1"), "work.ipynb:cell 1:1: SyntaxError: '\\[' was never closed"),
        (notebook_text("x = 1\nif x:\n    y = await z()"), "cell 1:3: `await` outside of a function works in Jupyter"),
        (notebook_text("async for x in y: pass"), "cell 1:1: `await` outside"),
        (notebook_text("x = '\0'"), "cell 1:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_said_in_one_sentence(text, message):
    with pytest.raises(UsageError, match=message) as caught:
        read_notebook("folder/work.ipynb", text)
    assert "\n" not in str(caught.value)


def test_a_notebook_in_python_is_read_whatever_its_kernel_is_called():
    assert read("x = 1", metadata=KERNEL).source == "x = 1\n"
    assert read("async def f():\n    await g()", metadata={"kernelspec": {"name": "my-env"}}).cells[0].number == 1


def test_a_file_with_bom_and_windows_lines_is_read(tmp_path: Path):
    path = tmp_path / "work.ipynb"
    path.write_text(notebook_text("x = 1\r\ny = 2\r\n"), encoding="utf-8-sig")
    assert read_notebook(str(path)).source == "x = 1\ny = 2\n"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="damaged"):
        read_notebook(str(path))
    with pytest.raises(UsageError, match="cannot read 'no.ipynb'"):
        read_notebook("no.ipynb")


def test_a_source_that_is_one_string_is_read_too():
    document = json.loads(notebook_text("x = 1"))
    document["cells"][1]["source"] = "x = 1\ny = 2"
    assert read_notebook("work.ipynb", json.dumps(document)).source == "x = 1\ny = 2\n"


def test_lines_of_a_notebook_that_was_read_are_shown_as_cell_and_line(tmp_path: Path):
    path = str(tmp_path / "shown.ipynb")
    notebook = read_notebook(path, notebook_text("x = 1", "%time y = 2\nz = 3"))
    assert place_of(path, 3).text == "shown.ipynb:cell 2:2"
    assert place_of(path, 3, "lib/shown.ipynb").source == "lib/shown.ipynb:cell 2"
    assert place_of(path, 3).words == "line 2 of cell 2"
    assert place_of(str(tmp_path / "net.py"), 3).text == "net.py:3"
    assert place_of(str(tmp_path / "net.py"), 3).words == "line 3"
    assert [(place.text, text) for place, text in parts_of(path, notebook.source, "a.ipynb")] == [
        ("a.ipynb:cell 1:1", "x = 1\n"),
        ("a.ipynb:cell 2:1", "%time y = 2\nz = 3\n"),
    ]
    assert [text for _, text in parts_of("net.py", "x = 1\n", "net.py")] == ["x = 1\n"]


def test_a_line_that_a_notebook_does_not_have_is_refused():
    notebook = read("x = 1", "y = 2\nz = 3")
    assert notebook.line(2, 2) == 3
    with pytest.raises(UsageError, match="work.ipynb has no cell 3; it has cells 1 to 2"):
        notebook.line(3, 1)
    with pytest.raises(UsageError, match="cell 2 of work.ipynb has 2 lines, not 4"):
        notebook.line(2, 4)


def as_jupyter(text: str) -> str:
    """The same notebook as Jupyter writes it."""
    return json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


def test_edits_of_the_source_change_their_cells_and_nothing_else():
    cells = (
        "# é\n%matplotlib inline\nx = 1",
        "  \n",
        "%time y = 2\nz = 3",
        "from __future__ import annotations\nw = 4\n",
    )
    before = as_jupyter(notebook_text(*cells))
    source = read_notebook("work.ipynb", before).source.split("\n")
    assert source[3:6] == ["x = 1", "y = 2", "z = 3"]  # after the line with the import
    edits = [SourceEdit(3, 4, ("x = 1.5\n", "x += 1\n")), SourceEdit(5, 5, ("inserted\n",)), SourceEdit(7, 8, ())]
    after = with_edits("work.ipynb", before, edits)
    changed = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert [line[2:].strip() for line in changed if line[0] == "-"] == [
        *('"x = 1"', '"from __future__ import annotations\\n",', '"w = 4\\n"'),
    ]
    assert [cell.text for cell in read_notebook("work.ipynb", after).cells] == [
        "# é\n%matplotlib inline\nx = 1.5\nx += 1\n",
        "%time y = 2\ninserted\nz = 3\n",
        "from __future__ import annotations\n",
    ]


def test_a_notebook_without_edits_is_written_as_it_was():
    for text in (notebook_text("x = 1"), as_jupyter(notebook_text("x = 'ü'", ""))):
        assert with_edits("work.ipynb", text, []) == text
