"""storage: what a program reads from files while it trains, and the edits that read it once."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from recorded_step import FILE, recorded

from mlpprof.advise.detect.storage import around_the_step, detect
from mlpprof.advise.editing.cure import applied
from mlpprof.advise.outside import findings_around
from mlpprof.programs.record.file_reads import FileReads
from mlpprof.results.program_time import ProgramTime, StatementTime

HEAD = """\
import h5py
import numpy as np
file = h5py.File("set.h5", "r")
order = np.random.default_rng(3).permutation(300)

"""

X = np.arange(300 * 20, dtype=np.float32).reshape(300, 20)
PLENTY = 1 << 40


@pytest.fixture(autouse=True)
def in_a_folder_with_the_set(tmp_path, monkeypatch):
    """A folder with the same samples in one piece, in packed chunks, and as NumPy's own files."""
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["X"], file["Y"] = X, np.arange(300) % 7
        file.create_dataset("packed", data=X, chunks=(100, 20), compression="gzip")
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "set.npz", X=X)
    monkeypatch.chdir(tmp_path)


@contextmanager
def graph_of(text, in_step=True):
    """The graph of a file with a function `step`, and its reads."""
    reads = FileReads(lambda path: path == FILE, lambda: True, lambda: in_step)
    with reads.watched(), recorded(text) as graph:
        graph.trace.file_reads = reads.of_steps(1)
        yield graph


def found(text, free=PLENTY):
    """What is found in a step, and the text with its cures."""
    with graph_of(text) as graph:
        candidates = detect(graph, lambda: free)
        cures = list(dict.fromkeys(cure for one in candidates for cure in one.cures))
        return candidates, applied(graph.trace.sources, cures).get(FILE, text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            HEAD + 'def step():\n    return file["X"][np.sort(order[:40])] * 2\n',
            HEAD.replace('"r")\n', '"r")\nX_array = file["X"][:]\n')
            + "def step():\n    return X_array[np.sort(order[:40])] * 2\n",
        ),
        (
            HEAD + "def step():\n    train(file)\ndef train(data):\n    for start in (0, 40):\n"
            '        x = np.stack([data["packed"][i] for i in order[start : start + 3]])\n',
            HEAD + 'def step():\n    train(file)\ndef train(data):\n    packed_array = data["packed"][:]\n'
            "    for start in (0, 40):\n"
            "        x = np.stack([packed_array[i] for i in order[start : start + 3]])\n",
        ),
        (
            HEAD + 'def step():\n    for epoch in range(2):\n        with h5py.File("set.h5") as held:\n'
            '            x = held["X"][:]  # all\n            y = held["Y"][()]\n        a = x[order[:20]] * 2\n',
            HEAD + 'def step():\n    with h5py.File("set.h5") as held:\n        x = held["X"][:]  # all\n'
            '        y = held["Y"][()]\n    for epoch in range(2):\n        a = x[order[:20]] * 2\n',
        ),
        (
            HEAD + 'def step():\n    return np.load("x.npy")[order[:20]] * 2\n',
            HEAD + 'loaded = np.load("x.npy")\ndef step():\n    return loaded[order[:20]] * 2\n',
        ),
        (
            HEAD + 'class Set:\n    def __init__(self):\n        self.file = h5py.File("set.h5", "r")\n'
            '    def __iter__(self):\n        for k in (0, 50):\n            yield self.file["X"][k : k + 20]\n'
            "held = Set()\ndef step():\n    for x in held:\n        a = x * 2\n",
            HEAD + 'class Set:\n    def __init__(self):\n        self.file = h5py.File("set.h5", "r")\n'
            '        self.X_array = self.file["X"][:]\n    def __iter__(self):\n        for k in (0, 50):\n'
            "            yield self.X_array[k : k + 20]\nheld = Set()\ndef step():\n    for x in held:\n"
            "        a = x * 2\n",
        ),
        (
            HEAD + 'def step():\n    for start in (0, 40):\n        a = np.array(file["X"])[order[:9]] * 2\n',
            HEAD.replace('"r")\n', '"r")\nX_array = np.array(file["X"])\n')
            + "def step():\n    for start in (0, 40):\n        a = X_array[order[:9]] * 2\n",
        ),
        (
            HEAD + 'def step():\n    x = file["X"][5:45]\n    x += 1\n',
            HEAD.replace('"r")\n', '"r")\nX_array = file["X"][:]\n')
            + "def step():\n    x = X_array[5:45].copy()\n    x += 1\n",
        ),
    ],
)
def test_the_set_is_read_once_where_its_file_is_known(text, wanted):
    _, cured = found(text)
    assert cured == wanted


@pytest.mark.parametrize(
    "text",
    [
        # the array that is read would keep what the step adds
        HEAD + 'def step():\n    x = np.load("x.npy")\n    x += 1\n',
        # the program has written the file before, and an import may come before that
        HEAD + 'NAME = "x.npy"\ndef made():\n    np.save(NAME, np.ones((300, 20), "f"))\n'
        "def step():\n    return np.load(NAME)[order[:20]] * 2\n",
        HEAD + 'def made():\n    h5py.File("set.h5", "w")["X"] = 1\ndef step():\n    for epoch in range(2):\n'
        '        with h5py.File("set.h5") as held:\n            x = held["X"][:]\n        a = x[order[:20]] * 2\n',
        # the program may write into the file while it trains
        HEAD.replace('"r"', '"r+"') + 'def step():\n    return file["X"][:40] * 2\n',
        # the file is opened in the function, whose argument is another one each time
        HEAD + 'def load(name):\n    with h5py.File(name) as held:\n        return held["X"][:40]\n'
        'def step():\n    return load("set.h5") * 2\n',
    ],
)
def test_no_edit_is_made_that_may_change_what_the_program_computes(text):
    [one], cured = found(text)
    assert one.cures == ()
    assert one.cure.startswith("By hand: read the set once before the training")
    assert cured == text


def test_what_is_read_by_an_index_saves_the_difference_to_an_array():
    [one], _ = found(HEAD + 'def step():\n    return file["X"][np.sort(order[:200])] * 2\n')
    assert one.category == "storage"
    assert one.title == '`file["X"][np.sort(order[:200])]` picks 200 rows of an HDF5 dataset by an index'
    assert one.saved_s[0] > 0
    assert one.evidence["bytes_per_read"] == 200 * 20 * 4


def test_a_set_larger_than_the_memory_is_read_in_runs_and_from_a_file_that_reads_fast():
    [one], cured = found(HEAD + 'def step():\n    return file["packed"][int(order[3])] * 2\n', free=1000)
    assert cured.endswith("* 2\n")
    assert "`dataset[start:stop]`" in one.cure
    assert "mlpprof data repack" in one.cure
    assert "whose chunks have 100 rows each" in one.title
    assert "reads and unpacks whole chunks" in one.why


def test_reads_around_the_step_save_no_more_than_their_statement_takes():
    text = HEAD + 'def step():\n    return np.load("set.npz")["X"][:3] * 2\n'
    with graph_of(text, in_step=False) as graph:
        assert detect(graph) == []
        [one] = around_the_step(graph, lambda read: 1e-9)
        assert one.is_outside
        assert one.saved_s == pytest.approx((0.85e-9, 1.15e-9))
        assert "reads all 300 rows" in one.title


def test_two_reads_in_one_line_around_the_step_are_two_findings():
    line = '    x, y = file["X"][np.sort(order[:40])], file["Y"][np.sort(order[:40])]\n'
    with graph_of(f"{HEAD}def step():\n{line}    return x * 2 + y[0]\n", in_step=False) as graph:
        place = graph.place_of_line(FILE, HEAD.count("\n") + 2)
        reading = StatementTime(place.file, place.line, line.strip(), 1e-4, 1)
        program = ProgramTime(0.0, (), "epoch", None, 1, 1e-6, (reading,), 1, None, None, ())
        found = [one for one, _ in findings_around(program, [], graph)]
    assert {one.title[:10] for one in found} == {'`file["X"]', '`file["Y"]'}


def test_a_program_that_reads_no_file_has_no_such_finding():
    assert found("import numpy as np\ndef step():\n    return np.ones((9, 9)) * 2\n")[0] == []


def test_a_read_is_known_by_its_place_also_in_other_forms_and_threads():
    reads = FileReads(lambda path: path == FILE, lambda: threading.current_thread() is threading.main_thread(), bool)
    text = 'def take(rows):\n    return (file["X"]\n        [rows])\n'
    with h5py.File("set.h5") as file, reads.watched():
        for _ in range(2):
            space = {"file": file}
            exec(compile(text, FILE, "exec"), space)
            space["take"](slice(3, 9))
        other = threading.Thread(target=space["take"], args=(3,))
        other.start()
        other.join()
        file["X"][:3]  # no code of the program
    [one] = reads.of_steps(4)
    assert (one.place, one.times, one.rows, one.all_rows) == ((FILE, 2, 12, 3, 14), 0.5, 6, 300)
    assert one.is_run
    assert not one.is_whole
    assert h5py.Dataset.__getitem__.__module__ == "h5py._hl.dataset"


def test_reads_after_the_steps_that_count_only_make_the_time_of_a_read_more_exact():
    ticks = iter([0.0, 1.0, 1.0, 4.0, 4.0, 6.0])
    is_counted = iter([True, False, False])
    reads = FileReads(
        lambda path: path == FILE, lambda: True, bool, lambda: next(is_counted), lambda: float(next(ticks))
    )
    with h5py.File("set.h5") as file, reads.watched():
        space = {"file": file}
        exec(compile('def take():\n    return file["X"][:]\n', FILE, "exec"), space)
        for _ in range(3):
            space["take"]()
    [one] = reads.of_steps(2)
    assert (one.times, one.seconds) == (0.5, 1.0)  # half a read in each step, of two seconds


def test_runs_of_a_set_that_is_too_large_save_what_unpacking_takes():
    [packed], _ = found(HEAD + 'def step():\n    return file["packed"][100:200] * 2\n', free=1000)
    [plain], _ = found(HEAD + 'def step():\n    return file["X"][100:200] * 2\n', free=1000)
    assert "read and unpacked again in every epoch" in packed.why
    assert packed.cure.startswith("By hand: read the rows of net.py:7 ahead, in a thread")
    assert "mlpprof data repack" in packed.cure
    assert "mlpprof data repack" not in plain.cure
