"""The sets that mlpprof makes itself, from a seed, without a file: the same bytes on every machine.

NumPy promises the stream of a bit generator for good, but not what its Generator methods make of it. So the sets are
drawn from the raw stream, and computed from there with integers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpprof.data.dataset import Array, Dataset
from mlpprof.errors import DataError, did_you_mean

Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

SEED = 0


class Draws:
    """A stream of random numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def bytes(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Uniform bytes, 0 to 255."""
        return self._raw(math.prod(shape)).reshape(shape)

    def below(self, n: int, shape: tuple[int, ...]) -> Integers:
        """Uniform whole numbers from 0 to n - 1, for n far below 2**32."""
        words = self._raw(4 * math.prod(shape)).view("<u4").astype(np.int64)
        return ((words * n) >> 32).reshape(shape)

    def around(self, reach: int, shape: tuple[int, ...]) -> Integers:
        """Whole numbers from -reach to reach; the middle is more likely than the ends (a triangle)."""
        return self.below(reach + 1, shape) - self.below(reach + 1, shape)

    def _raw(self, count: int) -> NDArray[np.uint8]:
        words = np.asarray(self._bits.random_raw(-(-count // 8)))
        return words.astype("<u8", copy=False).view(np.uint8)[:count]


# The default set has 70,000 digits of MNIST's shape, written by a few hundred invented hands. A digit is one stroke
# through a few points. A hand moves the points, slants and stretches the figure and picks the pen; a sample is a hand's
# digit, shifted, in its own ink. Training and test digits are by different hands, so that a network that only learns
# samples by heart fails the test.

DIGIT_SIDE = 28
TRAINING_DIGITS, TEST_DIGITS = 60_000, 10_000
TRAINING_HANDS, TEST_HANDS = 250, 50

STROKES = (
    ((10, 1), (4, 3), (3, 10), (4, 17), (10, 19), (16, 17), (17, 10), (16, 3), (10, 1)),
    ((7, 5), (11, 1), (11, 10), (11, 19)),
    ((4, 5), (6, 1), (13, 1), (16, 6), (11, 12), (4, 19), (17, 19)),
    ((4, 2), (12, 1), (16, 5), (10, 9), (16, 14), (12, 19), (4, 18)),
    ((13, 19), (13, 10), (13, 1), (3, 13), (18, 13)),
    ((16, 1), (6, 1), (5, 9), (13, 8), (17, 13), (13, 19), (4, 18)),
    ((14, 1), (6, 6), (3, 14), (8, 19), (15, 17), (14, 11), (8, 10), (4, 14)),
    ((3, 1), (10, 1), (17, 1), (12, 9), (8, 19)),
    ((10, 9), (4, 5), (10, 1), (16, 5), (10, 9), (4, 14), (10, 19), (16, 14), (10, 9)),
    ((16, 7), (10, 10), (4, 7), (7, 1), (14, 1), (16, 7), (14, 14), (11, 19)),
)
"""The points (x to the right, y down) of the digits 0 to 9 in a box of 20 pixels."""

UNIT = 16
"""Strokes are computed in sixteenths of a pixel."""

CANVAS = DIGIT_SIDE + 8
SHIFT = 2
TREMBLE = 60
"""A hand may move a point this far, in sixteenths of a pixel. More makes the digits harder to distinguish."""

DOTS_PER_SEGMENT = 4
BLOCK = 2_000
"""This many samples are inked at a time, so that their temporaries stay in cache."""


def digits(seed: int) -> tuple[NDArray[np.uint8], Integers, NDArray[np.uint8], Integers]:
    """Images (60000, 28, 28) of 0 to 255 and labels (60000,), then (10000, 28, 28) and (10000,) for testing."""
    draws = Draws(seed)
    hands = TRAINING_HANDS + TEST_HANDS
    glyphs = np.stack([_draw(draws, _write(draws, digit, hands)) for digit in range(10)])
    images, labels = _samples(draws, glyphs[:, :TRAINING_HANDS], TRAINING_DIGITS)
    images_test, labels_test = _samples(draws, glyphs[:, TRAINING_HANDS:], TEST_DIGITS)
    return images, labels, images_test, labels_test


def _write(draws: Draws, digit: int, hands: int) -> Integers:
    """The dots (hands, dots, 2) that the pens leave on the canvas, x and y in sixteenths of a pixel."""
    points = np.array(STROKES[digit], np.int64) * UNIT - 10 * UNIT
    points = _rounded(points + draws.around(TREMBLE, (hands, len(points), 2)))
    x, y = points[..., 0], points[..., 1]
    widen, slant, tilt, heighten = (draws.around(reach, (hands, 1)) for reach in (60, 100, 50, 40))
    points = np.stack([((256 + widen) * x + slant * y) >> 8, (tilt * x + (256 + heighten) * y) >> 8], axis=-1)
    step = np.arange(DOTS_PER_SEGMENT)[:, None]
    start, end = points[:, :-1, None], points[:, 1:, None]
    dots = (start * (DOTS_PER_SEGMENT - step) + end * step) // DOTS_PER_SEGMENT
    dots = dots.reshape(hands, -1, 2) + CANVAS * UNIT // 2
    return dots.clip(UNIT, (CANVAS - 3) * UNIT)


def _rounded(points: Integers) -> Integers:
    """The stroke with its corners cut at a quarter of each segment (Chaikin's algorithm); its ends stay."""
    start, end = points[:, :-1], points[:, 1:]
    cut = np.stack([(3 * start + end) >> 2, (start + 3 * end) >> 2], axis=2).reshape(len(points), -1, 2)
    return np.concatenate([points[:, :1], cut, points[:, -1:]], axis=1)


def _draw(draws: Draws, dots: Integers) -> NDArray[np.uint8]:
    """Each hand's glyph on its canvas (hands, 36, 36): a dot is a small pyramid of ink, and ink adds up to 255."""
    hands = len(dots)
    pen = 19 + draws.below(11, (hands, 1, 1))
    cell, inside = dots >> 4, dots & 15
    offsets = np.arange(-1, 3)
    ink = np.maximum(0, pen[..., None] - np.abs(inside[..., None] - UNIT * offsets)).astype(np.int32)
    corner = (np.arange(hands)[:, None] * CANVAS + cell[..., 1]) * CANVAS + cell[..., 0]
    canvas = np.zeros(hands * CANVAS * CANVAS, np.int32)
    for row, dy in enumerate(offsets):
        for column, dx in enumerate(offsets):
            np.add.at(canvas, (corner + dy * CANVAS + dx).ravel(), (ink[..., 0, column] * ink[..., 1, row]).ravel())
    return (canvas >> 1).clip(max=255).astype(np.uint8).reshape(hands, CANVAS, CANVAS)


def _samples(draws: Draws, glyphs: NDArray[np.uint8], count: int) -> tuple[NDArray[np.uint8], Integers]:
    labels = draws.below(10, (count,))
    hand = draws.below(glyphs.shape[1], (count,))
    shifts = 2 * SHIFT + 1
    shift = draws.below(shifts * shifts, (count,))
    margin = (CANVAS - DIGIT_SIDE) // 2 - SHIFT
    images = np.empty((count, DIGIT_SIDE, DIGIT_SIDE), np.uint8)
    for place in range(shifts * shifts):
        rows = np.flatnonzero(shift == place)
        top, left = margin + place // shifts, margin + place % shifts
        images[rows] = glyphs[labels[rows], hand[rows], top : top + DIGIT_SIDE, left : left + DIGIT_SIDE]
    strength = (160 + draws.below(96, (count, 1, 1))).astype(np.uint16)
    for start in range(0, count, BLOCK):
        block = images[start : start + BLOCK].astype(np.uint16)
        block *= strength[start : start + BLOCK]
        block >>= 8
        # Ink is uneven by up to a quarter; paper stays white (0), as in MNIST.
        block *= 192 + (draws.bytes(block.shape) & 63).astype(np.uint16)
        block >>= 8
        images[start : start + BLOCK] = block
    return images, labels


# The cats are colour pictures of 64x64x3: a head with ears, or a ball or box without, on a coloured ground.

PICTURE_SIDE = 64
TRAINING_PICTURES, TRAINING_CATS = 209, 72
TEST_PICTURES, TEST_CATS = 50, 33
"""The course's set of cat pictures, which this one replaces, has the same numbers."""


def pictures(seed: int) -> tuple[NDArray[np.uint8], Integers, NDArray[np.uint8], Integers]:
    """Pictures (209, 64, 64, 3) of 0 to 255 and labels (209,), 1 for a cat; then 50 of each for testing."""
    draws = Draws(seed)
    labels, labels_test = _shuffled(draws, TRAINING_PICTURES, TRAINING_CATS), _shuffled(draws, TEST_PICTURES, TEST_CATS)
    images = _paint(draws, np.concatenate([labels, labels_test]))
    return images[:TRAINING_PICTURES], labels, images[TRAINING_PICTURES:], labels_test


def _shuffled(draws: Draws, count: int, ones: int) -> Integers:
    order = np.argsort(draws.below(2**31, (count,)), kind="stable")
    return (order < ones).astype(np.int64)


def _paint(draws: Draws, labels: Integers) -> NDArray[np.uint8]:
    count = len(labels)
    y, x = np.arange(PICTURE_SIDE)[:, None], np.arange(PICTURE_SIDE)
    is_cat = (labels == 1)[:, None, None]

    def number(reach: int) -> Integers:
        return draws.around(reach, (count, 1, 1))

    def colour(low: int, high: int) -> Integers:
        return low + draws.below(high - low, (count, 1, 1, 3))

    # The ground runs from one colour at the top to another at the bottom.
    top, bottom = colour(20, 160), colour(20, 160)
    image = (top * (PICTURE_SIDE - 1 - y[..., None]) + bottom * y[..., None]) // (PICTURE_SIDE - 1) + np.zeros(
        (1, 1, PICTURE_SIDE, 1), int
    )

    def fill(mask: Mask, paint: Integers) -> None:
        np.copyto(image, paint, where=mask[..., None])

    dx, dy = x - 32 - number(8), y - 36 - number(6)
    radius = 15 + number(4)
    fur = colour(100, 250)
    is_round = dx * dx + dy * dy < radius * radius
    is_box = (np.abs(dx) < radius) & (np.abs(dy) < radius - number(6))
    # Half of the pictures without a cat have a ball as round as a head, so that only ears and eyes are different.
    has_ball = draws.below(2, (count, 1, 1)) == 0
    fill(np.where(is_cat | has_ball, is_round, is_box), fur)
    side = np.abs(dx)
    is_ear = (dy < 0) & (2 * np.abs(side - radius * 5 // 8) < dy + radius + 10)
    fill(is_ear & is_cat, fur)
    is_eye = (side - radius * 2 // 5) ** 2 + (dy + 2) ** 2 < 9
    fill(is_eye & is_cat, colour(0, 60))
    image += (draws.bytes(image.shape) & 31).astype(np.int64) - 16
    return image.clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class EmbeddedSet:
    """The sizes of an embedded set, which are known before it is made, and the function that makes it from a seed."""

    name: str
    summary: str
    samples: int
    test_samples: int
    sample_shape: tuple[int, ...]
    classes: int
    make: Callable[[int], tuple[Array, Array, Array | None, Array | None]]


def embedded(name: str) -> Dataset:
    """The samples of the embedded set of that name; raises DataError that lists the names there are."""
    return Dataset.from_arrays(name, *embedded_set(name).make(SEED))


def embedded_set(name: str) -> EmbeddedSet:
    """The sizes of the embedded set of that name; raises DataError that lists the names there are."""
    if name not in EMBEDDED:
        raise DataError(
            f"there is no embedded set '{name}'{did_you_mean(name, EMBEDDED)} (known: {', '.join(EMBEDDED)})"
        )
    return EMBEDDED[name]


def _tiny(seed: int) -> tuple[Array, Array, Array, Array]:
    """Three patterns of 4x5 pixels under noise that is five thirds as strong."""
    draws = Draws(seed)
    patterns = draws.bytes((3, 4, 5)).astype(np.int64)
    labels = draws.below(3, (400,))
    images = ((3 * patterns[labels] + 5 * draws.bytes((400, 4, 5)).astype(np.int64)) >> 3).astype(np.uint8)
    return images[:300], labels[:300], images[300:], labels[300:]


def _random(seed: int) -> tuple[Array, Array, None, None]:
    """Uniform inputs with random labels, which a network can only learn by heart."""
    draws = Draws(seed)
    X = draws.below(2**24, (1000, 1000)).astype(np.float32) / np.float32(2**24)
    return X, draws.below(10, (1000,)), None, None


def _teacher(seed: int) -> tuple[Array, Array, Array, Array]:
    """Uniform inputs with the yes or no of a random network that is partly linear, partly not; half of them are yes."""
    draws = Draws(seed)
    inputs = draws.below(2**16, (12_000, 39))
    centred = inputs - 2**15
    linear = centred @ draws.around(7, (39,))
    bent = np.abs(centred @ draws.around(7, (39, 8)))
    score = 3 * linear + bent @ (2 * (np.arange(8) % 2) - 1)
    labels = (score > np.sort(score)[len(score) // 2]).astype(np.int64)
    X = inputs.astype(np.float32) / np.float32(2**16)
    return X[:10_000], labels[:10_000], X[10_000:], labels[10_000:]


EMBEDDED = {
    known.name: known
    for known in (
        EmbeddedSet("digits", "hand-drawn digits in MNIST's shape", 60_000, 10_000, (28, 28), 10, digits),
        EmbeddedSet("tiny", "three noisy patterns of 4x5 pixels", 300, 100, (4, 5), 3, _tiny),
        EmbeddedSet("random", "uniform noise with random labels", 1_000, 0, (1_000,), 10, _random),
        EmbeddedSet("teacher", "yes or no from a random network", 10_000, 2_000, (39,), 2, _teacher),
        EmbeddedSet("cats", "pictures with and without a cat's head", 209, 50, (64, 64, 3), 2, pictures),
    )
}
"""The embedded sets by name; `digits` is the default of most commands."""
