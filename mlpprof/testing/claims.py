"""What a test does with the fixture `speedup`; nothing heavy is loaded before a test claims something."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mlpprof.results import Speedup
    from mlpprof.testing.speedup import Measuring

CLAIMS = pytest.StashKey[list[dict[str, Any]]]()
"""Of a test: its claims so far, as plain JSON, so that xdist can carry them."""
XDIST_GROUP = "mlpprof"
"""The group of all timing tests under `--dist loadgroup`."""
NOT_TIMED = "only correctness was checked: under xdist, timing tests need --dist loadgroup or -n 0"


class SpeedupClaims:
    """Each call is one claim, decided at once."""

    def __init__(self, node: pytest.Item) -> None:
        self._config = node.config
        self._node = node

    def __call__(self, new: Any, *, over: Any, at_least: float | str = 1.0, **options: Any) -> Speedup | None:
        """Claim that `new` is at_least times as fast as `over`; options as for mlpprof.testing.measure_speedup.

        Returns what was measured, or None where only correctness was checked. Fails the test with a small table.
        """
        __tracebackhide__ = True
        if option(self._config, "skip", False):
            pytest.skip("--mlpprof-skip")
        from mlpprof.errors import MlpprofError
        from mlpprof.testing.speedup import measure_speedup, require_equivalent

        try:
            if is_crowded(self._node):
                require_equivalent(new, over=over, measuring=self._measuring(), **options)
                self._not_timed(new, over, at_least)
                return None
            speedup = measure_speedup(new, over=over, at_least=at_least, measuring=self._measuring(), **options)
        except (MlpprofError, AssertionError) as error:
            raise pytest.fail.Exception(f"mlpprof: {error}", pytrace=False) from None
        except TypeError as error:
            if "unexpected keyword argument" not in str(error) or "measure_speedup" not in str(error):
                raise
            pytest.fail(f"mlpprof: {error}", pytrace=False)
        self._judge(speedup)
        return speedup

    def not_slower(self, new: Any, *, than: Any, tolerance: float = 0.05, **options: Any) -> Speedup | None:
        """Claim that `new` takes at most (1 + tolerance) times as long as `than`."""
        __tracebackhide__ = True
        from mlpprof.errors import UsageError
        from mlpprof.stats import not_slower_than

        try:
            at_least = not_slower_than(tolerance)
        except UsageError as error:
            pytest.fail(f"mlpprof: {error}", pytrace=False)
        return self(new, over=than, at_least=at_least, **options)

    def _judge(self, speedup: Speedup) -> None:
        __tracebackhide__ = True
        from mlpprof.report.export.speedup_json import speedup_json
        from mlpprof.report.speedup_table import speedup_table

        self._record(speedup_json(speedup))
        outcome = speedup.verdict.outcome
        table = speedup_table(speedup)
        action = option(self._config, "inconclusive", "warn")
        if outcome == "fail" or (outcome == "inconclusive" and action == "fail"):
            pytest.fail(table, pytrace=False)
        if outcome == "inconclusive" and action == "skip":
            pytest.skip(table)
        if outcome == "inconclusive":
            self._warn(table)

    def _not_timed(self, new: Any, over: Any, at_least: float | str) -> None:
        names = (str(getattr(subject, "__qualname__", subject)) for subject in (new, over))
        claim = dict(zip(("new", "old"), names, strict=True))
        self._record(
            {
                **claim,
                "subject": "",
                "at_least": None if isinstance(at_least, str) else at_least,
                "ratio": None,
                "interval": None,
                "verdict": None,
                "reason": NOT_TIMED,
                "processes": 0,
                "in_process": False,
                "phases": {},
                "command": "",
                "notes": [],
            }
        )
        self._warn(f"{claim['new']} over {claim['old']}: {NOT_TIMED}")

    def _record(self, claim: dict[str, Any]) -> None:
        self._node.stash.setdefault(CLAIMS, []).append({"test": self._node.nodeid, **claim})
        low, high = claim["interval"] or (None, None)
        for name, value in (
            *(("new", claim["new"]), ("old", claim["old"]), ("claimed", claim["at_least"])),
            *(("ratio", claim["ratio"]), ("low", low), ("high", high)),
            *(("processes", claim["processes"]), ("verdict", claim["verdict"] or "not timed")),
        ):
            self._node.user_properties.append((f"mlpprof_{name}", value))

    def _warn(self, message: str) -> None:
        from mlpprof.testing.speedup import InconclusiveWarning

        warnings.warn(InconclusiveWarning(message), stacklevel=4)

    def _measuring(self) -> Measuring:
        from mlpprof.measure.racers import Environment
        from mlpprof.testing.baseline import DEFAULT_FILE
        from mlpprof.testing.speedup import Measuring

        budget = option(self._config, "budget", None)
        threads = int(option(self._config, "threads", 1)) or None
        environment = Environment(threads, bool(option(self._config, "native_blas", False)))
        baselines = self._config.rootpath / Path(str(option(self._config, "baselines", DEFAULT_FILE)))
        return Measuring(environment, None if budget is None else float(budget), baselines=baselines)


def option(config: pytest.Config, name: str, default: Any) -> Any:
    """The command line's value, else the ini file's, else the default."""
    value = config.getoption(f"mlpprof_{name}")
    if value is None:
        value = config.getini(f"mlpprof_{name}")
    return default if value in (None, "") else value


def is_crowded(node: pytest.Item) -> bool:
    """Whether several xdist workers run, and this test is not in the group that is held to one of them.

    Seen by the suffix that xdist gives to such a test, because some versions of pytest and xdist together ignore
    groups without a word.
    """
    several = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
    return several and not node.nodeid.endswith(f"@{XDIST_GROUP}")
