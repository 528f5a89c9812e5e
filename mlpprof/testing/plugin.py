"""The pytest plugin: fixture `speedup`, marker `@pytest.mark.speedup`, and a summary at the end of the run.

Only pytest is imported here; everything else when a test first asks for a speedup. Under xdist the workers disturb
each other, so with more than one of them only correctness is checked, and a warning says so.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mlpprof.results import Speedup
    from mlpprof.testing.speedup import Measuring

INCONCLUSIVE = ("warn", "fail", "skip")
MARKER = (
    "speedup(over, new=None, at_least=1.0, **options): measure before the test's body that `new` (a variant or a "
    "callable; None: the test's own function, which then takes no fixtures) is so many times as fast as `over`"
)
OUTCOMES = pytest.StashKey[list[tuple[str, str, str, str]]]()
"""Of every measured claim: test, claim, measurement, outcome."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options --mlpprof-* and the ini keys mlpprof_*; the command line wins."""
    group = parser.getgroup("mlpprof", "speedups (mlpprof)")
    group.addoption("--mlpprof-skip", action="store_true", help="skip tests at the point where they measure a speedup")
    for name, kind, text in (
        ("budget", float, "seconds for one claim; what is undecided then is inconclusive"),
        ("inconclusive", str, f"what an undecided claim does: {', '.join(INCONCLUSIVE)} (default: warn)"),
        ("threads", int, "BLAS threads of the measuring processes (default: 1; 0 leaves it to the BLAS)"),
        ("baselines", str, 'file of at_least="baseline" (default: mlpprof-baselines.toml in the root folder)'),
    ):
        group.addoption(f"--mlpprof-{name}", type=kind, default=None, help=text)
        parser.addini(f"mlpprof_{name}", text, default=None)
    native = "clear what pins the BLAS kernel (OPENBLAS_CORETYPE, ...) in the measuring processes"
    group.addoption("--mlpprof-native-blas", action="store_true", default=None, help=native)
    parser.addini("mlpprof_native_blas", native, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Tell the marker, and refuse options that cannot be meant."""
    config.addinivalue_line("markers", MARKER)
    config.stash[OUTCOMES] = []
    if _option(config, "inconclusive", "warn") not in INCONCLUSIVE:
        found = _option(config, "inconclusive", "warn")
        raise pytest.UsageError(f"mlpprof inconclusive is '{found}'; expected one of {', '.join(INCONCLUSIVE)}")
    for name, convert in (("budget", float), ("threads", int)):
        value = _option(config, name, "1")
        try:
            convert(value)
        except ValueError as error:
            raise pytest.UsageError(f"mlpprof {name} is '{value}'; expected a number") from error


@pytest.fixture(name="speedup")
def speedup_fixture(request: pytest.FixtureRequest) -> SpeedupClaims:
    """Call it as speedup(new, over=old, at_least=1.15, ...), or speedup.not_slower(new, than=old)."""
    return SpeedupClaims(request.config, request.node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Claims of `@pytest.mark.speedup` are decided before the body runs."""
    for marker in item.iter_markers("speedup"):
        options = dict(marker.kwargs)
        if marker.args or "over" not in options:
            pytest.fail("@pytest.mark.speedup takes keywords, over= among them: " + MARKER, pytrace=False)
        new = options.pop("new", None)
        if new is None:
            new = getattr(item, "obj", None)
            if getattr(item, "funcargs", None):
                pytest.fail("@pytest.mark.speedup without new= measures the test itself, which takes no fixtures then")
        SpeedupClaims(item.config, item)(new, **options)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """A line for every claim of the session."""
    rows = config.stash[OUTCOMES]
    if not rows:
        return
    terminalreporter.section("speedups (mlpprof)")
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


class SpeedupClaims:
    """What a test does with the fixture: each call is one claim, decided at once."""

    def __init__(self, config: pytest.Config, node: pytest.Item) -> None:
        self._config = config
        self._node = node

    def __call__(self, new: Any, *, over: Any, at_least: float | str = 1.0, **options: Any) -> Speedup | None:
        """Claim that `new` is at_least times as fast as `over`; options as for mlpprof.testing.measure_speedup.

        Returns what was measured, or None where only correctness was checked. Fails the test with a small table.
        """
        __tracebackhide__ = True
        if self._config.getoption("mlpprof_skip"):
            pytest.skip("--mlpprof-skip")
        from mlpprof.errors import MlpprofError
        from mlpprof.testing.speedup import measure_speedup, require_equivalent

        try:
            if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
                require_equivalent(new, over=over, measuring=self._measuring(), **options)
                self._warn("under xdist with several workers only correctness was checked; use -n 0 to measure")
                return None
            speedup = measure_speedup(new, over=over, at_least=at_least, measuring=self._measuring(), **options)
        except MlpprofError as error:
            pytest.fail(f"mlpprof: {error}", pytrace=False)
        self._judge(speedup)
        return speedup

    def not_slower(self, new: Any, *, than: Any, tolerance: float = 0.05, **options: Any) -> Speedup | None:
        """Claim that `new` takes at most (1 + tolerance) times as long as `than`."""
        __tracebackhide__ = True
        from mlpprof.stats import not_slower_than

        return self(new, over=than, at_least=not_slower_than(tolerance), **options)

    def _judge(self, speedup: Speedup) -> None:
        __tracebackhide__ = True
        from mlpprof.report.speedup_table import speedup_table

        verdict = speedup.verdict
        outcome = str(verdict.outcome)
        claim = f"{speedup.new} over {speedup.old} >= {verdict.at_least:.3g}"
        measured = f"{verdict.ratio:.3f} ({verdict.low:.3f}-{verdict.high:.3f})"
        self._config.stash[OUTCOMES].append((self._node.nodeid, claim, measured, outcome.upper()))
        for name, value in (
            *(("claimed", verdict.at_least), ("ratio", verdict.ratio), ("low", verdict.low), ("high", verdict.high)),
            *(("processes", verdict.processes), ("verdict", outcome)),
        ):
            self._node.user_properties.append((f"mlpprof_{name}", value))
        if outcome == "fail":
            pytest.fail(speedup_table(speedup), pytrace=False)
        if outcome == "inconclusive":
            actions: dict[str, Callable[[str], Any]] = {
                "warn": self._warn,
                "fail": lambda table: pytest.fail(table, pytrace=False),
                "skip": pytest.skip,
            }
            actions[str(_option(self._config, "inconclusive", "warn"))](speedup_table(speedup))

    def _warn(self, message: str) -> None:
        from mlpprof.testing.speedup import InconclusiveWarning

        warnings.warn(InconclusiveWarning(message), stacklevel=4)

    def _measuring(self) -> Measuring:
        from mlpprof.measure.racers import Environment
        from mlpprof.testing.baseline import DEFAULT_FILE
        from mlpprof.testing.speedup import Measuring

        budget = _option(self._config, "budget", None)
        native = self._config.getoption("mlpprof_native_blas") or self._config.getini("mlpprof_native_blas")
        environment = Environment(int(_option(self._config, "threads", 1)) or None, bool(native))
        baselines = self._config.rootpath / Path(str(_option(self._config, "baselines", DEFAULT_FILE)))
        return Measuring(environment, None if budget is None else float(budget), baselines=baselines)


def _option(config: pytest.Config, name: str, default: Any) -> Any:
    """The command line's value, else the ini file's, else the default."""
    value = config.getoption(f"mlpprof_{name}")
    if value is None:
        value = config.getini(f"mlpprof_{name}")
    return default if value in (None, "") else value
