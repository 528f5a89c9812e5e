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
from mlpprof.data.idx import open_idx, open_idx_folder, read_array, read_header
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


@pytest.mark.parametrize(
    "place",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: f"{name} (1)",
        lambda name: f"emnist-letters-{name.replace('t10k', 'test')}",
        lambda name: f"MNIST/raw/{name}",
        lambda name: f"{name}/{name.replace('-idx', '.idx')}",
    ],
    ids=["dots", "copies", "EMNIST", "torchvision", "Kaggle"],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_is_found_under_the_names_that_data_sets_come_with(tmp_path, place, suffix):
    for file in list(write_mnist(tmp_path).iterdir()):
        target = tmp_path / "named" / (place(file.name) + suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(file.read_bytes()) if suffix else file.read_bytes())
    data = load(source(tmp_path / "named"))
    assert (data.samples, data.test_samples) == (12, 4)


def test_a_folder_with_plain_and_gzipped_files_is_one_set(tmp_path):
    write_mnist(tmp_path)
    write_mnist(tmp_path, suffix=".gz")
    assert open_idx_folder(tmp_path).path == tmp_path / "train-images-idx3-ubyte"


def test_a_folder_with_several_sets_lists_them(tmp_path):
    for file in list(write_mnist(tmp_path).iterdir()):
        content = file.read_bytes()
        for name in ("letters", "digits"):
            (tmp_path / f"emnist-{name}-{file.name}").write_bytes(content)
        file.unlink()
    listed = "'emnist-digits-train-images-idx3-ubyte', 'emnist-letters-train-images-idx3-ubyte'"
    with pytest.raises(DataError, match=f"holds 2 sets; give the images file of one of them: {listed}"):
        load(source(tmp_path))
    assert load(source(tmp_path / "emnist-letters-train-images-idx3-ubyte")).test_samples == 4


def test_a_web_page_in_place_of_images_is_recognised(tmp_path):
    write_mnist(tmp_path, suffix=".gz")
    page = b"<!DOCTYPE HTML>\n<html><head><title>403 Forbidden</title></head></html>"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(page)
    with pytest.raises(DataError, match=r"is a web page \(403 Forbidden\), not data; download the file again"):
        load(source(tmp_path))


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
    with pytest.raises(DataError, match="cannot find its labels file"):
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


def test_fewer_labels_than_images_are_refused_with_both_numbers(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(11, np.uint8))
    with pytest.raises(DataError, match="X has 12 samples, but Y has 11"):
        load(source(tmp_path))


def test_a_negative_label_is_refused(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.full(12, -1, np.int8))
    with pytest.raises(DataError, match="-1 in row 0"):
        load(source(tmp_path))


@pytest.mark.parametrize("magic", [b"\0\0\x07\x03", b"\0\1\x08\x03", b"\0\0\x08\0", b"\0\0\x08\x09"])
def test_another_magic_number_is_shown_and_refused(tmp_path, magic):
    (tmp_path / "x").write_bytes(magic + bytes(12))
    with pytest.raises(DataError, match=f"starts with the bytes {magic.hex(' ')}"):
        read_header(tmp_path / "x")


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


@pytest.mark.slow
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
