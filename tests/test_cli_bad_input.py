"""Every kind of bad input: one clear line that names the offending value, and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from mlpprof.cli.main import run
from mlpprof.errors import EXIT_USAGE


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).random((30, 4))
    np.savez("good.npz", X=X, Y=np.arange(30) % 3)
    np.savez("short.npz", X=X, Y=np.arange(20) % 3)
    np.savez("nan.npz", X=np.where(np.arange(120).reshape(30, 4) == 50, np.nan, X), Y=np.arange(30) % 3)
    np.savez("negative.npz", X=X, Y=np.arange(30) % 3 - 1)
    Path("empty.h5").write_bytes(b"")
    Path("text.h5").write_text("this is no HDF5 file\n", encoding="utf-8")
    Path("folder").mkdir()
    with h5py.File("named.h5", "w") as file:
        file["samples"], file["classes"] = X, np.arange(30) % 3
    Path("pickle.npz").write_bytes(b"\x80\x04K\x01.")
    Path("half.py").write_text("class MLP:\n    DTYPE = float\n    def train_step(self, X): pass\n", encoding="utf-8")
    Path("broken.py").write_text("class MLP(\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["profile", "cachd"], ["cachd", "cached"]),
        (["profile", "nowhere.py"], ["nowhere.py"]),
        (["profile", "half.py:MLP"], ["half.py", "fetch_batch", "train_step"]),
        (["profile", "half.py"], ["--step MLP.train_step", "mlpprof check half.py:MLP"]),
        (["profile", "half.py:Net"], ["Net", "MLP"]),
        (["profile", "broken.py"], ["broken.py:1", "SyntaxError"]),
        (["profile", "cached", "--data", "nowhere.h5"], ["nowhere.h5"]),
        (["profile", "cached", "--data", "folder"], ["folder"]),
        (["profile", "cached", "--data", "empty.h5"], ["empty.h5", "empty"]),
        (["profile", "cached", "--data", "text.h5"], ["text.h5", "text"]),
        (["profile", "cached", "--data", "pickle.npz"], ["pickle.npz", "pickle"]),
        (["profile", "cached", "--data", "named.h5"], ["samples", "classes"]),
        (["profile", "cached", "--data", "named.h5", "--x", "sample", "--y", "classes"], ["sample", "samples"]),
        (["profile", "cached", "--data", "short.npz"], ["30", "20"]),
        (["profile", "cached", "--data", "nan.npz"], ["nan", "row 12", "column 2"]),
        (["profile", "cached", "--data", "negative.npz"], ["-1"]),
        (["profile", "cached", "--data", "good.npz", "--layers", "5-3"], ["5", "4"]),
        (["profile", "cached", "--data", "good.npz", "--layers", "4-2"], ["2", "3"]),
        (["profile", "cached", "--x", "a"], ["--x", "'a'", "--data"]),
        (["profile", "cached", "--layers", "784-0-10"], ["784-0-10"]),
        (["profile", "cached", "--layers", "784-70x-10"], ["70x"]),
        (["profile", "cached", "--layers", "784-99999999-10"], ["99999999"]),
        (["profile", "cached", "--layers", ""], ["''"]),
        (["profile", "cached", "--hidden", "sigmod"], ["sigmod", "sigmoid"]),
        (["profile", "cached", "--output", "softmax", "--loss", "squared_error"], ["softmax", "squared_error"]),
        (["profile", "cached", "--rate", "-1"], ["-1"]),
        (["profile", "cached", "--rate", "nan"], ["nan"]),
        (["profile", "cached", "--momentum", "1"], ["momentum 1"]),
        (["profile", "cached", "--workload", "tinny"], ["tinny", "tiny"]),
        (["profile", "cached", "--batch", "0"], ["'0'"]),
        (["profile", "cached", "--batch", "32,x"], ["'x'"]),
        (["profile", "cached", "--workload", "tiny", "--batch", "301"], ["301", "300"]),
        (["profile", "cached", "--steps", "0"], ["0"]),
        (["profile", "cached", "--threads", "-1"], ["-1"]),
        (["profile", "cached", "--dtype", "float16"], ["float16"]),
        (["profile", "cached", "-o", "run.docx"], ["docx"]),
        (["profile", "cached", "--workload", "tiny", "-o", "missing/run.json"], ["missing"]),
        (["profile"], ["TARGET", "mlpprof profile train.py"]),
        (["profil"], ["profil", "profile"]),
        (["report", "nowhere.h5"], ["nowhere.h5"]),
        (["report", "text.h5"], ["text.h5"]),
        (["report", "named.h5"], ["named.h5"]),
        (["report", "folder"], ["folder"]),
        (["check", "cachd"], ["cachd", "cached"]),
        (["diff", "naive", "cachd"], ["cachd", "cached"]),
        (["compare", "naive", "cached", "--resolution", "0.1%"], ["--resolution 0.1%", "1 to 50 %"]),
        (["ladder", "--resolution", "fine"], ["'fine'", "2%"]),
        (["calibrate", "naive", "cached", "--resolution", "nan"], ["'nan'", "2%"]),
        (["data", "show", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gives_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: list[str]
) -> None:
    assert run(arguments) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    message = captured.err.strip().splitlines()[-1]
    for word in named:
        assert word in message
    assert "Traceback" not in captured.err
    assert not Path("reports").exists()


def test_configuration_in_pyproject_sets_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pyproject.toml").write_text("[tool.mlpprof.check]\ncases = 3\njson = true\n", encoding="utf-8")
    assert run(["check", "naive"]) == 0
    assert json.loads(capsys.readouterr().out)["variants"]["naive"]["ok"] is True


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[tool.mlpprof.profil]\nthreads = 1\n", "profil"),
        ("[tool.mlpprof\n", "pyproject.toml"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(capsys: pytest.CaptureFixture[str], text: str, named: str) -> None:
    Path("pyproject.toml").write_text(text, encoding="utf-8")
    assert run(["profile", "cached", "--workload", "tiny"]) == EXIT_USAGE
    assert named in capsys.readouterr().err
