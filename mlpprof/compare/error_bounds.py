"""The bounds of the verdicts: which margin lets a mean of n log ratios be a FAIL or a PASS, and why.

This is guaranteed: a true speedup of at least `at_least` FAILs with probability at most `false_fail` (0.1 %), and one
of at most `at_least / resolution` (by default 10 % less) PASSes with probability at most `missed` (1 %), over all looks
together. In between either may come: a PASS certifies `at_least / resolution`. This holds while replicates are
independent, their standard deviation is at most 1.5 %, whatever their distribution, and what the run's replicates have
in common is off by at most `bias` (3 %). Where they scatter more it still holds if they are roughly normal.

With x the mean and s the standard deviation of n log ratios, T = log(at_least), R = log(resolution), D = log(bias):

    FAIL    x + margin < T - D              tests "true speedup >= at_least, the run biased against it by D"
    PASS    x - margin > T - R + D          tests "true speedup <= at_least / resolution, biased in its favour by D"
    margin  max(t_k max(s, sd_floor), z_k shape_sd) / sqrt(n)

Both can be met at once for a true speedup in between; then the answer is FAIL, because the claim was `at_least`.

Spending. Each of the two budgets is spent over the looks in proportion to the replicates, as Lan and DeMets's linear
spending function does: a look at n_k of n_K replicates spends (n_k - n_(k-1)) / n_K of it; a quarter, 0.15, 0.2 and 0.4
for 5, 8, 12 and 20. t_k and z_k are the one-sided quantiles at that level of Student's t with n_k - 1 degrees of
freedom and of the normal distribution. By Boole's inequality the looks' levels add up to no more than the budget
whatever their correlation. The exact joint distribution of the t statistics would return little of what that gives
away, because levels this small hardly overlap (normal replicates of 3 % really use 80 to 90 % of the budgets), and
would hold for normal data only. FAIL and PASS each have their whole budget and do not rely on the other to stop first
("non-binding"), so a run may be ended early for any reason, and looks may be left out.

A run that ends before its last look, because its time is spent, is decided at the replicates that there are: this look
spends all that the looks before it have left of the budget, because no look follows. When a run ends must not depend on
the ratios that it measured; it depends on the clock alone. With 3 or 4 replicates t is large all the same. Student's t
gets all of that level. The margin z_k shape_sd below keeps the level of a look that is not the last, with a deviation
that is larger by EARLY_SHAPE, so that the errors stay within the budgets for two-valued distributions too (a test
computes them).

Why z_k shape_sd: at levels of 1e-4 a t statistic of 5 replicates stands on the normal distribution alone. Processes
fall into modes (a memory layout, a huge page or not); five that by chance all fall into the same one show no scatter
at all, and the plain t bound is then wrong 4 times in 100 instead of 1, for skewed mixtures 28 times. The margin of a
normal mean with known deviation cures that: with shape_sd 1.75 % the error stays within the budget for every
two-valued distribution of deviation up to 1.5 %, the least favourable kind (a test computes it exactly: at most 0.53 %
and 0.07 %), and costs little, since the margins are small against R - 2 D.

Finer resolutions. With R = 2 % there is no room for a tolerance of 3 %, and none is needed for what `placement` leaves
to chance: where arrays lie is drawn anew for every instance, and the environment and the hash seed for every process.
Such an effect is no bias of the run any more, but a part of the scatter, and z_k shape_sd / sqrt(n) covers it: with 5
processes by 2.5 %, with 20 by 1.3 %, with 80 by 0.6 %. Only what no draw reaches is left to D. Below 10 % it is 15 % of
log(resolution), 0.3 % for a resolution of 2 %; the study reports/verdicts/bias.md shows what it has to cover. The last
look is the first of LOOKS at which a true speedup of just `at_least` is decided although processes scatter by 4 %; the
looks before it are the same for every resolution. The floor of the deviation gives an interval of 5 processes that is
no narrower than D.

Clear effects. With few replicates t is so large that even an obvious effect is undecided. So a run of 2, 3 or 4
replicates also ends if all of them lie beyond the limit of a verdict, on the same side, by `clear_factor` (2.4, 1.5 and
1.4), and their 95 % interval lies beyond the claim. A run of 2 is always examined for this; one of 3 or 4 only if its
budget of time ends there, or if a look is planned there. The probability that n independent replicates all err so far
is at most 1e-5, a hundredth of the smaller budget, if their standard deviation is at most 5 %, whatever their
distribution (by Cantelli's inequality it is at most (s^2 / (s^2 + log(factor)^2))^n), or at most 20 %, if they are
roughly normal. This holds for each number of replicates at which it is examined, and comes on top of the budgets. With
the default looks a run is examined at 2, and at 3 or 4, so a false FAIL has a probability of at most 0.102 % in all.
Replicates within one process are not independent, so that the 1e-5 does not hold for them. No null is measured for a
clear effect: a run whose same code differs by that factor is useless.

In one process (`process_sd` > 0) all pseudo-replicates share one draw of what differs between processes, which cannot
be seen. It is taken as normal with that deviation: half of each budget pays for its quantile, which is added to the
margin once, and the other half is spent over the looks.

Sources: Lan and DeMets, Biometrika 70 (1983) 659-663; Slud and Wei, JASA 77 (1982) 862-868 (a level for each look);
Jennison and Turnbull, Group Sequential Methods (2000), chapters 7 (spending) and 9 (bounds that need no stopping).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from mlpprof.errors import UsageError


@dataclass(frozen=True)
class Procedure:
    """The constants of the verdicts; deviations are of log ratios, so 0.004 is 0.4 %.

    looks: numbers of replicates at which to decide. false_fail, missed: error budgets over all looks together.
    resolution: the factor by which a PASS certifies less than at_least. bias: tolerated run-level bias, as a ratio.
    sd_floor: the sample's standard deviation is never taken below it. shape_sd: the deviation of the normal margin.
    process_sd: deviation between processes that the replicates do not show; 0 where each is a process of its own.
    Raises ValueError if the looks do not ascend from 2 on, or if there is no room between the two bias tolerances.
    """

    looks: tuple[int, ...] = (5, 8, 12, 20)
    false_fail: float = 0.001
    missed: float = 0.01
    resolution: float = 1.10
    bias: float = 1.03
    sd_floor: float = 0.004
    shape_sd: float = 0.0175
    process_sd: float = 0.0

    def __post_init__(self) -> None:
        if not self.looks or any(n >= m for n, m in pairwise((1, *self.looks))):
            raise ValueError(f"looks are {self.looks}; expected ascending numbers of at least 2 replicates")
        if not 1 <= self.bias**2 < self.resolution:
            raise ValueError(f"bias {self.bias} twice leaves nothing of the resolution {self.resolution}")

    @property
    def share(self) -> float:
        """The resolution as a share, as `procedure_for` takes it: 0.02 for 1.02."""
        return round(self.resolution - 1, 9)

    @property
    def is_fine(self) -> bool:
        """Whether the resolution is finer than 10 %, so that the places of arrays have to be drawn anew."""
        return self.share < RESOLUTION

    def next_look(self, replicates: int) -> int | None:
        """Replicates at the first look that needs more than these; None after the last."""
        return next((n for n in self.looks if n > replicates), None)


REPLICATED = Procedure()
"""The procedure for replicates that are processes, or sets of processes, of their own."""

IN_PROCESS = Procedure(process_sd=0.015)
"""The procedure for pseudo-replicates from one process.

What differs between processes is unseen there; it is taken to be as large as the largest that the guarantee covers.
"""


RESOLUTION = 0.10
"""The default resolution, as a share."""
FINEST, COARSEST = 0.01, 0.5
LOOKS = (*REPLICATED.looks, 32, 50, 80, 125, 200, 320)
"""The looks of finer procedures, up to their last one; each is about 1.6 times the one before."""
BIAS_SHARE = 0.15
"""Finer procedures tolerate a bias of this share of their resolution, in logarithms."""
DECIDED_SD = 0.04
"""If processes scatter by no more than this, a true speedup of exactly `at_least` is decided at the last look."""
EARLY_SHAPE = 1.2
"""If a run ends early because its time is spent, the deviation in the normal margin is multiplied by this factor."""
CLEAR_REPLICATES = (2, 3, 4)
"""So few replicates decide if all of them lie beyond the limit by `clear_factor`; with more, the bounds are small."""
CLEAR_LEVEL = 1e-5
"""The probability that all of them err by that factor, with the largest deviations below."""
CLEAR_SD, CLEAR_NORMAL_SD = 0.05, 0.20
"""The largest standard deviation for which this holds whatever the distribution, and if it is roughly normal."""


@cache
def procedure_for(resolution: float) -> Procedure:
    """The procedure for a resolution, as a share: 0.02 for 2 %.

    Raises UsageError if it is not between 1 and 50 %.
    """
    if not FINEST <= resolution <= COARSEST:
        raise UsageError(
            f"the resolution is {100 * resolution:g} %; expected {100 * FINEST:g} to {100 * COARSEST:g} %, such as "
            f"2 %, which is 0.02. A finer resolution takes more time (default: {100 * RESOLUTION:g} %)"
        )
    if resolution >= RESOLUTION:
        return REPLICATED if resolution == RESOLUTION else replace(REPLICATED, resolution=1 + resolution)
    tolerated = BIAS_SHARE * math.log1p(resolution)
    first = LOOKS[0]
    sd_floor = min(REPLICATED.sd_floor, tolerated * math.sqrt(first) / float(-stdtrit(first - 1, 0.025)))
    for last in range(len(REPLICATED.looks), len(LOOKS) + 1):
        looks = LOOKS[:last]
        procedure = Procedure(looks, resolution=1 + resolution, bias=math.exp(tolerated), sd_floor=sd_floor)
        if bounds(procedure)[-1].failing.margin(DECIDED_SD) <= math.log1p(resolution) - tolerated:
            break
    return procedure


@cache
def clear_factor(replicates: int) -> float:
    """The factor by which all of so many replicates must lie beyond the limit of a verdict, to decide alone."""
    one_errs = CLEAR_LEVEL ** (1 / replicates)
    return math.exp(max(CLEAR_SD * math.sqrt(1 / one_errs - 1), CLEAR_NORMAL_SD * float(-ndtri(one_errs))))


@dataclass(frozen=True)
class Bound:
    """One bound at one look: a one-sided level and its quantiles of Student's t and of the normal distribution."""

    replicates: int
    level: float
    t: float
    z: float
    sd_floor: float
    shape_sd: float
    process_margin: float

    def margin(self, sd: ArrayLike) -> NDArray[np.float64]:
        """How far a mean log ratio must lie beyond its limit; sd: standard deviation of the replicates, any shape."""
        scatter = np.maximum(self.t * np.maximum(sd, self.sd_floor), self.z * self.shape_sd)
        margin: NDArray[np.float64] = scatter / math.sqrt(self.replicates) + self.process_margin
        return margin

    def largest_sd(self, distance: float) -> float:
        """The largest deviation of the replicates whose margin is within this distance; 0 if there is none."""
        if float(self.margin(0.0)) >= distance:
            return 0.0
        return (distance - self.process_margin) * math.sqrt(self.replicates) / self.t


@dataclass(frozen=True)
class Look:
    """The two bounds at one number of replicates: `failing` for a FAIL, `passing` for a PASS."""

    replicates: int
    failing: Bound
    passing: Bound


@cache
def bounds(procedure: Procedure, ended_after: int | None = None) -> tuple[Look, ...]:
    """The bounds at every look, computed once for each procedure.

    ended_after: for a run that ends after so many replicates (at most the last look's), which is then its last look.
    """
    looks = procedure.looks if ended_after is None else (*(n for n in procedure.looks if n < ended_after), ended_after)
    return tuple(
        Look(
            n, *(_bound(procedure, budget, before, n, looks[-1]) for budget in (procedure.false_fail, procedure.missed))
        )
        for before, n in pairwise((0, *looks))
    )


def _bound(procedure: Procedure, budget: float, before: int, replicates: int, last: int) -> Bound:
    """The bound at one look. before: replicates at the look before; last: those at the last look of the run."""
    process_margin = 0.0
    if procedure.process_sd > 0:
        budget /= 2
        process_margin = procedure.process_sd * float(-ndtri(budget))
    planned = procedure.looks[-1]
    share = budget * (replicates - before) / planned
    level = budget * (planned - before) / planned if replicates == last else share
    is_early = replicates == last < planned
    return Bound(
        replicates=replicates,
        level=level,
        t=float(-stdtrit(replicates - 1, level)),
        z=float(-ndtri(share)),
        sd_floor=procedure.sd_floor,
        shape_sd=procedure.shape_sd * (EARLY_SHAPE if is_early else 1.0),
        process_margin=process_margin,
    )
