"""From timings to log ratios, from those to an interval, and to the verdict on a claimed speedup."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from mlpprof.compare.error_bounds import (
    CLEAR_REPLICATES,
    REPLICATED,
    RESOLUTION,
    Look,
    Procedure,
    bounds,
    clear_factor,
    procedure_for,
)
from mlpprof.errors import UsageError
from mlpprof.results import Race

PSEUDO_REPLICATE_BLOCKS = 5
"""Blocks in a pseudo-replicate: enough that one or two that were disturbed do not move its median."""


def block_log_ratio(old_s: ArrayLike, new_s: ArrayLike) -> float:
    """Mean log ratio of one block, ABBA or BAAB: a drift that is linear within the block cancels.

    old_s, new_s: (2,) or any equal length, seconds. Returns log(old/new); above 0, new is faster.
    Raises ValueError if the lengths differ or a time is not positive and finite.
    """
    old = _finite(old_s, "times of old")
    new = _finite(new_s, "times of new")
    if old.shape != new.shape:
        raise ValueError(f"{old.size} times of old but {new.size} of new; a block has as many of each")
    if min(old.min(), new.min()) <= 0:
        raise ValueError(f"a time is {min(old.min(), new.min())} s; expected positive times")
    return float(np.mean(np.log(old) - np.log(new)))


def block_log_ratios(turns_s: NDArray[np.float64], old: int = 0, new: int = 1) -> list[float]:
    """The log ratios of one process's blocks for a pair of entrants, from its turns (blocks, entrants, 2).

    A block in which one of the two did not take part is left out.
    """
    return [block_log_ratio(*pair) for pair in turns_s[:, [old, new]] if not np.isnan(pair).any()]


def replicate_log_ratio(log_ratios: ArrayLike) -> float:
    """Median of a replicate's blocks, (n_blocks,): a few disturbed blocks do not move it.

    Raises ValueError if there is none or one is not finite.
    """
    return float(np.median(_finite(log_ratios, "log ratios of blocks")))


def log_ratios(race: Race, old: int = 0, new: int = 1) -> NDArray[np.float64]:
    """The log ratios of old over new in the replicates of a race, (replicates,): each is the median of its blocks."""
    return np.array([replicate_log_ratio(block_log_ratios(turns_s, old, new)) for turns_s in race.turns_s])


def pseudo_replicates(log_ratios: ArrayLike, size: int = PSEUDO_REPLICATE_BLOCKS) -> NDArray[np.float64]:
    """Medians of groups of `size` consecutive blocks of one process, (n_blocks // size,); a rest is left out.

    Neighbours share a group, so that a correlation over a few blocks stays within one group (the method of batch
    means). Decide on them with the procedure IN_PROCESS. Raises ValueError if a block is not finite or none fills a
    group.
    """
    blocks = _finite(log_ratios, "log ratios of blocks")
    count = len(blocks) // size
    if count == 0:
        raise ValueError(f"{len(blocks)} blocks do not fill a group of {size}")
    medians: NDArray[np.float64] = np.median(blocks[: count * size].reshape(count, size), axis=1)
    return medians


def interval(log_ratios: ArrayLike, level: float = 0.95, procedure: Procedure = REPLICATED) -> tuple[float, float]:
    """Confidence interval of the speedup, as ratios (low, high), from the log ratios of replicates (n,).

    It uses Student's t, and never takes the standard deviation below the procedure's floor. In one process it is wider
    by what cannot be seen between processes; half of the error goes to each. It does not include a bias of the whole
    run: a run that is biased by 3 % shifts the whole interval, and only the verdicts allow for that. It is not
    corrected for the look at which a run stopped. Raises ValueError for fewer than 2 replicates, values not finite, or
    a level not in (0, 1).
    """
    x = replicates_of(log_ratios)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a probability between 0 and 1")
    margin = float(interval_margin(x.std(ddof=1), len(x), level, procedure))
    mean = float(x.mean())
    return math.exp(mean - margin), math.exp(mean + margin)


def interval_margin(
    sd: ArrayLike, n: int, level: float = 0.95, procedure: Procedure = REPLICATED
) -> NDArray[np.float64]:
    """Half the width, in logarithms, of the interval of n replicates with a standard deviation; for many at once."""
    tail = (1 - level) / 2
    process_margin = 0.0
    if procedure.process_sd > 0:
        tail /= 2
        process_margin = procedure.process_sd * float(-ndtri(tail))
    margin: NDArray[np.float64] = np.maximum(sd, procedure.sd_floor) * (-stdtrit(n - 1, tail) / math.sqrt(n))
    return margin + process_margin


def replicates_of(log_ratios: ArrayLike) -> NDArray[np.float64]:
    """The log ratios of replicates as an array (n,); raises ValueError for fewer than 2 or values not finite."""
    x = _finite(log_ratios, "log ratios of replicates")
    if len(x) < 2:
        raise ValueError("1 replicate shows no scatter; run at least 2")
    return x


def _finite(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array: NDArray[Any] = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{what} have the shape {array.shape}; expected (n,) with n of at least 1")
    wrong = array[~np.isfinite(array)]
    if wrong.size:
        raise ValueError(f"{wrong.size} of {array.size} {what} are not finite ({wrong[0]})")
    return array


class Outcome(StrEnum):
    """The answer of a decision; CONTINUE asks for the replicates of the next look."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    CONTINUE = "continue"


@dataclass(frozen=True)
class Decision:
    """A decision and its reasons; a ratio is the old time divided by the new one, above 1 new is faster.

    outcome: None if nothing was claimed. estimate: geometric mean of the replicates. low, high: its 95 % interval (see
    `interval`). at_least: the claim. reason: one sentence. null: the A/A race that was taken into account. is_final: it
    was decided for good, at no look.
    """

    outcome: Outcome | None
    estimate: float
    low: float
    high: float
    replicates: int
    at_least: float | None
    reason: str
    null: NullResult | None = None
    is_final: bool = False


@dataclass(frozen=True)
class NullResult:
    """The result of racing the same code against itself: a ratio that should be 1, its 95 % interval, and the bias.

    log_ratios: of the replicates.
    """

    biased: bool
    ratio: float
    low: float
    high: float
    log_ratios: tuple[float, ...]

    @property
    def worst(self) -> float:
        """The largest bias that the interval allows, as a ratio of 1 or more."""
        return max(self.high, 1 / self.low)


def not_slower_than(tolerance: float) -> float:
    """The at_least that `assert_not_slower(tolerance)` claims: 1 / (1 + tolerance).

    New may take up to 1 + tolerance times as long as old. As with every claim, a PASS certifies a tenth less.
    Raises UsageError if the tolerance is negative or not finite.
    """
    if not 0 <= tolerance < math.inf:
        raise UsageError(f"tolerance is {tolerance}; expected 0 or more, such as 0.05 for 5 % slower")
    return 1 / (1 + tolerance)


def null_bias(log_ratios: ArrayLike, procedure: Procedure = REPLICATED) -> NullResult:
    """Whether a run whose old and new are the same code is biased by more than the tolerance, from replicates (n,).

    It counts as biased if the whole 95 % interval lies beyond the tolerated bias on one side. This happens in 2.5 % of
    the sessions that are biased by exactly the tolerance, and more rarely if they are biased less. The price is a FAIL
    that becomes INCONCLUSIVE, and never a false FAIL.
    Raises ValueError as `interval` does.
    """
    x = replicates_of(log_ratios)
    low, high = interval(x, procedure=procedure)
    biased = low > procedure.bias or high < 1 / procedure.bias
    return NullResult(biased, math.exp(x.mean()), low, high, tuple(x.tolist()))


def decide(
    log_ratios: ArrayLike,
    at_least: float | None = None,
    procedure: Procedure = REPLICATED,
    *,
    null: NullResult | None = None,
    final: bool = False,
) -> Decision:
    """The decision on the claim that the true speedup is `at_least`, from the log ratios of all replicates so far (n,).

    This is guaranteed: if the true speedup is at least `at_least`, P(FAIL) <= 0.001; if it is at most `at_least /
    procedure.resolution`, P(PASS) <= 0.01; as long as the standard deviation of replicates is at most 1.5 % and the
    run's bias at most `procedure.bias` (`mlpprof.compare.error_bounds` derives it; single timings may vary by 25 % and
    more, as long as the replicates do not).

    It decides at the procedure's looks, and before them what is clear; otherwise it answers CONTINUE. With `final`
    there will be no more replicates: it decides with the bounds for the replicates that there are, and what is
    undecided is INCONCLUSIVE.
    Without at_least there are only estimate and interval.
    Under a biased null a FAIL becomes INCONCLUSIVE, and a PASS must hold for the largest bias that the null allows.
    Raises ValueError for fewer than 2 replicates, more than the last look's, or values that are not finite;
    UsageError if at_least is not positive and finite.
    """
    x = replicates_of(log_ratios)
    n = len(x)
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    low, high = interval(x, procedure=procedure)

    def decision(outcome: Outcome | None, reason: str) -> Decision:
        return Decision(outcome, math.exp(mean), low, high, n, at_least, reason, null, final)

    if at_least is None:
        return decision(None, "no claim was made")
    if not 0 < at_least < math.inf:
        raise UsageError(f"at_least is {at_least}; expected a ratio above 0, such as 1.15")
    if n > procedure.looks[-1]:
        raise ValueError(f"{n} replicates; the procedure ends at {procedure.looks[-1]}")

    clear = clear_outcome(x, at_least, procedure)
    if clear is not None:
        return decision(clear, _figures(at_least, mean, low, high, procedure))
    look = next((look for look in bounds(procedure, n if final else None) if look.replicates == n), None)
    certified = at_least / procedure.resolution
    figures = _figures(at_least, mean, low, high, procedure)
    if look is not None and _fails(look, mean, sd, at_least, procedure):
        if null is not None and null.biased:
            return decision(Outcome.INCONCLUSIVE, f"{figures}, but {_biased(null)}")
        return decision(Outcome.FAIL, figures)
    if look is not None and _passes(look, mean, sd, certified, procedure.bias):
        if null is None or not null.biased:
            return decision(Outcome.PASS, figures)
        if _passes(look, mean, sd, certified, null.worst):
            return decision(Outcome.PASS, f"{figures}, although {_biased(null)}")
    following = procedure.next_look(n)
    if following is not None and not final:
        return decision(Outcome.CONTINUE, f"undecided after {n} replicates; the next look is at {following}")
    scatter = f"{n} replicates, which scatter by {100 * sd:.1f} %"
    reason = f"undecided{_at(procedure)} after {scatter}"
    if low > at_least or high < certified:
        where = f"above {_plain(at_least)}x" if low > at_least else f"below {_plain(certified)}x"
        reason = f"the 95 % interval lies {where}, but {scatter}, are too few to be certain{_at(procedure)}"
    if null is not None and null.biased:
        return decision(Outcome.INCONCLUSIVE, f"{reason}; {_biased(null)}")
    return decision(Outcome.INCONCLUSIVE, f"{reason}; {_what_decides(n, mean, sd, at_least, procedure)}")


def clear_outcome(log_ratios: ArrayLike, at_least: float, procedure: Procedure = REPLICATED) -> Outcome | None:
    """PASS or FAIL where few replicates, (n,), are so far from the claim that they are enough; else None.

    Their interval must lie beyond the claim too: on a machine where they scatter much, they are not.
    """
    x = replicates_of(log_ratios)
    if len(x) not in CLEAR_REPLICATES:
        return None
    low, high = interval(x, procedure=procedure)
    factor = clear_factor(len(x))
    if high < at_least and x.max() < math.log(at_least / procedure.bias / factor):
        return Outcome.FAIL
    if low > at_least and x.min() > math.log(at_least / procedure.resolution * procedure.bias * factor):
        return Outcome.PASS
    return None


def expected_replicates(log_ratios: ArrayLike, at_least: float, procedure: Procedure = REPLICATED) -> int | None:
    """How many replicates the claim takes if further ones are like these (n,); None if the last look is not enough."""
    x = replicates_of(log_ratios)
    if clear_outcome(x, at_least, procedure) is not None:
        return len(x)
    mean, sd = float(x.mean()), float(x.std(ddof=1))
    return next((look.replicates for look in bounds(procedure) if _decides(look, mean, sd, at_least, procedure)), None)


def _decides(look: Look, mean: float, sd: float, at_least: float, procedure: Procedure) -> bool:
    certified = at_least / procedure.resolution
    return _fails(look, mean, sd, at_least, procedure) or _passes(look, mean, sd, certified, procedure.bias)


def _what_decides(n: int, mean: float, sd: float, at_least: float, procedure: Procedure) -> str:
    """What would decide a claim that is undecided after n replicates."""
    looks = bounds(procedure)
    enough = next(
        (look for look in looks if look.replicates > n and _decides(look, mean, sd, at_least, procedure)), None
    )
    if enough is not None:
        return f"{enough.replicates} like these would decide it"
    ways = []
    last = looks[-1]
    distances = (
        math.log(at_least / procedure.bias) - mean,
        mean - math.log(at_least / procedure.resolution * procedure.bias),
    )
    quiet_sd = max(bound.largest_sd(one) for bound, one in zip((last.failing, last.passing), distances, strict=True))
    if quiet_sd > 0:
        ways.append(f"{last.replicates} that scatter by at most {100 * quiet_sd:.1f} %, as on a quieter machine,")
    if procedure.process_sd > 0:
        ways.append("functions that a new process can import")
    else:
        coarser = (procedure_for(share) for share in (0.02, 0.05, RESOLUTION, 0.2, 0.5) if share > procedure.share)
        found = next((one for one in coarser if _decides(bounds(one)[-1], mean, sd, at_least, one)), None)
        if found is not None:
            ways.append(f"the resolution {100 * found.share:g} %")
    return f"{' or '.join(ways)} would decide it" if ways else "the machine is too noisy for this claim"


def _figures(at_least: float, mean: float, low: float, high: float, procedure: Procedure) -> str:
    # the ends of a narrow interval get as many digits as it takes to see that they differ
    n = next((n for n in (3, 4, 5) if _plain(low, n) != _plain(high, n)), 3)
    interval = f"(95 %: {_plain(low, n)}-{_plain(high, n)})"
    return f"required {_plain(at_least)}x{_at(procedure)}, measured {_plain(math.exp(mean), n)}x {interval}"


def _at(procedure: Procedure) -> str:
    """The resolution, unless it is the default."""
    return "" if procedure.share == RESOLUTION else f" at a resolution of {100 * procedure.share:g} %"


def _fails(look: Look, mean: float, sd: float, at_least: float, procedure: Procedure) -> bool:
    return bool(mean + look.failing.margin(sd) < math.log(at_least / procedure.bias))


def _passes(look: Look, mean: float, sd: float, certified: float, bias: float) -> bool:
    return bool(mean - look.passing.margin(sd) > math.log(certified * bias))


def _biased(null: NullResult) -> str:
    return f"old against old measured {null.ratio:.3f} ({null.low:.3f} to {null.high:.3f}) instead of 1"


def _plain(ratio: float, n: int = 3) -> str:
    """So many digits, without zeros at the end: '1.15', '43', '1,200'."""
    return f"{ratio:.{n}g}" if ratio < 999.5 else f"{ratio:,.0f}" if ratio < 1e6 else f"{ratio:.2g}"
