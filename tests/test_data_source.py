import gzip
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_files import write_mnist

from mlpprof.data import DataFacts, DataSource, load, peek
from mlpprof.data.source import open_container
from mlpprof.errors import DataError


def source(path: Path) -> DataSource:
    return DataSource(path=str(path))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as raised:
        load(source(path))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("arguments", [{}, {"name": "tiny", "path": "x"}])
def test_a_source_has_either_a_name_or_a_path(arguments):
    with pytest.raises(DataError, match="either a name or a path"):
        DataSource(**arguments)


def test_an_embedded_set_has_no_array_names():
    with pytest.raises(DataError, match="'tiny' is an embedded set and has none"):
        DataSource("tiny", x="X", y="Y")


def test_text_is_an_embedded_name_or_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").touch()
    assert DataSource.parse("tiny") == DataSource("tiny")
    assert DataSource.parse("./tiny").path == "tiny"
    assert DataSource.parse("./tiny").text == "tiny"


def test_a_mistyped_embedded_name_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"no data file or embedded set 'dgits'; did you mean 'digits'\?"):
        DataSource.parse("dgits")


def test_a_mistyped_path_is_answered_with_the_nearest_file(tmp_path):
    (tmp_path / "train_catvnoncat.h5").touch()
    with pytest.raises(DataError, match=r"did you mean 'train_catvnoncat\.h5'\?"):
        DataSource.parse(str(tmp_path / "train_catnoncat.h5"))


def test_a_path_in_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        DataSource.parse(str(tmp_path / "nowhere" / "d.h5"))


@pytest.mark.parametrize("text", ["x" * 5000, "nul\0byte"])
def test_text_that_cannot_be_a_path_is_refused(text):
    with pytest.raises(DataError):
        DataSource.parse(text)


def test_a_file_that_has_gone_is_named(tmp_path):
    assert "no data file" in refusal(tmp_path / "gone.h5")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"x,y\n1,2\n", "is a text file that starts with 'x,y'"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "starts with 'version https://git-lfs"),
        (b"\x80\x04\x95\x00", "is a pickle"),
        (b"\x93NUMPY\x01\x00", "is a single .npy array; write the labels beside it with np.save('Y.npy', Y)"),
        (b"\x00\xff\x00\xff", "starts with the bytes 00 ff 00 ff"),
        (b"\x1b[31mred", "starts with the bytes"),
        (b"\x89HDF\r\n\x1a\n", "cannot be read as HDF5"),
        (b"PK\x03\x04....", "is not a sound .npz archive"),
        (b"\x1f\x8b", "damaged or incomplete gzip file"),
        (gzip.compress(b"hello there", mtime=0), "is a text file that starts with 'hello there'"),
    ],
)
def test_a_file_is_recognised_by_its_content_whatever_its_name_is(tmp_path, content, said):
    for name in ("data.h5", "train-images-idx3-ubyte", "data.npz"):
        path = tmp_path / name
        path.write_bytes(content)
        message = refusal(path)
        assert said in message
        assert str(path) in message


def test_a_name_with_the_wrong_ending_does_not_matter(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.zeros((3, 2)), Y=np.arange(3))
    (tmp_path / "a.npz").rename(tmp_path / "a.h5")
    assert open_container(source(tmp_path / "a.h5")).kind == "npz"
    with h5py.File(tmp_path / "b.npz", "w") as file:
        file["X"], file["Y"] = np.zeros((3, 2)), np.arange(3)
    assert open_container(source(tmp_path / "b.npz")).kind == "HDF5"


def test_hdf5_after_a_user_block_is_recognised(tmp_path):
    with h5py.File(tmp_path / "d", "w", userblock_size=512) as file:
        file["X"], file["Y"] = np.zeros((3, 2)), np.arange(3)
    assert load(source(tmp_path / "d")).samples == 3


def test_a_folder_without_data_is_answered_with_the_files_it_has(tmp_path):
    assert "does not hold train-images-idx3-ubyte" in refusal(tmp_path)
    (tmp_path / "mine.h5").touch()
    assert "name one of its files: mine.h5" in refusal(tmp_path)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in refusal(tmp_path / "pipe")


def test_a_peek_at_mnist_s_files_does_not_read_the_images(tmp_path, monkeypatch):
    write_mnist(tmp_path)
    monkeypatch.setattr("mlpprof.data.idx.read_array", _labels_only)
    assert peek(source(tmp_path)) == DataFacts(12, 4, 20, 3)
    with pytest.raises(AssertionError):
        load(source(tmp_path))


def _labels_only(path: Path):
    assert "labels" in path.name
    return np.arange(12 if "train" in path.name else 4) % 3


def test_a_peek_finds_what_loading_would_refuse(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.zeros((3, 2)), Y=np.arange(4))
    with pytest.raises(DataError, match="X has 3 samples, but Y has 4"):
        peek(source(tmp_path / "d.npz"))


def test_a_peek_has_the_range_of_real_targets(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.zeros((3, 2)), Y=np.array([[0.5, -2], [7, 1], [1, 1]]))
    assert peek(source(tmp_path / "d.npz")) == DataFacts(3, 0, 2, 0, 2, -2.0, 7.0)
