"""Samples that are images, small enough for a terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpprof.data.dataset import Array, Dataset

CHANNELS = (1, 3, 4)


def is_pictorial(dataset: Dataset) -> bool:
    """Whether the samples are images: (h, w), (h, w, channels) or (channels, h, w)."""
    shape = dataset.sample_shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[2] in CHANNELS or shape[0] in CHANNELS))


def thumbnails(dataset: Dataset, count: int, side: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """Up to count training images, of different classes as far as there are, each with its label.

    Each is (h, w, 3) of 0 to 255, averaged down to at most side pixels a side; values that are no bytes are
    stretched over that range.
    """
    if dataset.labels is None:
        rows = list(range(min(count, dataset.samples)))
        return [("", _shrunk(_pixels(dataset, row), side)) for row in rows]
    rows = np.unique(dataset.labels, return_index=True)[1].tolist()[:count]
    return [(str(dataset.labels[row]), _shrunk(_pixels(dataset, row), side)) for row in rows]


def _pixels(dataset: Dataset, row: int) -> Array:
    image = dataset.X[row].reshape(dataset.sample_shape).astype(np.float64)
    if image.ndim == 3 and image.shape[2] not in CHANNELS:
        image = np.moveaxis(image, 0, 2)
    if dataset.scale == 1:
        low, high = image.min(), image.max()
        image = (image - low) * (255 / (high - low)) if high > low else np.zeros_like(image)
    image = image[..., None] if image.ndim == 2 else image
    # Transparency is left out.
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def _shrunk(image: Array, side: int) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    block = -(-max(height, width) // side)
    rows, columns = max(1, height // block), max(1, width // block)
    image = image[: rows * block, : columns * block]
    means: Array = image.reshape(rows, -1, columns, image.shape[1] // columns, 3).mean(axis=(1, 3))
    return np.round(means).astype(np.uint8)
