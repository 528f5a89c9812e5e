"""A workload is what is trained: a network, its data and the batch size. Each has a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypedDict, Unpack

from mlpprof.data import DataFacts, DataSource, peek
from mlpprof.errors import UsageError, did_you_mean
from mlpprof.model import Network

DEFAULT_WORKLOAD = "digits"


@dataclass(frozen=True)
class Workload:
    """A network, the data that it learns from, and the batch: together with a variant, this makes a run.

    batch: samples per step. source: where X and Y come from. summary: one line that describes it.
    """

    name: str
    summary: str
    network: Network
    batch: int
    source: DataSource


class NetworkChanges(TypedDict, total=False):
    """The parts of a workload's network that can be replaced; None keeps the workload's own value."""

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
        # The network is narrow and deep, so that the hidden layers take a clear part of the step.
        Workload(
            "workshop",
            "784-40-40-40-40-10 on the embedded digits, batch 200: what `mlpprof workshop` trains",
            Network((784, 40, 40, 40, 40, 10), rate=0.2, momentum=0.9, l2=1e-4),
            batch=200,
            source=DataSource("digits"),
        ),
        # The source sums the gradients of 500 samples at rate 0.0009994, which is rate 0.5 on their mean. Its momentum
        # adds only the gradient of the previous step, and its value is not published. We use heavy ball; 0.5 and the
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
        # The number of weights in the question also fits 39-39-39-39, for which there is --layers. Loss, rate and
        # momentum are our choice.
        Workload(
            "forever",
            "39-39-39-1 on 10,000 observations at once: 'backpropagation taking forever'",
            Network((39, 39, 39, 1), loss="squared_error", rate=0.5, momentum=0.9),
            batch=10_000,
            source=DataSource("teacher"),
        ),
        # The source does not publish the sizes, nor whether its 100,000 steps have one sample each or a batch.
        Workload(
            "liu",
            "784-16-16-10, one sample per step: 'vectorization in fully-connected neural networks'",
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


def get_workload(name: str) -> Workload:
    """The workload with this name; raises UsageError with the most similar name if there is none."""
    if name not in WORKLOADS:
        raise UsageError(
            f"there is no workload '{name}'{did_you_mean(name, WORKLOADS)} (known: {', '.join(WORKLOADS)})"
        )
    return WORKLOADS[name]


def resolve(
    name: str = DEFAULT_WORKLOAD,
    *,
    source: DataSource | None = None,
    batch: int | None = None,
    **changes: Unpack[NetworkChanges],
) -> Workload:
    """The named workload with other data, another batch or another network, after a check that they fit together.

    Without `layers`, the numbers of inputs and outputs follow the data, and the hidden layers stay. Without `batch`, a
    workload that uses all of its data in one batch does the same with other data; for the others, the batch is at most
    all of the data. Only sizes and ranges of the data are read. Raises UsageError with both numbers if layers, data and
    batch do not fit together, and DataError if the data cannot be read.
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
    """The number of output neurons for the data: one per class or target, but a single sigmoid for two classes."""
    if facts.n_targets:
        return facts.n_targets
    return 1 if facts.classes <= 2 and output == "sigmoid" else max(facts.classes, 2)


def _check_sizes(network: Network, facts: DataFacts, where: str) -> None:
    n_in, *hidden, n_out = network.layers
    natural = natural_outputs(facts, network.output)
    fitting = "-".join(str(size) for size in (facts.features, *hidden, natural))
    if n_in != facts.features:
        raise UsageError(
            f"layers {network.text} have {n_in} inputs, but {where} has {facts.features} features per sample; "
            f"use --layers {fitting}"
        )
    if facts.n_targets:
        if n_out != facts.n_targets:
            raise UsageError(
                f"layers {network.text} have {n_out} outputs, but {where} has {facts.n_targets} targets per sample; "
                f"use --layers {fitting}"
            )
        if network.loss == "cross_entropy" and (facts.target_low < 0 or facts.target_high > 1):
            raise UsageError(
                f"loss 'cross_entropy' needs targets from 0 to 1, but those of {where} are from "
                f"{facts.target_low:g} to {facts.target_high:g}; use --loss squared_error --output identity"
            )
    elif max(n_out, 2) < facts.classes:
        raise UsageError(
            f"layers {network.text} have {n_out} outputs, but {where} has {facts.classes} classes; "
            f"use --layers {fitting}"
        )


def _fitted_batch(workload: Workload, facts: DataFacts, batch: int | None, where: str) -> int:
    if batch is None:
        takes_all = workload.batch == peek(workload.source).samples
        return facts.samples if takes_all else min(workload.batch, facts.samples)
    if not 1 <= batch <= facts.samples:
        raise UsageError(
            f"batch {batch} is out of range; expected 1 to {facts.samples}, the number of samples in {where}"
        )
    return batch
