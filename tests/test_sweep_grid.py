"""The grid of a sweep and the keys of its cells."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sweeps import CLASS, COMMON, cells

from mlpprof.data import DataSource
from mlpprof.errors import UsageError
from mlpprof.programs.request import request_for
from mlpprof.sweep.grid import program_cells, values_of, variant_cells
from mlpprof.workloads import resolve

FIRST = cells()[0]


def test_the_grid_has_every_combination_and_no_race_of_the_baseline_with_itself():
    wide, deep = resolve("tiny", layers=(20, 30, 3)), resolve("tiny", layers=(20, 5, 5, 3))
    grid = [
        cell.text
        for cell in variant_cells(
            ["naive", "cached"], "naive", [wide, deep], [8, 16], ["float32", "float64"], [1, None], 0, COMMON
        )
    ]
    assert len(grid) == len(set(grid)) == 2 * 2 * 2 * 2
    assert grid[0] == "cached over naive 20-30-3 batch 8 float32 threads 1"
    assert grid[-1] == "cached over naive 20-5-5-3 batch 16 float64"


def test_values_come_from_commas_and_from_repeated_options():
    assert values_of(("8, 16", "16,32")) == ["8", "16", "32"]


def test_an_unknown_variant_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"no variant 'cachd'; did you mean 'cached'"):
        cells(["cachd"])


@pytest.mark.parametrize(
    "other",
    [
        cells(["cached"])[0],
        cells(batches=[20])[0],
        replace(FIRST, steps=7),
        replace(FIRST, budget_s=9.0),
        replace(FIRST, native_blas=True),
        replace(FIRST, inputs=("other code", "tiny")),
        replace(FIRST, variants=(replace(FIRST.variants[0], seed=1),)),
    ],
)
def test_each_setting_is_a_part_of_the_key(other):
    assert other.file_name(CLASS) != FIRST.file_name(CLASS)


def test_the_class_of_the_machine_is_a_part_of_the_key_and_the_typed_command_is_not():
    assert FIRST.file_name("another class") != FIRST.file_name(CLASS)
    assert replace(FIRST, typed="mlpprof sweep --json", folder="/elsewhere").file_name(CLASS) == FIRST.file_name(CLASS)
    assert FIRST.file_name(CLASS).startswith("naive-20-8-5-3-batch10-threads1-")


def test_a_change_of_the_data_file_changes_the_key(tmp_path: Path):
    path = tmp_path / "set.npz"
    np.savez(path, X=np.zeros((9, 4)), Y=np.arange(9) % 3)
    workload = resolve("tiny", source=DataSource.parse(str(path)))
    names = []
    for second in (1, 2):
        os.utime(path, (second, second))
        [cell] = variant_cells(["naive"], None, [workload], [3], [None], [1], 0, COMMON)
        names.append(cell.file_name(CLASS))
    assert names[0] != names[1]


def test_a_change_of_an_imported_module_changes_the_key_of_a_program(tmp_path: Path):
    script, package = tmp_path / "train.py", tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    script.write_text("import nets\n")

    def names() -> list[str]:
        return [cell.file_name(CLASS) for cell in program_cells([request_for(script)], None, [None, 2], COMMON)]

    before = names()
    assert before == names() and len(set(before)) == 2
    (package / "layer.py").write_text("x = 1\n")
    assert not set(names()) & set(before)
