"""Expressions get their times from operations that are performed again, where no step was left for clocks."""

from __future__ import annotations

from collections import defaultdict

from mlpprof.programs.record.replay import again, seconds_of
from mlpprof.programs.record.trace import Event, OwnTime, Trace


def add_replayed_times(trace: Trace) -> None:
    """Use the times of the last recorded step's operations, performed again, as the times of a step under clocks."""
    start, stop = trace.steps[-1]
    turns = {(run.site, run.execution): run.turns / max(1, run.recorded) for run in trace.loops}
    alike: dict[tuple[object, ...], float] = {}
    inside: dict[int, OwnTime] = defaultdict(lambda: OwnTime(0.0, 0))
    around: dict[int, OwnTime] = defaultdict(lambda: OwnTime(0.0, 0))
    for event in trace.events[start:stop]:
        if event.is_own:
            continue
        kind = (event.site, event.name, *(value.shape for value in event.inputs))
        if kind not in alike:
            alike[kind] = _seconds(event)
        times = 1.0
        for turn in event.loops:  # only the first turns of a long loop were recorded
            times *= turns.get((turn.site, turn.execution), 1.0)
        whole = around if event.is_outside else inside
        whole[event.site] += OwnTime(times * alike[kind], round(times))
    trace.times.sites.append(dict(inside))
    trace.times.around.append(dict(around))
    trace.times.clocked_s.append(sum(own.seconds for own in inside.values()))


def _seconds(event: Event) -> float:
    """The time of an operation that `numpy_costs` knows; another call may print, write, or be the step itself."""
    action = again(event) if event.kind else None
    return seconds_of(action) if action is not None else 0.0
