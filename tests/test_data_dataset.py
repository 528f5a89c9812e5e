import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlpprof.data import dataset as dataset_module
from mlpprof.data.dataset import DataFacts, Dataset
from mlpprof.errors import DataError

X3 = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


def test_uint8_images_are_flattened_and_scaled_to_one():
    images = np.array([[[0, 51], [102, 255]]], np.uint8)
    X, _ = Dataset.from_arrays("d", images, np.array([0])).arrays(10, np.float64)
    assert X.tolist() == [[0.0, 0.2, 0.4, 1.0]]


def test_uint8_flags_of_0_and_1_are_not_taken_for_pixels():
    data = Dataset.from_arrays("d", np.array([[0, 1], [1, 1]], np.uint8), np.array([0, 1]))
    assert data.scale == 1
    assert data.arrays(2, np.float32)[0].tolist() == [[0, 1], [1, 1]]


def test_test_samples_are_scaled_as_the_training_samples_are():
    dark = np.array([[0, 1]], np.uint8)
    data = Dataset.from_arrays("d", np.array([[0, 255]], np.uint8), np.array([0]), dark, np.array([1]))
    test = data.test_arrays(2, np.float64)
    assert test is not None
    assert test[0].tolist() == [[0, 1 / 255]]
    assert test[1].tolist() == [[0, 1]]


def test_labels_become_one_hot_rows_and_for_one_output_a_column():
    data = Dataset.from_arrays("d", X3, np.array([0, 1, 1]))
    assert data.arrays(3, np.float32)[1].tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert data.arrays(1, np.float32)[1].tolist() == [[0], [1], [1]]
    assert data.test_arrays(1, np.float32) is None


@pytest.mark.parametrize("n_outputs", [1, 2, 4])
def test_a_label_beyond_the_outputs_is_named_with_its_row(n_outputs):
    data = Dataset.from_arrays("d", X3, np.array([0, 1, 4]))
    with pytest.raises(DataError, match=r"label 4 in row 2"):
        data.arrays(n_outputs, np.float32)


def test_one_hot_rows_are_labels_and_keep_a_class_that_never_occurs():
    data = Dataset.from_arrays("d", X3, np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], np.uint8))
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 0]
    assert data.classes == 3


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.uint64, np.float16, np.float64])
def test_labels_are_taken_in_any_dtype_flat_or_as_a_column(dtype):
    Y = np.array([0, 1, 1]).astype(dtype)
    for shaped in (Y, Y.reshape(3, 1)):
        data = Dataset.from_arrays("d", X3, shaped)
        assert data.labels is not None
        assert data.labels.tolist() == [0, 1, 1]
        assert (data.classes, data.n_targets) == (2, 0)


def test_real_targets_stay_as_they_are():
    Y = np.array([[0.5, 2.0], [1.0, 0.0], [0.0, 1.0]])
    data = Dataset.from_arrays("d", X3, Y)
    assert (data.classes, data.n_targets) == (0, 2)
    assert data.arrays(2, np.float64)[1].tolist() == Y.tolist()
    assert data.facts == DataFacts(3, 0, 2, 0, 2, 0.0, 2.0)


def test_whole_numbers_in_a_test_set_of_real_targets_are_targets_too():
    data = Dataset.from_arrays("d", X3, np.array([0.5, 1.0, 2.0]), X3[:1], np.array([1.0]))
    test = data.test_arrays(1, np.float64)
    assert test is not None
    assert test[1].tolist() == [[1.0]]


def test_targets_need_as_many_outputs():
    data = Dataset.from_arrays("d", X3, np.array([0.5, 1.0, 2.0]))
    with pytest.raises(DataError, match="1 targets per sample, but the network has 3 outputs"):
        data.arrays(3, np.float32)


@pytest.mark.parametrize(("Y", "said"), [([0, -1, 1], "-1 in row 1"), ([0, 1, 123456], "123456 in row 2")])
def test_whole_numbers_that_are_not_classes_are_named_with_their_row(Y, said):
    with pytest.raises(DataError, match=said):
        Dataset.from_arrays("d", X3, np.array(Y))


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-9, 9)),
    st.data(),
)
def test_the_first_nan_or_infinity_is_named_and_all_are_counted(X, data):
    rows = data.draw(st.lists(st.integers(0, len(X) - 1), min_size=1, unique=True))
    columns = [data.draw(st.integers(0, X.shape[1] - 1)) for _ in rows]
    X[rows, columns] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    first = min(zip(rows, columns, strict=True))
    with pytest.raises(DataError) as raised:
        Dataset.from_arrays("d", X, np.zeros(len(X), int))
    assert f"in row {first[0]}, column {first[1]} ({len(rows)} values" in str(raised.value)


def test_nan_is_found_after_the_first_block(monkeypatch):
    monkeypatch.setattr(dataset_module, "BLOCK_BYTES", 32)
    X = np.zeros((9, 2))
    X[7, 1] = X[8, 0] = np.nan
    with pytest.raises(DataError, match=r"row 7, column 1 \(2 values"):
        Dataset.from_arrays("d", X, np.zeros(9, int))


@pytest.mark.parametrize(
    ("Y", "X_test", "Y_test", "message"),
    [
        (np.zeros(4, int), None, None, "X has 3 samples, but Y has 4"),
        (np.zeros(2, int), None, None, "is it stored feature-first"),
        (np.zeros(3, int), np.zeros((1, 3)), np.zeros(1, int), "test samples have 3 features, training samples 2"),
        (np.zeros(3, int), X3, np.array([0.5, 0.1, 0.2]), "differs from Y of the training set in kind"),
        (np.array([0.5, np.nan, 1.0]), None, None, "Y has nan in row 1, column 0"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(Y, X_test, Y_test, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays("d", X3, Y, X_test, Y_test)


@pytest.mark.parametrize("X", [np.zeros(3), np.zeros((3, 0)), np.zeros((0, 3)), np.array(1.0)])
def test_x_without_samples_or_features_is_refused_with_its_shape(X):
    with pytest.raises(DataError, match="shape"):
        Dataset.from_arrays("d", X, np.zeros(3, int))


@pytest.mark.parametrize("bad", [np.zeros((3, 2), complex), np.array([["a"], ["b"], ["c"]]), np.zeros((3, 2), "M8[s]")])
def test_an_array_without_numbers_is_refused_with_its_dtype(bad):
    with pytest.raises(DataError, match="expected booleans, integers or real numbers"):
        Dataset.from_arrays("d", bad, np.zeros(3, int))


def test_a_value_too_large_for_float32_is_named():
    data = Dataset.from_arrays("d", np.array([[1.0, 2.0], [3.0, -1e300]]), np.array([0, 1]))
    with pytest.raises(DataError, match=r"-1e\+300 in row 1, column 1, too large for float32"):
        data.arrays(2, np.float32)
    assert data.arrays(2, np.float64)[0][1, 1] == -1e300


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int8, np.int32, np.float32, np.dtype(">f8"), np.dtype(">i2"), np.bool_]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.integers(0, 1),
    ),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
)
def test_arrays_are_c_contiguous_in_the_dtype_asked_for(X, dtype, is_strided):
    X = X[:, ::-1] if is_strided else np.asfortranarray(X)
    got, Y = Dataset.from_arrays("d", X, np.zeros(len(X), int)).arrays(3, dtype)
    for array in (got, Y):
        assert array.dtype == dtype
        assert array.flags.c_contiguous
    assert got.shape == (len(X), X[0].size)
    assert np.array_equal(got, X.reshape(len(X), -1).astype(dtype))


def test_more_than_the_free_memory_is_refused_before_it_is_asked_for(monkeypatch):
    data = Dataset.from_arrays("d", np.ones((4, 4), np.float32), np.zeros(4, int))
    monkeypatch.setattr(dataset_module.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 100}))
    with pytest.raises(DataError, match="GiB are free"):
        data.arrays(2, np.float64)
    assert data.arrays(2, np.float32)[0].shape == (4, 4)


def test_the_fingerprint_depends_on_values_labels_and_shape_but_not_on_layout():
    X = np.arange(6.0).reshape(3, 2)
    same = Dataset.from_arrays("d", X, np.array([0, 1, 1])).fingerprint()
    assert len(same) == 64
    assert Dataset.from_arrays("other name", np.asfortranarray(X), np.array([0, 1, 1])).fingerprint() == same
    assert Dataset.from_arrays("d", X.astype(">f8"), np.array([0, 1, 1], np.uint8)).fingerprint() == same
    others = [
        Dataset.from_arrays("d", X + 1, np.array([0, 1, 1])),
        Dataset.from_arrays("d", X, np.array([0, 1, 0])),
        Dataset.from_arrays("d", X.astype(np.float32), np.array([0, 1, 1])),
        Dataset.from_arrays("d", X, np.array([0, 1, 1]), X, np.array([0, 1, 1])),
    ]
    assert len({same, *(other.fingerprint() for other in others)}) == 5
