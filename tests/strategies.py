"""Hypothesis strategies: legal networks, and samples to run them on."""

from __future__ import annotations

from hypothesis import strategies as st

from mlpprof.model import Network
from mlpprof.model.gradcheck import Case, random_case
from mlpprof.model.network import HIDDEN, ILLEGAL_PAIRS, LOSS_NAMES, OUTPUTS

LEGAL_PAIRS = [(output, loss) for output in OUTPUTS for loss in LOSS_NAMES if (output, loss) not in ILLEGAL_PAIRS]

batch_sizes = st.one_of(st.just(1), st.integers(2, 9))
"""Samples a step; 1 comes often, since a batch of one is where axes get lost."""

dtypes = st.sampled_from(["float32", "float64"])


@st.composite
def networks(draw: st.DrawFn, hidden: tuple[str, ...] = HIDDEN, l1: bool = True) -> Network:
    """Networks of 1 to 4 weight layers with 1 to 6 neurons each, every legal pair, with and without penalties."""
    output, loss = draw(st.sampled_from(LEGAL_PAIRS))
    n_out = draw(st.integers(2 if output == "softmax" else 1, 4))
    below = draw(st.lists(st.one_of(st.just(1), st.integers(2, 6)), min_size=1, max_size=4))
    return Network(
        layers=(*below, n_out),
        hidden=draw(st.sampled_from(hidden)),
        output=output,
        loss=loss,
        rate=draw(st.floats(0.01, 0.2)),
        momentum=draw(st.sampled_from((0.0, 0.9))),
        l1=draw(st.sampled_from((0.0, 0.01) if l1 else (0.0,))),
        l2=draw(st.sampled_from((0.0, 0.1))),
    )


@st.composite
def cases(draw: st.DrawFn, hidden: tuple[str, ...] = HIDDEN, l1: bool = True) -> Case:
    """A network with random parameters and samples, away from the kinks of ReLU and L1."""
    return random_case(draw(networks(hidden, l1)), draw(batch_sizes), draw(st.integers(0, 2**32 - 1)))
