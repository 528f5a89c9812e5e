import io
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpprof.data import DataSource, load
from mlpprof.data.npz import open_npz
from mlpprof.errors import DataError

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 1, 0])


def source(path: Path) -> DataSource:
    return DataSource(path=str(path))


def npy_bytes(array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("pickle_was_loaded"),))


def test_a_pickled_array_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "data.npz", X=np.array([[Bomb()]], dtype=object), Y=np.array([0]))
    with pytest.raises(DataError, match=r"'X' cannot be used: .*could run code"):
        load(source(tmp_path / "data.npz"))
    assert not (tmp_path / "pickle_was_loaded").exists()


def test_a_header_that_promises_more_than_the_archive_has_is_refused_before_memory_is_asked_for(tmp_path):
    header = io.BytesIO()
    shape = (4_000_000_000_000, 3_000_000_000)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    path = write_zip(tmp_path / "data.npz", {"X.npy": header.getvalue() + bytes(96), "Y.npy": npy_bytes(Y)})
    with pytest.raises(DataError, match="takes 96,000,000,000,000,000,000,000 bytes, but the archive has 96"):
        load(source(path))


def test_an_enormous_header_is_refused_before_memory_is_taken(tmp_path):
    length = 50_000_000
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", length) + b" " * length
    path = write_zip(tmp_path / "data.npz", {"X.npy": header, "Y.npy": npy_bytes(Y)})
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError, match="header is damaged: it declares 50,000,000 bytes, at most 10,000"
        ) as raised:
            load(source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000
    assert "pickle" not in str(raised.value)


@pytest.mark.parametrize("members", [{"readme.txt": b"hello"}, {}])
def test_an_archive_without_arrays_is_refused(tmp_path, members):
    with pytest.raises(DataError, match="zip archive without arrays"):
        load(source(write_zip(tmp_path / "data.npz", members)))


def test_a_member_that_is_not_an_array_does_not_hide_the_others(tmp_path):
    path = write_zip(tmp_path / "d.npz", {"X.npy": npy_bytes(X), "Y.npy": npy_bytes(Y), "note.txt": b"made by hand"})
    assert load(source(path)).samples == 4


def test_a_damaged_checksum_is_noticed(tmp_path):
    many = np.arange(30_000.0).reshape(10_000, 3)
    np.savez(tmp_path / "data.npz", X=many, Y=np.zeros(10_000, int))
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[content.index(many.tobytes()) + 200_000] ^= 1
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match="'X' cannot be read: Bad CRC-32"):
        load(source(tmp_path / "data.npz"))


def test_opening_an_archive_unpacks_no_values(tmp_path):
    np.savez_compressed(tmp_path / "data.npz", X=np.zeros((1000, 1000)), Y=np.zeros(1000, int))
    tracemalloc.start()
    try:
        container = open_npz(tmp_path / "data.npz")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (container.arrays["X"].shape, container.arrays["X"].nbytes) == ((1000, 1000), 8_000_000)
    assert peak < 1_000_000


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
