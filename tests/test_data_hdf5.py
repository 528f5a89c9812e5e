from pathlib import Path

import h5py
import numpy as np
import pytest

from mlpprof.data import DataSource, load
from mlpprof.data.hdf5 import open_hdf5
from mlpprof.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 1, 0])
PICTURES = np.arange(4 * 5 * 5 * 3, dtype=np.uint8).reshape(4, 5, 5, 3)


def source(path: Path, x: str | None = None, y: str | None = None) -> DataSource:
    return DataSource(path=str(path), x=x, y=y)


def saved(path: Path, **arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def cats(folder: Path) -> Path:
    saved(folder / "test_catvnoncat.h5", test_set_x=PICTURES[:2], test_set_y=Y[:2], list_classes=[b"non-cat", b"cat"])
    return saved(folder / "train_catvnoncat.h5", train_set_x=PICTURES, train_set_y=Y, list_classes=[b"non-cat", b"cat"])


def test_the_cats_find_their_test_file_beside_them(tmp_path):
    data = load(source(cats(tmp_path)))
    assert (data.samples, data.test_samples, data.features, data.sample_shape) == (4, 2, 75, (5, 5, 3))


def test_the_cats_without_a_test_file_have_no_test_set(tmp_path):
    path = cats(tmp_path)
    (tmp_path / "test_catvnoncat.h5").unlink()
    assert load(source(path)).test_samples == 0


def test_a_test_file_alone_can_be_looked_at_too(tmp_path):
    cats(tmp_path)
    assert load(source(tmp_path / "test_catvnoncat.h5")).samples == 2


def test_datasets_in_groups_are_named_by_their_path(tmp_path):
    path = saved(tmp_path / "d.h5", **{"mnist/pixels": X, "mnist/digits": Y})
    assert load(source(path, "mnist/pixels", "mnist/digits")).samples == 4
    with pytest.raises(DataError, match=r"it holds mnist/digits \(4,\), mnist/pixels \(4, 3\)"):
        load(source(path))


def test_a_file_without_datasets_is_refused(tmp_path):
    with pytest.raises(DataError, match="without datasets"):
        load(source(saved(tmp_path / "d.h5")))


def with_x(path: Path, add) -> Path:
    with h5py.File(saved(path, Y=Y), "a") as file:
        add(file)
    return path


def test_an_external_link_is_never_followed(tmp_path):
    saved(tmp_path / "other.h5", X=X)
    path = with_x(tmp_path / "d.h5", lambda file: file.__setitem__("X", h5py.ExternalLink("other.h5", "X")))
    with pytest.raises(DataError, match=r"'X' cannot be used: it is a link to another file, other\.h5"):
        load(source(path))


def test_a_soft_link_through_an_external_one_is_never_followed(tmp_path):
    saved(tmp_path / "other.h5", **{"g/X": X})

    def add(file: h5py.File) -> None:
        file["away"] = h5py.ExternalLink("other.h5", "g")
        file["X"] = h5py.SoftLink("/away/X")

    path = with_x(tmp_path / "d.h5", add)
    with pytest.raises(DataError, match=r"it is a soft link; name its target, /away/X"):
        load(source(path))
    with pytest.raises(DataError, match="no array 'away/X'"):
        load(source(path, "away/X", "Y"))


def test_a_virtual_dataset_is_refused(tmp_path):
    saved(tmp_path / "other.h5", X=X)
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "X", X.shape)
    path = with_x(tmp_path / "d.h5", lambda file: file.create_virtual_dataset("X", layout))
    with pytest.raises(DataError, match="it is virtual"):
        load(source(path))


def test_values_in_an_external_file_are_refused(tmp_path):
    (tmp_path / "secret").write_bytes(X.tobytes())
    outside = [(str(tmp_path / "secret"), 0, X.nbytes)]
    path = with_x(tmp_path / "d.h5", lambda file: file.create_dataset("X", X.shape, X.dtype, external=outside))
    with pytest.raises(DataError, match=r"its values are in another file, .*secret"):
        load(source(path))


@pytest.mark.parametrize(("value", "dtype"), [(["a", "b"], "object"), (np.array([b"abc"]), r"\|S3")])
def test_objects_and_text_are_refused_with_their_dtype(tmp_path, value, dtype):
    with pytest.raises(DataError, match=f"'X' cannot be used: dtype {dtype}: expected numbers"):
        load(source(saved(tmp_path / "d.h5", X=value, Y=Y)))


def test_an_empty_dataset_is_refused(tmp_path):
    with pytest.raises(DataError, match="'X' cannot be used: it is empty"):
        load(source(saved(tmp_path / "d.h5", X=h5py.Empty("f8"), Y=Y)))


def test_groups_that_contain_themselves_end(tmp_path):
    def add(file: h5py.File) -> None:
        file["X"] = X
        group = file.create_group("inner")
        group["outer"] = file["/"]
        group["inner"] = group

    assert load(source(with_x(tmp_path / "d.h5", add))).samples == 4


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"chunks": (1024, 1024)}, "only 0 of its 1,073,741,824 chunks were ever written"),
        ({}, "only 0 of its 9,007,199,254,740,992 bytes were ever written"),
    ],
)
def test_an_enormous_dataset_that_was_never_written_is_refused_unread(tmp_path, options, found):
    path = with_x(tmp_path / "d.h5", lambda file: file.create_dataset("X", (2**40, 2**10), "f8", **options))
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match=f"'X' cannot be used: {found}"):
        load(source(path))


def test_a_dataset_with_chunks_that_were_never_written_is_refused(tmp_path):
    def add(file: h5py.File) -> None:
        file.create_dataset("X", (4, 3), "f8", chunks=(2, 3), compression="gzip")[:2] = X[:2]

    with pytest.raises(DataError, match="only 1 of its 2 chunks were ever written"):
        load(source(with_x(tmp_path / "d.h5", add)))


def test_a_compressed_chunk_much_larger_than_its_dataset_is_refused_unread(tmp_path):
    def add(file: h5py.File) -> None:
        X = file.create_dataset("X", (4, 3), "f8", chunks=(10**8, 3), maxshape=(None, 3), compression="gzip")
        X.id.write_direct_chunk((0, 0), b"never unpacked")

    with pytest.raises(DataError, match="its chunks take 2,400,000,000 bytes each, but the whole dataset takes 96"):
        load(source(with_x(tmp_path / "d.h5", add)))


def test_names_are_shown_without_what_a_terminal_would_obey(tmp_path):
    path = saved(tmp_path / "d.h5", **{"red\x1b[31m": X})
    with pytest.raises(DataError) as raised:
        load(source(path))
    assert "\x1b" not in str(raised.value)
    assert "red�[31m" in str(raised.value)


def test_the_real_cats_are_what_the_course_gave(shared_data):
    data = load(source(shared_data / "train_catvnoncat.h5"))
    assert (data.X.shape, data.X_test.shape) == ((209, 12288), (50, 12288))
    assert np.bincount(data.labels).tolist() == [137, 72]
    assert np.bincount(data.labels_test).tolist() == [17, 33]
    assert open_hdf5(shared_data / "train_catvnoncat.h5").arrays["list_classes"].problem
