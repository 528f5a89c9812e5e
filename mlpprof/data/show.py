"""What `mlpprof data show` shows of a data source: the arrays, their ranges and layouts, the set, small pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlpprof.data.container import ArrayInfo, Container, Roles
from mlpprof.data.dataset import Array, Dataset, blocks
from mlpprof.data.reading_cost import ReadingCost, reading_cost
from mlpprof.data.source import DataSource, load, open_container
from mlpprof.data.stored_rows import Layout
from mlpprof.errors import DataError

RANGED_BYTES = 1 << 30
"""An array that is neither samples nor labels is read for its range up to this size."""

CHANNELS = (1, 3, 4)
"""The numbers of channels that a picture can have: grey, colours, colours with transparency."""


@dataclass(frozen=True)
class ArrayDescription:
    """One array: role ('X', 'Y test' ... or ''), and low, high over its finite values, None where it was not read.

    layout: how it lies in its file; None if it is in no file, or cannot be used.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    dtype: str
    low: float | None = None
    high: float | None = None
    not_finite: int = 0
    problem: str = ""
    layout: Layout | None = None


@dataclass(frozen=True)
class Description:
    """A source (kind: 'embedded', 'IDX', 'HDF5' or 'npz'), its arrays, and its set or why they do not make one.

    reading: what it costs to read X; None if it is in no file, or cannot be used.
    """

    source: DataSource
    kind: str
    arrays: tuple[ArrayDescription, ...]
    dataset: Dataset | None = None
    problem: str = ""
    reading: ReadingCost | None = None


def describe(source: DataSource) -> Description:
    """Read a source and list its content; raises DataError only where no arrays can be listed at all."""
    if source.name is not None:
        dataset = load(source)
        Y, Y_test = _either(dataset.labels, dataset.targets), _either(dataset.labels_test, dataset.targets_test)
        made = {"X": dataset.X, "Y": Y, "X test": dataset.X_test, "Y test": Y_test}
        described = tuple(_described(role, role, array) for role, array in made.items() if array is not None)
        return Description(source, "embedded", described, dataset)
    container = open_container(source)
    try:
        roles = container.roles(source.x, source.y)
    except DataError as error:
        return Description(source, container.kind, _listed(container, {}, {}), problem=str(error))
    names = _by_name(roles)
    reading = _reading(container, roles.X)
    arrays: dict[str, Array] = {}
    try:
        container.require_memory(roles)
        for name in names:
            arrays[name] = container.read(name)
        dataset = container.assemble(roles, arrays.__getitem__, arrays.__getitem__)
    except DataError as error:
        problem = str(error)
        return Description(source, container.kind, _listed(container, names, arrays), problem=problem, reading=reading)
    return Description(source, container.kind, _listed(container, names, arrays), dataset, reading=reading)


def _reading(container: Container, name: str) -> ReadingCost | None:
    try:
        return reading_cost(container, name) if math.prod(container.usable(name).shape) else None
    except DataError:
        return None  # reading the whole array gives the reason


def _by_name(roles: Roles) -> dict[str, str]:
    named = ((roles.X, "X"), (roles.Y, "Y"), (roles.X_test, "X test"), (roles.Y_test, "Y test"))
    return {name: role for name, role in named if name is not None}


def _either(labels: Array | None, targets: Array | None) -> Array | None:
    return labels if labels is not None else targets


def _listed(container: Container, roles: dict[str, str], read: dict[str, Array]) -> tuple[ArrayDescription, ...]:
    return tuple(_of_file(container, info, roles.get(name, ""), read) for name, info in container.arrays.items())


def _of_file(container: Container, info: ArrayInfo, role: str, read: dict[str, Array]) -> ArrayDescription:
    described = _without_layout(container, info, role, read)
    if described.problem or not info.shape:
        return described
    with container.open_rows(info.name) as rows:
        return replace(described, layout=rows.layout)


def _without_layout(container: Container, info: ArrayInfo, role: str, read: dict[str, Array]) -> ArrayDescription:
    problem = info.problem
    if info.name in read:
        return _described(info.name, role, read[info.name])
    if not problem and info.nbytes <= RANGED_BYTES:
        try:
            return _described(info.name, role, container.read(info.name))
        except DataError as error:
            problem = str(error)
    return ArrayDescription(info.name, role, info.shape, info.dtype, problem=problem)


def _described(name: str, role: str, array: Array) -> ArrayDescription:
    lows, highs, not_finite = [], [], 0
    for _, block in blocks(array.reshape(-1)):
        values = block[np.isfinite(block)] if array.dtype.kind == "f" else block
        not_finite += block.size - values.size
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    low, high = min(lows, default=None), max(highs, default=None)
    return ArrayDescription(name, role, tuple(array.shape), str(array.dtype), low, high, not_finite)


def is_pictorial(dataset: Dataset) -> bool:
    """Whether the samples are images: (h, w), (h, w, channels) or (channels, h, w)."""
    shape = dataset.sample_shape
    return len(shape) == 2 or (len(shape) == 3 and (shape[2] in CHANNELS or shape[0] in CHANNELS))


def thumbnails(dataset: Dataset, count: int, side: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """Up to count training images, each of another class if there are labels, with the label of each.

    Each is (h, w, 3) of 0 to 255, averaged down to at most side pixels in height and width. Values that are not bytes
    are stretched over that range.
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
