"""`mlpprof check-claims` as a user types it, with claims that are not measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlpprof.cli import check_claims
from mlpprof.cli.main import run
from mlpprof.errors import (
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    EXIT_USAGE,
    CheckFailed,
    VariantCrash,
)
from mlpprof.results import Speedup, Verdict

CLAIM = '[[tool.mlpprof.claims]]\nnew = "cached"\nover = "naive"\nat_least = 1.5\n'


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def measured_as(outcomes: dict[float, str], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The ratio that is claimed decides what comes out; the list receives every claim that was measured."""
    asked: list[float] = []

    def measure(new: str, *, over: str, at_least: float, **options: object) -> Speedup:
        asked.append(at_least)
        outcome = outcomes[at_least]
        if outcome == "wrong":
            raise CheckFailed("cached computes something else")
        if outcome == "crash":
            raise VariantCrash("cached.py:3: division by zero")
        return Speedup(new, over, "", Verdict(outcome, 2.0, 1.9, 2.1, at_least, 5, "as made up"), command="mlpprof x")

    monkeypatch.setattr(check_claims, "measure_speedup", measure)
    return asked


def write(*claims: str) -> None:
    Path("pyproject.toml").write_text("\n".join(claims), encoding="utf-8")


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["pass", "pass"], EXIT_OK),
        (["fail", "pass", "inconclusive"], EXIT_FAILED),
        (["wrong", "pass"], EXIT_FAILED),
        (["inconclusive", "pass"], EXIT_INCONCLUSIVE),
        (["crash", "fail"], EXIT_USAGE),
    ],
)
def test_every_claim_is_measured_and_the_exit_code_is_that_of_the_worst(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcomes: list[str], code: int
) -> None:
    claims = {2.0 + i: outcome for i, outcome in enumerate(outcomes)}
    asked = measured_as(claims, monkeypatch)
    write(*(CLAIM.replace("1.5", f"{claim:.1f}") for claim in claims))
    Path("deeper").mkdir()
    monkeypatch.chdir("deeper")
    assert run(["check-claims", "-o", "claims.json"]) == code
    assert asked == list(claims)
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == f"mlpprof: claim 1 of {len(claims)}: cached over naive"
    words = {"wrong": "FAIL", "crash": "ERROR"}
    shown = [line.split()[0] for line in printed.out.splitlines() if line.startswith(tuple("PFIE"))]
    assert shown == [words.get(outcome, outcome.upper()) for outcome in outcomes]
    kept = json.loads(Path("claims.json").read_text(encoding="utf-8"))
    assert [claim["test"] for claim in kept["claims"]] == [f"claim {i + 1}" for i in range(len(claims))]


def test_json_is_the_document_of_the_plugin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured_as({1.5: "fail"}, monkeypatch)
    write(CLAIM)
    assert run(["check-claims", "--json"]) == EXIT_FAILED
    [claim] = json.loads(capsys.readouterr().out)["claims"]
    assert (claim["new"], claim["old"], claim["at_least"], claim["verdict"]) == ("cached", "naive", 1.5, "fail")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "pyproject.toml has no claims; expected tables such as:\n    [[tool.mlpprof.claims]]"),
        ("[tool.mlpprof]\nclaims = 3\n", "pyproject.toml has claims = 3; expected tables"),
        ("[tool.mlpprof]\nclaims = [3]\n", "pyproject.toml: claim 1 is 3; expected tables"),
        ("[tool.mlpprof]\nclaim = 3\n", "[tool.mlpprof] has 'claim'; did you mean 'claims'?"),
        (
            CLAIM.replace("at_least", "at_lest"),
            "claim 1 has 'at_lest', which is not a key of a claim; did you mean 'at_least'",
        ),
        (CLAIM.replace("at_least = 1.5\n", ""), "claim 1 has no 'at_least'"),
        (
            f"{CLAIM}\n{CLAIM.replace('1.5', '0')}",
            "claim 2 (cached over naive): at_least is 0; expected a ratio above 0",
        ),
        (CLAIM.replace("1.5", "inf"), "claim 1 (cached over naive): at_least is inf; expected a ratio above 0"),
        (
            CLAIM.replace("1.5", '"often"'),
            "at_least is 'often'; expected a ratio above 0, such as 1.15, or \"baseline\"",
        ),
        (f"{CLAIM}batch = 0\n", "claim 1 (cached over naive): batch is 0; expected a whole number of 1 or more"),
        (f"{CLAIM}arguments = [3]\n", "arguments is [3]; expected a list of texts"),
        (CLAIM.replace('"cached"', "3"), "claim 1 (3 over naive): new is 3; expected a text"),
        (CLAIM.replace("cached", "cachd"), "claim 1 (cachd over naive): there is no variant 'cachd'"),
        (f'{CLAIM}workload = "tin"\n', "claim 1 (cached over naive): there is no workload 'tin'"),
        (f'{CLAIM}step = "Net.fit"\n', "claim 1 (cached over naive): 'step' is for programs only; leave it out"),
        (CLAIM.replace('"cached"', '"-m net"'), "new and over have to be two programs or two variants"),
        (
            CLAIM.replace('"cached"', '"a.py@v1"').replace('"naive"', '"a.py@v2"') + "batch = 3\n",
            "'batch' is for variants",
        ),
    ],
)
def test_an_entry_that_cannot_be_measured_is_named_with_its_key_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    asked = measured_as({}, monkeypatch)
    write(text)
    assert run(["check-claims"]) == EXIT_USAGE
    assert said in capsys.readouterr().err
    assert asked == []


def test_a_claim_without_its_baseline_announces_no_runs_and_shows_no_figure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("old.py", "new.py"):
        Path(name).write_text(f"name = {name!r}\n", encoding="utf-8")
    write('[[tool.mlpprof.claims]]\nnew = "new.py"\nover = "old.py"\nat_least = "baseline"\n')
    assert run(["check-claims"]) == EXIT_USAGE
    output = capsys.readouterr()
    assert "runs up to" not in output.err
    assert "ERROR  new.py over old.py: nothing was measured\n" in output.out
    assert "mlpprof calibrate" in output.out
