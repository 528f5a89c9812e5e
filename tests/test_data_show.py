import numpy as np
import pytest

from mlpprof.data.dataset import Dataset
from mlpprof.data.show import is_pictorial, thumbnails


def of_images(images, labels=None) -> Dataset:
    return Dataset.from_arrays("d", images, np.arange(len(images)) if labels is None else np.array(labels))


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5), True), ((4, 5, 3), True), ((1, 4, 5), True), ((20,), False), ((5, 6, 2), False)]
)
def test_images_are_recognised_by_the_shape_of_a_sample(shape, expected):
    assert is_pictorial(of_images(np.zeros((2, *shape)))) is expected


def test_each_class_is_shown_once_with_its_first_sample():
    images = np.arange(1, 5, dtype=np.uint8).reshape(4, 1, 1) * np.ones((1, 2, 2), np.uint8)
    shown = thumbnails(of_images(images, [1, 0, 1, 2]), 2, 28)
    assert [(label, int(picture[0, 0, 0])) for label, picture in shown] == [("0", 2), ("1", 1)]


def test_large_images_are_averaged_down():
    image = np.zeros((1, 64, 60), np.uint8)
    image[0, :3, :3] = 90
    ((_, picture),) = thumbnails(of_images(image), 1, 28)
    assert picture.shape == (21, 20, 3)
    assert picture[0, 0].tolist() == [90, 90, 90]
    assert not picture[1:].any()


def test_real_values_are_stretched_over_the_range_of_bytes():
    ((_, picture),) = thumbnails(of_images(np.array([[[-1.0, 0.0, 1.0]]])), 1, 28)
    assert picture[0, :, 0].tolist() == [0, 128, 255]


def test_channels_may_come_first_and_transparency_is_left_out():
    first = np.zeros((1, 3, 4, 5), np.uint8)
    first[0, 2] = 200
    ((_, picture),) = thumbnails(of_images(first), 1, 28)
    assert picture.shape == (4, 5, 3)
    assert picture[0, 0].tolist() == [0, 0, 200]
    ((_, picture),) = thumbnails(of_images(np.full((1, 4, 5, 4), 7, np.uint8)), 1, 28)
    assert picture.shape == (4, 5, 3)


def test_samples_with_real_targets_have_no_class():
    data = Dataset.from_arrays("d", np.zeros((3, 2, 2)), np.array([0.5, 1.5, 2.0]))
    assert [label for label, _ in thumbnails(data, 2, 28)] == ["", ""]
