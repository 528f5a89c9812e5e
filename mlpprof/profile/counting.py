"""The counts pass: one step of a fresh instance, in which every operation is counted and nothing is timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from mlpprof.catalog import Entry, load, module_of, variant_code
from mlpprof.instrument.counts import OperationCounter, TooManyOperations, counted_module
from mlpprof.instrument.needed_work import mark_useful
from mlpprof.model import Array, Network, Variant
from mlpprof.model.gradcheck import close
from mlpprof.profile.prepare import Prepared
from mlpprof.results import Operation

Counted = tuple[tuple[Operation, ...], tuple[str, ...]]
"""The operations of one step, and the names of what could not be counted."""


def count_step(it: Prepared, m: int) -> Counted:
    """The operations of one step of a prepared variant at batch size m; none if there are too many, or it spans steps.

    Raises VariantCrash where the variant's code raises.
    """
    if hasattr(it.cls, "train"):
        return (), ("train, which spans steps",)
    try:
        return count_variant(
            it.entry, it.cls, it.request.network, it.subject.X, it.subject.Y, it.subject.walk(m), it.request.seed
        )
    except TooManyOperations as reason:
        return (), (str(reason),)


def count_network(entry: Entry, network: Network, m: int, dtype: str | None = None) -> Counted:
    """The operations of one step of a variant on m random samples; they depend on sizes, not on values.

    Raises any MlpprofError of the catalog and of the variant, and TooManyOperations.
    """
    cls = load(entry)
    chosen = np.dtype(cls.DTYPE if dtype is None else dtype)
    rng = np.random.default_rng(0)
    X = rng.random((m, network.layers[0])).astype(chosen)
    n_out = network.layers[-1]
    Y = np.eye(n_out, dtype=chosen)[rng.integers(n_out, size=m)]
    indices = (rng.permutation(m) for _ in range(2))
    return count_variant(entry, cls, network, X, Y, indices, seed=0)


def count_variant(
    entry: Entry, cls: type[Variant], network: Network, X: Array, Y: Array, indices: Iterator[Array], seed: int
) -> Counted:
    """The operations of the second of two steps, since the first may make arrays that later steps reuse.

    X (N, n_0), Y (N, n_L) in the dtype of the step. Raises TooManyOperations, and VariantCrash where the code raises.
    """
    module = module_of(cls)
    counter = OperationCounter(str(module.__file__))
    with variant_code(entry):
        copy = counted_module(module, entry.source(), counter)
        counted = cast(type[Variant], getattr(copy, cls.__name__))
        instance = counted(network, network.initial_parameters(seed, X.dtype))
        counter.watch(instance)
        try:
            instance.train_step(X, Y, next(indices))
            counter.start()
            last = next(indices)
            instance.train_step(X, Y, last)
        finally:
            counter.recording = False
            close(instance)
    return mark_useful(counter.operations(), network, len(last)), tuple(counter.uncounted)
