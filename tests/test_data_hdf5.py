import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpprof.data import DataSource, load, peek
from mlpprof.data.dataset import facts_of
from mlpprof.data.hdf5_and_npz import open_hdf5
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


DTYPES = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
)


@given(DTYPES, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), st.booleans())
def test_samples_come_back_from_hdf5_as_they_went(dtype, shape, is_compressed):
    X = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    labels = np.arange(shape[0]) % 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("X", data=X, compression="gzip" if is_compressed else None)
            file["Y"] = labels
        assert peek(source(path)) == facts_of(load(source(path)))
        data = load(source(path))
    assert data.sample_shape == shape[1:]
    assert np.array_equal(data.X, X.reshape(shape[0], -1))
    assert np.array_equal(data.labels, labels)


def test_the_plain_layout_takes_a_test_set_along(tmp_path):
    data = load(source(saved(tmp_path / "d.h5", X=X, Y=Y, X_test=X[:2], Y_test=Y[:2])))
    assert (data.samples, data.test_samples) == (4, 2)


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


def test_a_wrong_name_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"no array 'pixel'; did you mean 'pixels'\?"):
        load(source(saved(tmp_path / "d.h5", pixels=X, digits=Y), "pixel", "digits"))


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


def test_objects_and_text_are_refused_with_their_dtype(tmp_path):
    for name, value in (("object", ["a", "b"]), ("S3", np.array([b"abc"])), ("[('a'", np.zeros(2, [("a", "f8")]))):
        with pytest.raises(DataError) as raised:
            load(source(saved(tmp_path / "d.h5", X=value, Y=Y)))
        assert f"'X' cannot be used: dtype {name}" in str(raised.value).replace("|S3", "S3")


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


def test_an_enormous_dataset_that_was_never_written_is_refused_unread(tmp_path):
    path = with_x(tmp_path / "d.h5", lambda f: f.create_dataset("X", (2**40, 2**10), "f8", chunks=(1024, 1024)))
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="GiB are free"):
        load(source(path))


def test_names_are_shown_without_what_a_terminal_would_obey(tmp_path):
    path = saved(tmp_path / "d.h5", **{"red\x1b[31m": X})
    with pytest.raises(DataError) as raised:
        load(source(path))
    assert "\x1b" not in str(raised.value)
    assert "red�[31m" in str(raised.value)


@given(st.integers(8, 2000))
def test_a_truncated_file_is_refused_in_one_line(size):
    with tempfile.TemporaryDirectory() as folder:
        path = saved(Path(folder) / "d.h5", X=X, Y=Y)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError) as raised:
            load(source(path))
    assert "\n" not in str(raised.value)


def test_the_real_cats_are_what_the_course_gave(shared_data):
    data = load(source(shared_data / "train_catvnoncat.h5"))
    assert (data.X.shape, data.X_test.shape) == ((209, 12288), (50, 12288))
    assert np.bincount(data.labels).tolist() == [137, 72]
    assert np.bincount(data.labels_test).tolist() == [17, 33]
    assert open_hdf5(shared_data / "train_catvnoncat.h5").arrays["list_classes"].problem
