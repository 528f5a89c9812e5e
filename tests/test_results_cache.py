"""Kept measurements: found again under their key alone, and measured anew, with a note, where a file is damaged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from mlpprof.errors import UsageError
from mlpprof.results.cache import Cache


@dataclass(frozen=True)
class Speed:
    """A record that a cache may hold."""

    gflops: Annotated[float, Meta(gt=0, le=1e12)]
    names: frozenset[str] = frozenset()


CACHE = Cache("speeds", 3, Speed)
KEY = {"cpu": "AMD EPYC", "threads": 1, "sizes": [3, 2]}
KEPT = Speed(80.0, frozenset({"b", "a"}))


def no_note(text: str) -> None:
    pytest.fail(text)


def test_a_measurement_comes_back_under_its_key_alone(tmp_path):
    path = CACHE.write(KEY, KEPT, tmp_path / "made")
    assert CACHE.read(KEY, no_note, tmp_path / "made") == KEPT
    assert CACHE.read({**KEY, "threads": 2}, no_note, tmp_path / "made") is None
    assert json.loads(path.read_text()) == {"schema": 3, "key": KEY, "gflops": 80.0, "names": ["a", "b"]}


def test_a_file_of_another_schema_or_another_key_counts_as_missing(tmp_path):
    path = CACHE.write(KEY, KEPT, tmp_path)
    kept = json.loads(path.read_text())
    for changed in ({"schema": 2}, {"key": {}}):
        path.write_text(json.dumps({**kept, **changed}))
        assert CACHE.read(KEY, no_note, tmp_path) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "Expecting value"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "nested too deep"),
        ('{HEAD, "gflops": "fast"}', "gflops: expected `float`, got `str`"),
        ('{HEAD, "gflops": NaN}', "NaN"),
        ('{HEAD, "gflops": 1e999}', "gflops: expected `float` <= "),
        ('{HEAD, "gflops": -1}', "gflops: expected `float` > 0.0"),
        ('{HEAD, "gflops": %s}' % ("9" * 400), "gflops: number out of range"),
        ('{HEAD, "gflops": %s}' % ("9" * 5000), "digits"),
        ("{HEAD}", "missing required field `gflops`"),
        ('{HEAD, "gflops": 1, "names": ["a", 2]}', "names[1]: expected `str`, got `int`"),
    ],
)
def test_a_damaged_file_is_measured_anew_with_a_note_that_names_it(tmp_path, content, why):
    path = CACHE.write(KEY, KEPT, tmp_path)
    path.write_text(content.replace("HEAD", f'"schema": 3, "key": {json.dumps(KEY)}'))
    notes: list[str] = []
    assert CACHE.read(KEY, notes.append, tmp_path) is None
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert why in notes[0]


def test_a_folder_that_cannot_be_made_is_an_error_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write into .*file"):
        CACHE.write(KEY, KEPT, tmp_path / "file")


def test_the_folder_is_the_one_that_this_system_has_for_caches(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name, appauthor: str(tmp_path / name))
    assert CACHE.path(KEY).parent == Path(tmp_path) / "mlpprof" / "speeds"
