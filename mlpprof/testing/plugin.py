"""The pytest plugin: fixture `speedup`, marker `@pytest.mark.speedup`, and a summary at the end of the run.

Only pytest is imported here; everything else when a test first claims a speedup.

Under xdist, workers that time at once disturb each other. With `--dist loadgroup` all timing tests are held to one
worker; otherwise, with more than one worker, only correctness is checked, and a warning says so.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlpprof.errors import UsageError
from mlpprof.files import require_writable, write_atomically

if TYPE_CHECKING:
    from mlpprof.results import Speedup
    from mlpprof.testing.speedup import Measuring


# What a test does with the fixture `speedup`; nothing heavy is loaded before a test claims something.


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
        from mlpprof.compare import not_slower_than
        from mlpprof.errors import UsageError

        try:
            at_least = not_slower_than(tolerance)
        except UsageError as error:
            pytest.fail(f"mlpprof: {error}", pytrace=False)
        return self(new, over=than, at_least=at_least, **options)

    def _judge(self, speedup: Speedup) -> None:
        __tracebackhide__ = True
        from mlpprof.report.json_documents import speedup_json
        from mlpprof.report.terminal.compare import speedup_table

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
        from mlpprof.compare.entrants import Environment
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


INCONCLUSIVE = ("warn", "fail", "skip")
FIXTURE = "speedup"
MARKER = (
    "speedup(over, new=None, at_least=1.0, **options): measure before the test's body that `new` (a variant or a "
    "callable; None: the test's own function, which then takes no fixtures) is so many times as fast as `over`"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options --mlpprof-* and the ini keys mlpprof_*; the command line wins."""
    group = parser.getgroup("mlpprof", "speedups (mlpprof)")
    for name, text in (
        ("skip", "skip tests at the point where they claim a speedup"),
        ("native-blas", "clear what pins the BLAS kernel (OPENBLAS_CORETYPE, ...) in the measuring processes"),
    ):
        group.addoption(f"--mlpprof-{name}", action="store_true", default=None, help=text)
        parser.addini(f"mlpprof_{name.replace('-', '_')}", text, type="bool", default=False)
    for name, metavar, text in (
        ("budget", "SECONDS", "limit for one claim; what is undecided then is inconclusive"),
        ("inconclusive", "ACTION", f"what an undecided claim does: {', '.join(INCONCLUSIVE)} (default: warn)"),
        ("threads", "N", "BLAS threads of the measuring processes (default: 1; 0 leaves it to the BLAS)"),
        ("baselines", "FILE", 'claims of at_least="baseline" (default: mlpprof-baselines.toml in the root folder)'),
        ("json", "FILE", "write every claim of the session to a file"),
    ):
        group.addoption(f"--mlpprof-{name}", metavar=metavar, default=None, help=text)
        parser.addini(f"mlpprof_{name}", text, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Tell the marker, and refuse options that cannot be meant."""
    config.addinivalue_line("markers", MARKER)
    action = option(config, "inconclusive", "warn")
    if action not in INCONCLUSIVE:
        raise pytest.UsageError(f"mlpprof inconclusive is '{action}'; expected one of {', '.join(INCONCLUSIVE)}")
    for name, kind, least, what in (
        ("budget", float, 1e-9, "seconds above 0, such as 30"),
        ("threads", int, 0, "a whole number of at least 0"),
    ):
        value = option(config, name, "1")
        try:
            sound = kind(value) >= least
        except ValueError:
            sound = False
        if not sound:
            raise pytest.UsageError(f"mlpprof {name} is '{value}'; expected {what}")
    path = option(config, "json", None)
    if path is not None and not hasattr(config, "workerinput"):
        try:
            require_writable(config.rootpath / path)
        except UsageError as error:
            raise pytest.UsageError(f"mlpprof json is '{path}': {error}") from error
    config.pluginmanager.register(_Summary(config), "mlpprof-summary")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One group for all timing tests, which xdist's loadgroup keeps on one worker."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if _claims_speedups(item):
                item.add_marker(pytest.mark.xdist_group(XDIST_GROUP))


@pytest.fixture(name=FIXTURE)
def speedup_fixture(request: pytest.FixtureRequest) -> SpeedupClaims:
    """Claim speedups: speedup(new, over=old, at_least=1.15, ...), or speedup.not_slower(new, than=old)."""
    return SpeedupClaims(request.node)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Claims of `@pytest.mark.speedup` are decided before the body runs."""
    for marker in item.iter_markers("speedup"):
        options = dict(marker.kwargs)
        if marker.args or "over" not in options:
            pytest.fail(f"@pytest.mark.speedup takes keywords, over= among them: {MARKER}", pytrace=False)
        new = options.pop("new", None)
        if new is None:
            new = getattr(item, "obj", None)
            if new is None or inspect.signature(new).parameters:
                text = "@pytest.mark.speedup without new= measures the test itself, which takes no fixtures then"
                pytest.fail(text, pytrace=False)
        SpeedupClaims(item)(new, **options)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Warn where a test takes the fixture and claims nothing: that would be a silent pass."""
    result = yield
    if FIXTURE in inspect.signature(pyfuncitem.obj).parameters and CLAIMS not in pyfuncitem.stash:
        text = f"{pyfuncitem.nodeid} takes the fixture '{FIXTURE}' but claims nothing; call it, or leave it out"
        warnings.warn(pytest.PytestWarning(text), stacklevel=1)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The claims travel with the report, from xdist's workers too."""
    report = yield
    if call.when == "call":
        vars(report)["mlpprof_claims"] = item.stash.get(CLAIMS, [])
    return report


def _claims_speedups(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker("speedup") is not None


class _Summary:
    """Collects the claims of the session, shows them at its end, and writes them where --mlpprof-json says."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._claims: list[dict[str, Any]] = []
        self._not_written = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the claims of one test."""
        self._claims += getattr(report, "mlpprof_claims", [])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file; xdist's workers leave that to their controller."""
        path = option(self._config, "json", None)
        if path is None or hasattr(self._config, "workerinput"):
            return
        from mlpprof import __version__
        from mlpprof.results.json import json_text

        text = json_text({"schema": 1, "mlpprof": __version__, "claims": self._claims})
        try:
            with write_atomically(self._config.rootpath / Path(str(path))) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        except UsageError as error:
            self._not_written = f"mlpprof json: {error}; the claims stand only in this summary"
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line for every claim."""
        if self._not_written:
            terminalreporter.write_line(self._not_written, red=True)
        if not self._claims:
            return
        terminalreporter.section("speedups (mlpprof)")
        rows = [_cells(claim) for claim in self._claims]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row, claim in zip(rows, self._claims, strict=True):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            passed = claim["verdict"] == "pass"
            failed = claim["verdict"] == "fail"
            terminalreporter.write_line(line, green=passed, red=failed, yellow=not (passed or failed))
        for note in dict.fromkeys(note for claim in self._claims for note in claim["notes"]):
            terminalreporter.write_line(f"note: {note}")


def _cells(claim: dict[str, Any]) -> tuple[str, str, str, str]:
    """Test, claim, measurement, outcome."""
    at_least = claim["at_least"]
    told = f"{claim['new']} over {claim['old']}" + ("" if at_least is None else f" >= {at_least:.3g}")
    if claim["ratio"] is None:
        return claim["test"], told, "-", "NOT TIMED"
    low, high = claim["interval"]
    return claim["test"], told, f"{claim['ratio']:.3f} ({low:.3f}-{high:.3f})", str(claim["verdict"]).upper()
