"""The pytest plugin: fixture `speedup`, marker `@pytest.mark.speedup`, and a summary at the end of the run.

Only pytest is imported here. Everything else is imported when a test first claims a speedup.

Workers of xdist that measure at the same time disturb each other. With `--dist loadgroup` all timing tests run on the
same worker; some versions of pytest and xdist ignore that, and then a worker waits until no other one measures.
Otherwise, with more than one worker, the tests only check that both versions compute the same, and print a warning.
"""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

try:
    import fcntl
except ImportError:  # Windows has other locks
    fcntl = None  # type: ignore[assignment]

from mlpprof.errors import CheckFailed, MlpprofError, UsageError
from mlpprof.files import require_writable, write_atomically

if TYPE_CHECKING:
    from mlpprof.results import Speedup
    from mlpprof.testing.speedup import Measuring

CLAIMS = pytest.StashKey[list[dict[str, Any]]]()
"""The claims of a test so far. They are plain JSON, so that xdist can send them from a worker."""
XDIST_GROUP = "mlpprof"
"""The xdist group of all timing tests, for `--dist loadgroup`."""
NOT_TIMED = (
    "only correctness was checked, because several workers of pytest-xdist would measure at the same time; use -n 0 or "
    "--dist loadgroup"
)


class SpeedupClaims:
    """The value of the fixture `speedup`. Each call measures one claim and decides it at once."""

    def __init__(self, node: pytest.Item) -> None:
        self._config = node.config
        self._node = node

    def __call__(self, new: Any, *, over: Any, at_least: float | str = 1.0, **options: Any) -> Speedup | None:
        """Claim that `new` is `at_least` times as fast as `over`; options are those of mlpprof.testing.measure_speedup.

        Returns the measured speedup, or None if only correctness was checked. If the claim is wrong, the test fails
        with a small table.
        """
        __tracebackhide__ = True
        if option(self._config, "skip", False):
            pytest.skip("--mlpprof-skip")
        from mlpprof.testing.speedup import measure_speedup, require_equivalent

        try:
            if is_crowded(self._node):
                options.pop("resolution", None)
                require_equivalent(new, over=over, measuring=self._measuring(), **options)
                claim = self._unmeasured(new, over, at_least, None, NOT_TIMED)
                self._warn(f"{claim['new']} over {claim['old']}: {NOT_TIMED}")
                return None
            with alone(self._config):
                speedup = measure_speedup(new, over=over, at_least=at_least, measuring=self._measuring(), **options)
        except (MlpprofError, AssertionError) as error:
            is_wrong = isinstance(error, CheckFailed | AssertionError)
            self._unmeasured(new, over, at_least, "fail" if is_wrong else "error", str(error))
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
        from mlpprof.compare.decide import not_slower_than

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

    def _unmeasured(
        self, new: Any, over: Any, at_least: float | str, verdict: str | None, reason: str
    ) -> dict[str, Any]:
        """Record a claim about which nothing was timed, and why."""
        from mlpprof.compare.live_race import distinct_names
        from mlpprof.report.json_documents import unmeasured_json

        subjects = [
            (str(getattr(one, "__module__", "")), str(getattr(one, "__qualname__", one))) for one in (new, over)
        ]
        ours, theirs = distinct_names(subjects)
        claim = unmeasured_json(ours, theirs, None if isinstance(at_least, str) else at_least, verdict, reason)
        self._record(claim)
        return claim

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
        from mlpprof.compare.error_bounds import RESOLUTION
        from mlpprof.compare.resolution import share_of
        from mlpprof.testing.baseline import DEFAULT_FILE
        from mlpprof.testing.speedup import Measuring

        budget = option(self._config, "budget", None)
        threads = int(option(self._config, "threads", 1)) or None
        environment = Environment(threads, bool(option(self._config, "native_blas", False)))
        baselines = self._config.rootpath / Path(str(option(self._config, "baselines", DEFAULT_FILE)))
        resolution = share_of(option(self._config, "resolution", RESOLUTION))
        return Measuring(environment, None if budget is None else float(budget), resolution, baselines=baselines)


def option(config: pytest.Config, name: str, default: Any) -> Any:
    """The command line's value, else the ini file's, else the default."""
    value = config.getoption(f"mlpprof_{name}")
    if value is None:
        value = config.getini(f"mlpprof_{name}")
    return default if value in (None, "") else value


def is_crowded(node: pytest.Item) -> bool:
    """Whether several xdist workers run, and nothing keeps this test from measuring while another one does.

    In the group of timing tests, one worker runs them all; this is visible in the suffix that xdist gives to the name
    of such a test. Where the user wants groups, but the versions of pytest and xdist ignore them, workers take turns.
    """
    if not _has_workers() or node.nodeid.endswith(f"@{XDIST_GROUP}"):
        return False
    return fcntl is None or not getattr(node.config.option, "loadgroup", False)


def _has_workers() -> bool:
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1


@contextmanager
def alone(config: pytest.Config) -> Iterator[None]:
    """A context in which no other worker of xdist measures: it waits for its turn. Alone, it does nothing.

    The lock is on the root folder of the tests, so it leaves no file behind, and the system frees it if a worker dies.
    """
    if fcntl is None or not _has_workers():
        yield
        return
    folder = os.open(config.rootpath, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


INCONCLUSIVE = ("warn", "fail", "skip")
FORMATS = ("github", "markdown")
FIXTURE = "speedup"
MARKER = (
    "speedup(over, new=None, at_least=1.0, **options): before the test's body runs, measure that `new` is at_least "
    "times as fast as `over`. `new` is a program, a variant or a callable; None is the test's own function, without "
    "fixtures"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options --mlpprof-* and the ini keys mlpprof_*; the command line has priority."""
    group = parser.getgroup("mlpprof", "speedups (mlpprof)")
    for name, text in (
        ("skip", "skip tests that claim a speedup"),
        ("native-blas", "ignore variables that fix the BLAS kernel (OPENBLAS_CORETYPE, ...) while measuring"),
    ):
        group.addoption(f"--mlpprof-{name}", action="store_true", default=None, help=text)
        parser.addini(f"mlpprof_{name.replace('-', '_')}", text, type="bool", default=False)
    for name, metavar, text in (
        (
            "budget",
            "SECONDS",
            "time limit for one claim (three processes always run, or two if the effect is clear); without an answer "
            "it is inconclusive",
        ),
        (
            "resolution",
            "SHARE",
            "how fine claims are decided, from 0.01 to 0.5 (default: 0.1); with 0.02, a PASS shows that the speedup "
            "is more than at_least / 1.02, and takes more time",
        ),
        ("inconclusive", "ACTION", f"what to do with an inconclusive claim: {', '.join(INCONCLUSIVE)} (default: warn)"),
        ("threads", "N", "number of BLAS threads while measuring (default: 1; with 0 the BLAS decides)"),
        ("baselines", "FILE", 'file for at_least="baseline" (default: mlpprof-baselines.toml in the root folder)'),
        ("json", "FILE", "write all claims of the session to a file"),
        (
            "format",
            "NAME",
            "summary of all claims as markdown, or as github: annotations, and Markdown in the summary of the "
            "workflow's step (default: a line each)",
        ),
    ):
        group.addoption(f"--mlpprof-{name}", metavar=metavar, default=None, help=text)
        parser.addini(f"mlpprof_{name}", text, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and refuse options with impossible values."""
    config.addinivalue_line("markers", MARKER)
    action = option(config, "inconclusive", "warn")
    if action not in INCONCLUSIVE:
        raise pytest.UsageError(f"mlpprof inconclusive is '{action}'; expected one of {', '.join(INCONCLUSIVE)}")
    named = option(config, "format", None)
    if named not in (None, *FORMATS):
        raise pytest.UsageError(f"mlpprof format is '{named}'; expected one of {', '.join(FORMATS)}")
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
    resolution = option(config, "resolution", None)
    if resolution is not None:
        from mlpprof.compare.resolution import share_of

        try:
            share_of(resolution)
        except UsageError as error:
            raise pytest.UsageError(f"mlpprof resolution is '{resolution}': {error}") from error
    path = option(config, "json", None)
    if path is not None and not hasattr(config, "workerinput"):
        try:
            require_writable(config.rootpath / path)
        except UsageError as error:
            raise pytest.UsageError(f"mlpprof json is '{path}': {error}") from error
    config.pluginmanager.register(_Summary(config), "mlpprof-summary")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put all timing tests into one group, which xdist's loadgroup runs on one worker."""
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
    """Decide the claims of `@pytest.mark.speedup` before the body of the test runs."""
    for marker in item.iter_markers("speedup"):
        options = dict(marker.kwargs)
        if marker.args or "over" not in options:
            pytest.fail(f"@pytest.mark.speedup takes only keywords, and needs over=: {MARKER}", pytrace=False)
        new = options.pop("new", None)
        if new is None:
            new = getattr(item, "obj", None)
            if new is None or inspect.signature(new).parameters:
                text = "@pytest.mark.speedup without new= measures the test itself, which then cannot take fixtures"
                pytest.fail(text, pytrace=False)
        SpeedupClaims(item)(new, **options)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Warn if a test takes the fixture but claims nothing, because it would pass without measuring."""
    result = yield
    if FIXTURE in inspect.signature(pyfuncitem.obj).parameters and CLAIMS not in pyfuncitem.stash:
        text = (
            f"{pyfuncitem.nodeid} takes the fixture '{FIXTURE}' but claims nothing; call the fixture, or leave it out"
        )
        warnings.warn(pytest.PytestWarning(text), stacklevel=1)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the claims to the report of the test, so that they come from xdist's workers too."""
    report = yield
    if call.when == "call":
        vars(report)["mlpprof_claims"] = item.stash.get(CLAIMS, [])
    return report


def _claims_speedups(item: pytest.Item) -> bool:
    return FIXTURE in getattr(item, "fixturenames", ()) or item.get_closest_marker("speedup") is not None


class _Summary:
    """Collects the claims of the session, shows them at its end, and writes them to the file of --mlpprof-json."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._claims: list[dict[str, Any]] = []
        self._not_written = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the claims of one test."""
        self._claims += getattr(report, "mlpprof_claims", [])

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the file, but not in xdist's workers."""
        path = option(self._config, "json", None)
        if path is None or hasattr(self._config, "workerinput"):
            return
        from mlpprof.report.json_documents import claims_json
        from mlpprof.results.json import json_text

        text = json_text(claims_json(self._claims))
        try:
            with write_atomically(self._config.rootpath / Path(str(path))) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        except UsageError as error:
            self._not_written = f"mlpprof json: {error}; the claims are only in this summary"
            session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line for every claim, or what --mlpprof-format asks for."""
        if self._not_written:
            terminalreporter.write_line(self._not_written, red=True)
        if not self._claims:
            return
        terminalreporter.section("speedups (mlpprof)")
        if (named := option(self._config, "format", None)) is not None:
            self._write_format(terminalreporter, named)
            return
        rows = [_cells(claim) for claim in self._claims]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row, claim in zip(rows, self._claims, strict=True):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            passed = claim["verdict"] == "pass"
            failed = claim["verdict"] in ("fail", "error")
            terminalreporter.write_line(line, green=passed, red=failed, yellow=not (passed or failed))
            if claim.get("moved"):
                terminalreporter.write_line(f"  what moved: {claim['moved']}")
        for note in dict.fromkeys(note for claim in self._claims for note in claim["notes"]):
            terminalreporter.write_line(f"note: {note}")

    def _write_format(self, terminalreporter: pytest.TerminalReporter, named: str) -> None:
        from mlpprof.report.files.claims import claims_github, claims_markdown
        from mlpprof.report.files.markup import add_to_step_summary

        text = claims_github(self._claims) if named == "github" else claims_markdown(self._claims)
        for line in text.splitlines():
            terminalreporter.write_line(line)
        if named == "github":
            try:
                add_to_step_summary(claims_markdown(self._claims))
            except UsageError as error:
                terminalreporter.write_line(f"mlpprof: {error}", red=True)


def _cells(claim: dict[str, Any]) -> tuple[str, str, str, str]:
    """Test, claim, measurement, outcome."""
    at_least = claim["at_least"]
    words = f"{claim['new']} over {claim['old']}" + ("" if at_least is None else f" >= {at_least:.3g}")
    if claim["ratio"] is None:
        return claim["test"], words, "-", str(claim["verdict"] or "not timed").upper()
    low, high = claim["interval"]
    return claim["test"], words, f"{claim['ratio']:.3f} ({low:.3f}-{high:.3f})", str(claim["verdict"]).upper()
