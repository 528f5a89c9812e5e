"""`mlpprof advise` and `profile` on a notebook: it runs as in Jupyter, and its places are cells and lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from notebooks import written

from mlpprof.advise import find
from mlpprof.errors import ProgramEnded, UsageError, VariantCrash
from mlpprof.profile.program import ProgramSettings, profile_program
from mlpprof.programs.request import request_for
from mlpprof.report.advice_words import excerpt, place_text
from mlpprof.report.json_documents import advice_json
from mlpprof.report.terminal.profile import report_text

FIRST = "%matplotlib inline\nimport numpy as np\nimport helper\n!pip install numpy"
DATA = "X = np.load('data.npy')  # beside the notebook\nassert '__file__' not in globals() and __name__ == '__main__'"
NETWORK = """\
def sigmoid(z):
    return 1 / (1 + np.exp(-z))

def step(x):
    global W
    z = x @ W
    a = sigmoid(z)
    d = (a - 0.5) * sigmoid(z) * (1 - sigmoid(z))
    W = W - 0.1 * x.T @ d / len(x)
"""
TRAINING = """\
W = np.random.default_rng(2).normal(size=(20, 300))
%time for epoch in range(3): step(X)
display(W.shape)
for epoch in range(200):
    step(X)
"""


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    folder = tmp_path / "course"
    folder.mkdir()
    np.save(folder / "data.npy", np.random.default_rng(1).normal(size=(400, 20)))
    (folder / "helper.py").write_text("")
    return written(folder / "work.ipynb", FIRST, DATA, NETWORK, TRAINING)


@pytest.mark.slow
def test_the_findings_of_a_notebook_name_cells_and_lines_as_the_user_sees_them(notebook):
    advice = find(notebook, step="step")
    assert advice.step == "work.ipynb:step"
    finding = next(one for one in advice.findings if one.category == "recomputation")
    assert (finding.file, finding.cell, finding.line) == ("work.ipynb", 3, 8)
    assert place_text(finding).startswith("work.ipynb:cell 3:8:")
    assert "computes again what line 7 of cell 3 has already computed" in finding.title
    assert [place.text for place in finding.related] == ["work.ipynb:cell 3:7"]
    assert "work.ipynb:cell 3:7" in finding.cure
    marked = [(line.number, line.text.strip()) for line in excerpt(advice, finding) if line.marked]
    assert marked == [(8, "d = (a - 0.5) * sigmoid(z) * (1 - sigmoid(z))")]
    assert advice.notes[0] == (
        "mlpprof left out of work.ipynb what only Jupyter understands: `%matplotlib inline` (cell 1:1), `!pip install "
        "numpy` (cell 1:4), `%time` (cell 4:2)"
    )
    document = advice_json(advice)
    assert {(one["file"], one["cell"]) for one in document["findings"]} <= {("work.ipynb", n) for n in (2, 3, 4)}


@pytest.mark.slow
def test_the_profile_of_a_notebook_names_cells_and_shows_their_lines(notebook):
    settings = ProgramSettings(lines=True, limits=False)
    run = profile_program(request_for(notebook, step="step"), settings, "typed", lambda what, share: None)
    assert run.program is not None
    places = {one.text: one.place.text for one in run.program.expressions}
    assert places["np.exp(-z)"] == "work.ipynb:cell 3:2"
    assert {"x @ W", "W - 0.1 * x.T @ d / len(x)"} <= places.keys()
    assert run.program.sources["work.ipynb:cell 3"] == NETWORK
    assert run.lines is not None
    assert {(one.file, one.line) for one in run.lines.lines} >= {("work.ipynb:cell 3", n) for n in (2, 6, 7, 8, 9)}
    assert run.program.notes[0].startswith("mlpprof left out of work.ipynb")
    text = report_text(run)
    assert "work.ipynb:cell 3:2" in text
    table = text.partition("Lines ")[2]
    assert "work.ipynb:cell 3" in table
    assert "return 1 / (1 + np.exp(-z))" in table


LOOP = "W = np.full((20, 10), 1e-3)\nfor epoch in range(100_000):\n    W -= 0.1 * X.T @ (X @ W - 1) / len(X)\n"


@pytest.mark.slow
def test_the_step_that_is_found_in_a_notebook_can_be_named_again(notebook):
    written(notebook, FIRST, DATA, LOOP)
    assert find(notebook).step == "work.ipynb:cell 3:2"
    assert find(notebook, step="3:2").step == "work.ipynb:cell 3:2"


@pytest.mark.parametrize(
    ("cells", "step", "kind", "message"),
    [
        ((FIRST, DATA, "x = 1\nraise ValueError('bad')"), "step", VariantCrash, r"work.ipynb:cell 3:2: ValueError"),
        (("import inspect", "def f(): a\nraise OSError(inspect.getsource(f))"), "f", VariantCrash, r".*def f\(\): a"),
        (("a = !ls\n", "print(a)"), "step", VariantCrash, r"work.ipynb:cell 2:1: NameError.*`a = !ls` \(cell 1:1\)$"),
        (("x = 1", "import sys\nsys.exit(3)"), "1:1", ProgramEnded, r"work.ipynb:cell 2:2 ended the program"),
        (("x = 1", "y = (", "z = 2"), "step", UsageError, r"work.ipynb:cell 2:1: SyntaxError: '\(' was never closed$"),
        (("x = 1",), "2:1", UsageError, r"work.ipynb has no cell 2; it has cell 1 only"),
        (("x = 1",), "1:1", UsageError, r"no loop in line 1 of cell 1 in work.ipynb"),
        (("x = 1",), "1", UsageError, r"no loop in line 1 in work.ipynb.*A line of a notebook has its cell before it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_messages_about_a_notebook_name_cells_and_lines(notebook, cells, step, kind, message):
    written(notebook, *cells)
    with pytest.raises(kind, match=f"^{message}"):
        find(notebook, step=step)
