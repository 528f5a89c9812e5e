import gzip
import os
import resource
import signal

import h5py
import numpy as np
import pytest
from data_files import write_mnist

from mlpprof.cli.main import run
from mlpprof.data import DataSource, load
from mlpprof.data.container import Container
from mlpprof.data.reading_cost import reading_cost
from mlpprof.data.repack import repack
from mlpprof.data.source import open_container
from mlpprof.errors import DataError, UsageError

X = np.arange(300 * 8, dtype=">i2").reshape(300, 8)
Y = np.arange(300) % 7


def quiet(what: str, share: float) -> None:
    pass


def opened(path) -> Container:
    return open_container(DataSource(path=str(path)))


@pytest.fixture
def chunked(tmp_path):
    """An HDF5 file whose chunks cut rows into pieces, with names, a number, and a dataset within a group."""
    path = tmp_path / "chunked.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("X", data=X, chunks=(7, 3), compression="gzip", shuffle=True)
        file["Y"], file["rate"], file["parts/first"], file["names"] = Y, 0.5, X[:3], ["a", "b"]
    return path


@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_the_new_file_holds_the_same_values_uncompressed_in_one_piece(chunked, tmp_path, ending):
    new = tmp_path / f"new{ending}"
    written = repack(opened(chunked), new, quiet)
    assert [name for name, _ in written.left_out] == ["names"]
    container = opened(new)
    assert float(container.read("rate")) == 0.5
    np.testing.assert_array_equal(container.read("parts/first"), X[:3])
    assert load(DataSource(path=str(new))).fingerprint() == load(DataSource(path=str(chunked))).fingerprint()
    with container.open_rows("X") as rows:
        assert (rows.layout.chunks, rows.layout.filters, rows.reads_fast) == ((), (), True)
        np.testing.assert_array_equal(rows.read(100, 103), X[100:103])


def test_packed_archives_and_idx_files_are_repacked_too(tmp_path):
    np.savez_compressed(tmp_path / "packed.npz", X=X, Y=Y, turned=np.asfortranarray(X))
    folder = write_mnist(tmp_path)
    for file in list(folder.glob("*-ubyte")):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    for source in (tmp_path / "packed.npz", folder):
        repack(opened(source), tmp_path / "new.h5", quiet, overwrite=True)
        assert (
            load(DataSource(path=str(tmp_path / "new.h5"))).fingerprint()
            == load(DataSource(path=str(source))).fingerprint()
        )
    np.testing.assert_array_equal(opened(tmp_path / "packed.npz").read("turned"), X)


def test_rows_of_any_file_are_read_in_runs(chunked, tmp_path):
    np.savez(tmp_path / "plain.npz", X=X, Y=Y)
    np.savez_compressed(tmp_path / "packed.npz", X=X, Y=Y)
    np.savez(tmp_path / "turned.npz", X=np.asfortranarray(X), Y=Y)
    for path in (chunked, *(tmp_path / f"{name}.npz" for name in ("plain", "packed", "turned"))):
        with opened(path).open_rows("X") as rows:
            assert rows.shape == X.shape
            for start, stop in ((0, 5), (290, 300), (3, 4)):
                np.testing.assert_array_equal(rows.read(start, stop), X[start:stop])


def test_an_existing_file_is_refused_unless_asked_for(chunked, tmp_path, capsys):
    new = tmp_path / "new.h5"
    new.write_text("mine")
    arguments = ["data", "repack", str(chunked), "-o", str(new)]
    assert run(arguments) == 2
    assert "exists already; choose another name, or add --overwrite" in capsys.readouterr().err
    assert new.read_text() == "mine"
    assert run([*arguments, "--overwrite"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == f"mlpprof data show {new}"
    assert "left out: names" in err


@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_nothing_stays_of_a_file_that_was_interrupted(chunked, tmp_path, ending):
    def interrupt(what: str, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    before = set(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        repack(opened(chunked), tmp_path / f"new{ending}", interrupt)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("plain.npz", "plain.npz"),
        ("X.npy", "X.npy"),
        ("X.npy", "Y.npy"),
        ("mnist/train-images-idx3-ubyte", "mnist/t10k-labels-idx1-ubyte"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_refused_and_nothing_is_written(tmp_path, name, changed):
    np.savez(tmp_path / "plain.npz", X=X, Y=Y)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist")
    there = set(tmp_path.iterdir())

    def change(what: str, share: float) -> None:
        os.utime(tmp_path / changed, ns=(0, 0))

    with pytest.raises(DataError, match=f"{changed} has changed while it was read"):
        repack(opened(tmp_path / name), tmp_path / "new.h5", change)
    assert set(tmp_path.iterdir()) == there


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit on the size of files")
@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_a_file_that_cannot_grow_is_one_sentence_and_leaves_nothing(tmp_path, ending, capfd):
    # the limit on the size of files makes writing fail as a full disk does
    np.savez_compressed(tmp_path / "packed.npz", X=np.ones((100_000, 2)))
    before, limits = set(tmp_path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(UsageError, match=r"cannot write .*new\S+: File too large$"):
            repack(opened(tmp_path / "packed.npz"), tmp_path / f"new{ending}", quiet)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert capfd.readouterr().err == ""
    assert set(tmp_path.iterdir()) == before


def test_an_ending_without_a_format_is_refused_with_those_there_are(chunked, tmp_path):
    with pytest.raises(UsageError, match=r"expected a name that ends in \.h5, \.hdf5, \.npz"):
        repack(opened(chunked), tmp_path / "new.csv", quiet)


def test_the_cost_of_reading_counts_bytes_of_values_and_seconds(chunked):
    ticks = iter(range(1000))  # every reading of the clock takes a second, so that a measurement ends after one read
    cost = reading_cost(opened(chunked), "X", lambda: float(next(ticks)))
    # each measurement reads the clock three times: one run of all 300 rows of 16 bytes, one row, the whole file
    assert (cost.run_rows, cost.row_bytes) == (300, 16)
    assert cost.run_bytes_s == 300 * 16 / 2
    assert cost.random_bytes_s == 16 / 2
    assert cost.disk_bytes_s == chunked.stat().st_size / 2
    assert not cost.reads_fast
    assert not cost.is_estimated


def test_a_random_row_of_a_packed_archive_costs_half_of_the_archive(tmp_path):
    np.savez_compressed(tmp_path / "packed.npz", X=X, Y=Y)
    cost = reading_cost(opened(tmp_path / "packed.npz"), "X")
    assert cost.is_estimated
    assert cost.random_bytes_s == cost.run_bytes_s / 150


def test_show_shows_the_layout_and_what_reading_costs(chunked, capsys):
    assert run(["data", "show", str(chunked)]) == 0
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert "chunks of 7 x 3" in words
    assert "gzip" in words
    assert "rows in runs of 300" in out
    assert "rows one by one, in random order" in out
    assert f"mlpprof data repack {chunked} -o {chunked.with_name('chunked-fast.h5')}" in out


def test_show_suggests_no_new_file_for_one_that_reads_fast(tmp_path, capsys):
    np.savez(tmp_path / "plain.npz", X=X, Y=Y)
    assert run(["data", "show", str(tmp_path / "plain.npz")]) == 0
    out = capsys.readouterr().out
    assert "the disk's limit" in out
    assert "repack" not in out
