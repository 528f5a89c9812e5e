"""Records and requests cross the process boundary as JSON, unchanged."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import networks

from mlpprof.data.source import DataSource
from mlpprof.model import PHASES, Network
from mlpprof.profile.request import Request
from mlpprof.results import BatchResult, CheckResult, LabelSamples, LineProfile, LineTime, PhaseSamples
from mlpprof.results.json import WrongJson, decode, encode, json_text, parse


def across(message: dict) -> dict:
    """Through the pipe."""
    return json.loads(json.dumps(message))


def result(rng: np.random.Generator, rounds: int, steps: int, separable: bool = True) -> BatchResult:
    samples = [rng.exponential(1e-3, (rounds, steps)) for _ in range(9)]
    return BatchResult(
        batch=32,
        steps_per_epoch=10,
        total_s=samples[0],
        phases_pass_s=samples[1],
        labels_pass_s=samples[2],
        phases={
            name: PhaseSamples(samples[3 + i], 1e6 / 3, None if i else 2.5, 0.1 * i) for i, name in enumerate(PHASES)
        }
        if separable
        else {},
        labels=(
            LabelSamples("forward", 2, "weighted sum", samples[8], 3),
            LabelSamples("loss", None, "cost", samples[0], 1),
        ),
        losses=rng.standard_normal(rounds * steps),
        warmup_steps=11,
        separable=separable,
    )


def assert_same(ours: object, theirs: object) -> None:
    """The same values of the same types, arrays included, however deep."""
    assert type(ours) is type(theirs)
    if isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours, theirs, equal_nan=True)
    elif dataclasses.is_dataclass(ours):
        for field in dataclasses.fields(ours):
            assert_same(getattr(ours, field.name), getattr(theirs, field.name))
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for key in ours:
            assert_same(ours[key], theirs[key])
    elif isinstance(ours, tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": "many"}, "batch: expected `int`, got `str`"),
        ({"batch": True}, "batch: expected `int`, got `bool`"),
        ({"total_s": [[1.0], [2.0, 3.0]]}, "total_s: "),
        ({"labels": [{"phase": 3}]}, r"labels[0].phase: expected `str`, got `int`"),
        ({"phases": []}, "phases: expected `object`, got `array`"),
        ({"losses": [[[]] * 3] * 2 + [1]}, "losses: "),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_place(changes, message):
    sent = across(encode(result(np.random.default_rng(0), 1, 1)))
    with pytest.raises(WrongJson, match=re.escape(message)):
        decode(BatchResult, sent | changes)


def test_a_record_that_checks_itself_is_refused_with_its_own_reason():
    with pytest.raises(WrongJson, match="diverges; expected 0 <= momentum < 1"):
        decode(Network, {"layers": [3, 2], "momentum": 2.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        (b"\xff", "decode"),
        ("[1, NaN]", "NaN, which is not a JSON number"),
        ("[" * 100_000 + "]" * 100_000, "nested too deep"),
        ("[" * 101 + "]" * 101, "nested too deep"),
        ("9" * 5000, "digits"),
    ],
)
def test_a_text_that_is_not_json_is_refused_with_the_reason(text, message):
    with pytest.raises(WrongJson, match=message):
        parse(text)


def test_nan_is_read_only_if_it_is_allowed_and_written_as_null():
    assert np.isnan(parse("[NaN]", allow_nan=True)[0])
    assert json.loads(json_text({"a": (float("inf"), np.float32(0.5)), "b": np.array([np.nan, 1.0])})) == {
        "a": [None, 0.5],
        "b": [None, 1.0],
    }


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_a_batch_result_arrives_as_it_was_to_the_last_bit(seed, rounds, steps, separable):
    sent = result(np.random.default_rng(seed), rounds, steps, separable)
    assert_same(decode(BatchResult, across(encode(sent))), sent)


def test_a_loss_that_diverged_arrives_as_nan_and_infinity():
    sent = dataclasses.replace(result(np.random.default_rng(0), 1, 3), losses=np.array([1.0, np.inf, np.nan]))
    assert_same(decode(BatchResult, across(encode(sent))), sent)


def test_what_was_encoded_stays_as_it_was():
    sent = result(np.random.default_rng(0), 2, 2)
    encode(sent)["phases"].clear()
    assert list(sent.phases) == list(PHASES)
    assert isinstance(sent.total_s, np.ndarray)


def test_a_line_profile_arrives_as_it_was():
    sent = LineProfile(32, 7, 0.125, (LineTime(3, 7, 0.1), LineTime(4, 14, 1 / 3)))
    assert_same(decode(LineProfile, across(encode(sent))), sent)
    assert_same(decode(LineProfile, across(encode(LineProfile(1, 0, 0.0, ())))), LineProfile(1, 0, 0.0, ()))


@pytest.mark.parametrize(
    "sent",
    [
        CheckResult("cached", True, 1e-12, 1e-10, 3, "gradients, 30 networks"),
        CheckResult("mine", False, float("inf"), 1e-6, None, "predict", None, "mine: predict deviate"),
        CheckResult("gpu", None, skipped="it does none of the 6 networks tried: too small"),
    ],
)
def test_a_check_result_arrives_as_it_was(sent):
    assert CheckResult(**across(encode(sent))) == sent


@given(
    networks(),
    st.sampled_from(
        [DataSource("digits"), DataSource(path="/data/größe.h5", x="X", y="labels"), DataSource(path="a b")]
    ),
    st.sampled_from([None, "float32", "float64"]),
    st.integers(0, 2**63),
)
def test_a_request_arrives_as_it_was(network, source, dtype, seed):
    sent = Request("/home/me/my mlp.py:MLP", network, source, dtype, seed)
    received = Request.from_json(across(sent.to_json()))
    assert received == sent
    assert isinstance(received.network.layers, tuple)
    assert hash(received) == hash(sent)


def test_a_request_has_the_variant_s_own_dtype_and_seed_0_by_default():
    request = Request("cached", Network((3, 2)), DataSource("tiny"))
    assert (request.dtype, request.seed) == (None, 0)
