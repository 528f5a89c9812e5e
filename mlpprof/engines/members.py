"""How many workers or ranks share a step, as --workers, --ranks and the environment set it. Loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping

from mlpprof.errors import UsageError

WORKERS_VARIABLE = "MLPPROF_WORKERS"
RANKS_VARIABLE = "MLPPROF_RANKS"

MEMBERS = {WORKERS_VARIABLE: "workers", RANKS_VARIABLE: "ranks"}


def members_wanted(environment: Mapping[str, str], variable: str, otherwise: int) -> int:
    """The number in a variable of MEMBERS, or `otherwise` where it is not set.

    Raises UsageError if the variable holds anything but a whole number from 1.
    """
    text = environment.get(variable, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise UsageError(f"{variable}={text}: expected a whole number of {MEMBERS[variable]}, 1 or more")
    return int(text)
