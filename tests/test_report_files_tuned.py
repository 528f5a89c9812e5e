"""The file to take home: it stands alone, and computes what the variant computes, bit for bit."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare_autotune import tuning

from mlpprof.catalog import find, ladder, load
from mlpprof.errors import MissingExtra, UnsupportedNetwork, VariantError
from mlpprof.model import ACTIVATIONS, Network
from mlpprof.profile.passes import batches
from mlpprof.report.files.formats import TUNING
from mlpprof.report.files.tuned_file import assemble, tuned_file

RUNGS = [name for name, entry in ladder().items() if entry.extra in (None, "compiled")]
HELD_BY_OTHERS = ("blocked", "blocked_team", "sparse", "compiled_processes")
"""The engines of these are in the files of other variants too, and numba needs up to 20 seconds for each file."""
RUN_RUNGS = [
    pytest.param(name, marks=pytest.mark.slow) if ladder()[name].extra else name
    for name in RUNGS
    if name not in HELD_BY_OTHERS
]
NETWORK = Network((20, 8, 5, 3), rate=0.5, momentum=0.9, l2=1e-4)


def written(folder: Path, name: str, **constants: int) -> Path:
    return TUNING.write(tuning(variant=name, constants=constants, winner=name), folder / "fast_mlp.py")


def mlp_of(path: Path) -> Any:
    return load(find(str(path)))


@pytest.mark.parametrize("name", RUN_RUNGS)
def test_the_file_gives_bit_for_bit_the_losses_and_parameters_of_its_variant(name, tmp_path, tiny, fresh_imports):
    try:
        original = load(ladder()[name])
    except MissingExtra as missing:
        pytest.skip(str(missing))
    X, Y = (values.astype(np.float32) for values in tiny)
    network = Network((20, 5, 3), rate=0.1) if name in ("delayed", "numeric", "scalar", "dense_layers") else NETWORK
    models = [
        cls(network, network.initial_parameters(0, np.float32)) for cls in (original, mlp_of(written(tmp_path, name)))
    ]
    walk = batches(len(X), 300 if name == "gram" else 30, 0)
    for _ in range(3):
        index = next(walk)
        first, second = (model.train_step(X, Y, index) for model in models)
        assert first == second
    for ours, theirs in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
def test_no_file_imports_the_package_and_each_defines_all_that_it_uses(tmp_path):
    allowed = {
        *sys.stdlib_module_names,
        "numpy",
        "scipy",
        "numba",
        "llvmlite",
        "threadpoolctl",
    }  # threadpoolctl may be missing
    for name in RUNGS:
        text = tuned_file(tuning(variant=name, constants={}))
        tree = ast.parse(text)
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {module.split(".")[0] for module in imported} <= allowed, name
        (tmp_path / f"{name.replace('/', '_')}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_file_trains_where_the_package_cannot_be_found(tmp_path, tiny):
    path = written(tmp_path, "chunked", ROWS=8)
    X, Y = tiny
    np.savez(tmp_path / "data.npz", X=X, Y=Y)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "mlpprof.py").write_text("raise ImportError('mlpprof is not installed here')\n")
    done = subprocess.run(
        [sys.executable, path.name, "data.npz", "5"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(hidden)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    losses = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines()]
    assert len(losses) == 5
    assert losses[-1] < losses[0]


def test_the_constants_and_the_threads_that_were_measured_stand_in_the_file():
    text = tuned_file(tuning(variant="chunked", constants={"ROWS": 8}, threads=3))
    assert "\nROWS = 8\n" in text
    assert "ROWS = 500" not in text
    assert 'os.environ.setdefault(variable, "3")' in text
    assert text.index("setdefault(variable") < text.index("import numpy")
    assert "NETWORK = Network(layers=(20, 8, 5, 3)" in text


def test_the_number_of_workers_that_was_measured_stands_in_the_file():
    text = tuned_file(tuning(variant="processes", constants={}, variables={"MLPPROF_WORKERS": "3"}))
    assert "os.environ.setdefault('MLPPROF_WORKERS', '3')\n" in text


def test_definitions_are_the_source_text_of_the_real_files_with_their_docstrings():
    text = tuned_file(tuning(variant="sliced", constants={}))
    assert '"""A (1 - A)."""' in text
    assert "def sigmoid_derivative_from_A(A: Array) -> Array:" in text
    assert ACTIVATIONS["sigmoid"].name == "sigmoid"


def test_a_name_that_the_variant_has_too_gets_a_prefix():
    text = tuned_file(tuning(variant="tanh_sigmoid", constants={}))
    assert text.count("\ndef sigmoid(") == 1
    assert "def activations_sigmoid(" in text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import mlpprof.model\nPARENT = None\n", "cannot be inlined"),
        ("from mlpprof.model import nothing\nPARENT = None\n", "defines no nothing"),
        ("PARENT = \n", "mine.py:1"),
    ],
)
def test_what_cannot_be_inlined_is_refused_with_its_name(source, words):
    with pytest.raises(VariantError, match=words):
        assemble(source, "mine.py", "", {})


def test_a_constant_that_is_not_there_is_refused():
    with pytest.raises(VariantError, match="mine.py has no constant ROWS to set to 8"):
        assemble("PARENT = None\n", "mine.py", "", {"ROWS": 8})


def test_a_network_that_the_file_cannot_do_is_refused_as_by_its_variant(tmp_path, fresh_imports):
    from mlpprof.catalog import variant_code

    path = written(tmp_path, "gram")
    cls, network = mlp_of(path), Network((3, 2), l1=0.1)
    with pytest.raises(UnsupportedNetwork, match="gram cannot use l1"), variant_code(find(str(path))):
        cls(network, network.initial_parameters(0))
