"""A script that mlpprof runs writes nothing unless it may, and is run at most as often as announced."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlpprof.advise import Subject, find
from mlpprof.advise.find import analyse
from mlpprof.errors import ProgramEnded, UsageError, VariantCrash

OPERATIONS = """
import io, os, shutil, sqlite3, sys, tempfile
from pathlib import Path

import numpy as np
import {early}

from mlpprof.programs.name import ProgramName
from mlpprof.programs.record.schedule import Enough
from mlpprof.programs.writes import Writes

os.chdir(sys.argv[1])
writes = Writes(ProgramName("script", "train.py"), "once", lambda path: path == "<operation>", no_view="not allowed")
writes.prevent()
import h5py

temporary = tempfile.mkdtemp()
try:
    for line in sys.stdin.read().splitlines():
        writes.refusal, writes.must_end = None, False
        try:
            exec(compile(line, "<operation>", "exec"))
            said = "done"
        except Enough:
            said = writes.refusal
        except Exception as error:
            said = type(error).__name__
        print(said)
finally:
    shutil.rmtree(temporary)
"""

REFUSED = {
    "open('new.txt', 'w')": "write 'new.txt'",
    "open('kept.txt', 'a')": "write 'kept.txt'",
    "open('kept.npy', 'r+b')": "write 'kept.npy'",
    "io.open('new.txt', 'x')": "write 'new.txt'",
    "os.open('new.txt', os.O_WRONLY | os.O_CREAT)": "write 'new.txt'",
    "Path('new.txt').write_text('x')": "write 'new.txt'",
    "np.save('new.npy', np.ones(2))": "write 'new.npy'",
    "np.savez('kept.npz', W=np.ones(2))": "write 'kept.npz'",
    "np.ones(2).tofile('new.bin')": "write 'new.bin'",
    "np.memmap('kept.npy', mode='r+')": "write 'kept.npy'",
    "h5py.File('new.h5', 'w')": "write 'new.h5'",
    "h5py.File('kept.h5', 'a')": "write 'kept.h5'",
    "os.mkdir('out')": "create the folder 'out'",
    "os.makedirs('kept/a/b', exist_ok=True)": "create the folder 'kept/a'",
    "os.rename('kept.txt', 'new.txt')": "rename 'kept.txt'",
    "os.replace('kept.txt', 'new.txt')": "rename 'kept.txt'",
    "os.remove('kept.txt')": "delete 'kept.txt'",
    "os.rmdir('kept')": "delete 'kept'",
    "os.truncate('kept.txt', 0)": "shorten 'kept.txt'",
    "os.symlink('kept.txt', 'link')": "create 'link'",
    "os.link('kept.txt', 'link')": "create 'link'",
    "shutil.copy('kept.txt', 'new.txt')": "write 'new.txt'",
    "shutil.move('kept.txt', 'new.txt')": "move 'kept.txt'",
    "shutil.rmtree('kept')": "delete 'kept'",
    "sqlite3.connect('new.db')": "write the database 'new.db'",
}

LEFT_ALONE = {
    "open('kept.txt').read()": "done",
    "np.load('kept.npy')": "done",
    "h5py.File('kept.h5', 'r').close()": "done",
    "h5py.File(io.BytesIO(), 'w').close()": "done",
    "h5py.File('new.h5', 'w', driver='core', backing_store=False).close()": "done",
    "open(os.devnull, 'w').close()": "done",
    "open(temporary + '/new.txt', 'w').close()": "done",
    "tempfile.TemporaryFile().close()": "done",
    "tempfile.TemporaryDirectory().cleanup()": "done",
    "h5py.File(temporary + '/new.h5', 'w').close()": "done",
    "os.mkdir('__pycache__'); os.rmdir('__pycache__')": "done",
    "sqlite3.connect(':memory:').close()": "done",
    "sqlite3.connect('file:kept.db?mode=ro', uri=True)": "OperationalError",
    "os.makedirs('kept', exist_ok=True)": "done",
    "os.remove('missing.txt')": "FileNotFoundError",
    "open('missing.txt', 'r+')": "FileNotFoundError",
}


@pytest.mark.slow
@pytest.mark.parametrize("early", ["h5py", "sys"], ids=["h5py is loaded already", "h5py is loaded later"])
def test_what_would_change_a_file_is_refused_before_it_happens_and_nothing_else_is(tmp_path, early):
    import h5py
    import numpy as np

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept.txt").write_text("kept")
    np.save(tmp_path / "kept.npy", np.ones(2))
    np.savez(tmp_path / "kept.npz", W=np.ones(2))
    h5py.File(tmp_path / "kept.h5", "w").close()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    run = subprocess.run(
        [sys.executable, "-c", OPERATIONS.format(early=early), str(tmp_path)],
        input="\n".join([*REFUSED, *LEFT_ALONE]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said = dict(zip([*REFUSED, *LEFT_ALONE], run.stdout.splitlines(), strict=True))
    for operation, what in REFUSED.items():
        assert said[operation].startswith(f"<operation>:1 wants to {what}, but mlpprof runs the program once"), (
            operation
        )
        assert "copy of the folder to write into (not allowed). Add --allow-writes" in said[operation]
    assert {operation: said[operation] for operation in LEFT_ALONE} == LEFT_ALONE
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


NETWORK = """
import os, sys
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.random((300, 20)), rng.random((300, 3))
W1, W2 = rng.standard_normal((20, 30)), rng.standard_normal((30, 3))

def step(x, y):
    global W1, W2
    h = np.tanh(x @ W1)
    d = h @ W2 - y
    g2, g1 = h.T @ d, x.T @ ((d @ W2.T) * (1 - h ** 2))
    W1 = W1 - 1e-5 * g1
    W2 = W2 - 1e-5 * g2
"""


@pytest.fixture
def script(tmp_path):
    """Writes a script that trains."""

    def write(training, before=""):
        path = tmp_path / "train.py"
        path.write_text(f"{before}\n{NETWORK}\n{training}", encoding="utf-8")
        return path

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_a_named_step_takes_one_run_and_one_to_be_found_two(tmp_path, script):
    count = "open('runs.txt', 'a').write('run\\n')"
    path = script("for i in range(12):\n    step(X, Y)\n", f"import os; os.chdir({str(tmp_path)!r}); {count}")
    runs = tmp_path / "runs.txt"
    find(Subject(path, "step", allow_writes=True))
    assert runs.read_text().count("run") == 1
    find(Subject(path, allow_writes=True))
    assert runs.read_text().count("run") == 3


@pytest.mark.slow
def test_a_program_of_very_few_named_steps_is_run_twice_as_announced(script):
    path = script("for i in range(3):\n    step(X, Y)\n", "print('run')")
    subject = Subject(path, "step")
    assert "twice if it makes fewer than 5 steps" in subject.how_often
    assert find(subject).step == "train.py:step"


CATCHING = """
for i in range(10_000):
    step(X, Y)
    try:
        np.save(FOLDER + "/weights.npy", W1)
    except Exception:
        pass
    except:
        continue
"""


@pytest.mark.slow
def test_a_write_before_enough_is_recorded_is_an_error_whatever_the_program_catches(tmp_path, script):
    path = script(f"FOLDER = {str(tmp_path)!r}{CATCHING}")
    said = r"train\.py:\d+ wants to write '.*weights\.npy', but mlpprof runs the program up to 9 times"
    with pytest.raises(UsageError, match=said):
        analyse(Subject(path, "step", has_copy=False), lambda what, share: None, "up to 9 times")
    assert names(tmp_path) == ["train.py"]


@pytest.mark.slow
def test_a_write_after_the_steps_ends_the_program_and_is_noted(tmp_path, script):
    saving = f"np.save({str(tmp_path / 'weights.npy')!r}, W1)"
    path = script(f"for i in range(12):\n    step(X, Y)\n{saving}\n")
    profile = find(Subject(path, "step", has_copy=False))
    assert any("only 12 steps ran" in note and "wanted to write" in note for note in profile.notes)
    assert any("train.py wanted to write" in note and "weights.npy" in note for note in profile.notes)
    assert names(tmp_path) == ["train.py"]


@pytest.mark.slow
def test_a_program_that_is_stopped_saves_nothing_on_its_way_out(tmp_path, script):
    text = (
        "import atexit\n"
        f"atexit.register(lambda: open({str(tmp_path / 'at_exit.txt')!r}, 'w'))\n"
        "try:\n    for i in range(10**9):\n        step(X, Y)\n"
        f"finally:\n    np.save({str(tmp_path / 'weights.npy')!r}, W1)\n"
    )
    profile = find(Subject(script(text), "step", has_copy=False))
    assert any("weights.npy; mlpprof prevented it" in note for note in profile.notes)
    assert not any("only" in note for note in profile.notes)
    assert names(tmp_path) == ["train.py"]


@pytest.mark.slow
def test_a_program_that_cannot_be_run_again_is_an_error_with_the_step_that_was_found(tmp_path, script):
    path = script("for i in range(12):\n    step(X, Y)\n", f"import os; os.mkdir({str(tmp_path / 'out')!r})")
    with pytest.raises(VariantCrash, match="FileExistsError") as error:
        find(Subject(path, allow_writes=True))
    assert "the first run found the step train.py:step" in str(error.value)
    assert "add --step train.py:step, so that one run is enough" in str(error.value)


@pytest.mark.slow
def test_a_training_that_is_finished_after_the_first_run_is_an_error_with_the_step_that_was_found(tmp_path, script):
    mark = str(tmp_path / "finished")
    training = "    for i in range(12):\n        step(X, Y)\n"
    path = script(f"if not os.path.exists({mark!r}):\n{training}    open({mark!r}, 'w').close()\n")
    with pytest.raises(UsageError, match="never ran.*second run.*found the step train.py:step"):
        find(Subject(path, allow_writes=True))


ENDS = {
    "argparse": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--data', required=True)\np.parse_args()",
        ["train.py:4 ended the program with exit code 2", "the following arguments are required: --data"],
    ),
    "a message": (
        "import sys\nsys.exit('please install torch')",
        ["train.py:2 ended the program with exit code 1", "it printed:\n    please install torch\n"],
    ),
    "a print": (
        "import sys\nprint('usage: train.py DATA')\nsys.exit(3)",
        ["train.py:3 ended the program with exit code 3", "it printed:\n    usage: train.py DATA\n"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("end", "step"), [("argparse", None), ("a message", "step"), ("a print", None)])
def test_what_a_script_says_when_it_ends_by_itself_is_shown(script, end, step):
    before, expected = ENDS[end]
    path = script("for i in range(12):\n    step(X, Y)\n", before)
    with pytest.raises(ProgramEnded) as error:
        find(Subject(path, step))
    for words in (*expected, "own arguments go after --", "step ran"):
        assert words in str(error.value)


@pytest.mark.slow
def test_a_script_that_lacks_an_argument_is_reported_with_where_arguments_go(script):
    path = script("step(X, Y)", "import sys\nepochs = sys.argv[1]")
    with pytest.raises(VariantCrash, match=r"train\.py:2: IndexError: .*; the script's own arguments go after --"):
        find(Subject(path, "step"))


def test_a_script_in_the_temporary_folder_itself_is_kept_from_writing_there():
    with tempfile.NamedTemporaryFile("w", suffix=".py", prefix="train", delete=False) as file:
        file.write(f"{NETWORK}\nopen({file.name!r} + '.out', 'w')\n")
    path = Path(file.name)
    try:
        with pytest.raises(UsageError, match="wants to write"):
            find(Subject(path, "step", has_copy=False))
        assert not path.with_name(f"{path.name}.out").exists()
    finally:
        path.unlink()
