"""What disturbs timings: what the system shows, and the verdict that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpprof.compare.null_cause import NO_CAUSE, with_cause
from mlpprof.machine.disturbance import causes
from mlpprof.results import Verdict

CPU = "sys/devices/system/cpu"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, []),
        ({"proc/loadavg": "1.01 0.5 0.2 1/200 7"}, []),
        ({"proc/loadavg": "2.10 0.5 0.2 3/200 7"}, ["other programs run beside it (load 2.1)"]),
        (
            {"sys/fs/cgroup/cpu.max": "150000 100000", "sys/fs/cgroup/cpu.stat": "usage_usec 5\nnr_throttled 1200\n"},
            ["the CPU quota of its container, 1.5 CPUs, has paused it 1,200 times since it started"],
        ),
        (
            {f"{CPU}/cpu{cpu}/cpu_capacity": str(512 * (1 + cpu % 2)) for cpu in range(256)},
            ["its cores differ: the fastest can run 2 times as fast as the slowest"],
        ),
        ({f"{CPU}/cpu{cpu}/thermal_throttle/core_throttle_count": "0" for cpu in range(2)}, []),
    ],
)
def test_each_cause_that_the_system_shows_is_named(tmp_path: Path, monkeypatch, files: dict[str, str], said) -> None:
    monkeypatch.setattr("mlpprof.machine.linux.affinity", lambda: None)
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert causes(tmp_path) == said


def test_a_cpu_that_became_too_hot_is_named_with_how_often(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mlpprof.machine.linux.affinity", lambda: [1])
    for cpu, count in enumerate((5, 7)):
        path = tmp_path / CPU / f"cpu{cpu}" / "thermal_throttle" / "core_throttle_count"
        path.parent.mkdir(parents=True)
        path.write_text(str(count), encoding="utf-8")
    assert causes(tmp_path) == ["the CPU has become too hot and slowed down 7 times since the system started"]


BIASED = (0.2, 0.21, 0.19, 0.2, 0.2)


@pytest.mark.parametrize(
    ("outcome", "null", "known", "reason"),
    [
        ("inconclusive", BIASED, ["other programs"], "undecided; the likely cause: other programs"),
        ("inconclusive", BIASED, [], f"undecided; {NO_CAUSE}"),
        ("inconclusive", (0.0, 0.01, -0.01, 0.0, 0.0), ["other programs"], "undecided"),
        ("inconclusive", (), ["other programs"], "undecided"),
        ("pass", BIASED, ["other programs"], "undecided"),
    ],
)
def test_a_verdict_that_a_biased_null_has_stopped_names_the_cause(outcome, null, known, reason) -> None:
    verdict = Verdict(outcome, 0.8, 0.7, 0.9, 1.0, 5, "undecided", null=null)
    assert with_cause(verdict, lambda: known).reason == reason
