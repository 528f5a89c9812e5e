"""`%mlpprof` and `%%mlpprof`: what the parser makes of a line, and what happens in a real kernel."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from advices import make_advice
from runs import make_run

import mlpprof
from mlpprof.cli import magics as jupyter
from mlpprof.errors import CheckFailed, VariantCrash
from mlpprof.programs.notebook import read_notebook
from mlpprof.programs.request import ProgramRequest
from mlpprof.report.notebook.views import AdviceView, ComparisonView, RunView
from reports.build_notebook import built, executed

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "reports" / "notebook.ipynb"
QUICK = "--workload tiny --steps 10 --no-limits"


class FakeShell:
    """What a magic needs of IPython's shell."""

    def __init__(self) -> None:
        self.magics: dict[str, Any] = {}
        self.ran: list[str] = []
        self.display_pub = None
        self.user_ns: dict[str, Any] = {"_dh": [str(Path.cwd())]}
        self.history_manager = SimpleNamespace(input_hist_raw=[""])
        self.after_cell: list[Any] = []
        self.events = SimpleNamespace(register=lambda event, call: self.after_cell.append(call))

    def executed(self, *cells: str, failed: tuple[int, ...] = ()) -> None:
        """As if these cells had been executed, and the last one were running."""
        self.history_manager.input_hist_raw += cells
        for number in range(1, len(cells)):
            for call in self.after_cell:
                call(SimpleNamespace(success=number not in failed, execution_count=number))

    def register_magic_function(self, function: Any, magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "line_cell"
        self.magics[magic_name] = function

    def run_cell(self, cell: str, store_history: bool) -> None:
        assert not store_history
        self.ran.append(cell)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeShell:
    monkeypatch.chdir(tmp_path)
    shell = FakeShell()
    mlpprof.load_ipython_extension(shell)
    return shell


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would be measured, without measuring it."""
    asked: dict[str, Any] = {}

    def profile(variant: str, options: dict[str, Any], typed: str, bar: Any, saving: Any) -> Any:
        asked.update(command="profile", variants=[variant], typed=typed, **options)
        if variant.endswith("cell.py"):
            asked["source"] = Path(variant).read_text(encoding="utf-8")
            asked["folder"] = Path(variant).parent
        if "error" in asked:
            raise asked["error"]
        if "failure" in asked:
            saving.failures.append(asked["failure"])
        return None, Path("reports/a.h5")

    def compare(old: str, new: tuple[str, ...], options: dict[str, Any], typed: str, bar: Any, saving: Any) -> Any:
        asked.update(command="compare", variants=[old, *new], typed=typed, **options)
        return []

    def subjects(
        ctx: Any, old: str, new: tuple[str, ...], options: dict[str, Any], typed: str, bar: Any, saving: Any, say: Any
    ) -> Any:
        return compare(old, new, options, typed, bar, saving)

    def advise(subject: Any, out: Path | None, bar: Any, saving: Any, proving: Any) -> Any:
        asked.update(command="advise", subject=subject, out=out, step=subject.step, proving=proving)
        if isinstance(subject.target, ProgramRequest):
            note_session(subject.program)
        return make_advice()

    def note_session(request: ProgramRequest) -> None:
        ((path, text),) = request.overlay.items()
        asked.update(folder=Path(path).parent, notebook=read_notebook(path, text))

    def program(
        ctx: Any, request: ProgramRequest, options: dict[str, Any], typed: str, bar: Any, saving: Any, say: Any
    ) -> Any:
        asked.update(command="profile", request=request, step=request.step, typed=typed)
        if request.overlay:
            note_session(request)
        return make_run(), None

    monkeypatch.setattr(jupyter, "profile_as_asked", profile)
    monkeypatch.setattr(jupyter, "advise_as_asked", advise)
    monkeypatch.setattr(jupyter, "request_as_asked", program)
    monkeypatch.setattr(jupyter, "compare_as_asked", compare)
    monkeypatch.setattr(jupyter, "subjects_as_asked", subjects)
    return asked


def test_one_variant_is_profiled_with_the_options_of_the_command(shell, asked) -> None:
    before = dict(os.environ)
    view = shell.magics["mlpprof"]("cached --batch 32,500 --threads 2 --lines --time-limit 50")
    assert dict(os.environ) == before  # the next cell has the usual limit
    assert isinstance(view, RunView)
    assert view.kept.startswith("reports/a.h5")
    assert asked["command"] == "profile"
    assert asked["variants"] == ["cached"]
    assert (asked["batch"], asked["threads"], asked["lines"]) == ((32, 500), 2, True)
    assert asked["typed"] == "%mlpprof cached --batch 32,500 --threads 2 --lines --time-limit 50"


@pytest.mark.parametrize(
    ("line", "variants"),
    [
        ("naive cached", ["naive", "cached"]),
        ("naive --batch 32 cached sliced --native-blas", ["naive", "cached", "sliced"]),
        ("--at-least 1.5 naive --seed 3 cached", ["naive", "cached"]),
        ("'./my nets/mine.py' cached", ["./my nets/mine.py", "cached"]),
    ],
)
def test_several_variants_are_compared(shell, asked, line: str, variants: list[str]) -> None:
    assert isinstance(shell.magics["mlpprof"](line), ComparisonView)
    assert asked["command"] == "compare"
    assert asked["variants"] == variants


@pytest.mark.parametrize(
    "line", ["cached --workload tiny", "--batch 32 cached", "cached -o out.json", "--steps=5 cached", "cached --lines"]
)
def test_the_value_of_an_option_is_no_variant(shell, asked, line: str) -> None:
    assert isinstance(shell.magics["mlpprof"](line), RunView)
    assert asked["variants"] == ["cached"]


def test_defaults_come_from_pyproject_and_the_environment(shell, asked, monkeypatch, tmp_path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.mlpprof.profile]\nsteps = 7\nseed = 4\n")
    monkeypatch.setenv("MLPPROF_PROFILE_SEED", "5")
    shell.magics["mlpprof"]("cached")
    assert (asked["steps"], asked["seed"]) == (7, 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected what to do: %mlpprof advise or %mlpprof profile for the cells so far"),
        ("compare naive", "argument NEW is missing"),
        ("cached --bach 3", "has no option '--bach'"),
        ("cached --steps many", "--steps many: expected a whole number from 1 to"),
        ("cached --batch 0", "'0' is not a batch size"),
        ("cached 'x", "No closing quotation"),
        ("a.h5 b.h5", "'a.h5' is a stored run"),
        ("cached -o a.csv --figure layers --format nothing", "no format 'nothing'"),
    ],
)
def test_what_cannot_be_read_is_shown_in_one_line(shell, line: str, message: str) -> None:
    with pytest.raises(jupyter.NotebookError, match=message) as caught:
        shell.magics["mlpprof"](line)
    (shown,) = caught.value._render_traceback_()
    assert shown == f"\x1b[31mmlpprof: {caught.value}\x1b[0m"
    assert caught.value.__suppress_context__


def test_help_is_printed_and_nothing_is_measured(shell, asked, capsys) -> None:
    assert shell.magics["mlpprof"]("--help") is None
    assert "--batch SIZES" in capsys.readouterr().out
    assert asked == {}


def test_a_cell_is_a_file_whose_lines_are_those_of_the_cell_and_which_is_gone_afterwards(shell, asked) -> None:
    cell = "import numpy as np\nclass MLP: ...\n"
    shell.magics["mlpprof"]("--batch 32", cell)
    # the magic is line 1 of the cell
    assert asked["source"].splitlines()[1] == "import numpy as np"
    assert asked["typed"] == "%%mlpprof --batch 32"
    assert not asked["folder"].exists()
    assert shell.ran == [cell]


@pytest.mark.parametrize(
    "error",
    [VariantCrash("cell.py:12 in forward: NameError: name 'np' is not defined"), CheckFailed("layer 2 deviates")],
)
def test_a_cell_that_fails_leaves_no_file_and_does_not_run_in_the_notebook(shell, asked, error) -> None:
    asked["error"] = error
    with pytest.raises(jupyter.NotebookError, match=re.escape(str(error))) as caught:
        shell.magics["mlpprof"]("", "x = 1\n")
    assert ("must import" in str(caught.value)) == isinstance(error, VariantCrash)
    assert not asked["folder"].exists()
    assert shell.ran == []


def test_a_cell_is_compared_with_the_variants_that_are_named(shell, asked) -> None:
    shell.magics["mlpprof"]("naive --batch 32", "class MLP: ...\n")
    assert asked["command"] == "compare"
    assert [Path(name).name for name in asked["variants"]] == ["naive", "cell.py"]


CELLS = ("%load_ext mlpprof", "import numpy as np", "1 / 0", "W = 1\nstep()", "")


def test_advice_on_the_session_is_advice_on_its_cells_in_order_without_those_that_failed(shell, asked, capsys) -> None:
    shell.executed(*CELLS, "x = 2\n%mlpprof advise --step fit\ny = 3", failed=(3,))
    view = shell.magics["mlpprof"]("advise --step fit")
    assert isinstance(view, AdviceView)
    notebook = asked["notebook"]
    assert [cell.text for cell in notebook.cells] == [
        "%load_ext mlpprof\n",
        "import numpy as np\n",
        "# In [3] is left out, because it ended with an error\n",
        "W = 1\nstep()\n",
        "# In [5]\n",
        "x = 2\n",
    ]
    assert not notebook.is_late
    assert asked["subject"].step == "fit"
    assert asked["folder"] == Path.cwd().resolve()
    assert view.advice.notes[-1] == "mlpprof left out In [3], which ended with an error"
    printed = capsys.readouterr().out
    assert "session.ipynb runs once (twice if" in printed
    assert "session.ipynb:cell 3:12 is line 12 of In [3]" in printed
    assert shell.ran == []


def test_advice_on_a_program_or_a_variant_is_that_of_the_command(shell, asked, capsys) -> None:
    Path("train.py").write_text("x = 1\n", encoding="utf-8")
    assert isinstance(shell.magics["mlpprof"]("advise train.py --allow-writes -- --epochs 3"), AdviceView)
    subject = asked["subject"]
    assert (subject.target, subject.allow_writes, tuple(subject.arguments)) == ("train.py", True, ("--epochs", "3"))
    assert "train.py runs up to two times" in capsys.readouterr().out
    assert not asked["proving"].prove
    shell.magics["mlpprof"]("advise train.py --prove --safe-only")
    assert (asked["proving"].prove, asked["proving"].safe_only) == (True, True)
    assert isinstance(shell.magics["mlpprof"]("advise naive --batch 32"), AdviceView)
    assert (asked["subject"].target, asked["subject"].batch) == ("naive", 32)
    assert shell.magics["mlpprof"]("advise naive --json")["findings"]


@pytest.mark.parametrize("line", ["", "profile --step 2:2", "advise", "advise --step 2:2"])
def test_a_cell_that_trains_is_observed_alone_after_the_cells_before_it_and_then_runs(shell, asked, line: str) -> None:
    cell = "for epoch in range(3):\n    step()\n"
    shell.executed("W = 1", f"%%mlpprof {line}\n{cell}")
    view = shell.magics["mlpprof"](line, cell)
    assert isinstance(view, AdviceView if "advise" in line else RunView)
    notebook = asked["notebook"]
    assert notebook.is_late
    assert notebook.cells[1].text.split("\n")[1:3] == cell.split("\n")[:2]
    assert notebook.source.split("\n")[:2] == ["W = 1", f"__mlpprof_start__(); # {'%%mlpprof ' + line}".rstrip()]
    assert asked["step"] == ("2:2" if "--step" in line else None)
    assert shell.ran == [cell]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("for i in range(3): step()", True),
        ("import numpy as np\ntrain(3)", True),
        ("%time train(3)", True),
        ("with pool: train()", True),
        ("x = 1\nclass Net:\n    def fit(self): ...\n", False),
        ("import numpy\nW = numpy.ones(3)\ndef step(): ...", False),
    ],
)
def test_a_cell_trains_if_it_does_more_than_define(cell: str, expected: bool) -> None:
    assert jupyter.trains(cell) is expected


@pytest.mark.parametrize(
    ("line", "cell", "message"),
    [
        ("advise", None, "no cell has been executed yet.*%mlpprof advise train.py"),
        ("advise nosuch.py", None, "there is no file 'nosuch.py'"),
        ("advise --apply", None, "--apply and --undo change files; type them in a terminal"),
        ("advise --batch 3", None, "--batch cannot be used with a program"),
        ("naive", "train()", "a cell that trains cannot be compared"),
        ("compare", "train()", "a cell that trains cannot be compared"),
    ],
)
def test_what_cannot_be_advised_on_is_refused_in_one_sentence(shell, asked, line, cell, message) -> None:
    shell.executed(f"%mlpprof {line}")
    with pytest.raises(jupyter.NotebookError, match=message):
        shell.magics["mlpprof"](line, cell)
    assert "subject" not in asked
    assert shell.ran == []


def test_the_profile_of_the_session_and_of_a_program_are_runs(shell, asked) -> None:
    Path("train.py").write_text("x = 1\n", encoding="utf-8")
    shell.executed("W = 1\n1 / 0", "step()", "%mlpprof profile", failed=(1,))
    view = shell.magics["mlpprof"]("profile --allow-writes")
    assert view.run.warnings[-1] == "mlpprof left out In [1], which ended with an error"
    assert [cell.text for cell in asked["notebook"].cells[1:]] == ["step()\n", "# In [3]\n"]
    assert asked["request"].allow_writes
    assert isinstance(shell.magics["mlpprof"]("train.py --step fit -- --epochs 3"), RunView)
    assert asked["request"].name.text == "train.py"
    assert (asked["request"].step, asked["request"].arguments) == ("fit", ("--epochs", "3"))


@pytest.mark.parametrize(("line", "command"), [("profile cached", "profile"), ("compare naive cached", "compare")])
def test_commands_may_be_named(shell, asked, line: str, command: str) -> None:
    shell.magics["mlpprof"](line)
    assert asked["command"] == command
    assert asked["typed"] == f"%mlpprof {line}"


SESSION = """
%load_ext mlpprof
---
import numpy as np
X = np.random.default_rng(1).normal(size=(300, 20))
W = np.random.default_rng(2).normal(size=(20, 100))
def sigmoid(z):
    return 1 / (1 + np.exp(-z))
def step(x):
    global W
    a = sigmoid(x @ W)
    W = W - 0.1 * x.T @ ((a - 0.5) * (1 - sigmoid(x @ W))) / len(x)
---
1 / 0
---
for _ in range(5): step(X[:10])
---
%%mlpprof advise --step step
for _ in range(60):
    step(X)
counted = 1
"""


@pytest.mark.slow
def test_in_a_session_the_cell_with_the_training_loop_gets_advice(tmp_path: Path, monkeypatch, capsys) -> None:
    module = pytest.importorskip("IPython.core.interactiveshell")
    config = pytest.importorskip("traitlets.config").Config()
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    config.HistoryManager.enabled = False
    shell = module.InteractiveShell(config=config)
    for cell in SESSION.strip().split("\n---\n"):
        shell.run_cell(cell, store_history=True)
    view = shell.user_ns["Out"][5]
    assert isinstance(view, AdviceView)
    finding = next(one for one in view.advice.findings if one.category == "recomputation")
    assert finding.place.text == "session.ipynb:cell 2:9"
    # the step of the last cell was observed, and not those of the cell before
    assert finding.evidence["shapes"][0][0] == 300
    assert shell.user_ns["counted"] == 1
    shell.run_cell("%mlpprof advise nosuch.py", store_history=True)
    shown = capsys.readouterr().out
    assert "there is no file 'nosuch.py'" in shown
    assert shown.count("Traceback") == 1  # of 1 / 0


def test_the_progress_bar_is_escaped_and_vanishes() -> None:
    published: list[tuple[dict[str, str], bool]] = []

    class Publisher:
        def publish(self, data: dict[str, str], metadata: Any, transient: dict[str, str], update: bool) -> None:
            published.append((data, update))

    with jupyter._progress_in_cell(Publisher()) as report:
        report("batch <b>", 0.25)
        report("too soon after", 0.26)
    assert [update for _, update in published] == [False, True, True]
    assert "batch &lt;b&gt;" in published[1][0]["text/html"]
    assert published[1][0]["text/plain"] == "batch <b>, 25%"
    assert published[-1][0] == {"text/html": "", "text/plain": ""}


def test_a_file_that_could_not_be_written_is_a_warning_beside_the_view(shell, asked) -> None:
    asked["failure"] = "cannot write page.html: No space left on device"
    with pytest.warns(UserWarning, match="No space left on device"):
        assert shell.magics["mlpprof"]("cached -o page.html") is not None


def test_the_committed_notebook_has_the_cells_of_its_source_and_no_error() -> None:
    nbformat = pytest.importorskip("nbformat")
    committed = nbformat.read(NOTEBOOK, as_version=4)
    source = built(NOTEBOOK.with_suffix(".md").read_text(encoding="utf-8"))
    assert [cell.source for cell in committed.cells] == [cell.source for cell in source.cells]
    check_outputs(committed)
    assert set(committed.metadata) == {"kernelspec"}
    assert all(not cell.metadata for cell in committed.cells)


@pytest.mark.timing
@pytest.mark.slow
def test_the_committed_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nbclient")
    # the same cells, in less time; the magics take the defaults of the environment
    for name, value in {"PROFILE_STEPS": "20", "PROFILE_NO_LIMITS": "1", "COMPARE_BUDGET": "1"}.items():
        monkeypatch.setenv(f"MLPPROF_{name}", value)
    for command in ("PROFILE", "COMPARE"):
        monkeypatch.setenv(f"MLPPROF_{command}_LAYERS", "784-8-10")
    check_outputs(executed(built(NOTEBOOK.with_suffix(".md").read_text(encoding="utf-8"))))


def check_outputs(notebook: Any) -> None:
    """Every cell with a magic that measures shows one result, as HTML and as text."""
    measured = 0
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output.output_type in ("error", "stream")]
        if "%mlpprof" in cell.source and cell.cell_type == "code":
            measured += 1
            (output,) = outputs
            assert '<div class="mlpprof' in output.data["text/html"]
            assert "<svg" in output.data["text/html"]
            assert "machine" in output.data["text/plain"]
            for number, line in enumerate(cell.source.splitlines(), start=1):
                label = line.partition("# phase: ")[2]
                if label in ("gather", "weighted sum", "gradient"):
                    assert re.search(rf">{label}</td><td[^>]*>{number}</td>", output.data["text/html"])
    assert measured == 3


@pytest.mark.timing
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows interrupts kernels in another way")
def test_in_a_kernel_errors_are_one_line_and_an_interrupt_leaves_no_process(tmp_path: Path) -> None:
    manager = pytest.importorskip("jupyter_client.manager")
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    kernel, client = manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path), env=environment)
    try:
        run = Conversation(client)
        assert run("%load_ext mlpprof") == {"status": "ok"}
        wrong = run("%mlpprof cachd")
        assert wrong["ename"] == "NotebookError"
        (line,) = wrong["traceback"]
        assert "did you mean 'cached'" in line
        cell = run(f"%%mlpprof {QUICK}\nclass MLP:\n    pass\n")
        assert "cell.py" in cell["evalue"]
        process = psutil.Process(kernel.provisioner.pid)
        before = set(process.children(recursive=True))
        run.start("%mlpprof cached --steps 1000000 --no-check --no-limits")
        deadline_s = time.monotonic() + 30
        while not (workers := set(process.children(recursive=True)) - before) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert workers
        time.sleep(0.5)
        kernel.interrupt_kernel()
        assert run.answer()["evalue"] == "interrupted; nothing was kept"
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert alive == []
        assert list(tmp_path.rglob("*.h5")) == []
        assert run("1 + 1") == {"status": "ok"}
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
        kernel.cleanup_resources()


class Conversation:
    """Cells for a kernel, and its answers."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked = ""

    def start(self, cell: str) -> None:
        # otherwise the kernel may drop a cell that comes soon after one with an error
        self.asked = self.client.execute(cell, stop_on_error=False)

    def answer(self) -> dict[str, Any]:
        """The status, and what an error consists of."""
        while True:
            message = self.client.get_shell_msg(timeout=60)
            if message["parent_header"].get("msg_id") == self.asked:
                content = message["content"]
                return {key: content[key] for key in ("status", "ename", "evalue", "traceback") if key in content}

    def __call__(self, cell: str) -> dict[str, Any]:
        self.start(cell)
        return self.answer()


def test_ipython_shows_the_views_as_html_and_text() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(RunView(make_run()))
    assert data["text/html"].startswith("<div class=")
    assert data["text/plain"].startswith("cached")
