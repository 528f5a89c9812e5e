"""The default set: 70,000 digits of MNIST's shape, written by a few hundred invented hands.

A digit is one stroke through a few points. A hand moves the points, slants and stretches the figure and picks the pen;
a sample is a hand's digit, shifted, in its own ink. Training and test digits are by different hands, so that the test
asks for more than memory. Everything is computed in integers from `Draws`: the same bytes everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpprof.data.draws import Draws, Integers

SIDE = 28
TRAINING, TEST = 60_000, 10_000
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

CANVAS = SIDE + 8
SHIFT = 2
TREMBLE = 60
"""How far a hand may move a point, in sixteenths of a pixel; it sets how hard the digits are to tell apart."""

DOTS_A_SEGMENT = 4
BLOCK = 2_000
"""Samples inked at a time, so that their temporaries stay in cache."""


def digits(seed: int) -> tuple[NDArray[np.uint8], Integers, NDArray[np.uint8], Integers]:
    """Images (60000, 28, 28) of 0 to 255 and labels (60000,), then (10000, 28, 28) and (10000,) for testing."""
    draws = Draws(seed)
    hands = TRAINING_HANDS + TEST_HANDS
    glyphs = np.stack([_draw(draws, _write(draws, digit, hands)) for digit in range(10)])
    images, labels = _samples(draws, glyphs[:, :TRAINING_HANDS], TRAINING)
    images_test, labels_test = _samples(draws, glyphs[:, TRAINING_HANDS:], TEST)
    return images, labels, images_test, labels_test


def _write(draws: Draws, digit: int, hands: int) -> Integers:
    """The dots (hands, dots, 2) that the pens leave on the canvas, x and y in sixteenths of a pixel."""
    points = np.array(STROKES[digit], np.int64) * UNIT - 10 * UNIT
    points = _rounded(points + draws.around(TREMBLE, (hands, len(points), 2)))
    x, y = points[..., 0], points[..., 1]
    widen, slant, tilt, heighten = (draws.around(reach, (hands, 1)) for reach in (60, 100, 50, 40))
    points = np.stack([((256 + widen) * x + slant * y) >> 8, (tilt * x + (256 + heighten) * y) >> 8], axis=-1)
    step = np.arange(DOTS_A_SEGMENT)[:, None]
    start, end = points[:, :-1, None], points[:, 1:, None]
    dots = (start * (DOTS_A_SEGMENT - step) + end * step) // DOTS_A_SEGMENT
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
    margin = (CANVAS - SIDE) // 2 - SHIFT
    images = np.empty((count, SIDE, SIDE), np.uint8)
    for place in range(shifts * shifts):
        rows = np.flatnonzero(shift == place)
        top, left = margin + place // shifts, margin + place % shifts
        images[rows] = glyphs[labels[rows], hand[rows], top : top + SIDE, left : left + SIDE]
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
