"""Stored claims: written, read, replaced, refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpprof.errors import UsageError
from mlpprof.machine.facts import machine_class
from mlpprof.testing.baseline import Claim, claim_key, claimed, read_claims, write_claim

CLAIM = Claim("b over a, tiny, batch 30", "x86_64 AVX2, 4 cores, openblas Haswell", 2.0, 1.9, 2.1, "2026-11-21")


def test_a_claim_is_read_as_it_was_written_and_stands_for_its_lower_end(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    write_claim(path, CLAIM)
    assert read_claims(path) == [CLAIM]
    assert claimed(path, CLAIM.what, CLAIM.machine, "") == 1.9


def test_a_new_claim_replaces_only_the_one_about_the_same_on_the_same_machine(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    other = Claim(CLAIM.what, "arm64", 3.0, 2.9, 3.1, "2026-11-20")
    for claim in (CLAIM, other, Claim(CLAIM.what, CLAIM.machine, 2.5, 2.4, 2.6, "2026-11-22")):
        write_claim(path, claim)
    assert sorted(claim.ratio for claim in read_claims(path)) == [2.5, 3.0]


def test_a_missing_claim_names_the_command_and_where_else_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    write_claim(path, CLAIM)
    with pytest.raises(
        UsageError, match=r"has no speedup for .* on arm64 \(stored for: x86_64.*mlpprof calibrate a b$"
    ):
        claimed(path, CLAIM.what, "arm64", "mlpprof calibrate a b")


SOUND = 'what = "a"\nmachine = "b"\nratio = 2.0\nlow = 1.9\nhigh = 2.1\ndate = 2026-11-21\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[claim\n", "Expected ']]'"),
        ("claim = 3\n", "'claim' is 3"),
        ("claim = [3]\n", "3 is not a stored speedup"),
        ("[[claim]]\nwhat = 1\n", "expected what, machine, ratio, low, high, date"),
        (f"[[claim]]\n{SOUND}colour = 1\n", "expected what"),
        (f"[[claim]]\n{SOUND}".replace('"a"', "1e999"), "what: expected `str`, got `float`"),
        (f"[[claim]]\n{SOUND}".replace("2.1", "nan"), "high: expected `float` > 0"),
        (f"[[claim]]\n{SOUND}".replace("2.1", "9" * 400), "high: number out of range"),
        (f"[[claim]]\n{SOUND}".replace("2.0", "3.0"), "the ratio 3 lies outside its interval, 1.9 to 2.1"),
        ("claim = " + "[" * 10_000, "cannot read the baselines"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason_and_left_alone(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"claims\.toml") as caught:
        write_claim(path, CLAIM)
    assert why in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_the_class_of_a_machine_is_coarse_and_goes_by_the_blas_of_numpy() -> None:
    scipy = {"vendor": "mkl", "kernel": "x", "loaded_by": "scipy"}
    numpy = {"vendor": "openblas", "kernel": "Haswell", "loaded_by": "numpy"}
    described = {"cpu_architecture": "x86_64", "cpu_simd": ["avx2"], "cpu_core_count": 4, "blas": [scipy, numpy]}
    assert machine_class(described) == "x86_64 AVX2, 4 cores, openblas Haswell"
    assert machine_class(described | {"load_avg_1min": 3.0, "cpu_model_name": "other"}) == machine_class(described)
    assert machine_class(described | {"cpu_core_count": 8}) != machine_class(described)


def test_what_a_claim_is_about_shows_what_is_not_the_default() -> None:
    assert claim_key("b", "a", "tiny", 30) == "b over a, tiny, batch 30"
    assert claim_key("b", "a", "tiny", 30, "float64", 4) == "b over a, tiny, batch 30, float64, 4 threads"
    assert claim_key("b", "a", "tiny", 30, None, None) == "b over a, tiny, batch 30, all threads"
