import numpy as np
import pytest

from mlpprof.data import EMBEDDED, Dataset, DataSource, load, peek
from mlpprof.data.embedded import Draws, embedded
from mlpprof.errors import DataError

FINGERPRINTS = {
    "digits": "ca4439d0f9d11940e74b78fefb3b38430c41a18413fea2f3908e65ffa2730e2f",
    "tiny": "64e3f71485ed898269549f4f93a99c2dd3c9ec1b95e938dd71f6b46e73cfcfc2",
    "random": "36bea9f5b89a72f4182b94fd5f248e815fa7c98828eca4f9a526410119707982",
    "teacher": "6dd0bb365292ea5f731d9757f58c9201119413afe8be083dbd8b6917a51f4ad4",
    "cats": "a5f26ca857a9737e2cb368f990a27c2507edc74c72db9ee938d34ce4e50f31ae",
}
"""The fingerprints of the sets when this was written: every run, on any machine, must see the same data."""


def linear_accuracy(X, labels, X_test, labels_test) -> float:
    """Share of test samples that ridge regression on one-hot labels gets right, so without hidden layers."""
    X, X_test = (np.column_stack([np.ones(len(v)), v.reshape(len(v), -1) / max(1, X.max())]) for v in (X, X_test))
    Y = np.eye(int(labels.max()) + 1)[labels]
    # The dual form: the cats have fewer samples than features.
    alpha = np.linalg.solve(X @ X.T + 10 * np.eye(len(X)), Y)
    return float(((X_test @ (X.T @ alpha)).argmax(axis=1) == labels_test).mean())


@pytest.fixture(scope="module")
def sets() -> dict[str, Dataset]:
    return {name: embedded(name) for name in EMBEDDED}


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_set_has_the_same_bytes_everywhere(sets, name):
    assert sets[name].fingerprint() == FINGERPRINTS[name]


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_peek_gives_the_sizes_of_the_set(sets, name):
    assert peek(DataSource(name)) == sets[name].facts


def test_the_digits_have_the_shape_of_mnist_and_other_test_digits_than_training_digits(sets):
    digits = sets["digits"]
    assert (digits.X.shape, digits.X_test.shape, digits.X.dtype) == ((60_000, 784), (10_000, 784), np.uint8)
    assert digits.sample_shape == (28, 28)
    assert np.bincount(digits.labels).min() > 5_500
    known = {row.tobytes() for row in digits.X}
    assert not any(row.tobytes() in known for row in digits.X_test)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("digits", 0.5, 0.9), ("teacher", 0.75, 0.95), ("tiny", 0.85, 1.0), ("cats", 0.7, 1.0), ("random", 0.0, 0.2)],
)
def test_a_linear_model_learns_as_much_as_the_set_is_made_for(sets, name, least, most):
    X, labels, X_test, labels_test = sets[name].X, sets[name].labels, sets[name].X_test, sets[name].labels_test
    if X_test is None:
        X, labels, X_test, labels_test = X[:800], labels[:800], X[800:], labels[800:]
    assert least <= linear_accuracy(X[:1000], labels[:1000], X_test[:1000], labels_test[:1000]) <= most


def test_an_unknown_embedded_set_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"no embedded set 'digit'; did you mean 'digits'\?"):
        load(DataSource("digit"))


def test_draws_stay_in_their_range_and_reach_its_ends():
    draws = Draws(1)
    assert np.unique(draws.below(7, (2000,))).tolist() == list(range(7))
    assert np.unique(draws.around(3, (2000,))).tolist() == [-3, -2, -1, 0, 1, 2, 3]
    assert np.unique(draws.bytes((50, 100))).size == 256
    # An odd number of bytes is part of a word.
    assert draws.bytes((3, 1)).shape == (3, 1)
