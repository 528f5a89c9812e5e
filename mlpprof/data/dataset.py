"""One set of samples and their labels or targets, whatever file or generator it came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from numpy.typing import DTypeLike, NDArray

from mlpprof.errors import DataError

Array = NDArray[Any]

Blocks = tuple[np.dtype[Any], tuple[int, ...], Iterator[tuple[int, Array]]]
"""The dtype and the shape of an array, and its rows in blocks, each with the number of its first row."""

PIXEL_MAX = 255
MAX_CLASSES = 10_000
BLOCK_BYTES = 16 << 20
"""Values are examined in blocks of about this many bytes, so that no mask of the whole set is made."""


@dataclass(frozen=True)
class DataFacts:
    """The sizes of a set.

    samples, test_samples: rows.  features: n_0.  classes: the number of classes, 0 for real targets.
    n_targets: real targets per sample, 0 for labels.  target_low, target_high: their range in the training set.
    """

    samples: int
    test_samples: int
    features: int
    classes: int
    n_targets: int = 0
    target_low: float = 0.0
    target_high: float = 0.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and labels (or real targets), for training and, where there are any, for testing.

    name: where they came from, for people.
    X, X_test: (N, n_0), rows are samples, in the dtype they were stored in; uint8 above 1 are pixels (`scale`).
    labels, labels_test: (N,) integer classes from 0, or None.  targets, targets_test: (N, k) real, or None.
    classes: number of classes that labels can take, 0 for targets.
    sample_shape: the shape of one row before it was flattened: (28, 28), (64, 64, 3) or (n_0,).
    Raises DataError for lengths that differ, and for NaN and infinity (where and how many).
    """

    name: str
    X: Array
    labels: Array | None = None
    targets: Array | None = None
    X_test: Array | None = None
    labels_test: Array | None = None
    targets_test: Array | None = None
    classes: int = 0
    sample_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.targets is None):
            raise DataError(f"{self.name}: expected either labels or real targets")
        _check_split(f"{self.name}: ", self.X, self.labels, self.targets)
        if self.X_test is not None:
            _check_split(f"{self.name}: test ", self.X_test, self.labels_test, self.targets_test)
            if self.X_test.shape[1] != self.X.shape[1]:
                raise DataError(
                    f"{self.name}: test samples have {self.X_test.shape[1]} features, "
                    f"training samples {self.X.shape[1]}; expected the same"
                )
            if (self.labels is None) != (self.labels_test is None) or (
                self.targets is not None
                and self.targets_test is not None
                and self.targets.shape[1] != self.targets_test.shape[1]
            ):
                raise DataError(f"{self.name}: Y of the test set differs from Y of the training set in kind or width")

    @property
    def samples(self) -> int:
        """N, the number of training samples."""
        return int(self.X.shape[0])

    @property
    def test_samples(self) -> int:
        """Number of test samples, 0 if there are none."""
        return 0 if self.X_test is None else int(self.X_test.shape[0])

    @property
    def features(self) -> int:
        """n_0, the number of values in each sample."""
        return int(self.X.shape[1])

    @property
    def n_targets(self) -> int:
        """k, the number of real targets per sample; 0 for labels."""
        return 0 if self.targets is None else int(self.targets.shape[1])

    @property
    def facts(self) -> DataFacts:
        """The sizes of this set."""
        return DataFacts(
            samples=self.samples,
            test_samples=self.test_samples,
            features=self.features,
            classes=self.classes,
            n_targets=self.n_targets,
            target_low=0.0 if self.targets is None else float(self.targets.min()),
            target_high=0.0 if self.targets is None else float(self.targets.max()),
        )

    @property
    def scale(self) -> int:
        """The number that X is divided by before a network sees it: 255 for uint8 pixels, 1 for anything else.

        uint8 that never exceeds 1 in the training set is a set of flags, not of pixels.
        """
        return PIXEL_MAX if self.X.dtype == np.uint8 and bool(self.X.max() > 1) else 1

    def arrays(self, n_outputs: int, dtype: DTypeLike) -> tuple[Array, Array]:
        """The training samples as a network takes them: X (N, n_0) and Y (N, n_outputs), C-contiguous, in dtype.

        Labels become one-hot rows, or a column of 0 and 1 if n_outputs is 1; real targets stay as they are.
        X or Y may share memory with the set. Raises DataError if the outputs do not fit or dtype cannot hold X.
        """
        return (
            scaled(f"{self.name}: X", self.X, self.scale, dtype),
            outputs(self.name, self.labels, self.targets, n_outputs, dtype),
        )

    def test_arrays(self, n_outputs: int, dtype: DTypeLike) -> tuple[Array, Array] | None:
        """The test samples in the form of `arrays`, scaled alike; None if there are none."""
        if self.X_test is None:
            return None
        return (
            scaled(f"{self.name}: test X", self.X_test, self.scale, dtype),
            outputs(f"{self.name}: test", self.labels_test, self.targets_test, n_outputs, dtype),
        )

    def fingerprint(self) -> str:
        """sha256, in hexadecimal, over dtype, shape and little-endian bytes of X, Y, X_test and Y_test.

        It identifies the data and not the file: the same MNIST has the same fingerprint in IDX, npz and HDF5 if the
        dtype is the same, gzipped or not.
        """
        arrays = (self.X, self.labels, self.targets, self.X_test, self.labels_test, self.targets_test)
        return fingerprint_of(None if array is None else (array.dtype, array.shape, blocks(array)) for array in arrays)

    @classmethod
    def from_arrays(
        cls, name: str, X: Array, Y: Array, X_test: Array | None = None, Y_test: Array | None = None
    ) -> Dataset:
        """A set from arrays in the form in which a file has them.

        X: (N, n_0), or images (N, h, w) or (N, h, w, c), which are flattened; any boolean, integer or real dtype.
        Y: labels (N,) or (N, 1), one-hot rows (N, k), or real targets (N,) or (N, k). Whole numbers from 0 in one
        column are labels, also as floating-point numbers; write targets such as counts as (N, 2) or scale them.
        Raises DataError for anything else.
        """
        labels, targets, width = _answers(f"{name}: Y", Y)
        labels_test, targets_test, width_test = None, None, 0
        if X_test is not None and Y_test is not None:
            labels_test, targets_test, width_test = _answers(f"{name}: test Y", Y_test)
            if targets is not None and labels_test is not None:
                # A few real targets can happen to be whole numbers: the training set decides what they are.
                labels_test, targets_test, width_test = None, _as_columns(Y_test), 0
        return cls(
            name=name,
            X=_flat(f"{name}: X", X),
            labels=labels,
            targets=targets,
            X_test=None if X_test is None else _flat(f"{name}: test X", X_test),
            labels_test=labels_test,
            targets_test=targets_test,
            classes=max(width, width_test),
            sample_shape=tuple(X.shape[1:]),
        )


def fingerprint_of(arrays: Iterable[Blocks | None]) -> str:
    """`Dataset.fingerprint` of the arrays X, labels, targets, and those of the test set, each given in blocks."""
    digest = hashlib.sha256()
    for array in arrays:
        if array is None:
            digest.update(b"none;")
            continue
        dtype, shape, rows = array
        digest.update(f"{dtype.newbyteorder('<').str}{shape};".encode())
        for _, block in rows:
            plain = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
            digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def require_memory(nbytes: int, what: str, cure: str = "use fewer samples") -> None:
    """Raise DataError if nbytes are more than the memory that is free now. cure: what to do about it."""
    free = int(psutil.virtual_memory().available)
    if nbytes > free:
        raise DataError(
            f"{what} needs {nbytes / 2**30:,.1f} GiB of memory, but {free / 2**30:,.1f} GiB are free; {cure}"
        )


def require_numbers(what: str, dtype: np.dtype[Any]) -> None:
    """Raise DataError unless dtype is boolean, integer or real floating-point."""
    if dtype.kind not in "biuf":
        raise DataError(f"{what} has dtype {dtype}; expected booleans, integers or real numbers")


def _flat(what: str, X: Array) -> Array:
    require_numbers(what, X.dtype)
    if X.ndim < 2 or X.size == 0:
        raise DataError(f"{what} has shape {X.shape}; expected (samples, features) or images, 1 or more of each")
    return X.reshape(X.shape[0], -1)


def _as_columns(Y: Array) -> Array:
    return Y.reshape(Y.shape[0], -1).astype(np.float64)


def _answers(what: str, Y: Array) -> tuple[Array | None, Array | None, int]:
    """Labels (N,) int64 and the number of classes, or targets (N, k) float64, from Y as stored."""
    require_numbers(what, Y.dtype)
    if Y.ndim not in (1, 2) or Y.size == 0:
        raise DataError(f"{what} has shape {Y.shape}; expected (samples,) or (samples, outputs), 1 or more of each")
    _check_finite(what, Y.reshape(Y.shape[0], -1))
    if Y.ndim == 2 and Y.shape[1] > 1:
        return (Y.argmax(axis=1), None, Y.shape[1]) if _is_one_hot(Y) else (None, _as_columns(Y), 0)
    Y = Y.reshape(-1)
    low, high = Y.min(), Y.max()
    if Y.dtype.kind == "f" and not (low >= 0 and high < MAX_CLASSES and _is_whole(Y)):
        return None, _as_columns(Y), 0
    if low < 0 or high >= MAX_CLASSES:
        row = int(np.argmax(Y < 0 if low < 0 else Y >= MAX_CLASSES))
        hint = "map them to 0, 1, ..." if low < 0 else "store real targets as floating-point numbers"
        raise DataError(f"{what} has {Y[row]} in row {row}; expected labels from 0 to {MAX_CLASSES - 1:,}; {hint}")
    return Y.astype(np.int64), None, int(high) + 1


def blocks(values: Array) -> Iterator[tuple[int, Array]]:
    """The rows of an array in blocks of about BLOCK_BYTES, each with the number of its first row."""
    rows = max(1, BLOCK_BYTES * len(values) // max(1, values.nbytes))
    for start in range(0, len(values), rows):
        yield start, values[start : start + rows]


def _is_one_hot(Y: Array) -> bool:
    return all(
        bool(((block == 0) | (block == 1)).all() and (block.sum(axis=1, dtype=np.int64) == 1).all())
        for _, block in blocks(Y)
    )


def _is_whole(Y: Array) -> bool:
    return all(bool((np.floor(block) == block).all()) for _, block in blocks(Y))


def _check_split(what: str, X: Array, labels: Array | None, targets: Array | None) -> None:
    Y = labels if labels is not None else targets
    if Y is None:
        raise DataError(f"{what}X has no Y; expected labels or targets for it")
    if X.ndim != 2 or X.size == 0:
        raise DataError(f"{what}X has shape {X.shape}; expected (samples, features), 1 or more of each")
    if len(X) != len(Y):
        hint = "; is it stored feature-first? expected a sample in each row" if X.shape[1] == len(Y) else ""
        raise DataError(f"{what}X has {len(X):,} samples, but Y has {len(Y):,}{hint}")
    _check_finite(f"{what}X", X)
    if targets is not None:
        _check_finite(f"{what}Y", targets)


def _check_finite(what: str, values: Array) -> None:
    """Raise DataError at the first NaN or infinity of values (rows, columns)."""
    if values.dtype.kind != "f":
        return
    count, first = 0, ""
    for start, block in blocks(values):
        is_bad = ~np.isfinite(block)
        if is_bad.any():
            if not count:
                row, column = np.argwhere(is_bad)[0].tolist()
                first = f"{values[start + row, column]} in row {start + row}, column {column}"
            count += int(is_bad.sum())
    if count:
        raise DataError(f"{what} has {first} ({count:,} values are not finite); expected finite numbers throughout")


def scaled(what: str, X: Array, scale: int, dtype: DTypeLike) -> Array:
    """X / scale in the dtype, C-contiguous; X itself where that changes nothing. Raises DataError if X is too large."""
    kind = np.dtype(dtype)
    if X.dtype != kind:
        require_memory(math.prod(X.shape) * kind.itemsize, what)
    try:
        with np.errstate(over="raise"):
            if scale == 1:
                return np.ascontiguousarray(X, dtype=kind)
            # The division writes into the result directly, so that there is no temporary of the whole set.
            return np.divide(X, scale, out=np.empty(X.shape, kind), dtype=kind)
    except FloatingPointError:
        limit = float(np.finfo(kind).max)
        row, column = np.argwhere(np.abs(X) > limit)[0].tolist()
        raise DataError(
            f"{what} has {X[row, column]} in row {row}, column {column}, too large for {kind}; use float64 or scale X"
        ) from None


def outputs(name: str, labels: Array | None, targets: Array | None, n_outputs: int, dtype: DTypeLike) -> Array:
    """Y (N, n_outputs) for labels or targets, as in `Dataset.arrays`; raises DataError if they do not fit."""
    require_outputs(name, labels, targets, n_outputs)
    if targets is not None:
        return scaled(f"{name} Y", targets, 1, dtype)
    assert labels is not None
    require_memory(len(labels) * n_outputs * np.dtype(dtype).itemsize, f"{name} Y")
    Y = np.zeros((len(labels), n_outputs), dtype)
    write_labels(labels, Y)
    return Y


def write_labels(labels: Array, Y: Array) -> None:
    """Write labels (N,) into Y (N, n_outputs), all 0: one-hot rows, or the labels themselves in a single column."""
    if Y.shape[1] == 1:
        Y[:, 0] = labels
    else:
        Y[np.arange(len(labels)), labels] = 1


def require_outputs(name: str, labels: Array | None, targets: Array | None, n_outputs: int) -> None:
    """Raise DataError if a network with n_outputs cannot learn these labels or targets."""
    if targets is not None:
        if targets.shape[1] != n_outputs:
            raise DataError(
                f"{name} has {targets.shape[1]} targets per sample, but the network has {n_outputs} outputs"
            )
        return
    assert labels is not None
    classes = max(n_outputs, 2)
    is_out = (labels < 0) | (labels >= classes)
    if is_out.any():
        row = int(np.argmax(is_out))
        text = f"{n_outputs} outputs" if n_outputs > 1 else "1 output"
        raise DataError(
            f"{name} has label {labels[row]} in row {row}; a network with {text} has labels 0 to {classes - 1}"
        )
