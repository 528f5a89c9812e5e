"""What a user has to know of a recording: the notes under its report."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from mlpprof.programs.notebook import notes_on, place_of
from mlpprof.programs.record.finite import failure_in
from mlpprof.programs.record.forms import Forms
from mlpprof.programs.record.schedule import OBSERVED_STEPS, Steps
from mlpprof.programs.record.trace import Times, Trace
from mlpprof.programs.why_no_step import Signs
from mlpprof.programs.writes import Writes

MUCH_AROUND = 0.2
"""If the training loop takes more than this share of the time around its steps, a note reports it."""


def notes_of(trace: Trace, steps: Steps, signs: Signs, writes: Writes | None) -> Iterator[str]:
    """All of them but those on the times."""
    if (failure := failure_in(steps.recorded.events, trace.sites, trace.sources)) is not None:
        yield failure
    yield from notes_on(trace.sources)
    if not steps.is_done:
        yield f"only {steps.count} steps ran, so the times come from a few steps: {_why_few(writes, signs)}"
    if writes is not None:
        yield from writes.notes()
    if steps.recorded.is_cut:
        yield "the step has more operations than mlpprof records, so its last part was not analysed"
    if trace.is_blind:
        yield (
            "mlpprof could not observe all reads of the step's arrays (another thread, or very many objects), so it "
            "did not look for unused results, needless copies and updates in place"
        )
    if steps.is_long:
        yield (
            "the step is long, so only parts of it were timed, and shares are estimates. For more detail, use --step "
            "with a loop inside the step"
        )
    elif len(trace.steps) < OBSERVED_STEPS:
        yield (
            "the program makes a single step, so mlpprof cannot know whether the results are used later. It did not "
            "look for unused results, needless copies and updates in place"
        )


def notes_on_times(times: Times, forms: Forms, is_replayed: bool, is_of_one_step: bool) -> Iterator[str]:
    """Those on the times. is_replayed, is_of_one_step: how the expressions were timed."""
    if is_replayed:
        yield (
            "the program makes too few steps to time its expressions, so mlpprof performed the same operations again "
            "and timed them: shares are estimates"
        )
    elif is_of_one_step:
        yield "the program makes so few steps that mlpprof timed the expressions of only one: shares are estimates"
    yield from _notes_around(times, forms)


def _notes_around(times: Times, forms: Forms) -> Iterator[str]:
    """What a user has to know if much time passes around the steps, as in a generator that makes the batches."""
    if not times.between_s:
        return
    step_s, between_s = median(times.plain_s), median(times.between_s)
    fed = median(times.fed_s) / step_s if step_s > 0 else 0.0
    if fed > MUCH_AROUND:
        places = " and ".join(
            dict.fromkeys(place_of(forms.sites[site].file, forms.sites[site].line).text for site in sorted(times.feeds))
        )
        yield (
            f"{100 * fed:.0f} % of a step is the time in which the training loop ({places}) gets its next item, as "
            "from a generator of batches. mlpprof adds it to the step, but does not look into it: to see which "
            "expressions take that time, compute each batch in the body of the loop"
        )
    rest = between_s / (step_s + between_s)
    if rest > MUCH_AROUND:
        lines = " or ".join(dict.fromkeys(f"--step {place_of(*loop).text}" for loop in forms.loops))
        include = f". To include it, name the loop: {lines}" if lines else ""
        yield (
            f"{100 * rest:.0f} % of the training's time passes between the steps, in the rest of the training loop, "
            f"which is not part of the step{include}"
        )


def _why_few(writes: Writes | None, signs: Signs) -> str:
    if signs.stopped is not None:
        return f"{signs.stopped}, and mlpprof ended it"
    stopped = writes is not None and writes.must_end
    return "then the program wanted to write" if stopped else "the program makes no more"
