"""What is trained: a named network on named data, the embedded default and one for each published source."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from mlpprof.data import DataFacts, DataSource, peek
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.model import Network

DEFAULT_WORKLOAD = "digits"


@dataclass(frozen=True)
class Workload:
    """A network, the data it learns from, and the batch: all that a run needs beside a variant.

    batch: samples a step.  source: where X and Y come from.  summary: one line for `mlpprof list`.
    """

    name: str
    summary: str
    network: Network
    batch: int
    source: DataSource


class NetworkChanges(TypedDict, total=False):
    """What of a workload's network can be replaced; None, or left out, keeps the workload's own value."""

    layers: tuple[int, ...] | None
    hidden: str | None
    output: str | None
    loss: str | None
    rate: float | None
    momentum: float | None
    l1: float | None
    l2: float | None


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "digits",
            "784-70-30-10 on 60,000 embedded digits, batch 500: the default",
            Network((784, 70, 30, 10), rate=0.2, momentum=0.9, l2=1e-4),
            batch=500,
            source=DataSource("digits"),
        ),
        Workload(
            "tiny",
            "20-8-5-3 on 300 embedded samples, batch 30: for first tries and tests",
            Network((20, 8, 5, 3), rate=0.5, momentum=0.9, l2=1e-4),
            batch=30,
            source=DataSource("tiny"),
        ),
        # Narrow and deep, so that what the hidden layers do is a clear part of the step too.
        Workload(
            "workshop",
            "784-40-40-40-40-10 on the embedded digits, batch 200: what `mlpprof workshop` trains",
            Network((784, 40, 40, 40, 40, 10), rate=0.2, momentum=0.9, l2=1e-4),
            batch=200,
            source=DataSource("digits"),
        ),
        # The source sums the gradients of 500 samples at rate 0.0009994: 0.5 on their mean. Its momentum, whose
        # value it does not tell, adds the previous step's gradient only; ours is heavy ball, and 0.5 and the
        # penalties are our choice.
        Workload(
            "stepiii",
            "784-70-30-10 with L1 and L2, batch 500: 'a simple MLP with NumPy', step III",
            Network((784, 70, 30, 10), rate=0.5, momentum=0.5, l1=1e-6, l2=1e-4),
            batch=500,
            source=DataSource("digits"),
        ),
        Workload(
            "persample",
            "1000-900-900-900-10, squared error, 1,000 random samples, batch 100: the per-sample loop",
            Network((1000, 900, 900, 900, 10), loss="squared_error", rate=0.1),
            batch=100,
            source=DataSource("random"),
        ),
        # The question's own count of weights fits 39-39-39-39 as well, which --layers gives. Loss, rate and momentum
        # are our choice.
        Workload(
            "forever",
            "39-39-39-1 on 10,000 observations at once: 'backpropagation taking forever'",
            Network((39, 39, 39, 1), loss="squared_error", rate=0.5, momentum=0.9),
            batch=10_000,
            source=DataSource("teacher"),
        ),
        # The source tells no sizes, and leaves open whether its 100,000 steps are of one sample or of a batch.
        Workload(
            "liu",
            "784-16-16-10, one sample a step: 'vectorization in fully-connected neural networks'",
            Network((784, 16, 16, 10), rate=0.01),
            batch=1,
            source=DataSource("digits"),
        ),
        Workload(
            "optprop",
            "12288-20-7-5-1, ReLU, 209 cat-shaped pictures at once: 'optimized propagation'",
            Network((12288, 20, 7, 5, 1), hidden="relu", rate=0.0075),
            batch=209,
            source=DataSource("cats"),
        ),
    )
}
"""The workloads by name."""


def get_workload(name: str) -> Workload:
    """The workload of that name; raises UsageError with the nearest one."""
    if name not in WORKLOADS:
        raise UsageError(f"no workload '{name}'{did_you_mean(name, WORKLOADS)} (known: {', '.join(WORKLOADS)})")
    return WORKLOADS[name]


def resolve(
    name: str = DEFAULT_WORKLOAD,
    *,
    source: DataSource | None = None,
    batch: int | None = None,
    **changes: Unpack[NetworkChanges],
) -> Workload:
    """The named workload with other data, another batch or another network, checked to fit together.

    Without layers, the sizes of input and output follow the data and the hidden layers stay. Without a batch, a
    workload that takes all of its data at once does so with other data too, and others take at most all of it.
    The data are only peeked at. Raises UsageError naming both numbers where layers, data and batch do not fit, and
    DataError where the data cannot be read.
    """
    workload = get_workload(name)
    facts = peek(source or workload.source)
    given: dict[str, Any] = {key: value for key, value in changes.items() if value is not None}
    layers = workload.network.layers
    if source is not None and "layers" not in given:
        outputs = natural_outputs(facts, given.get("output", workload.network.output))
        given["layers"] = (facts.features, *layers[1:-1], outputs)
    network = replace(workload.network, **given)
    where = f"the data '{(source or workload.source).text}'"
    _check_sizes(network, facts, where)
    return replace(
        workload, network=network, batch=_fitted_batch(workload, facts, batch, where), source=source or workload.source
    )


def natural_outputs(facts: DataFacts, output: str) -> int:
    """Output neurons for the data: one a class or target, but a single sigmoid for two classes."""
    if facts.n_targets:
        return facts.n_targets
    return 1 if facts.classes <= 2 and output == "sigmoid" else max(facts.classes, 2)


def _check_sizes(network: Network, facts: DataFacts, where: str) -> None:
    n_in, *hidden, n_out = network.layers
    natural = natural_outputs(facts, network.output)
    fitting = "-".join(str(size) for size in (facts.features, *hidden, natural))
    if n_in != facts.features:
        raise UsageError(
            f"layers {network.text} take {n_in} inputs, but {where} has {facts.features} features a sample; "
            f"use --layers {fitting}"
        )
    if facts.n_targets:
        if n_out != facts.n_targets:
            raise UsageError(
                f"layers {network.text} give {n_out} outputs, but {where} has {facts.n_targets} targets a sample; "
                f"use --layers {fitting}"
            )
        if network.loss == "cross_entropy" and (facts.target_low < 0 or facts.target_high > 1):
            raise UsageError(
                f"loss 'cross_entropy' needs targets from 0 to 1, but those of {where} run from "
                f"{facts.target_low:g} to {facts.target_high:g}; use --loss squared_error --output identity"
            )
    elif max(n_out, 2) < facts.classes:
        raise UsageError(
            f"layers {network.text} give {n_out} outputs, but {where} has {facts.classes} classes; "
            f"use --layers {fitting}"
        )


def _fitted_batch(workload: Workload, facts: DataFacts, batch: int | None, where: str) -> int:
    if batch is None:
        takes_all = workload.batch == peek(workload.source).samples
        return facts.samples if takes_all else min(workload.batch, facts.samples)
    if not 1 <= batch <= facts.samples:
        raise UsageError(f"batch {batch} is out of range; expected 1 to {facts.samples}, the samples of {where}")
    return batch
