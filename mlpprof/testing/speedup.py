"""`assert_speedup` and `assert_not_slower` test speedups, with the same statistics as `mlpprof compare`."""

from __future__ import annotations

import inspect
import shlex
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from mlpprof import catalog
from mlpprof.catalog import find, find_all, interface_problems
from mlpprof.compare.decide import NullResult, not_slower_than
from mlpprof.compare.entrants import Environment
from mlpprof.compare.error_bounds import IN_PROCESS, RESOLUTION, procedure_for
from mlpprof.compare.functions import reference_to
from mlpprof.compare.live_race import LiveRace, LocalRace, function_race, variant_race
from mlpprof.compare.null_cause import with_cause
from mlpprof.compare.resolution import share_of
from mlpprof.compare.same_code import require_different_functions, require_different_variants
from mlpprof.compare.variant_difference import PAIRS
from mlpprof.compare.verdict import LEAST_REPLICATES, measure, measure_null
from mlpprof.errors import UsageError
from mlpprof.machine.facts import machine_class
from mlpprof.process import Progress
from mlpprof.profile.request import Request
from mlpprof.profile.variant import DEFAULT_THREADS
from mlpprof.programs.name import EXPECTED, is_program
from mlpprof.report.terminal.compare import speedup_table
from mlpprof.results import Speedup
from mlpprof.testing.baseline import DEFAULT_FILE, claim_key, claimed
from mlpprof.testing.programs import Programs, program_speedup, training_of
from mlpprof.testing.programs import require_same as require_same_training
from mlpprof.testing.sameness import Arguments, Equivalent, maker_of, require_same
from mlpprof.workloads import DEFAULT_WORKLOAD, Workload, resolve

BASELINE = "baseline"

Subject = str | type | Callable[..., Any]
"""A program, a variant by name, path or class, or any callable."""


class InconclusiveWarning(UserWarning):
    """The measurements vary too much to say whether a claim is right."""


@dataclass(frozen=True)
class Measuring:
    """How the tests of a session measure speedups.

    budget_s: the time limit for one claim, or None. resolution: of claims that do not name one, as a share. check:
    whether to check first that both compute the same. baselines: the file for at_least="baseline".
    """

    environment: Environment = field(default_factory=Environment)
    budget_s: float | None = None
    resolution: float = RESOLUTION
    check: bool = True
    progress: Progress = lambda what, share: None
    baselines: Path = DEFAULT_FILE


_nulls: dict[str, NullResult] = {}
"""The measurements of a version against itself in this session, which show how noisy the machine is."""


def measure_speedup(
    new: Subject,
    *,
    over: Subject,
    at_least: float | str | None = None,
    workload: str = DEFAULT_WORKLOAD,
    batch: int | None = None,
    dtype: str | None = None,
    args: Arguments = None,
    equivalent: Equivalent = None,
    arguments: Sequence[str] = (),
    step: str | None = None,
    over_step: str | None = None,
    allow_writes: bool = False,
    resolution: float | None = None,
    measuring: Measuring | None = None,
) -> Speedup:
    """Measure how many times as fast `new` is as `over`, until it is clear whether this is at least `at_least`.

    new, over: two programs ('train.py', 'train.py@v1.0', 'work.ipynb', '-m package.module'), two variants (names, paths
    or classes) or two callables. Programs run with these arguments, and must train the same (equivalent=False skips
    that); step, over_step: their training step, if it has to be named; allow_writes: let them write files.
    Variants are trained on `workload`, at `batch`
    and in `dtype`; None takes the values of the workload and of the variants. Callables get arguments that args() makes
    while no clock runs, or copies of the tuple args. at_least: a ratio, or "baseline" for the value that
    `mlpprof calibrate` stored. resolution: 0.02 for 2 %; a PASS certifies at_least / 1.02. None takes the
    session's, which is 10 % by default. A finer one takes more time.
    Functions that another process can import are measured in several new processes. Closures and bound methods are
    measured in this process alone, with wider bounds.
    Callables must return the same and change their arguments in the same way. equivalent: a function of the results of
    new and over, which replaces this comparison; False skips it.
    Raises UsageError for subjects of two kinds, or for results that cannot be compared; CheckFailed (variants)
    or AssertionError (callables) if they do not compute the same.
    """
    if isinstance(at_least, str) and at_least != BASELINE:
        raise UsageError(f"at_least '{at_least}' is not a speedup; expected a ratio such as 1.15, or '{BASELINE}'")
    if isinstance(at_least, int | float) and not 0 < at_least < np.inf:
        raise UsageError(f"at_least {at_least} is not a speedup; expected a ratio above 0, such as 1.15")
    measuring = measuring or Measuring()
    if resolution is not None:
        measuring = replace(measuring, resolution=share_of(resolution))
    procedure_for(measuring.resolution)  # raises before anything is run
    begun_s = time.monotonic()
    programs = _both_programs(new, over, arguments, step, over_step, allow_writes)
    references = None if programs is not None else _both_variants(new, over)
    if programs is not None:
        found = _programs(programs, at_least, equivalent, measuring)
    elif references is not None:
        _refuse_equivalent(equivalent)
        found = _variants(references, at_least, workload, batch, dtype, measuring)
    else:
        found = _callables(_function(new), _function(over), at_least, args, equivalent, measuring)
    return _with_budget_note(found, measuring.budget_s, time.monotonic() - begun_s)


def _with_budget_note(found: Speedup, budget_s: float | None, took_s: float) -> Speedup:
    """The speedup, with a note if its claim took longer than the budget."""
    if budget_s is None or took_s <= budget_s:
        return found
    note = (
        f"{found.new} over {found.old} took {took_s:.1f} s, and the budget is {budget_s:g} s: the budget limits how "
        f"often the measurement is repeated, but {LEAST_REPLICATES} repetitions always run (two if the effect is "
        "clear), after the check of the code"
    )
    return replace(found, notes=(*found.notes, note))


def require_equivalent(
    new: Subject,
    *,
    over: Subject,
    workload: str = DEFAULT_WORKLOAD,
    batch: int | None = None,
    dtype: str | None = None,
    args: Arguments = None,
    equivalent: Equivalent = None,
    arguments: Sequence[str] = (),
    step: str | None = None,
    over_step: str | None = None,
    allow_writes: bool = False,
    measuring: Measuring | None = None,
) -> None:
    """Do only the check of `measure_speedup`: raise CheckFailed or AssertionError unless both do the same."""
    measuring = measuring or Measuring()
    programs = _both_programs(new, over, arguments, step, over_step, allow_writes)
    if programs is not None:
        if equivalent is not False:
            require_same_training(programs, training_of(programs, measuring.environment, measuring.progress))
        return
    references = _both_variants(new, over)
    if references is None:
        require_same(_function(new), _function(over), maker_of(args), equivalent)
    else:
        _refuse_equivalent(equivalent)
        trained = resolve(workload, batch=batch)
        requests = _requests(references, trained, dtype)
        variant_race(requests, trained.batch, measuring.environment, check=True).open(measuring.progress)


def _both_programs(
    new: Subject, over: Subject, arguments: Sequence[str], step: str | None, over_step: str | None, allow_writes: bool
) -> Programs | None:
    """Both programs; None if there is none. Raises UsageError if only one is a program, or options are for programs."""
    found = [isinstance(one, str) and is_program(one) for one in (new, over)]
    if all(found):
        return Programs(str(new), str(over), tuple(arguments), step, over_step, allow_writes)
    if any(found):
        raise UsageError(f"cannot compare {new!r} with {over!r}; expected two programs: {EXPECTED}")
    if arguments or step is not None or over_step is not None or allow_writes:
        raise UsageError("arguments, step, over_step and allow_writes are for programs, such as 'train.py'")
    return None


def stored_claim(programs: Programs, measuring: Measuring) -> float:
    """What `mlpprof calibrate` stored about two programs. Raises UsageError with its command if nothing is stored."""
    environment = measuring.environment
    calibrate = programs.command("calibrate", environment)
    return claimed(measuring.baselines, programs.key(environment.threads), _machine_class(environment), calibrate)


def _programs(
    programs: Programs, at_least: float | str | None, equivalent: Equivalent, measuring: Measuring
) -> Speedup:
    environment = measuring.environment
    if callable(equivalent):
        raise UsageError("programs are compared by their parameters; equivalent can only be False, which skips that")
    return program_speedup(
        programs,
        stored_claim(programs, measuring) if isinstance(at_least, str) else at_least,
        check=measuring.check and equivalent is not False,
        environment=environment,
        budget_s=measuring.budget_s,
        progress=measuring.progress,
        procedure=procedure_for(measuring.resolution),
    )


def _both_variants(new: Subject, over: Subject) -> tuple[str, str] | None:
    """The references of old and new if both are variants, None if both are callables, else UsageError."""
    old_reference, new_reference = _variant_reference(over), _variant_reference(new)
    if old_reference is not None and new_reference is not None:
        return old_reference, new_reference
    if old_reference is not None or new_reference is not None:
        raise UsageError(f"cannot compare {new!r} with {over!r}; expected two variants or two callables")
    return None


def _function(subject: Subject) -> Callable[..., Any]:
    if isinstance(subject, str) or not callable(subject):
        raise UsageError(
            f"{subject!r} is neither a variant nor callable; expected a name, a path, a class or a function"
        )
    return subject


def assert_speedup(new: Subject, *, over: Subject, at_least: float | str = 1.0, **options: Any) -> Speedup:
    """Assert that `new` is at least `at_least` times as fast as `over`; options are those of `measure_speedup`.

    If the true speedup is `at_least` or more, this fails at most once in 1,000 runs. If it is at most `at_least / 1.1`,
    this passes at most once in 100 runs; with resolution=0.02, if it is at most `at_least / 1.02`. Raises
    AssertionError with a small table. If the machine is too noisy for an answer, it warns with InconclusiveWarning.
    """
    speedup = measure_speedup(new, over=over, at_least=at_least, **options)
    if speedup.verdict.outcome == "fail":
        raise AssertionError(speedup_table(speedup))
    if speedup.verdict.outcome == "inconclusive":
        warnings.warn(InconclusiveWarning(speedup_table(speedup)), stacklevel=2)
    return speedup


def assert_not_slower(new: Subject, *, than: Subject, tolerance: float = 0.05, **options: Any) -> Speedup:
    """Assert that `new` takes at most (1 + tolerance) times as long as `than`: a speedup of at least 1 / that."""
    return assert_speedup(new, over=than, at_least=not_slower_than(tolerance), **options)


def _variants(
    references: tuple[str, str],
    at_least: float | str | None,
    workload: str,
    batch: int | None,
    dtype: str | None,
    measuring: Measuring,
) -> Speedup:
    trained = resolve(workload, batch=batch)
    require_different_variants(*find_all(references))
    requests = _requests(references, trained, dtype)
    procedure = procedure_for(measuring.resolution)
    is_fine, environment = procedure.is_fine, measuring.environment
    live = variant_race(requests, trained.batch, environment, measuring.check, is_fine=is_fine)
    key = f"{references[0]}, {workload}, {trained.batch}, {dtype}, {environment}, {measuring.resolution}"
    null = partial(
        _null,
        key,
        partial(variant_race, [requests[0], requests[0]], trained.batch, environment, is_fine=is_fine),
        measuring,
    )
    old, new = (str(request.name) for request in requests)
    options = _options(references, workload, trained.batch, dtype, environment)
    finer = "" if measuring.resolution == RESOLUTION else f" --resolution {measuring.resolution:g}"
    claim: float | None
    if isinstance(at_least, str):
        what = claim_key(new, old, workload, trained.batch, dtype, measuring.environment.threads)
        calibrate = f"mlpprof calibrate {options}"
        claim = claimed(measuring.baselines, what, _machine_class(measuring.environment), calibrate)
    else:
        claim = at_least
    [verdict] = measure(live, measuring.progress, claim, null, measuring.budget_s, procedure)
    verdict = with_cause(verdict)
    failed = verdict.outcome == "fail"
    waterfall, counted = live.difference(measuring.progress, pairs=PAIRS) if failed else ((), ())
    return Speedup(
        new=new,
        old=old,
        subject=f"{workload}, {trained.network.text}, batch {trained.batch:,}",
        verdict=verdict,
        waterfall=waterfall,
        command=f"mlpprof compare {options}{finer}",
        notes=_null_notes(key),
        counted=counted,
    )


def _requests(references: tuple[str, str], trained: Workload, dtype: str | None) -> list[Request]:
    return [
        Request(entry.reference, trained.network, trained.source, dtype, name=entry.name)
        for entry in find_all(references)
    ]


def _callables(
    new: Callable[..., Any],
    over: Callable[..., Any],
    at_least: float | str | None,
    args: Arguments,
    equivalent: Equivalent,
    measuring: Measuring,
) -> Speedup:
    if isinstance(at_least, str):
        raise UsageError(f"at_least='{at_least}' is for variants; for functions, give a ratio such as 1.15")
    require_different_functions(over, new)
    make = maker_of(args)
    if measuring.check:
        require_same(new, over, make, equivalent)
    references = [reference_to(function) for function in (over, new)]
    make_reference = None if args is None else reference_to(make)
    importable = [reference for reference in references if reference is not None]
    procedure = procedure_for(measuring.resolution)
    if len(importable) == 2 and (args is None or make_reference is not None):
        is_fine, environment = procedure.is_fine, measuring.environment
        live: LiveRace = function_race(importable, make_reference, environment, is_fine)
        key = f"{importable[0].module}.{importable[0].qualname}, {environment}, {measuring.resolution}"
        null = partial(
            _null,
            key,
            partial(function_race, [importable[0]] * 2, make_reference, environment, is_fine),
            measuring,
        )
        [verdict] = measure(live, measuring.progress, at_least, null, measuring.budget_s, procedure)
        verdict = with_cause(verdict)
        notes = _null_notes(key)
    else:
        what = "a tuple of arguments" if isinstance(args, tuple) and len(importable) == 2 else "these callables"
        if procedure.is_fine:
            raise UsageError(
                f"the resolution {100 * procedure.share:g} % needs several processes, and a new process cannot import "
                f"{what}. Define both functions, and one that makes the arguments, at the top level of a module, or "
                f"leave the resolution at {100 * RESOLUTION:g} %"
            )
        live = LocalRace((over, new), make)
        in_process = replace(IN_PROCESS, resolution=procedure.resolution)
        [verdict] = measure(live, measuring.progress, at_least, None, measuring.budget_s, in_process)
        notes = (
            f"measured in this process alone, with wider bounds, because a new process cannot import {what}. For "
            "narrower bounds, define both functions, and one that makes the arguments, at the top level of a module",
        )
    old_name, new_name = live.race().variants
    return Speedup(new_name, old_name, "", verdict, notes=notes)


def _options(
    references: tuple[str, str], workload: str, batch: int, dtype: str | None, environment: Environment
) -> str:
    """What to type after `mlpprof compare` for the same measurement."""
    words = [*references, "--workload", workload, "--batch", str(batch)]
    words += [] if dtype is None else ["--dtype", dtype]
    words += [] if environment.threads == DEFAULT_THREADS else ["--threads", str(environment.threads or 0)]
    words += ["--native-blas"] if environment.native_blas else []
    return shlex.join(words)


@cache
def _machine_class(environment: Environment) -> str:
    """The class of this machine in a worker with this environment, which decides the kernel of the BLAS."""
    with environment.worker(()) as worker:
        return machine_class(worker.call("machine"))


def _null(key: str, make_race: Callable[[], LiveRace], measuring: Measuring) -> NullResult:
    """The measurement of a version against itself; it is made once, when a FAIL first needs it."""
    if key not in _nulls:
        _nulls[key] = measure_null(make_race(), measuring.progress, procedure_for(measuring.resolution))
    return _nulls[key]


def _null_notes(key: str) -> tuple[str, ...]:
    """The result of the noise check, if a FAIL has needed it."""
    if key not in _nulls:
        return ()
    null = _nulls[key]
    meaning = "too noisy for a FAIL" if null.biased else "quiet enough for a verdict"
    return (
        f"noise check (old compared with itself): {null.ratio:.3f} ({null.low:.3f} to {null.high:.3f}) in "
        f"{len(null.log_ratios)} processes, so this machine is {meaning}",
    )


def _variant_reference(subject: Subject) -> str | None:
    """The reference of a variant; None for a callable that is not a variant. Raises UsageError for unknown names."""
    if isinstance(subject, str):
        return find(subject).reference
    if inspect.isclass(subject) and not interface_problems(subject):
        return catalog.reference_to(subject)
    return None


def _refuse_equivalent(equivalent: Equivalent) -> None:
    """Raise UsageError, because variants are compared by their gradients and losses."""
    if equivalent is not None:
        raise UsageError("equivalent is for callables; variants are compared by their gradients and losses")
