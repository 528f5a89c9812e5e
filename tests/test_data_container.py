import gzip
import io
import re
import tempfile
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from data_files import idx_bytes, write_idx
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpprof.data import DataSource, load, peek
from mlpprof.data.show import describe
from mlpprof.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def source(path: Path, x: str | None = None, y: str | None = None) -> DataSource:
    return DataSource(path=str(path), x=x, y=y)


def npz(folder: Path, compressed: bool = False, **arrays) -> Path:
    (np.savez_compressed if compressed else np.savez)(folder / "data.npz", **arrays)
    return folder / "data.npz"


def hdf5(folder: Path, compressed: bool = False, **arrays) -> Path:
    with h5py.File(folder / "data.h5", "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if compressed and np.ndim(array) else None)
    return folder / "data.h5"


FORMATS = [npz, hdf5]
DTYPES = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?", sizes=(16, 32, 64))
)


@pytest.mark.parametrize("write", FORMATS)
@given(DTYPES, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), st.booleans(), st.booleans())
def test_samples_come_back_as_they_were_written(write, dtype, shape, is_fortran, is_compressed):
    X = (np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype)
    X = np.asfortranarray(X) if is_fortran else X
    labels = np.arange(shape[0]) % 3
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), is_compressed, X=X, Y=labels)
        data = load(source(path))
        assert peek(source(path)) == data.facts
    assert data.sample_shape == shape[1:]
    assert np.array_equal(data.X, X.reshape(shape[0], -1))
    assert np.array_equal(data.labels, labels)


@pytest.mark.parametrize(
    "names",
    [
        ("X", "Y", "X_test", "Y_test"),
        ("X", "y", "X_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_set_x", "train_set_y", "test_set_x", "test_set_y"),
    ],
)
def test_the_usual_names_need_no_options(tmp_path, names):
    arrays = dict(zip(names, (X, Y, X[:2], Y[:2]), strict=True))
    data = load(source(npz(tmp_path, **arrays)))
    assert (data.samples, data.test_samples) == (4, 2)


def test_a_test_set_needs_both_its_arrays(tmp_path):
    assert load(source(npz(tmp_path, X=X, Y=Y, X_test=X))).test_samples == 0


def test_arrays_with_other_names_are_named(tmp_path):
    path = npz(tmp_path, pixels=X, answers=Y, X=X + 1, Y=Y)
    assert load(source(path, "pixels", "answers")).X.tolist() == X.tolist()


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ("pixel", "answers", r"no array 'pixel'; did you mean 'pixels'\? \(it holds .*pixels \(4, 3\)"),
        (None, "answers", "--y was given without --x"),
        (None, None, r"name them with --x and --y \(it holds .*pixels \(4, 3\)"),
    ],
)
def test_wrong_or_missing_names_are_refused_with_the_names_there_are(tmp_path, write, x, y, message):
    with pytest.raises(DataError, match=message):
        load(source(write(tmp_path, pixels=X, answers=Y), x, y))


def test_names_that_differ_in_case_only_have_to_be_given(tmp_path):
    path = npz(tmp_path, X=X, x=X + 1, Y=Y)
    with pytest.raises(DataError, match="X and x differ in case only"):
        load(source(path))
    assert load(source(path, "x", "Y")).X.tolist() == (X + 1).tolist()


@pytest.mark.parametrize("write", FORMATS)
def test_named_fields_are_refused_with_their_dtype(tmp_path, write):
    with pytest.raises(DataError, match=r"'X' cannot be used: dtype \[\('a', '<f8'\).*expected numbers"):
        load(source(write(tmp_path, X=np.zeros(4, [("a", "f8"), ("b", "i4")]), Y=Y)))


@pytest.mark.parametrize("write", FORMATS)
def test_arrays_that_together_need_more_than_the_free_memory_are_refused_unread(tmp_path, monkeypatch, write):
    path = write(tmp_path, True, X=np.zeros((1000, 300), np.uint8), Y=np.zeros((1000, 50), np.float32))
    assert path.stat().st_size < 20_000
    # 0.3 MB of X and 0.2 MB of Y fit, but not beside the 0.4 MB of Y in float64.
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 800_000}))
    message = r"'X' \(1000, 300\), 'Y' \(1000, 50\) needs .* GiB are free"
    with pytest.raises(DataError, match=message):
        load(source(path))
    assert re.search(message, describe(source(path)).problem)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize(
    "Y",
    [
        np.arange(4_000_000, dtype=np.int8) % 3,
        (np.arange(4_000_000) % 3).astype(np.float32),
        np.eye(4, dtype=np.uint8)[np.arange(1_000_000) % 4],
        np.linspace(0.0, 1.0, 4_000_000),
    ],
    ids=["labels", "float labels", "one-hot", "targets"],
)
def test_loading_takes_no_more_memory_than_was_asked_for(tmp_path, monkeypatch, write, Y):
    monkeypatch.setattr("mlpprof.data.dataset.BLOCK_BYTES", 1 << 18)
    asked = []
    monkeypatch.setattr("mlpprof.data.container.require_memory", lambda nbytes, what: asked.append(nbytes))
    path = write(tmp_path, X=np.zeros((len(Y), 1), np.uint8), Y=Y)
    tracemalloc.start()
    try:
        load(source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < asked[0] + (4 << 20)


def damaged(data, content: bytes) -> bytes:
    """The content with some bits flipped, cut off somewhere."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    return bytes(changed[: data.draw(st.integers(1, len(changed)))])


def archive(compressed: bool) -> bytes:
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, X=X, Y=Y)
    return buffer.getvalue()


IMAGES = idx_bytes(np.arange(40, dtype=np.uint8).reshape(4, 5, 2))


# Without HDF5: libhdf5 itself may crash on damaged bytes.
@pytest.mark.parametrize(
    "content",
    [archive(False), archive(True), IMAGES, gzip.compress(IMAGES, mtime=0)],
    ids=["npz", "compressed npz", "IDX", "gzipped IDX"],
)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line_but_never_a_crash(content, data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train-images-idx3-ubyte"
        path.write_bytes(damaged(data, content))
        write_idx(path.with_name("train-labels-idx1-ubyte"), np.zeros(4, np.uint8))
        try:
            load(source(path))
        except DataError as error:
            assert "\n" not in str(error)


@given(st.integers(8, 2000))
def test_a_truncated_hdf5_file_is_refused_in_one_line(size):
    with tempfile.TemporaryDirectory() as folder:
        path = hdf5(Path(folder), X=X, Y=Y)
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError) as raised:
            load(source(path))
    assert "\n" not in str(raised.value)
