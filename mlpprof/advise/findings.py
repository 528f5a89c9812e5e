"""From the detectors' candidates to findings: overlapping ones are merged into their cause, small ones are left out.

Each file in `advise/detect/` is the detector of one category and has its name.
"""

from __future__ import annotations

import pkgutil
import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from mlpprof.advise import detect
from mlpprof.advise.candidate import LEAST_SHARE, Candidate, total
from mlpprof.advise.editing.cure import Cure, LineEdit
from mlpprof.instrument.rewriting import Site
from mlpprof.programs.notebook import place_of
from mlpprof.programs.record.clocks import times_as_long
from mlpprof.programs.record.graph import Graph
from mlpprof.programs.record.replay import BUDGET
from mlpprof.programs.record.schedule import OBSERVED_STEPS
from mlpprof.programs.source_lines import lines_of
from mlpprof.results.advice import Edit, Finding
from mlpprof.results.place import Place

CONSEQUENCES: dict[str, tuple[str, ...]] = {
    "sample-loop": ("neuron-loop", "layout", "temporaries", "small-product"),
    "neuron-loop": ("layout", "temporaries", "small-product", "slow-primitive"),
    "second-forward": ("work-in-step", "recomputation", "dead-computation", "temporaries", "layout", "slow-primitive"),
    "recomputation": ("temporaries", "slow-primitive", "layout", "bias-stacking"),
    "dead-computation": ("recomputation", "bias-stacking", "temporaries", "layout", "slow-primitive", "gather"),
    "bias-stacking": ("temporaries", "slow-primitive"),
    "work-in-step": ("second-forward", "recomputation", "dead-computation", "temporaries", "layout", "slow-primitive"),
    "storage": ("gather", "temporaries", "layout", "slow-primitive"),
    "gather": ("temporaries", "layout", "slow-primitive"),
    "slow-primitive": ("temporaries", "layout"),
    "layout": ("temporaries",),
    "temporaries": (),
    "float64": (),
    "small-product": (),
}
"""Each category, with the categories that are its consequences: if the cause is cured, they are gone too."""

LARGEST_PART = 0.7
"""One detector may use this share of the time that is left for measuring."""

MOSTLY = 0.6
"""A finding is a consequence of a cause if this share of its operations lies in the cause."""

CLEARLY = 1.5
"""An unused result may have been computed a second time later. Leaving it out is the better cure if that saves this
many times as much as reusing it."""

UNSURE, MOST_UNSURE, UNSURE_OF_STEP = 0.45, 0.2, 0.02
"""What a cure saves differs from what was measured by up to 45 % of it, but by no more than 20 % of the step; and by
2 % of the step in addition, because the rest of the step then finds other arrays in the cache. Nine of ten of the
savings that two studies measured lie within these bounds: `python -m reports.advise.calibration` with the processor's
time, and `python -m reports.advise.opt95` in races. Both print how wide the bounds would have to be for that."""

DISTURBED = 1.5
"""If other programs used the CPU while the step was timed, the bounds are so many times as far apart."""

Detector = Callable[[Graph], list[Candidate]]

DETECTORS: dict[str, Detector] = {
    module.name.replace("_", "-"): import_module(f"{detect.__name__}.{module.name}").detect
    for module in pkgutil.iter_modules(detect.__path__)
}
"""Category -> its detector, from the files in `advise/detect/`."""


SMALLEST_SHARE = 0.001
"""What may save less than this share of the step, by the low end of its range, is not reported as small: chance
measures as much."""


@dataclass(frozen=True)
class Candidates:
    """What all detectors have found in a recorded step, merged, the largest payoff first; and what is small."""

    large: list[Candidate]
    small: list[Candidate]


def candidates_of(graph: Graph, detectors: Mapping[str, Detector] = DETECTORS) -> Candidates:
    """What the detectors have found."""
    # float64 comes first, while there is time left: it measures the most and usually saves the most.
    measured_in_order = sorted(CONSEQUENCES, key=lambda category: category != "float64")
    found = {}
    for category in measured_in_order:
        with BUDGET.part(LARGEST_PART):
            found[category] = _detected(category, detectors[category], graph)
    candidates = [one for category in CONSEQUENCES for one in found[category] if _is_usual(one, graph)]
    worthwhile, little = [], []
    for one in of_one_cure(candidates):
        share = sum(one.saved_s) / 2 / graph.step_s if graph.step_s else 0.0
        if share >= one.least_share:
            worthwhile.append(one)
        elif max(share, one.least_share) <= LEAST_SHARE and one.saved_s[0] >= SMALLEST_SHARE * graph.step_s > 0:
            little.append(one)
    large = merge(worthwhile)
    small = [one for one in merge(little) if not any(_is_reported(one, other) for other in large)]
    return Candidates(
        *(
            sorted(found, key=lambda one: -sum(promise(one.saved_s, graph.step_s, _doubt(graph))))
            for found in (large, small)
        )
    )


def _detected(category: str, detect: Detector, graph: Graph) -> list[Candidate]:
    """What a detector finds; if it fails, nothing and a note, so that the other findings are reported all the same."""
    try:
        return detect(graph)
    except Exception as error:  # noqa: BLE001 - a program may do what no detector has met
        where = traceback.extract_tb(error.__traceback__)[-1]
        graph.trace.notes.append(
            f"mlpprof has a defect in its search for {category}, so findings of that category are missing. Please "
            f"report this line: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        )
        return []


def of_one_cure(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates, with those of one category together that one cure removes: the same edits or the same words."""
    groups: dict[Hashable, list[Candidate]] = defaultdict(list)
    for one in candidates:
        groups[one.category, one.cures[0].edits if one.cures else (one.site.file, one.site.line, one.cure)].append(one)
    return [_together(group) for group in groups.values()]


def _together(group: list[Candidate]) -> Candidate:
    """One candidate for several; where they cover the same operations, only the largest payoff counts."""
    head, *others = sorted(group, key=lambda one: -sum(one.saved_s))
    for one in others:
        if not one.covers <= head.covers:
            related = dict.fromkeys((*head.related, one.site, *one.related))
            head = replace(
                head,
                saved_s=total([head.saved_s, one.saved_s]),
                covers=head.covers | one.covers,
                related=tuple(site for site in related if site != head.site),
                least_share=min(head.least_share, one.least_share),
            )
    return head


def _is_reported(one: Candidate, other: Candidate) -> bool:
    """Whether a small finding is a part or a consequence of another one."""
    is_same = one.category == other.category and (one.site == other.site or one.covers <= other.covers)
    return is_same or _is_cause(other, one)


def _is_usual(one: Candidate, graph: Graph) -> bool:
    """Whether both recorded steps have done it: what happens only every so many steps is not a flaw of the step."""
    if len(graph.trace.steps) < OBSERVED_STEPS or not one.covers:
        return True
    covered = [graph.events[index] for index in one.covers]
    here = [event for event in covered if graph.site(event) == one.site] or covered
    return any(graph.span(event.site) in graph.usual for event in here)


def merge(candidates: list[Candidate]) -> list[Candidate]:
    """The candidates that are not consequences of others."""
    kept = []
    for one in candidates:
        inside = [c for c in candidates if c is not one and one.covers and _is_cause(c, one)]
        # Of two that are consequences of each other, the first stays.
        stronger = [c for c in inside if not _is_cause(one, c) or candidates.index(c) < candidates.index(one)]
        if not stronger:
            kept.append(one)
    return [one for one in kept if not any(_is_worse_alternative(one, other) for other in kept)]


def _is_worse_alternative(one: Candidate, other: Candidate) -> bool:
    """Whether the other removes the other one of two equal evaluations, and saves more: only one of them can go."""
    dead, again = (one, other) if one.category == "dead-computation" else (other, one)
    if (dead.category, again.category) != ("dead-computation", "recomputation") or dead.site not in again.related:
        return False
    is_dead_better = sum(dead.saved_s) > CLEARLY * sum(again.saved_s)
    return (one is again) == is_dead_better


def _is_cause(one: Candidate, other: Candidate) -> bool:
    """Whether `other` is a consequence of `one`."""
    is_kind = other.category in CONSEQUENCES[one.category]
    return is_kind and len(other.covers & one.covers) >= MOSTLY * max(1, len(other.covers))


def finding_of(one: Candidate, graph: Graph, is_small: bool = False) -> Finding:
    """The finding for what a detector has found; its edits are those of the first of the alternative cures.

    is_small: it promises so little that only what was measured is stated.
    """
    step_s = graph.step_s
    low, high = one.saved_s if is_small else promise(one.saved_s, step_s, _doubt(graph))
    place = graph.place_of(one.site)
    is_outside = one.is_outside or any(graph.events[index].is_outside for index in one.covers)
    if not is_outside:
        low, high = min(low, step_s), min(high, step_s)
    return Finding(
        category=one.category,
        file=place.file,
        line=place.line,
        end_line=place.line + max(0, one.site.end_line - one.site.line),
        column=one.site.column + 1,
        title=one.title,
        why=one.why,
        cure="\n".join([one.cure, *_diff(one.cures[0], graph)]) if one.cures else one.cure,
        payoff_s=(low, high),
        payoff_share=(min(1.0, low / step_s), min(1.0, high / step_s)),
        confidence=one.confidence,
        related=_places(one.related, graph),
        evidence={**one.evidence, "measured": one.measured},
        cell=place.cell,
        kind=one.cures[0].kind if one.cures else "manual",
        edits=tuple(_edit(edit, graph) for edit in one.cures[0].edits) if one.cures else (),
        outside=is_outside,
    )


def _doubt(graph: Graph) -> float:
    return 1.0 if times_as_long(graph.trace.times) is None else DISTURBED


def promise(saved_s: tuple[float, float], step_s: float, doubt: float = 1.0) -> tuple[float, float]:
    """The seconds that a cure will save, for what was measured: both bounds, wide enough to hold nine times of ten.

    doubt: how many times as uncertain the measurement is as on a machine that does nothing else.
    """
    low, high = saved_s
    middle = (low + high) / 2
    beside = doubt * (min(UNSURE * middle, MOST_UNSURE * step_s) + UNSURE_OF_STEP * step_s)
    rest = max(0.0, step_s - middle)  # some of it always stays
    return max(0.0, min(low, middle - beside)), max(high, min(middle + beside, middle + rest / 2))


def _edit(edit: LineEdit, graph: Graph) -> Edit:
    place = place_of(edit.file, edit.start + 1, graph.shown(edit.file))
    return Edit(place.file, place.line, place.line + edit.stop - edit.start, "".join(edit.lines), place.cell)


def _diff(cure: Cure, graph: Graph) -> Iterator[str]:
    """The edits to be read: for each the place, the lines that go, and those that come."""
    for edit in cure.edits:
        lines = lines_of(graph.trace.sources[edit.file])
        yield f"@@ {place_of(edit.file, edit.start + 1, graph.shown(edit.file)).text}"
        for sign, some in (("-", lines[edit.start : edit.stop]), ("+", edit.lines)):
            yield from (sign + line.rstrip("\r\n") for line in some)


def _places(sites: tuple[Site, ...], graph: Graph) -> tuple[Place, ...]:
    return tuple(dict.fromkeys(map(graph.place_of, sites)))
