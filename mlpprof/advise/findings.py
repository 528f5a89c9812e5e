"""From what the detectors say to findings: overlapping ones under their root cause, small ones left out, ordered."""

from __future__ import annotations

from mlpprof.advise.candidate import Candidate
from mlpprof.advise.detect import (
    bias_stacking,
    dead_computation,
    float64,
    gather,
    layout,
    loops,
    recomputation,
    slow_primitive,
    small_product,
    temporaries,
    work_in_step,
)
from mlpprof.advise.graph import Graph
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.record.replay import BUDGET
from mlpprof.programs.record.schedule import OBSERVED_STEPS
from mlpprof.results.advice import Finding, Place

CAUSES = {
    "sample-loop": ("neuron-loop", "layout", "temporaries", "small-product"),
    "neuron-loop": ("layout", "temporaries", "small-product", "slow-primitive"),
    "work-in-step": ("second-forward", "recomputation", "dead-computation", "temporaries", "layout", "slow-primitive"),
    "second-forward": ("work-in-step", "recomputation", "dead-computation", "temporaries", "layout", "slow-primitive"),
    "dead-computation": ("recomputation", "bias-stacking", "temporaries", "layout", "slow-primitive", "gather"),
    "recomputation": ("temporaries", "slow-primitive", "layout", "bias-stacking"),
    "bias-stacking": ("temporaries", "slow-primitive"),
    "gather": ("temporaries", "layout", "slow-primitive"),
    "slow-primitive": ("temporaries", "layout"),
    "layout": ("temporaries",),
}
"""A category -> those that it brings along: with the cause gone, they are gone too."""

LARGEST_PART = 0.7
"""Of the time that is left for measuring, that one detector may take."""

MOSTLY = 0.6
"""Of a finding's operations that lie in a cause, for it to be a consequence."""

CLEARLY = 1.5
"""As much must a whole chain of unused results save for it to be told, and not that its beginning is computed again."""

DETECTORS = (
    loops,
    recomputation,
    dead_computation,
    bias_stacking,
    work_in_step,
    gather,
    slow_primitive,
    layout,
    temporaries,
    float64,
    small_product,
)


def findings_of(graph: Graph) -> tuple[Finding, ...]:
    """All findings on a recorded step, the largest payoff first."""
    measured = sorted(DETECTORS, key=lambda detector: detector is not float64)  # while there is time: it is large
    found = {}
    for detector in measured:
        with BUDGET.part(LARGEST_PART):
            found[detector] = detector.detect(graph)
    candidates = [one for detector in DETECTORS for one in found[detector] if _is_usual(one, graph)]
    worthwhile = [one for one in candidates if graph.step_s and sum(one.saved_s) / 2 >= one.least_share * graph.step_s]
    merged = merge(worthwhile)
    return tuple(_finding(one, graph) for one in sorted(merged, key=lambda one: -sum(one.saved_s)))


def _is_usual(one: Candidate, graph: Graph) -> bool:
    """Whether both recorded steps have done it: what happens every so many steps is no flaw of a step."""
    if len(graph.trace.steps) < OBSERVED_STEPS or not one.covers:
        return True
    covered = [graph.events[index] for index in one.covers]
    here = [event for event in covered if graph.site(event) == one.site] or covered
    return any(graph.span(event.site) in graph.usual for event in here)


def merge(candidates: list[Candidate]) -> list[Candidate]:
    """Without those that are consequences of others."""
    kept = []
    for one in candidates:
        inside = [c for c in candidates if c is not one and one.covers and _is_cause(c, one)]
        # of two that would each bring the other along, the first stays
        stronger = [c for c in inside if not _is_cause(one, c) or candidates.index(c) < candidates.index(one)]
        if not stronger:
            kept.append(one)
    return [one for one in kept if not any(_is_worse_alternative(one, other) for other in kept)]


def _is_worse_alternative(one: Candidate, other: Candidate) -> bool:
    """Whether one removes the first and the other the second of two equal evaluations: only one of both can be done."""
    dead, again = (one, other) if one.category == "dead-computation" else (other, one)
    if (dead.category, again.category) != ("dead-computation", "recomputation") or dead.site not in again.related:
        return False
    is_dead_better = sum(dead.saved_s) > CLEARLY * sum(again.saved_s)
    return (one is again) == is_dead_better


def _is_cause(one: Candidate, other: Candidate) -> bool:
    """Whether `other` would go with `one`."""
    is_kind = other.category in CAUSES.get(one.category, ())
    return is_kind and len(other.covers & one.covers) >= MOSTLY * max(1, len(other.covers))


def _finding(one: Candidate, graph: Graph) -> Finding:
    step_s = graph.step_s
    low, high = one.saved_s
    if not any(graph.events[index].is_outside for index in one.covers):
        low, high = min(low, step_s), min(high, step_s)
    return Finding(
        category=one.category,
        file=graph.shown(one.site.file),
        line=one.site.line,
        end_line=one.site.end_line,
        column=one.site.column + 1,
        title=one.title,
        why=one.why,
        cure=one.cure,
        payoff_s=(low, high),
        payoff_share=(min(1.0, low / step_s), min(1.0, high / step_s)),
        confidence=one.confidence,
        related=_places(one.related, graph),
        evidence={**one.evidence, "measured": one.measured},
    )


def _places(sites: tuple[Site, ...], graph: Graph) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(Place(graph.shown(site.file), site.line) for site in sites))
