"""The pytest plugin: fixture `speedup`, marker `@pytest.mark.speedup`, and a summary at the end of the run.

Only pytest is imported here; everything else when a test first claims a speedup.

Under xdist, workers that time at once disturb each other. With `--dist loadgroup` all timing tests are held to one
worker; otherwise, with more than one worker, only correctness is checked, and a warning says so.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from mlpprof.errors import UsageError
from mlpprof.files import require_writable, write_atomically
from mlpprof.testing.claims import CLAIMS, XDIST_GROUP, SpeedupClaims, option

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
        from mlpprof.report.export.json_text import json_text

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
