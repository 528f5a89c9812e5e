"""`profile` and `check` from end to end, in worker processes, on the embedded tiny set."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlpprof import __version__
from mlpprof.catalog import find
from mlpprof.data.source import DataSource
from mlpprof.errors import UsageError, WorkerDied
from mlpprof.model import PHASES, Network
from mlpprof.profile.request import Request
from mlpprof.profile.variant import Settings, check, profile
from mlpprof.results import Run

NETWORK = Network((20, 8, 5, 3), rate=0.5, momentum=0.9, l2=1e-4)

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, plain: str) -> Write:
    """Writes the right user's file with pieces replaced; gives its path."""

    def write(*replacements: tuple[str, str]) -> str:
        text = plain
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
        return str(tmp_path / "mine.py")

    return write


def quiet(what: str, share: float) -> None:
    pass


def run(variant: str, network: Network = NETWORK, batches: tuple[int, ...] = (30,), **settings: Any) -> Run:
    request = Request(variant, network, DataSource("tiny"))
    return profile(request, "tiny", Settings(batches, **{"steps": 6, "limits": False, **settings}), "typed", quiet)


@pytest.fixture(scope="module")
def cached() -> Run:
    """`cached` at two batch sizes."""
    return run("cached", batches=(30, 300), steps=20)


def test_a_run_holds_a_result_a_batch_size_with_every_raw_sample(cached):
    assert [result.batch for result in cached.results] == [30, 300]
    assert [result.steps_per_epoch for result in cached.results] == [10, 1]
    for result in cached.results:
        assert result.total_s.size == result.phases_pass_s.size == result.labels_pass_s.size == 20
        assert (result.total_s > 0).all()
        assert result.separable
        assert list(result.phases) == list(PHASES)
        assert np.isfinite(result.losses).all()


def test_the_agreement_of_the_passes_is_shown_as_finite_numbers(cached):
    for result in cached.results:
        agreement = (result.phases_over_total, result.phases_disturbance, result.labels_disturbance)
        assert all(figure is not None and math.isfinite(figure) and figure > 0 for figure in agreement)
        assert result.phases_over_total <= 1


def test_phases_and_labels_fit_into_the_step_that_they_are_part_of(cached):
    for result in cached.results:
        assert (sum(phase.step_s for phase in result.phases.values()) <= result.phases_pass_s).all()
        assert (sum(label.step_s for label in result.labels) <= result.labels_pass_s).all()


def test_every_label_of_the_file_is_there_for_its_layers(cached):
    shown = {(label.phase, label.layer, label.label) for label in cached.results[0].labels}
    expected = {("fetch_batch", None, "gather"), ("loss", None, "cost"), ("backward", 3, "error")}
    for l in (1, 2, 3):
        expected |= {("forward", l, label) for label in ("bias row", "weighted sum", "activation")}
        expected |= {("backward", l, label) for label in ("gradient", "regularize")}
        expected |= {("update", l, label) for label in ("momentum", "descend")}
    for l in (1, 2):
        expected |= {("backward", l, label) for label in ("bias row", "derivative", "propagate", "multiply")}
    assert shown == expected


def test_a_run_shows_what_was_run_on_what_and_where(cached):
    assert cached.variant.name == "cached"
    assert cached.variant.parent == "contiguous"
    assert cached.variant.source == find("cached").source()
    assert cached.variant.source_sha256 == hashlib.sha256(cached.variant.source.encode()).hexdigest()
    assert (cached.workload, cached.command, cached.mlpprof_version) == ("tiny", "typed", __version__)
    assert (cached.network, cached.dtype, cached.seed, cached.threads) == (NETWORK, "float32", 0, 1)
    assert (cached.data.name, cached.data.samples) == ("tiny", 300)
    assert cached.machine["numpy_version"] == np.__version__
    assert cached.created.endswith("+00:00")
    assert cached.warnings == ()


def test_the_variant_is_checked_first_and_the_run_shows_it(cached):
    assert cached.check is not None
    assert cached.check.ok is True
    assert run("cached", check=False).check is None


def test_the_losses_are_those_of_training_and_fall(cached):
    losses = cached.results[1].losses
    assert losses[-1] < losses[0]


def test_memory_is_shown_and_page_faults_where_they_are_counted(cached):
    for result in cached.results:
        for phase in result.phases.values():
            assert phase.bytes_allocated is not None
            assert phase.bytes_allocated >= 0
    small, large = (result.phases["fetch_batch"].bytes_allocated for result in cached.results)
    assert large == pytest.approx(300 * 23 * 4, rel=0.3)
    assert small < large / 2


@pytest.mark.slow
def test_progress_names_the_batch_and_rises_to_the_end():
    shown: list[tuple[str, float]] = []
    request = Request("sliced", NETWORK, DataSource("tiny"))
    settings = Settings((30, 60), steps=4, limits=False)
    profile(request, "tiny", settings, "", lambda what, share: shown.append((what, share)))
    assert shown[0][0].startswith("batch 30: loading")
    assert shown[-1][0].startswith("batch 60: ")
    first, second = ([s for what, s in shown if what.startswith(f"batch {m}")] for m in (30, 60))
    assert max(first) <= 0.5 <= min(second)
    assert max(second) <= 1


# A user's file


def test_a_user_s_right_variant_is_profiled_against_naive(write):
    mine = run(write())
    assert mine.variant.name == "mine"
    assert mine.dtype == "float64"
    assert mine.check is not None
    assert mine.check.ok is True
    assert {label.label for label in mine.results[0].labels} == {"gather", "weighted sum"}


def test_a_class_of_one_kind_of_network_is_profiled_on_it_with_a_warning_about_the_others(write):
    sizes = 'network, hidden="sigmoid", output="sigmoid", loss="cross_entropy"'
    line = "self.network = network"
    mine = run(write((line, f"from dataclasses import replace\n        {line} = replace({sizes})")))
    assert mine.check is not None
    assert mine.check.ok is True
    [warning] = mine.warnings
    assert warning.startswith("mine is right on the network of this run, but not on every other: ")


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(UsageError, match="batch 301 is larger than the 300 samples"):
        run("cached", batches=(301,), check=False)


def test_a_variant_that_takes_the_process_down_is_shown_with_its_last_words(write):
    path = write(
        (
            "def loss(self):\n",
            "def loss(self):\n        import os, sys; print('so long', file=sys.stderr, flush=True); os._exit(3)\n",
        )
    )
    with pytest.raises(
        WorkerDied,
        match=r"exit code 3 \(mine.py:29 called os._exit\(3\)\) before it answered; its last line of output: so long",
    ):
        run(path)


def test_what_a_variant_prints_does_not_disturb_the_run(write):
    path = write(("def update(self):\n", "def update(self):\n        print('{\"answer\": 1}')\n"))
    assert run(path).results[0].total_s.size == 6


def test_a_loss_that_diverges_is_a_warning():
    import dataclasses

    with np.errstate(all="ignore"):
        diverged = run(
            "sliced",
            dataclasses.replace(NETWORK, output="identity", loss="squared_error", hidden="relu", rate=1e6),
            steps=30,
            check=False,
        )
    [warning] = diverged.warnings
    assert warning.startswith("batch 30: the loss became NaN or infinite")


# check


@pytest.mark.slow
def test_check_shows_right_wrong_and_skipped_variants_in_the_order_asked_for(write, tmp_path, plain):
    wrong = write(("delta.sum(axis=0))", "0 * delta.sum(axis=0))"))
    crashing, needy = tmp_path / "crashing.py", tmp_path / "needy.py"
    crashing.write_text(plain.replace("def forward(self):", "def forward(self):\n        self.nothing"))
    needy.write_text('EXTRA = "gpu"\nimport no_such_library\n' + plain)
    shown: list[float] = []
    asked = ["sliced", wrong, str(crashing), str(needy)]
    right, found, crashed, skipped = check(asked, 6, 0, lambda what, share: shown.append(share))
    assert (right.variant, right.ok) == ("sliced", True)
    assert (found.variant, found.ok) == ("mine", False)
    assert found.message.startswith("mine: layer ")
    assert crashed.ok is False
    assert "crashing.py:" in crashed.message
    assert "AttributeError" in crashed.message
    assert skipped.ok is None
    assert "pip install 'mlpprof[gpu]'" in (skipped.skipped or "")
    assert shown == sorted(shown)
    assert 0 <= min(shown) <= max(shown) <= 1
