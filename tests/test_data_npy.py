"""Arrays in .npy files of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlpprof.data import DataSource, load
from mlpprof.data.reading_cost import reading_cost
from mlpprof.data.source import open_container
from mlpprof.data.stored_rows import Layout, StoredRows
from mlpprof.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def test_the_samples_in_a_file_have_their_labels_and_their_test_set_in_the_files_beside_it(tmp_path):
    for name, array in {"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}.items():
        np.save(tmp_path / f"{name}.npy", array)
    data = load(DataSource(path=str(tmp_path / "x_train.npy")))
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.labels, Y)
    assert data.test_samples == 2


def test_other_names_are_those_of_the_files(tmp_path):
    np.save(tmp_path / "pictures.npy", X)
    np.save(tmp_path / "answers.npy", Y)
    data = load(DataSource(path=str(tmp_path / "pictures.npy"), x="pictures", y="answers"))
    assert (data.samples, data.features) == (4, 3)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.array([["a"]]), "dtype <U1: expected numbers"),
        (np.array([[{}]], dtype=object), "could run code and are never loaded"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(tmp_path, content, said):
    np.save(tmp_path / "X.npy", content)
    np.save(tmp_path / "Y.npy", Y[:1])
    with pytest.raises(DataError, match=said):
        load(DataSource(path=str(tmp_path / "X.npy")))


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    content = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(content[:-8])
    with pytest.raises(DataError, match="takes 96 bytes, but the file has 88"):
        load(DataSource(path=str(tmp_path / "X.npy")))
    assert open_container(DataSource(path=str(tmp_path / "Y.npy"))).kind == "npy"


def test_what_an_array_stored_by_column_costs_is_measured_with_the_whole_array(tmp_path):
    np.save(tmp_path / "X.npy", np.asfortranarray(np.ones((2000, 200))))
    np.save(tmp_path / "Y.npy", np.arange(2000) % 2)
    cost = reading_cost(open_container(DataSource(path=str(tmp_path / "X.npy"))), "X")
    assert (cost.run_rows, cost.is_estimated) == (2000, True)


def test_an_array_stored_by_column_is_read_once_and_not_for_its_layout():
    reads = []

    def read_whole():
        reads.append(1)
        return X

    rows = StoredRows.by_column(Path("X.npy"), X.shape, X.dtype, Layout(X.nbytes), read_whole)
    assert (rows.layout.text, rows.is_in_sequence, reads) == ("in one piece, column after column", True, [])
    assert np.array_equal(np.concatenate([rows.read(0, 1), rows.read(1, 4)]), X)
    assert reads == [1]
