"""What the worker's handlers answer and refuse, called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlpprof.catalog import find
from mlpprof.data import DataSource, load, load_stream
from mlpprof.errors import DataError, UnsupportedNetwork, UsageError, VariantCrash, VariantError
from mlpprof.model import PHASES, Network
from mlpprof.profile import worker
from mlpprof.profile.prepare import OWN_CASE_ROWS, Loader, check_agreement
from mlpprof.profile.request import Request
from mlpprof.profile.streams import StreamRequest, StreamSizes, open_share
from mlpprof.profile.worker import VIEW_STEPS, Session
from mlpprof.results import BatchResult, CheckResult, LineProfile
from mlpprof.results.json import decode, encode

pytestmark = pytest.mark.usefixtures("fresh_imports")

NETWORK = Network((20, 5, 3), rate=0.5, momentum=0.9)
TINY = DataSource("tiny")

Write = Callable[..., str]


def quiet(what: str, share: float) -> None:
    pass


@pytest.fixture
def write(tmp_path: Path, plain: str) -> Write:
    """Writes the right user's file with pieces replaced; gives its path."""

    def write(*replacements: tuple[str, str], name: str = "mine.py") -> str:
        text = plain
        for old, new in replacements:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


@pytest.fixture(autouse=True)
def short_views(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "VIEW_S", 0.01)


def opened(variant: str, network: Network = NETWORK, **fields: object) -> Session:
    session = Session()
    session.prepare(quiet, Request(variant, network, TINY, **fields).to_json())  # type: ignore[arg-type]
    return session


def test_prepare_shows_the_variant_with_its_source_and_describe_the_data_and_the_machine():
    session = Session()
    answer = json.loads(json.dumps(session.prepare(quiet, Request("cached", NETWORK, TINY).to_json())))
    assert answer["dtype"] == "float32"
    assert answer["warnings"] == []
    assert answer["variant"]["name"] == "cached"
    assert answer["variant"]["parent"] == "contiguous"
    assert answer["variant"]["source"] == find("cached").source()
    described = json.loads(json.dumps(session.describe(quiet, "cached")))
    assert described["data"]["samples"] == 300
    assert len(described["data"]["sha256"]) == 64
    assert described["machine"]["numpy_version"] == np.__version__


@pytest.mark.parametrize(("asked", "got"), [(None, "float32"), ("float64", "float64"), ("float32", "float32")])
def test_the_dtype_is_the_variant_s_own_unless_asked_for(asked, got):
    prepared = Loader().prepare(Request("sliced", NETWORK, TINY, asked), quiet)
    instance = prepared.subject.make()
    assert prepared.dtype == got
    assert prepared.subject.X.dtype == prepared.subject.Y.dtype == got
    assert instance.parameters()[0][0].dtype == got


def test_the_samples_are_C_contiguous_rows_and_one_hot():
    subject = Loader().prepare(Request("sliced", NETWORK, TINY), quiet).subject
    assert subject.X.shape == (300, 20)
    assert subject.Y.shape == (300, 3)
    assert subject.X.flags.c_contiguous
    assert subject.Y.flags.c_contiguous
    assert set(np.unique(subject.Y)) == {0.0, 1.0}


def test_variants_of_one_data_set_and_dtype_share_its_arrays():
    loader = Loader()
    one, other = (loader.prepare(Request(name, NETWORK, TINY), quiet) for name in ("cached", "sliced"))
    double = loader.prepare(Request("naive", NETWORK, TINY), quiet)
    assert one.subject.X is other.subject.X
    assert double.subject.X is not one.subject.X
    assert double.data is one.data


@pytest.fixture
def streamed(tmp_path: Path) -> DataSource:
    """A file with the rows of the tiny set, to be read while training."""
    tiny = load(TINY)
    with h5py.File(tmp_path / "tiny.h5", "w") as file:
        file["X"], file["Y"] = tiny.X, tiny.labels
    return DataSource(path=str(tmp_path / "tiny.h5"), part_rows=100)


def test_variants_that_train_from_a_stream_share_it_and_the_first_rows_are_those_of_the_file(streamed):
    loader = Loader()
    one, other = (loader.prepare(Request(name, NETWORK, streamed), quiet) for name in ("cached", "buffered"))
    assert one.subject.stream is other.subject.stream is not None
    assert one.subject.samples == 300
    whole = loader.prepare(Request("cached", NETWORK, replace(streamed, part_rows=None)), quiet)
    assert np.array_equal(one.own_case().X, whole.own_case().X)
    assert one.data.fingerprint() == whole.data.fingerprint()
    one.require_batch(90)
    with pytest.raises(UsageError, match="batch 101 is larger than a part of the stream of 100 rows; use --batch 100"):
        one.require_batch(101)


def test_a_rank_whose_file_is_not_that_of_rank_0_is_refused(streamed):
    data, asked = load_stream(streamed), StreamRequest(streamed, 3, "float32", 1, 2)
    asked = replace(asked, sizes=StreamSizes.of(asked.open(data, 0)))
    open_share(json.dumps(encode(asked)), 1)
    with h5py.File(streamed.path, "a") as file:
        file["more"] = np.zeros(9000)
    with pytest.raises(DataError, match=r"tiny.h5 on .* has 300 rows in [\d,]+ bytes, .*; expected 300 rows .*; copy"):
        open_share(json.dumps(encode(asked)), 1)


def test_the_profile_of_a_stream_shows_what_was_read_and_the_wait_under_a_label_of_its_own(streamed):
    session = Session()
    session.prepare(quiet, Request("cached", NETWORK, streamed).to_json())
    stream = session.load_variant(Request("cached", NETWORK, streamed), quiet).subject.stream
    parts: dict[str, list[int]] = {}  # which the last batch came from when something began
    assert stream is not None

    def watch(what: str, share: float) -> None:
        parts.setdefault(what, []).append(stream.part)

    result = decode(BatchResult, session.profile(watch, "cached", 30, 40, counted=False))
    session.profile(watch, "cached", 60, 1, counted=False)
    assert parts["measuring the disk"] == [-1]  # once, before the thread reads ahead
    assert max(parts["memory"]) > 0
    assert result.stream is not None
    assert result.stream.rows > 0
    assert result.stream.disk_bytes_s is not None
    assert result.steps_per_epoch == 10
    assert ("fetch_batch", None, "wait for the file") in [label.key for label in result.labels]
    assert result.separable


def test_a_variant_that_keeps_a_copy_of_the_samples_is_not_trained_from_a_stream(streamed, write):
    file = write(
        (
            "    def fetch_batch(self, X, Y, index):\n",
            "    def fetch_batch(self, X, Y, index):\n        self.kept = X = getattr(self, 'kept', X.copy())\n",
        )
    )
    Loader().prepare(Request(file, NETWORK, TINY), quiet)
    with pytest.raises(UnsupportedNetwork, match="mine keeps a copy of the samples, .*leave --stream out"):
        Loader().prepare(Request(file, NETWORK, streamed), quiet)


def test_every_instance_starts_from_the_parameters_of_the_seed():
    subject = Loader().prepare(Request("cached", NETWORK, TINY, "float64", seed=7), quiet).subject
    from mlpprof.instrument.clocks import LabelClock

    for instance in (subject.make(), subject.make(), subject.make_labelled(LabelClock(lambda: 0.0))):
        for (W, b), (W_ref, b_ref) in zip(instance.parameters(), NETWORK.initial_parameters(7), strict=True):
            assert np.array_equal(W, W_ref)
            assert np.array_equal(b, b_ref)


def test_the_own_case_is_the_first_rows_in_double_precision():
    prepared = Loader().prepare(Request("cached", NETWORK, TINY), quiet)
    case = prepared.own_case()
    assert len(case.X) == OWN_CASE_ROWS
    assert case.X.dtype == case.Y.dtype == case.parameters[0][0].dtype == np.float64
    assert np.array_equal(case.X, prepared.subject.X[:OWN_CASE_ROWS])


# Refusals


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (Request("cachd", NETWORK, TINY), UsageError, "did you mean 'cached'?"),
        (Request("nowhere.py", NETWORK, TINY), UsageError, "there is no file 'nowhere.py'"),
        (
            Request("cached", Network((784, 3)), TINY),
            UsageError,
            "takes 784 inputs, but tiny has samples of 20; use --layers 20-",
        ),
        (Request("cached", Network((20, 2)), TINY), DataError, "label 2 in row 3"),
        (Request("cached", NETWORK, DataSource(path="nowhere.h5")), DataError, "no data file 'nowhere.h5'"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_loaded(request_, kind, said):
    with pytest.raises(kind) as caught:
        Session().prepare(quiet, request_.to_json())
    assert said in str(caught.value)


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers():
    session = opened("cached")
    for call in (
        lambda: session.profile(quiet, "cached", 301, 5),
        lambda: session.lines(quiet, "cached", 301),
        lambda: session.stacks(quiet, "cached", 301),
    ):
        with pytest.raises(UsageError, match="batch 301 is larger than the 300 samples; use --batch 300 or fewer"):
            call()


def test_a_network_that_the_variant_cannot_do_is_refused_when_it_is_loaded(write):
    line = "self.L = network.depth"
    path = write(
        (
            line,
            f"{line}\n        from mlpprof.model import UnsupportedNetwork\n"
            "        raise UnsupportedNetwork('too deep')",
        )
    )
    with pytest.raises(UnsupportedNetwork, match="^too deep$"):
        opened(path)


def test_a_constructor_that_raises_is_the_variant_s_crash(write):
    with pytest.raises(VariantCrash, match=r"^mine\.py:\d+ in __init__: TypeError"):
        opened(write(("self.L = network.depth", "self.L = network.depth + 'x'")))


@pytest.mark.parametrize("method", ["forward", "loss", "backward", "update"])
def test_an_exception_while_it_is_measured_names_file_line_and_method(write, method, plain):
    path = write(
        (f"def {method}(self):\n", f"def {method}(self):\n        if len(self.Y) == 30: raise IndexError('at 30')\n")
    )
    session = opened(path)
    with pytest.raises(VariantCrash, match=rf"^mine\.py:\d+ in {method}: IndexError: at 30$"):
        session.profile(quiet, path, 30, 5)
    for view in (session.lines, session.stacks):
        with pytest.raises(VariantCrash, match=rf"^mine\.py:\d+ in {method}: IndexError: at 30$"):
            view(quiet, path, 30)


@pytest.mark.parametrize("dtype", ["np.float16", "np.int64", "np.complex128"])
def test_a_DTYPE_that_is_not_measured_is_named(write, dtype):
    with pytest.raises(VariantError, match=rf"DTYPE {dtype[3:]} is not measured; expected float32 or float64"):
        opened(write(("DTYPE = np.float64", f"DTYPE = {dtype}")))


@pytest.mark.parametrize("dtype", ["'float32'", "np.dtype('float64')", "float"])
def test_a_DTYPE_may_be_written_in_any_of_numpy_s_ways(write, dtype):
    opened(write(("DTYPE = np.float64", f"DTYPE = {dtype}")))


def test_a_DTYPE_that_is_no_dtype_is_named(write):
    with pytest.raises(VariantError, match="DTYPE 'single precision'"):
        opened(write(("DTYPE = np.float64", "DTYPE = 'single precision'")))


def test_a_stray_label_is_a_warning_in_a_user_s_file(write):
    path = write(("    def loss(self):\n", "    # phase: alone\n    def loss(self):\n"))
    answer = Session().prepare(quiet, Request(path, NETWORK, TINY).to_json())
    [warning] = answer["warnings"]
    assert warning.startswith("mine.py:")
    assert warning.endswith("the label 'alone' ends no statement, so nothing is timed under it")


def test_a_stray_label_is_an_error_in_the_catalog_s_own_file(write, monkeypatch):
    from dataclasses import replace

    path = write(("    def loss(self):\n", "    # phase: alone\n    def loss(self):\n"))
    entry = replace(find(path), own=True, name="mine")
    monkeypatch.setattr("mlpprof.catalog.find", lambda _: entry)
    with pytest.raises(VariantError, match="the label 'alone' ends no statement"):
        opened("mine")


# Answers


def test_the_quick_check_answers_for_right_and_wrong_variants(write):
    right = CheckResult(**opened("sliced").quick_check(quiet, "sliced"))
    assert (right.variant, right.ok) == ("sliced", True)
    path = write(("delta.sum(axis=0))", "0 * delta.sum(axis=0))"))
    wrong = CheckResult(**opened(path).quick_check(quiet, path))
    assert wrong.ok is False
    assert "mine: layer" in wrong.message


def test_the_agreement_of_two_variants_is_shown_in_double_precision(write):
    loader = Loader()
    cached, sliced = (loader.prepare(Request(name, NETWORK, TINY), quiet) for name in ("cached", "sliced"))
    agreed = check_agreement(cached, sliced)
    assert agreed.ok is True
    assert agreed.deviation < 1e-12
    path = write(("delta.sum(axis=0))", "0 * delta.sum(axis=0))"))
    differing = check_agreement(loader.prepare(Request(path, NETWORK, TINY), quiet), sliced)
    assert differing.ok is False
    assert "gradients deviate from those of sliced" in differing.message


def test_the_line_view_and_the_call_view_run_a_few_steps_at_least():
    session = opened("cached")
    lines = decode(LineProfile, json.loads(json.dumps(session.lines(quiet, "cached", 30))))
    assert lines.batch == 30
    assert lines.steps >= VIEW_STEPS
    source = find("cached").source().splitlines()
    hits = {source[line.line - 1].strip(): line.hits for line in lines.lines}
    assert hits["self.forward()"] == lines.steps
    stacks = session.stacks(quiet, "cached", 30)
    assert stacks["steps"] >= VIEW_STEPS
    assert json.loads(stacks["session_json"])["frame_records"] is not None


def test_a_profile_crosses_as_json_and_has_all_phases(write):
    session = opened(write())
    answer = json.loads(json.dumps(session.profile(quiet, str(find(write()).path), 30, 10)))
    result = decode(BatchResult, answer)
    assert list(result.phases) == list(PHASES)
    assert result.total_s.size == 10
    assert {label.label for label in result.labels} == {"gather", "weighted sum"}


def test_check_answers_for_one_variant(write):
    assert CheckResult(**worker.check(quiet, "cached", 6, 0)).ok is True
    assert CheckResult(**worker.check(quiet, write(), 6, 0)).ok is True
