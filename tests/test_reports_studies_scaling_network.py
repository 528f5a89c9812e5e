"""The study of `mpi` over a network: the model has what was set, and stands beside what was measured."""

from __future__ import annotations

import pytest

from reports.studies.scaling import Compute, Exchange, Exchanged
from reports.studies.scaling_network import DATA_SHARE, UNLIMITED, Network, Step, latencies, network_text

SLOW = Network(100, 1.0)
ALPHA_S = 2e-5


def exchanged(factor: float) -> dict[Network, list[Exchanged]]:
    """The measured time is `factor` times that of the model where the network has a limit."""
    alone = [Exchanged("mpi", p, 1, Exchange(ALPHA_S, 0.0).sum_s(p, 4)) for p in (2, 4)]
    slow = [Exchanged("mpi", p, n, factor * SLOW.exchange(ALPHA_S).sum_s(p, 4 * n)) for p in (2, 4) for n in (1, 5000)]
    return {UNLIMITED: alone, SLOW: slow}


def test_a_network_has_the_delay_and_the_bandwidth_that_were_set():
    exchange = SLOW.exchange(ALPHA_S)
    assert exchange.alpha_s == pytest.approx(1e-3 + ALPHA_S)
    assert exchange.beta_s == pytest.approx(1 / (DATA_SHARE * 12.5e6))
    assert latencies(exchanged(1.0)) == {2: pytest.approx(ALPHA_S), 4: pytest.approx(ALPHA_S)}


def test_the_tables_show_the_measured_time_beside_the_modelled_one():
    text = network_text(exchanged(1.25), Compute(1e-4, 4e-6), [Step(SLOW, 2, 20_000, 1.7)], 5000)
    assert "| 100 Mbit/s, 1 ms | 4 | 1 | 5.10 ms | 4.08 ms | 1.25 |" in text
    assert "5,000 (the gradient)" in text
    assert "The median deviation is 25 % for the gradient, and 25 % for all sizes." in text
    assert "no netem" not in text
    modelled = 80.1e-3 / (40.1e-3 + SLOW.exchange(ALPHA_S).sum_s(2, 20_000))
    assert f"| 100 Mbit/s, 1 ms | 2 | 20,000 | 1.70 | {modelled:.2f} |" in text


def test_a_network_without_a_delay_is_explained():
    without = {Network(100) if network is SLOW else network: found for network, found in exchanged(1.0).items()}
    assert "no netem" in network_text(without, Compute(1e-4, 4e-6), [], 5000)
