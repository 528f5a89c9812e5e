"""Where mlpprof sees no training step, it says what the program does instead, where, and what helps."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from mlpprof.advise import Subject, find
from mlpprof.errors import MlpprofError, VariantCrash
from mlpprof.programs.why_no_step import Signs

STEP = """
import numpy as np
X, Y, W = np.ones((300, 20)), np.ones((300, 3)), np.zeros((20, 3))

def step():
    global W
    W = W - 1e-5 * (X.T @ (np.tanh(X @ W) - Y))
"""

POOL = """
import multiprocessing

def work(number):
    while True:
        step()

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    with multiprocessing.Pool(1) as pool:
        pool.map(work, range(1))
"""

DOWNLOAD = """
import socket, time
try:
    socket.create_connection(("192.0.2.1", 80), timeout=0.1)
except OSError:
    pass
while True:
    time.sleep(0.01)
"""

ASYNC = """
import asyncio

class Net:
    async def step(self):
        step()

async def main():
    net = Net()
    for i in range(20):
        await net.step()

asyncio.run(main())
"""


def said(tmp_path, text, step=None, wait_s=120.0):
    """What mlpprof says about the program."""
    path = tmp_path / "train.py"
    path.write_text(STEP + text, encoding="utf-8")
    with pytest.raises(MlpprofError) as error:
        find(Subject(path, step, wait_s=wait_s))
    return str(error.value)


@pytest.mark.parametrize(
    ("library", "at", "said"),
    [
        ("tkinter", "root.mainloop()", "it uses tkinter, and seems to wait until you close a window"),
        ("cv2", "cv2.waitKey(0)", "it uses cv2, and seems to wait until you close a window"),
        ("cv2", "image = cv2.imread(name)", None),
        ("torch", "loss.backward()", "it uses torch, whose operations mlpprof does not look into"),
    ],
)
def test_a_program_that_waits_for_a_window_or_uses_a_framework(library, at, said, monkeypatch):
    monkeypatch.delitem(sys.modules, library, raising=False)
    signs = Signs(lambda path: True)
    monkeypatch.setitem(sys.modules, library, ModuleType(library))
    signs.stopped = f"after 120 seconds the program was still at train.py:9 (`{at}`)"
    reason = signs.reason(has_ended=False)
    assert reason is None if said is None else said in reason


@pytest.mark.slow
def test_a_program_that_downloads(tmp_path):
    found = said(tmp_path, DOWNLOAD, wait_s=2)
    assert "after 2 seconds the program was still at train.py:15 (`time.sleep(0.01)`)" in found
    assert "It seems to download: train.py:11 connects to 192.0.2.1" in found
    assert "Run the program once with python" in found


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.skipif("sys.platform == 'win32'", reason="Windows has no fork")
def test_a_program_that_trains_in_other_processes(tmp_path):
    found = said(tmp_path, POOL, wait_s=6)
    assert "Other processes, which train.py:17 starts, do most of the work" in found
    assert "single worker" in found


@pytest.mark.slow
def test_a_program_that_waits_for_input(tmp_path):
    found = said(tmp_path, "rate = float(input('rate? '))")
    assert found.startswith("train.py:8: EOFError")
    assert "waits for input" in found
    assert "own arguments go after --" in found


@pytest.mark.slow
@pytest.mark.parametrize("step", [None, "Net.step"])
def test_a_step_that_is_async(tmp_path, step):
    found = said(tmp_path, ASYNC.replace("        step()", "        global W\n        W = W - 0.1 * W"), step)
    assert "Net.step" in found
    assert "is an `async def`" in found
    assert "plain function" in found


@pytest.mark.slow
@pytest.mark.parametrize("step", [None, "step"])
def test_a_file_that_trains_nothing(tmp_path, step):
    found = said(tmp_path, "", step)
    assert "the program ran to its end" in found
    assert "name the script that trains it" in found


@pytest.mark.slow
@pytest.mark.parametrize("step", [None, "step"])
def test_a_program_that_needs_long_to_begin(tmp_path, step):
    found = said(tmp_path, "import time\nwhile True:\n    time.sleep(0.01)", step, wait_s=2)
    assert "after 2 seconds the program was still at train.py:10 (`time.sleep(0.01)`)" in found
    assert "--time-limit 600" in found


@pytest.mark.slow
def test_a_module_of_a_package_that_runs_as_a_script(tmp_path):
    package = tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text("from . import layers")
    with pytest.raises(VariantCrash) as error:
        find(package / "train.py")
    assert f"it is a module of a package, which is written -m nets.train, in the folder {tmp_path}" in str(error.value)


@pytest.mark.slow
def test_a_module_that_lies_beside_the_folder_of_a_script_is_found_for_the_user(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "nets.py").write_text("")
    (tmp_path / "scripts" / "train.py").write_text("import nets.layers\n")
    with pytest.raises(VariantCrash) as error:
        find(Subject(tmp_path / "scripts" / "train.py"))
    assert f"'nets' is in the folder {tmp_path}, where Python does not look" in str(error.value)
