import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpprof.data import DataSource, load, peek
from mlpprof.data.dataset import facts_of
from mlpprof.data.hdf5_and_npz import open_npz
from mlpprof.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def source(path: Path, x: str | None = None, y: str | None = None) -> DataSource:
    return DataSource(path=str(path), x=x, y=y)


def npy_bytes(array, **options) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def saved(folder: Path, **arrays) -> Path:
    np.savez_compressed(folder / "data.npz", **arrays)
    return folder / "data.npz"


DTYPES = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
)


@given(DTYPES, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), st.booleans(), st.booleans())
def test_samples_come_back_from_npz_as_they_went(dtype, shape, is_fortran, is_compressed):
    X = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    X = np.asfortranarray(X) if is_fortran else X
    labels = np.arange(shape[0]) % 3
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        (np.savez_compressed if is_compressed else np.savez)(path, X=X, Y=labels)
        assert peek(source(path)) == facts_of(load(source(path)))
        data = load(source(path))
    assert data.sample_shape == shape[1:]
    assert np.array_equal(data.X, X.reshape(shape[0], -1))
    assert np.array_equal(data.labels, labels)


@pytest.mark.parametrize(
    "names",
    [
        ("X", "Y", "X_test", "Y_test"),
        ("x", "y", "x_test", "y_test"),
        ("X", "y", "X_test", "y_test"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_set_x", "train_set_y", "test_set_x", "test_set_y"),
    ],
)
def test_the_usual_names_need_no_options(tmp_path, names):
    data = load(source(saved(tmp_path, **dict(zip(names, (X, Y, X[:2], Y[:2]), strict=True)))))
    assert (data.samples, data.test_samples) == (4, 2)


def test_a_test_set_needs_both_its_arrays(tmp_path):
    assert load(source(saved(tmp_path, X=X, Y=Y, X_test=X))).test_samples == 0


def test_arrays_with_names_of_their_own_are_named(tmp_path):
    path = saved(tmp_path, pixels=X, answers=Y, X=X + 1, Y=Y)
    assert load(source(path, "pixels", "answers")).X.tolist() == X.tolist()


def test_a_wrong_name_is_answered_with_the_nearest_and_all_there_are(tmp_path):
    path = saved(tmp_path, pixels=X, answers=Y)
    with pytest.raises(DataError) as raised:
        load(source(path, "pixel", "answers"))
    assert "no array 'pixel'; did you mean 'pixels'? (it holds pixels (4, 3), answers (4,))" in str(raised.value)


def test_one_name_without_the_other_is_refused(tmp_path):
    with pytest.raises(DataError, match="--y was given without --x"):
        load(source(saved(tmp_path, pixels=X, answers=Y), None, "answers"))


def test_unknown_arrays_are_listed_with_how_to_name_them(tmp_path):
    with pytest.raises(DataError, match=r"name them with --x and --y \(it holds pixels \(4, 3\), answers \(4,\)\)"):
        load(source(saved(tmp_path, pixels=X, answers=Y)))


def test_names_that_differ_in_case_only_have_to_be_named(tmp_path):
    path = saved(tmp_path, X=X, x=X + 1, Y=Y)
    with pytest.raises(DataError, match="X and x differ in case only"):
        load(source(path))
    assert load(source(path, "x", "Y")).X.tolist() == (X + 1).tolist()


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("pickle_was_loaded"),))


def test_a_pickled_array_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "data.npz", X=np.array([[Bomb()]], dtype=object), Y=np.array([0]))
    with pytest.raises(DataError, match=r"'X' cannot be used: .*could run code"):
        load(source(tmp_path / "data.npz"))
    assert not (tmp_path / "pickle_was_loaded").exists()


def test_named_fields_are_refused_with_their_dtype(tmp_path):
    path = saved(tmp_path, X=np.zeros(4, [("a", "f8"), ("b", "i4")]), Y=Y)
    with pytest.raises(DataError, match="expected numbers"):
        load(source(path))


def test_a_header_that_promises_more_than_the_archive_has_is_refused_before_memory_is_asked_for(tmp_path):
    header = io.BytesIO()
    shape = (4_000_000_000_000, 3_000_000_000)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    path = write_zip(tmp_path / "data.npz", {"X.npy": header.getvalue() + bytes(96), "Y.npy": npy_bytes(Y)})
    with pytest.raises(DataError, match="takes 96,000,000,000,000,000,000,000 bytes, but the archive has 96"):
        load(source(path))


def test_an_archive_that_unpacks_to_more_than_the_free_memory_is_refused_unread(tmp_path, monkeypatch):
    path = saved(tmp_path, X=np.zeros((1000, 1000), np.uint8), Y=np.zeros(1000, int))
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 500_000}))
    with pytest.raises(DataError, match=r"'X' of shape \(1000, 1000\) would need"):
        load(source(path))


def test_a_zip_of_other_files_is_refused(tmp_path):
    with pytest.raises(DataError, match="zip archive without arrays"):
        load(source(write_zip(tmp_path / "data.npz", {"readme.txt": b"hello"})))


def test_an_empty_archive_is_refused(tmp_path):
    with pytest.raises(DataError, match="without arrays"):
        load(source(write_zip(tmp_path / "data.npz", {})))


def test_a_member_that_is_no_array_does_not_hide_the_others(tmp_path):
    path = write_zip(tmp_path / "d.npz", {"X.npy": npy_bytes(X), "Y.npy": npy_bytes(Y), "note.txt": b"made by hand"})
    assert load(source(path)).samples == 4


def test_a_damaged_checksum_is_noticed(tmp_path):
    many = np.arange(30_000.0).reshape(10_000, 3)
    np.savez(tmp_path / "data.npz", X=many, Y=np.zeros(10_000, int))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[content.index(many.tobytes()) + 200_000] ^= 1
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match="'X' is damaged: Bad CRC-32"):
        load(source(tmp_path / "data.npz"))


def test_opening_an_archive_unpacks_no_values(tmp_path):
    path = saved(tmp_path, X=np.zeros((1000, 1000)), Y=np.zeros(1000, int))
    container = open_npz(path)
    assert (container.arrays["X"].shape, container.arrays["X"].nbytes) == ((1000, 1000), 8_000_000)


@given(st.data(), st.booleans())
def test_a_damaged_archive_is_read_or_refused_in_one_line_but_never_a_crash(data, is_compressed):
    buffer = io.BytesIO()
    (np.savez_compressed if is_compressed else np.savez)(buffer, X=X, Y=Y)
    damaged = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        path.write_bytes(damaged)
        try:
            load(source(path))
        except DataError as error:
            assert "\n" not in str(error)


@given(st.data())
def test_a_damaged_array_header_is_read_or_refused_but_never_a_crash(data):
    content = bytearray(npy_bytes(X))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 127))] = data.draw(
            st.sampled_from(list(b"0(),'{}: <>|fbOi8U\n\x00\x01\xff\\"))
        )
    with tempfile.TemporaryDirectory() as folder:
        path = write_zip(Path(folder) / "data.npz", {"X.npy": bytes(content), "Y.npy": npy_bytes(Y)})
        try:
            load(source(path))
        except DataError as error:
            assert "\n" not in str(error)
