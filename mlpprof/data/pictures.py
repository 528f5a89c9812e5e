"""Colour pictures of the cats' shape: 64x64x3, a head with ears or something without, on a coloured ground.

Drawn in integers from `Draws`, so that the bytes are the same everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpprof.data.draws import Draws, Integers

SIDE = 64
TRAINING, TRAINING_CATS = 209, 72
TEST, TEST_CATS = 50, 33
"""The numbers of the course's cat pictures, which these stand in for."""

Mask = NDArray[np.bool_]


def pictures(seed: int) -> tuple[NDArray[np.uint8], Integers, NDArray[np.uint8], Integers]:
    """Pictures (209, 64, 64, 3) of 0 to 255 and labels (209,), 1 for a cat; then 50 of each for testing."""
    draws = Draws(seed)
    labels, labels_test = _shuffled(draws, TRAINING, TRAINING_CATS), _shuffled(draws, TEST, TEST_CATS)
    images = _paint(draws, np.concatenate([labels, labels_test]))
    return images[:TRAINING], labels, images[TRAINING:], labels_test


def _shuffled(draws: Draws, count: int, ones: int) -> Integers:
    order = np.argsort(draws.below(2**31, (count,)), kind="stable")
    return (order < ones).astype(np.int64)


def _paint(draws: Draws, labels: Integers) -> NDArray[np.uint8]:
    count = len(labels)
    y, x = np.arange(SIDE)[:, None], np.arange(SIDE)
    is_cat = (labels == 1)[:, None, None]

    def number(reach: int) -> Integers:
        return draws.around(reach, (count, 1, 1))

    def colour(low: int, high: int) -> Integers:
        return low + draws.below(high - low, (count, 1, 1, 3))

    # The ground runs from one colour at the top to another at the bottom.
    top, bottom = colour(20, 160), colour(20, 160)
    image = (top * (SIDE - 1 - y[..., None]) + bottom * y[..., None]) // (SIDE - 1) + np.zeros((1, 1, SIDE, 1), int)

    def fill(mask: Mask, paint: Integers) -> None:
        np.copyto(image, paint, where=mask[..., None])

    dx, dy = x - 32 - number(8), y - 36 - number(6)
    radius = 15 + number(4)
    fur = colour(100, 250)
    is_round = dx * dx + dy * dy < radius * radius
    is_box = (np.abs(dx) < radius) & (np.abs(dy) < radius - number(6))
    # Half of what is no cat is as round as a head; only ears and eyes tell them apart.
    has_ball = draws.below(2, (count, 1, 1)) == 0
    fill(np.where(is_cat | has_ball, is_round, is_box), fur)
    side = np.abs(dx)
    is_ear = (dy < 0) & (2 * np.abs(side - radius * 5 // 8) < dy + radius + 10)
    fill(is_ear & is_cat, fur)
    is_eye = (side - radius * 2 // 5) ** 2 + (dy + 2) ** 2 < 9
    fill(is_eye & is_cat, colour(0, 60))
    image += (draws.bytes(image.shape) & 31).astype(np.int64) - 16
    return image.clip(0, 255).astype(np.uint8)
