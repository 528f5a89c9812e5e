"""When a data file is read while training: if that is wanted, or if it does not fit into memory."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.cli.options import streamed
from mlpprof.data import DataSource
from mlpprof.errors import UsageError
from mlpprof.workloads import resolve

ROWS, FEATURES = 40, 5
STORED = ROWS * FEATURES


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as opened:
        opened["X"] = np.arange(STORED, dtype=np.uint8).reshape(ROWS, FEATURES)
        opened["Y"] = np.arange(ROWS) % 3
    return str(path)


@pytest.mark.parametrize(
    ("dtype", "free", "streams"),
    [("float32", 5 * STORED, False), ("float32", 5 * STORED - 1, True), (None, 9 * STORED, False), (None, 0, True)],
)
def test_a_set_is_streamed_by_itself_if_its_stored_and_converted_form_do_not_fit(file, dtype, free, streams):
    workload = resolve("tiny", source=DataSource(path=file))
    notes: list[str] = []
    found = streamed(workload, False, dtype, lambda: free, notes.append)
    assert (found.source.part_rows is not None) is streams
    assert len(notes) == streams
    if streams:
        assert f"{file} takes " in notes[0]
        assert "is read while training, as with --stream" in notes[0]


def test_what_is_wanted_needs_no_note_and_a_part_of_a_small_set_is_the_whole_set(file):
    workload = resolve("tiny", source=DataSource(path=file))
    notes: list[str] = []
    assert streamed(workload, True, None, lambda: 1 << 40, notes.append).source.part_rows == ROWS
    assert not notes


def test_an_embedded_set_is_not_streamed():
    workload = resolve("tiny")
    assert streamed(workload, False, None, lambda: 0) is workload
    with pytest.raises(UsageError, match="--stream reads a data file, but 'tiny' is an embedded set; add --data FILE"):
        streamed(workload, True, None)


def test_a_program_reads_its_own_data(tmp_path, capsys):
    (tmp_path / "train.py").write_text("pass\n", encoding="utf-8")
    assert run(["profile", str(tmp_path / "train.py"), "--stream"]) == 2
    assert "--stream cannot be used with a program" in capsys.readouterr().err
