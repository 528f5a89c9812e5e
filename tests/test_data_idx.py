import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from data_files import CODES, idx_bytes, write_idx, write_mnist
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpprof.data import DataSource, load
from mlpprof.data.idx import open_idx, read_array, read_header
from mlpprof.errors import DataError


def source(path: Path) -> DataSource:
    return DataSource(path=str(path))


@given(
    st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=5), elements=st.integers(0, 100))
    ),
    st.sampled_from(["images", "images.gz"]),
)
def test_an_array_comes_back_from_idx_as_it_went(array, name):
    with tempfile.TemporaryDirectory() as folder:
        back = read_array(write_idx(Path(folder) / name, array))
    assert back.dtype.str[1:] == array.dtype.str[1:]
    assert np.array_equal(back, array)


@given(st.data(), st.booleans())
def test_an_idx_file_cut_anywhere_is_refused_in_one_line(data, is_zipped):
    content = idx_bytes(np.arange(40, dtype=np.uint8).reshape(4, 5, 2))
    content = gzip.compress(content, mtime=0) if is_zipped else content
    content = content[: data.draw(st.integers(0, len(content) - 1))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train-images-idx3-ubyte"
        path.write_bytes(content)
        write_idx(path.with_name("train-labels-idx1-ubyte"), np.zeros(4, np.uint8))
        with pytest.raises(DataError) as raised:
            load(source(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.data(), st.booleans())
def test_an_idx_file_with_any_bits_flipped_is_read_or_refused_but_never_a_crash(data, is_zipped):
    content = idx_bytes(np.arange(40, dtype=np.uint8).reshape(4, 5, 2))
    damaged = bytearray(gzip.compress(content, mtime=0) if is_zipped else content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train-images-idx3-ubyte"
        path.write_bytes(damaged)
        write_idx(path.with_name("train-labels-idx1-ubyte"), np.zeros(4, np.uint8))
        try:
            assert load(source(path)).samples == 4
        except DataError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_folder_of_the_four_files_is_one_set(tmp_path, suffix):
    data = load(source(write_mnist(tmp_path, 12, suffix)))
    assert (data.samples, data.test_samples, data.features, data.sample_shape) == (12, 4, 20, (5, 4))
    assert data.labels.tolist() == [0, 1, 2] * 4
    assert data.X[1].tolist() == list(range(20, 40))


def test_an_images_file_finds_its_labels_and_the_test_files_beside_it(tmp_path):
    write_mnist(tmp_path)
    data = load(source(tmp_path / "train-images-idx3-ubyte"))
    assert (data.samples, data.test_samples) == (12, 4)
    data = load(source(tmp_path / "t10k-images-idx3-ubyte"))
    assert (data.samples, data.test_samples) == (4, 0)


def test_labels_beside_gzipped_images_may_be_plain(tmp_path):
    write_mnist(tmp_path)
    images = tmp_path / "train-images-idx3-ubyte"
    images.with_suffix(".gz").write_bytes(gzip.compress(images.read_bytes()))
    images.unlink()
    assert load(source(images.with_suffix(".gz"))).samples == 12


def test_names_with_dots_are_known_too(tmp_path):
    for file in list(write_mnist(tmp_path).iterdir()):
        file.rename(file.with_name(file.name.replace("-idx", ".idx")))
    data = load(source(tmp_path))
    assert (data.samples, data.test_samples) == (12, 4)


def test_missing_test_labels_leave_the_training_set(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    assert load(source(tmp_path)).test_samples == 0


def test_images_without_labels_are_refused_with_the_name_that_is_missing(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="expected train-labels-idx1-ubyte in the same folder"):
        load(source(tmp_path))


def test_a_name_without_images_cannot_lead_to_labels(tmp_path):
    write_idx(tmp_path / "pictures", np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match="cannot tell its labels file"):
        load(source(tmp_path / "pictures"))


def test_a_labels_file_is_answered_with_what_to_give_instead(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(DataError, match=r"holds labels \(one dimension of 12\); give the images file"):
        load(source(tmp_path / "train-labels-idx1-ubyte"))


def test_images_in_place_of_labels_are_refused(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros((12, 1, 1), np.uint8))
    with pytest.raises(DataError, match="expected labels in one dimension"):
        load(source(tmp_path))


def test_fewer_labels_than_images_are_told_with_both_numbers(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(DataError, match="X has 12 samples, but Y has 11"):
        load(source(tmp_path))


def test_a_negative_label_is_refused(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(12, -1, np.int8))
    with pytest.raises(DataError, match="-1 in row 0"):
        load(source(tmp_path))


@pytest.mark.parametrize("magic", [b"\0\0\x07\x03", b"\0\1\x08\x03", b"\0\0\x08\0", b"\0\0\x08\x09", b"\0\0"])
def test_another_magic_number_is_shown_and_refused(tmp_path, magic):
    path = tmp_path / "x"
    path.write_bytes(magic + bytes(12) if len(magic) == 4 else magic)
    with pytest.raises(DataError, match=magic.hex(" ")):
        read_header(path)


@pytest.mark.parametrize("extra", [-1, 1, 1000])
@pytest.mark.parametrize("is_zipped", [False, True])
def test_a_size_that_the_header_does_not_expect_is_refused_with_it(tmp_path, extra, is_zipped):
    content = idx_bytes(np.ones((3, 4, 5), np.uint8))
    content = content[:extra] if extra < 0 else content + bytes(extra)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if is_zipped else content)
    with pytest.raises(DataError, match="expects"):
        read_array(path)


def test_an_impossible_size_in_a_small_gzip_file_is_refused_without_asking_for_the_memory(tmp_path):
    write_mnist(tmp_path, suffix=".gz")
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(header + bytes(99)))
    with pytest.raises(DataError, match="GiB are free"):
        load(source(path))


def test_an_empty_dimension_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds nothing"):
        read_header(write_idx(tmp_path / "images", np.zeros((3, 0, 2), np.uint8)))


def test_the_real_mnist_is_what_its_authors_published(shared_data):
    data = load(source(shared_data))
    assert (data.X.shape, data.X_test.shape) == ((60_000, 784), (10_000, 784))
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.labels_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(data.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    X, _ = data.arrays(10, np.float32)
    assert (round(float(X.mean(dtype=np.float64)), 4), round(float(X.std(dtype=np.float64)), 4)) == (0.1307, 0.3081)


def test_opening_mnist_reads_headers_and_not_the_images(shared_data):
    container = open_idx(shared_data / "train-images-idx3-ubyte.gz")
    assert container.arrays["train_images"].shape == (60_000, 28, 28)
    assert container.arrays["test_labels"].nbytes == 10_000
