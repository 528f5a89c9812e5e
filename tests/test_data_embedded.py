import numpy as np
import pytest

from mlpprof.data import EMBEDDED, Dataset, DataSource, load, peek
from mlpprof.data.dataset import facts_of
from mlpprof.data.embedded import Draws, embedded
from mlpprof.errors import DataError

FINGERPRINTS = {
    "digits": "ca4439d0f9d11940e74b78fefb3b38430c41a18413fea2f3908e65ffa2730e2f",
    "tiny": "64e3f71485ed898269549f4f93a99c2dd3c9ec1b95e938dd71f6b46e73cfcfc2",
    "random": "36bea9f5b89a72f4182b94fd5f248e815fa7c98828eca4f9a526410119707982",
    "teacher": "6dd0bb365292ea5f731d9757f58c9201119413afe8be083dbd8b6917a51f4ad4",
    "cats": "a5f26ca857a9737e2cb368f990a27c2507edc74c72db9ee938d34ce4e50f31ae",
}
"""Of the sets as they were when this was written: runs on any machine and at any time see the same data."""


def linear_accuracy(X, labels, X_test, labels_test) -> float:
    """Share of test samples that ridge regression on one-hot labels gets right: what can be learned without hidden
    layers."""
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
def test_what_a_peek_tells_is_what_the_set_has(sets, name):
    assert peek(DataSource(name)) == facts_of(sets[name])


def test_the_digits_have_the_shape_of_mnist(sets):
    digits = sets["digits"]
    assert (digits.X.shape, digits.X_test.shape, digits.X.dtype) == ((60_000, 784), (10_000, 784), np.uint8)
    assert digits.sample_shape == (28, 28)
    assert np.bincount(digits.labels).min() > 5_500
    assert np.bincount(digits.labels_test).min() > 900


def test_digits_are_ink_on_white_paper_that_stays_inside_the_picture(sets):
    images = sets["digits"].X.reshape(-1, 28, 28)
    assert 0.7 < (images == 0).mean() < 0.9
    assert images.max() > 220
    assert (images.max(axis=(1, 2)) > 100).all()
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]])
    assert (border > 0).mean() < 0.02


def test_test_digits_are_not_among_the_training_digits(sets):
    digits = sets["digits"]
    known = {row.tobytes() for row in digits.X}
    assert not any(row.tobytes() in known for row in digits.X_test)


def test_digits_can_be_learned_but_not_without_effort(sets):
    digits = sets["digits"]
    accuracy = linear_accuracy(digits.X[:2000], digits.labels[:2000], digits.X_test[:2000], digits.labels_test[:2000])
    assert 0.5 < accuracy < 0.9


def test_the_teacher_can_be_learned_and_asks_for_more_than_a_line(sets):
    teacher = sets["teacher"]
    accuracy = linear_accuracy(teacher.X[:2000], teacher.labels[:2000], teacher.X_test, teacher.labels_test)
    assert 0.75 < accuracy < 0.95
    assert 0.45 < teacher.labels.mean() < 0.55


def test_tiny_can_be_learned(sets):
    tiny = sets["tiny"]
    assert linear_accuracy(tiny.X, tiny.labels, tiny.X_test, tiny.labels_test) > 0.85


def test_the_cats_can_be_told_better_than_by_the_commoner_class(sets):
    cats = sets["cats"]
    assert (int(cats.labels.sum()), int(cats.labels_test.sum())) == (72, 33)
    assert linear_accuracy(cats.X, cats.labels, cats.X_test, cats.labels_test) > 0.7


def test_random_labels_have_nothing_to_do_with_their_samples(sets):
    noise = sets["random"]
    assert linear_accuracy(noise.X[:800], noise.labels[:800], noise.X[800:], noise.labels[800:]) < 0.2
    assert 0 <= noise.X.min() < 0.001 < 0.999 < noise.X.max() < 1
    assert abs(noise.X.mean() - 0.5) < 0.002


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


def test_draws_of_one_seed_are_equal_and_of_another_differ():
    assert np.array_equal(Draws(1).bytes((64,)), Draws(1).bytes((64,)))
    assert not np.array_equal(Draws(1).bytes((64,)), Draws(2).bytes((64,)))
