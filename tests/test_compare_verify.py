"""`mlpprof verify`: what a stored race states is confirmed by its samples, and what was altered is found."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.compare.decide import decide, log_ratios, null_bias
from mlpprof.compare.error_bounds import procedure_for
from mlpprof.compare.verdict import verdict_of
from mlpprof.compare.verify import statements_of_race
from mlpprof.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, RunFileError
from mlpprof.results import Comparison, Ladder
from mlpprof.results.on_disk import OF_RACES, load_run, save_run, seal
from mlpprof.results.races_on_disk import load_races, races_bytes
from tests.pages import make_comparison, make_ladder, make_program_comparison
from tests.runs import make_run

ALTERATIONS = 90


def decided(
    comparison: Comparison, null: tuple[float, ...] = (), final: bool = False, resolution: float = 0.1
) -> Comparison:
    """The comparison with the verdict that its samples give."""
    at_least, procedure = comparison.verdict.at_least, procedure_for(resolution)
    found = decide(
        log_ratios(comparison.race), at_least, procedure, null=null_bias(null) if null else None, final=final
    )
    race = comparison.race
    difference_s = race.step_s(0) - race.step_s(1)
    changes = tuple(replace(one, share=(one.old_s - one.new_s) / difference_s) for one in comparison.waterfall)
    return replace(comparison, verdict=verdict_of(found, procedure, "; a note"), waterfall=changes)


def ladder() -> Ladder:
    """A ladder whose ratios are those of its samples."""
    return with_its_ratios(make_ladder(names=("naive", "cached", "sliced"), root="naive", processes=2))


def with_its_ratios(made: Ladder) -> Ladder:
    """The ladder with the steps and ratios that its samples give."""
    ratios = [
        replace(
            rung,
            step_s=made.race.step_s(i),
            over_parent=None if i == 0 else verdict_of(decide(log_ratios(made.race, i - 1, i))),
            over_root=None if i == 0 else verdict_of(decide(log_ratios(made.race, 0, i))),
            parent=None if i == 0 else made.rungs[i - 1].name,
        )
        for i, rung in enumerate(made.rungs)
    ]
    return replace(made, rungs=tuple(ratios))


@pytest.fixture(scope="module")
def stored() -> bytes:
    """The content of a file with one comparison, which an A/A race and the budget have influenced."""
    slower = replace(make_comparison("sliced", "cached"), verdict=make_comparison(at_least=2.0).verdict)
    return races_bytes([decided(slower, null=(0.001, -0.002, 0.003), final=True)])


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def mlpprof(capsys) -> Command:
    """Runs a command; its exit code, and what it printed."""

    def invoke(*words: str | Path) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, " ".join("".join(capsys.readouterr()).split())

    return invoke


@pytest.fixture
def verify(mlpprof, tmp_path) -> Command:
    """Runs `mlpprof verify` on a file with this content."""

    def verified(content: bytes, *options: str) -> tuple[int, str]:
        (tmp_path / "race.h5").write_bytes(content)
        return mlpprof("verify", tmp_path / "race.h5", *options)

    return verified


def altered(content: bytes, alter: Callable[[h5py.File], None]) -> bytes:
    """The content with a change, under a digest that is right."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        alter(file)
    return seal(buffer.getvalue(), OF_RACES)


def with_field(path: tuple[str | int, ...], value: Any) -> Callable[[h5py.File], None]:
    """A change of one value in the JSON of the first race."""

    def alter(file: h5py.File) -> None:
        record = json.loads(file["races/0/record"].asstr()[()])
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value(inner[path[-1]]) if callable(value) else value
        del file["races/0/record"]
        file["races/0/record"] = json.dumps(record)

    return alter


def with_sample(process: int, block: int, entrant: int, turn: int, factor: float) -> Callable[[h5py.File], None]:
    """A change of one sample."""

    def alter(file: h5py.File) -> None:
        dataset = file[f"races/0/turns/{process}"]
        dataset[block, entrant, turn] = dataset[block, entrant, turn] * factor

    return alter


def test_a_comparison_is_read_as_it_was_written_and_confirmed(stored, verify, tmp_path):
    code, printed = verify(stored)
    assert code == EXIT_OK, printed
    assert "figures are confirmed" in printed
    [found] = load_races(tmp_path / "race.h5")
    assert races_bytes([found.record])[1024:] == stored[1024:]
    with pytest.raises(RunFileError, match="holds a race, not a run; mlpprof report"):
        load_run(tmp_path / "race.h5")


def programs() -> Comparison:
    """A comparison of programs in two processes."""
    made = make_program_comparison()
    return decided(replace(made, race=replace(made.race, turns_s=made.race.turns_s * 2)))


@pytest.mark.parametrize("record", [ladder(), programs()], ids=["ladder", "programs"])
def test_ladders_and_races_of_programs_are_confirmed_and_shown_again(record, verify, mlpprof, tmp_path):
    code, printed = verify(races_bytes([record]), "--json")
    assert code == EXIT_OK, printed
    [statements] = json.loads(printed)["files"].values()
    assert len(statements) >= 8
    code, printed = mlpprof("report", tmp_path / "race.h5")
    assert code == EXIT_OK, printed
    assert (record.rungs[1].name if isinstance(record, Ladder) else record.new) in printed
    [document] = json.loads(mlpprof("report", tmp_path / "race.h5", "--json")[1])
    assert len(document["turns_s"]) == len(record.race.turns_s)


def answer(content: bytes, path: Path) -> str:
    """What `verify` says of a file with this content."""
    path.write_bytes(content)
    try:
        return "same" if all(one.is_confirmed for one in statements_of_race(*load_races(path))) else "differs"
    except RunFileError:
        return "refused"


def test_every_altered_record_is_found(stored, tmp_path):
    random = Random(1)
    for number in range(ALTERATIONS):
        factor = 1 + random.choice([-1, 1]) * 10 ** random.uniform(-4, -1)
        kind = number % 6
        if kind == 0:  # a byte, and the digest stays
            place = random.randrange(len(stored))
            content = stored[:place] + bytes([stored[place] ^ random.randrange(1, 256)]) + stored[place + 1 :]
            assert answer(content, tmp_path / "race.h5") == "refused", place
            continue
        key = random.choice(["old_s", "share"])
        alter = (
            with_sample(random.randrange(4), random.randrange(8), random.randrange(2), random.randrange(2), factor),
            with_field(("verdict", random.choice(["ratio", "low", "high"])), lambda value, by=factor: value * by),
            with_field(("verdict", "outcome"), lambda value: "pass" if value == "fail" else "fail"),
            with_field((random.choice(["old", "new"]),), random.choice(["naive", "contiguous"])),
            with_field(("waterfall", random.randrange(5), key), lambda seconds: 1.01 * seconds + 1e-5),
        )[kind - 1]
        assert answer(altered(stored, alter), tmp_path / "race.h5") == "differs", (number, kind)


def test_a_file_that_lies_about_its_shape_or_holds_no_time_is_refused(stored, verify):
    def without_samples(file: h5py.File) -> None:
        del file["races/0/turns"]
        file.create_group("races/0/turns")

    for alter, reason in (
        (without_samples, "no samples"),
        (with_sample(0, 0, 0, 0, -1.0), "is not a time"),
        (with_field(("race", "variants"), ["naive"]), "samples have shape"),
        (with_field(("verdict", "ratio"), "fast"), "expected"),
    ):
        code, printed = verify(altered(stored, alter))
        assert code == EXIT_USAGE
        assert reason in printed


def test_a_run_is_verified_by_its_digest_and_what_it_states(mlpprof, tmp_path):
    path = save_run(make_run(), tmp_path / "run.h5")
    assert mlpprof("verify", path)[0] == EXIT_OK
    run = load_run(path)
    save_run(replace(run, variant=replace(run.variant, source=f"{run.variant.source}\n")), path)
    code, printed = mlpprof("verify", path)
    assert code == EXIT_FAILED
    assert "DIFFERS" in printed
    assert "the digest of the source" in printed


def test_a_variant_that_sat_out_some_blocks_is_confirmed(verify):
    made = ladder()
    turns_s = tuple(np.array(one) for one in made.race.turns_s)
    for one in turns_s:
        one[2:, 1] = np.nan
    record = with_its_ratios(replace(made, race=replace(made.race, turns_s=turns_s)))
    assert record.race.scatter(0)[1] == pytest.approx(np.log(turns_s[0][:2, 1]).std())
    assert verify(races_bytes([record]))[0] == EXIT_OK


def test_a_verdict_is_recomputed_at_its_own_resolution_and_another_one_is_found(verify):
    slower = replace(make_comparison("sliced", "cached"), verdict=make_comparison(at_least=2.0).verdict)
    fine = races_bytes([decided(slower, final=True, resolution=0.02)])
    assert verify(fine)[0] == EXIT_OK
    assert verify(altered(fine, with_field(("verdict", "resolution"), 0.1)))[0] == EXIT_FAILED
    assert verify(altered(fine, with_field(("verdict", "resolution"), 7.0)))[0] == EXIT_USAGE
