"""`stepiii`: the third step of a series on a hand-written MLP, with its phase table and its two ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlpprof.compare.entrants import VariantSubject
from mlpprof.errors import MissingExtra
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.report.numbers import digits, format_percent, format_time
from mlpprof.reproduce.laboratory import Laboratory
from mlpprof.reproduce.rules import (
    RULE_AT_LEAST,
    Ratio,
    Stages,
    at_least,
    data_text,
    digits_source,
    planned,
    ratio,
    shortened,
)
from mlpprof.results import BatchResult, Race
from mlpprof.results.json import decode
from mlpprof.results.reproduction import Claim, Curve, Figure, Panel, Reproduction, Table
from mlpprof.workloads import Workload, resolve

NAME = "stepiii"
PEER = "peers/tensorflow"
RUNGS = ("naive", "float32", "no_input_delta", "contiguous", "cached", "sliced")
BEFORE = "contiguous"
"""This rung stands for the author's code before the step, and `sliced` for the code after it."""

PHASES_S = {
    "ti fetch": (0.00018, ("fetch_batch",)),
    "ta forward": (0.000815, ("forward",)),
    "tb + tc cost, error": (0.000474, ("loss",)),
    "td backward": (0.001095, ("backward",)),
    "tf weights": (0.000198, ("update",)),
}
"""The author's phases at batch 500 (means of the two prints), and the phases of ours that they correspond to."""

BACKWARD_S: dict[int, dict[tuple[str, int], float]] = {
    500: {
        **{("t1", 2): 1.28e-4, ("t2", 2): 3.53e-4, ("t3", 2): 1.81e-4, ("t4", 2): 1.02e-4},
        **{("t5", 2): 9.93e-5, ("t6", 2): 2.43e-5},
        **{("t1", 1): 4.32e-4, ("t2", 1): 7.81e-4, ("t3", 1): 5.48e-5, ("t4", 1): 1.24e-4},
        **{("t5", 1): 1.03e-4, ("t6", 1): 1.22e-4, ("t5", 0): 4.29e-4, ("t6", 0): 1.54e-4},
    },
    15_000: {
        **{("t1", 2): 6.04e-4, ("t2", 2): 5.04e-3, ("t3", 2): 2.51e-4, ("t4", 2): 5.61e-4},
        **{("t5", 2): 5.41e-4, ("t6", 2): 2.29e-5},
        **{("t1", 1): 9.75e-4, ("t2", 1): 1.072e-2, ("t3", 1): 5.12e-4, ("t4", 1): 8.90e-4},
        **{("t5", 1): 1.10e-3, ("t6", 1): 9.84e-5, ("t5", 0): 6.99e-3, ("t6", 0): 2.38e-4},
    },
}
"""The author's t1 to t6 in seconds, by his layer number: the median of three prints, the mean of two."""

STATEMENTS = {
    "t1": "bias row",
    "t2": "derivative",
    "t3": "propagate",
    "t4": "multiply",
    "t5": "gradient",
    "t6": "regularize",
}


def backward_label_s(result: BatchResult, symbol: str, author_layer: int) -> float:
    """Our seconds for the author's symbol at his layer; his t5 and t6 at N are our layer N + 1's."""
    layer = author_layer + 1 if symbol in ("t5", "t6") else author_layer
    return sum(
        result.label_s(label)
        for label in result.labels
        if label.phase == "backward" and label.layer == layer and label.label == STATEMENTS[symbol]
    )


def race_table(race: Race, trained: dict[str, Any], m: int) -> Table:
    """Steps raced, and whole trainings, of every rung."""
    epochs = len(trained["naive"]["epoch_s"])
    rows = []
    for i, name in enumerate(RUNGS):
        to_parent = ratio(race, i - 1, i).text if i else ""
        rows.append(
            (
                name,
                format_time(race.step_s(i)),
                to_parent,
                digits(ratio(race, 0, i).value) + " x" if i else "1",
                format_time(sum(trained[name]["epoch_s"])),
                f"{trained[name]['final_loss']:.4f}",
                f"{trained[name]['last_batch_accuracy']:.3f}",
                "–" if trained[name]["test_accuracy"] is None else f"{trained[name]['test_accuracy']:.4f}",
            )
        )
    return Table(
        title=f"The rungs at batch {m:,}",
        caption=f"steps from a race in {len(race.turns_s)} processes; {epochs} epochs, trained side by side",
        columns=(
            "rung",
            "step",
            "faster than its parent",
            "faster than naive",
            f"{epochs} epochs",
            "cost",
            "last batch",
            "test",
        ),
        rows=tuple(rows),
    )


def phase_table(result: BatchResult) -> Table:
    """The author's ti to tf beside our phases."""
    author_total = sum(seconds for seconds, _ in PHASES_S.values())
    ours = {name: sum(result.phase_share(phase) for phase in phases) for name, (_, phases) in PHASES_S.items()}
    return Table(
        title=f"Phases of {BEFORE} at batch {result.batch:,}",
        caption="the author's table beside ours: time, and share of the step",
        columns=("phase", "author", "share", "here", "share"),
        rows=tuple(
            (
                name,
                format_time(seconds),
                format_percent(seconds / author_total),
                format_time(ours[name] * result.step_s.median),
                format_percent(ours[name]),
            )
            for name, (seconds, _) in PHASES_S.items()
        ),
    )


def backward_table(result: BatchResult, author: dict[tuple[str, int], float]) -> Table:
    """The author's t1 to t6 by layer beside our labels."""
    rows = []
    for symbol, statement in STATEMENTS.items():
        cells = [f"{symbol} {statement}"]
        for layer in (2, 1, 0):
            seconds = author.get((symbol, layer))
            cells += (
                ["–", "–"]
                if seconds is None
                else [format_time(seconds), format_time(backward_label_s(result, symbol, layer))]
            )
        rows.append(tuple(cells))
    return Table(
        title=f"The backward pass of {BEFORE} at batch {result.batch:,}",
        caption="the author's layer numbers N; his time, then ours",
        columns=("", "N = 2", "here", "N = 1", "here", "N = 0", "here"),
        rows=tuple(rows),
    )


def figure(trained: dict[int, dict[str, Any]], epochs: int) -> Figure:
    """Cost and accuracy by epoch."""
    axis = tuple(float(e) for e in range(1, epochs + 1))

    def curves(key: str) -> Sequence[Curve]:
        return [
            Curve(f"{name}, batch {m:,}", axis, tuple(runs[name][key]), dashed=name == "naive")
            for m, runs in trained.items()
            for name in ("naive", "sliced")
            if runs[name][key]
        ]

    return Figure(
        name="stepiii-training",
        caption="Cost and test accuracy by epoch, first and last rung at both batch sizes. The curves of a batch size "
        "lie on each other: the rungs differ in time alone.",
        panels=(
            Panel("cost", "epoch", "mean cost of the epoch's batches", tuple(curves("loss")), log_y=True),
            Panel("accuracy", "epoch", "accuracy on the test set", tuple(curves("test_accuracies"))),
        ),
    )


PRINTED_RATES = {500: 0.0009994051838157095, 20_000: 9.994051838157101e-05}
SERIES_S = {500: (9.6, 7.5), 20_000: (8.7, 6.7)}
"""The author's 35 epochs before and after the step, best of three."""
LAST_BATCH_ACCURACY = {500: 0.99272, 20_000: 0.95602}
STEP_SAVES = 0.15
SERIES_RATIO = 6.5
FORWARD_RATIO = 2.0
ACCURACY_MARGIN = 0.01

RANGES = (0.1, 1.0, 1.0)
SETTING = "standardized inputs and larger initial weights"
"""We tried a dozen settings at batch 20,000, all with standardized inputs, and this one reaches the author's accuracy.

The initial weights of each layer are uniform within its range. With one range for all layers, the best accuracy was
0.91, at a range of 0.5.
"""


@dataclass(frozen=True)
class Plan:
    """How much is run; the defaults are a whole run."""

    epochs: int = planned(35, "epochs of training")
    processes: int = planned(3, "processes per race")
    blocks: int = planned(8, "blocks per process")
    batches: tuple[int, int] = planned((500, 20_000), "batch sizes")
    backward_batches: tuple[int, int] = planned((500, 15_000), "batch sizes of the tables")


QUICK = Plan(epochs=2, processes=1, blocks=3)


def reproduce(data: Path | None, plan: Plan, progress: Progress) -> Reproduction:
    """Race, profile and train the rungs, and race the framework if it is installed."""
    stages = Stages(NAME, 3 * len(plan.batches) + 1 + len(plan.backward_batches), progress)
    laboratory = Laboratory()
    source = digits_source(data)
    workload = resolve(NAME, source=source)
    small, large = plan.batches
    races = {m: _race(laboratory, _at(workload, m), m, plan, stages.next()) for m in plan.batches}
    forward = laboratory.race(
        [
            VariantSubject(Request(name, workload.network, source), large, part="forward")
            for name in ("no_input_delta", BEFORE)
        ],
        plan.processes,
        plan.blocks,
        stages.next(),
    )
    profiles = {m: _profile(laboratory, workload, m, stages.next()) for m in plan.backward_batches}
    trained = {m: _train(laboratory, _at(workload, m), m, plan, stages.next()) for m in plan.batches}
    standardized = {m: _standardized(laboratory, _at(workload, m), m, plan, stages.next()) for m in plan.batches}
    claims = [
        *(_step_claim(races[m], m, author) for m, author in zip(plan.batches, SERIES_S.values(), strict=True)),
        *(_series_claim(races[m], m) for m in plan.batches),
        _forward_claim(ratio(forward, 0, 1), large),
        _dominant_claim(profiles[plan.backward_batches[1]]),
        *(
            _accuracy_claim(found, m, claimed, plan, setting)
            for m, claimed in zip(plan.batches, LAST_BATCH_ACCURACY.values(), strict=True)
            for found, setting in ((trained[m]["sliced"], ""), (standardized[m], f", {SETTING}"))
        ),
        *(
            _peer_claim(laboratory, _at(workload, m), m, what, plan, progress)
            for m, what in ((large, "at par"), (small, "faster"))
        ),
    ]
    tables = [
        *(race_table(races[m], trained[m], m) for m in plan.batches),
        phase_table(profiles[plan.backward_batches[0]]),
        *(
            backward_table(profiles[m], author)
            for m, author in zip(plan.backward_batches, BACKWARD_S.values(), strict=True)
        ),
    ]
    rates = ", ".join(f"{_at(workload, m).network.rate:.4g} at batch {m:,}" for m in plan.batches)
    network = workload.network
    return Reproduction(
        name=NAME,
        title="MLP, NumPy, TF2: performance issues, step III, a correction to the backward propagation",
        setting=(
            ("data", data_text(source)),
            ("network", f"{network.text}, sigmoid, cross-entropy"),
            ("training", f"momentum {network.momentum:g}, L1 {network.l1:g}, L2 {network.l2:g}, {plan.epochs} epochs"),
            ("rates", f"{rates}: the printed ones are for gradients summed over the batch, ours are for the mean"),
        ),
        choices=(
            "The printed rate times the batch size is the rate on the mean gradient (0.0009994 x 500, 0.00009994 x "
            "20,000). The author lets it decay to these values; we keep it constant.",
            "The author's momentum adds the previous step's gradient once, ours is heavy ball, so a momentum of 0.5 "
            "carries 2 gradients' worth of step where his carries 1.5; his own value is not in the text.",
            f"The author's inputs and initial weights are not in the text. Ours are pixels from 0 to 1, and weights "
            "N(0,1)/sqrt(fan_in), from which batches of 20,000 train less far in 105 steps than his. So the accuracies "
            f"are shown a second time for {SETTING}, with a uniform range of "
            f"{', '.join(f'±{r:g}' for r in RANGES)} for the layers. This setting is plausible, as many programs "
            "standardize their inputs; we found it by trying, and it is not known to be his.",
            "Hidden layers of 70 and 30 neurons, and the sizes of the penalties, are ours.",
            f"`{BEFORE}` stands for the code before the step, `sliced` for the code after it, `naive` for the start "
            "of the series; what step I and II changed beside our rungs is not in the text.",
            "His tc, an average error for plotting, has no counterpart in our step; his N is the layer that delta is "
            "propagated to, and his t5 and t6 at N belong to our layer N + 1.",
        ),
        shortened=shortened(plan),
        claims=tuple(claims),
        tables=tuple(tables),
        figures=(figure(trained, plan.epochs),),
        machine=laboratory.machine,
    )


def _at(workload: Workload, m: int) -> Workload:
    """The workload with the author's rate for that batch size, translated from the sum to the mean."""
    nearest = min(PRINTED_RATES, key=lambda printed: abs(printed - m))
    return replace(workload, network=replace(workload.network, rate=PRINTED_RATES[nearest] * nearest))


def _requests(workload: Workload) -> dict[str, Request]:
    return {name: Request(name, workload.network, workload.source) for name in RUNGS}


def _race(laboratory: Laboratory, workload: Workload, m: int, plan: Plan, progress: Progress) -> Race:
    subjects = [VariantSubject(request, m) for request in _requests(workload).values()]
    return laboratory.race(subjects, plan.processes, plan.blocks, progress)


def _train(laboratory: Laboratory, workload: Workload, m: int, plan: Plan, progress: Progress) -> dict[str, Any]:
    with laboratory.prepared(_requests(workload), progress) as worker:
        trained: dict[str, Any] = worker.call(
            "train", progress, keys=list(RUNGS), batch=m, epochs=plan.epochs, each_epoch=True
        )
    return trained


def _standardized(laboratory: Laboratory, workload: Workload, m: int, plan: Plan, progress: Progress) -> dict[str, Any]:
    with laboratory.prepared({"sliced": _requests(workload)["sliced"]}, progress) as worker:
        found: dict[str, Any] = worker.call(
            "train_standardized", progress, key="sliced", batch=m, epochs=plan.epochs, ranges=list(RANGES)
        )
    return found


def _profile(laboratory: Laboratory, workload: Workload, m: int, progress: Progress) -> BatchResult:
    request = Request(BEFORE, _at(workload, m).network, workload.source)
    with laboratory.prepared({BEFORE: request}, progress) as worker:
        answer = worker.call("profile", progress, key=BEFORE, batch=m, steps=None, counted=False)
        return decode(BatchResult, answer)


def _step_claim(race: Race, m: int, author_s: tuple[float, float]) -> Claim:
    before, after = author_s
    measured = ratio(race, RUNGS.index(BEFORE), RUNGS.index("sliced"))
    holds = at_least(measured, 1 / (1 - STEP_SAVES))
    saved = measured.saved
    verdict = {
        True: "The step saves what the author says, or more",
        False: "The step saves less here than the author says",
        None: "Some processes reach the lower end, and some do not",
    }[holds]
    return Claim(
        what=f"{BEFORE} -> sliced: old step time over new at batch {m:,}",
        claimed=before / after,
        claimed_text=f"15 to 22 % of the time ({before} s to {after} s)",
        measured=measured.value,
        measured_text=f"{format_percent(saved.value)} saved, {measured.text}",
        rule=f"at least 15 % saved, a ratio of {digits(1 / (1 - STEP_SAVES))}: {RULE_AT_LEAST}",
        holds=holds,
        note=f"{verdict}: the second sigmoid and the stacked rows are {format_percent(saved.value)} of our step.",
    )


def _series_claim(race: Race, m: int) -> Claim:
    measured = ratio(race, 0, RUNGS.index("sliced"))
    holds = at_least(measured, SERIES_RATIO)
    verdict = {
        True: "The series gains as much here",
        False: "The series gains less here",
        None: "Some processes reach the claim, and some do not",
    }[holds]
    parts = ", ".join(
        f"{name} {digits(ratio(race, i, i + 1).value)}" for i, name in enumerate(RUNGS[1:]) if name in RUNGS
    )
    return Claim(
        what=f"naive -> sliced: old step time over new at batch {m:,}",
        claimed=SERIES_RATIO,
        claimed_text="more than 6.5 x over the series",
        measured=measured.value,
        measured_text=measured.text,
        rule=f"at least 6.5: {RULE_AT_LEAST}",
        holds=holds,
        note=f"{verdict}; rung by rung the factors are {parts}, and the author's start of the series may have had more "
        "to improve than our naive.",
    )


def _forward_claim(measured: Ratio, m: int) -> Claim:
    holds = at_least(measured, FORWARD_RATIO)
    return Claim(
        what=f"no_input_delta -> contiguous: old forward pass over new at batch {m:,}",
        claimed=FORWARD_RATIO,
        claimed_text="more than 2 x in the forward pass of big batches (step II)",
        measured=measured.value,
        measured_text=measured.text,
        rule=f"at least 2: {RULE_AT_LEAST}",
        holds=holds,
        note=("It gains as much" if holds else "It gains less")
        + " here: the collision of C and F order in the bias row of the input, which variants/contiguous.py explains.",
    )


def _dominant_claim(result: BatchResult) -> Claim:
    author = BACKWARD_S[15_000]
    claimed = sum(s for (symbol, _), s in author.items() if symbol == "t2") / sum(author.values())
    ours = {key: backward_label_s(result, *key) for key in author}
    total = sum(ours.values())
    by_symbol = {symbol: sum(s for (t, _), s in ours.items() if t == symbol) / total for symbol in STATEMENTS}
    first = max(by_symbol, key=lambda symbol: by_symbol[symbol])
    return Claim(
        what=f"share of t2, the derivative, in the backward pass at batch {result.batch:,}",
        claimed=claimed,
        claimed_text=f"dominates everything: {format_percent(claimed)} of t1 to t6",
        measured=by_symbol["t2"],
        measured_text=format_percent(by_symbol["t2"]),
        rule="t2 is the largest of t1 to t6",
        holds=first == "t2",
        note="The second evaluation of the sigmoid is the most expensive part here too."
        if first == "t2"
        else f"Here {first} ({STATEMENTS[first]}) is more expensive, with {format_percent(by_symbol[first])}.",
    )


def _accuracy_claim(trained: dict[str, Any], m: int, claimed: float, plan: Plan, setting: str) -> Claim:
    measured, test = trained["last_batch_accuracy"], trained["test_accuracy"]
    whole = plan.epochs == Plan().epochs
    return Claim(
        what=f"accuracy on the last batch after {plan.epochs} epochs at batch {m:,}{setting}",
        claimed=claimed,
        claimed_text=f"{claimed:.3f} after 35 epochs",
        measured=measured,
        measured_text=f"{measured:.3f}" + ("" if test is None else f"; on the test set {test:.3f}"),
        rule=f"not more than {ACCURACY_MARGIN} below, after 35 epochs",
        holds=measured >= claimed - ACCURACY_MARGIN if whole else None,
        note="The translated rates train as far as the author's."
        if whole and measured >= claimed - ACCURACY_MARGIN
        else "The network stops earlier than the author's: initial weights, penalties and momentum are ours."
        if whole
        else "This is not decided, since --quick trains fewer epochs.",
    )


def _peer_claim(laboratory: Laboratory, workload: Workload, m: int, what: str, plan: Plan, progress: Progress) -> Claim:
    claimed = 1.0
    measured: Ratio | None = None
    reason = ""
    subjects = [VariantSubject(Request(name, workload.network, workload.source), m) for name in (PEER, "sliced")]
    try:
        measured = ratio(laboratory.race(subjects, plan.processes, plan.blocks, progress), 0, 1)
    except MissingExtra as missing:
        reason = str(missing)
    holds = None if measured is None else measured.value >= (claimed if what == "faster" else 1 / 1.25)
    return Claim(
        what=f"Keras/TF2 -> sliced: their step time over ours at batch {m:,}",
        claimed=claimed,
        claimed_text="at par for big batches" if what == "at par" else "faster for small batches",
        measured=None if measured is None else measured.value,
        measured_text="absent" if measured is None else measured.text,
        rule="at least 0.8 for par, at least 1 for faster, by the median",
        holds=holds,
        note=f"It was not measured: {reason}."
        if measured is None
        else f"The NumPy form {'is' if holds else 'is not'} {what} on this machine.",
    )
