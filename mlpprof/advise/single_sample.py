"""Whether the step is a single sample: the network multiplies vectors by its weights, and no batch."""

from __future__ import annotations

from collections.abc import Iterator

from mlpprof.instrument.numpy_costs import PRODUCT
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.trace import Event


def single_sample_note(graph: Graph) -> Iterator[str]:
    """A note that the recorded step takes one sample, if it does, and what that means."""
    made = {e.output.root for e in graph.last if e.output is not None and not e.is_view and not e.writes}
    products = [event for event in graph.last if event.kind == PRODUCT and _matrices(event) - made]
    if not products or not all(_is_of_vector(event, graph) for event in products):
        return
    if any(_matrices(event) & graph.parameters for event in products):
        yield (
            "a step is one sample here, because the program updates its parameters after every sample. Steps for "
            "batches of samples take less time for each sample, but they train differently, so mlpprof does not "
            "propose them"
        )
    else:
        yield (
            "a step is one sample here, and the program adds up the gradients of several samples before it updates "
            "its parameters. Compute all samples of an update at once: one product for all of them gives the same "
            "sum in less time"
        )


def _matrices(event: Event) -> set[int]:
    return {value.root for value in event.inputs if len(value.shape) == 2 and min(value.shape) > 1}


def _is_of_vector(event: Event, graph: Graph) -> bool:
    """Whether a matrix is multiplied by a vector that is no weights: those of one neuron are a vector for any batch."""
    arrays = [value for value in event.inputs if value.is_array]
    vectors = [value for value in arrays if value.size == max(value.shape, default=1)]
    return len(arrays) == 2 and any(value.root not in graph.parameters for value in vectors)
