"""The campaign sees what it looks for: a traceback, a crash, a damaged file, a wrong exit code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlpprof.errors import DataError, MlpprofError

pytest.importorskip("resource", reason="the campaign forks, and limits the memory of its workers")

import campaign


def planted(error: BaseException | None) -> list[campaign.Loader]:
    """A loader that raises this."""

    def read(path: Path) -> None:
        if error is not None:
            raise error

    return [campaign.Loader("planted", ".json", (b'{"a": [1, 2]}',), read, campaign.changed_json)]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "taken"),
        (DataError("x.json is damaged"), "refused"),
        (MlpprofError(""), "has no sentence"),
        (KeyError("a"), "KeyError at test_campaign.py"),
        (RecursionError("deep"), "RecursionError at"),
    ],
)
def test_how_a_loader_took_a_damaged_file(tmp_path: Path, error: BaseException | None, outcome: str) -> None:
    assert campaign.try_input(7, 1, planted(error), tmp_path).startswith(f"planted: {outcome}")


def test_the_same_seed_and_number_make_the_same_file(tmp_path: Path) -> None:
    kinds = campaign.loaders(tmp_path)
    first = [campaign.input_of(7, number, kinds)[1] for number in range(3 * len(kinds)) if number % len(kinds)]
    again = [campaign.input_of(7, number, kinds)[1] for number in range(3 * len(kinds)) if number % len(kinds)]
    assert first == again
    assert len(set(first)) > len(kinds)


def test_a_forked_reader_that_crashes_or_hangs_is_noticed() -> None:
    lines, end = campaign.forked(lambda say: (say("one"), os.kill(os.getpid(), 9))[0], 5)
    assert (lines, end) == (["one"], "ended with SIGKILL")
    lines, end = campaign.forked(lambda say: campaign.signal.pause(), 0.05)
    assert (lines, end) == ([], "hung for 0 s")


def test_files_that_are_not_whole_are_found(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "half.json").write_text('{"a":')
    (tmp_path / "half.html").write_text("<html>")
    (tmp_path / "empty.h5").touch()
    assert [found.partition(":")[0] for found in campaign.damaged(tmp_path)] == ["empty.h5", "half.html", "half.json"]


@pytest.mark.parametrize(
    ("code", "words", "wrong"),
    [
        (2, "mlpprof: no", ""),
        (1, "mlpprof: no", "exit code 1: mlpprof: no"),
        (2, "Traceback (most recent call last)\nKeyError: 'a'", "a traceback: KeyError: 'a'"),
    ],
)
def test_a_command_has_to_end_with_a_sentence_and_its_code(code: int, words: str, wrong: str) -> None:
    assert campaign.verdict_on(subprocess.CompletedProcess("", code, "", words), (2,)) == wrong
