"""The counts pass: one step of a fresh instance, every operation seen, nothing timed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np

from mlpprof.catalog import Entry, load, module_of, variant_code
from mlpprof.instrument.counts import Recorder, TooManyOperations, counted_module
from mlpprof.instrument.needed_work import mark_useful
from mlpprof.model import Array, Network, Variant
from mlpprof.model.gradcheck import close
from mlpprof.profile.prepare import Prepared
from mlpprof.results import Operation

Counted = tuple[tuple[Operation, ...], tuple[str, ...]]
"""Operations of one step, and the names of what could not be counted."""


def count_step(it: Prepared, m: int) -> Counted:
    """What one step of a prepared variant does at batch size m; nothing where it does too much, or spans steps.

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
    """What one step of a variant does on m random samples: counts depend on sizes, not on values.

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
    """The operations of the second of two steps: the first may make arrays that later ones use again.

    X (N, n_0), Y (N, n_L) in the dtype of the step. Raises TooManyOperations, and VariantCrash where the code raises.
    """
    module = module_of(cls)
    recorder = Recorder(str(module.__file__))
    with variant_code(entry):
        copy = counted_module(module, entry.source(), recorder)
        counted = cast(type[Variant], getattr(copy, cls.__name__))
        instance = counted(network, network.initial_parameters(seed, X.dtype))
        recorder.watch(instance)
        try:
            instance.train_step(X, Y, next(indices))
            recorder.start()
            last = next(indices)
            instance.train_step(X, Y, last)
        finally:
            recorder.recording = False
            close(instance)
    return mark_useful(recorder.operations(), network, len(last)), tuple(recorder.uncounted)
