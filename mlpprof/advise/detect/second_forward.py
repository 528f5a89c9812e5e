"""A second forward pass within the step, with the same weights or with those that the step has just updated."""

from __future__ import annotations

from mlpprof.advise.candidate import Candidate, around, by_hand, facts
from mlpprof.advise.cures.second_forward import cures
from mlpprof.advise.repeats import SecondPass, repeats_of, second_passes
from mlpprof.programs.record.graph import Graph


def detect(graph: Graph) -> list[Candidate]:
    """One candidate for each call that propagates the batch forward again."""
    return [_candidate(one, graph) for one in second_passes(graph, repeats_of(graph))]


def _candidate(one: SecondPass, graph: Graph) -> Candidate:
    here, there = graph.site(one.calls[0]), graph.site(one.first)
    edits = cures(one, graph)
    why = f"The step has already multiplied this batch by the weights in {graph.place_of(there).words}."
    if not one.is_same:
        why += " This pass uses the new weights, and no update uses its results."
    return Candidate(
        category="second-forward",
        site=here,
        title=f"`{graph.text(one.calls[0])}` propagates the batch forward a second time",
        why=why,
        cure=f"Use the activations of the first pass in {graph.place(here)}, and leave out the second one."
        if edits
        else by_hand(
            f"let {graph.place(here)} use the activations of the first pass, and leave out the second one.",
            "Check first that no line needs what the second pass stores.",
        ),
        cures=tuple(edits),
        saved_s=around(graph.seconds(one.calls)),
        measured="the time of the call in the step",
        covers=one.covers,
        related=(there,),
        evidence=facts(one.products[0], len(one.products)),
    )
