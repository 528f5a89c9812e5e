"""Where mlpprof sees no training step, it says what the program does instead, where, and what helps."""

from __future__ import annotations

import pytest

from mlpprof.advise import Subject, find
from mlpprof.errors import MlpprofError, VariantCrash

pytestmark = pytest.mark.slow

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

HANGS = """
import threading
for i in range(100):
    if i == 4:
        threading.Event().wait()
    step()
"""


def said(tmp_path, text, step=None, wait_s=120.0):
    """What mlpprof says about the program."""
    path = tmp_path / "train.py"
    path.write_text(STEP + text, encoding="utf-8")
    with pytest.raises(MlpprofError) as error:
        find(Subject(path, step, wait_s=wait_s))
    return str(error.value)


def test_a_program_that_downloads(tmp_path):
    found = said(tmp_path, DOWNLOAD, wait_s=2)
    assert "after 2 seconds the program was still at train.py:15 (`time.sleep(0.01)`)" in found
    assert "It seems to download: train.py:11 connects to 192.0.2.1" in found
    assert "Run the program once with python" in found


@pytest.mark.timing
@pytest.mark.skipif("sys.platform == 'win32'", reason="Windows has no fork")
def test_a_program_that_trains_in_other_processes(tmp_path):
    found = said(tmp_path, POOL, wait_s=6)
    assert "Other processes, which train.py:17 starts, do most of the work" in found
    assert "single worker" in found


def test_a_program_that_waits_for_input(tmp_path):
    found = said(tmp_path, "rate = float(input('rate? '))")
    assert found.startswith("train.py:8: EOFError")
    assert "waits for input" in found
    assert "own arguments go after --" in found


@pytest.mark.parametrize("step", [None, "Net.step"])
def test_a_step_that_is_async(tmp_path, step):
    found = said(tmp_path, ASYNC.replace("        step()", "        global W\n        W = W - 0.1 * W"), step)
    assert "Net.step" in found
    assert "is an `async def`" in found
    assert "plain function" in found


@pytest.mark.parametrize("step", [None, "step"])
def test_a_file_that_trains_nothing(tmp_path, step):
    found = said(tmp_path, "", step)
    assert "the program ran to its end" in found
    assert "name the script that trains it" in found


@pytest.mark.parametrize("step", [None, "step"])
def test_a_program_that_needs_long_to_begin(tmp_path, step):
    found = said(tmp_path, "import time\nwhile True:\n    time.sleep(0.01)", step, wait_s=2)
    assert "after 2 seconds the program was still at train.py:10 (`time.sleep(0.01)`)" in found
    assert "--time-limit 600" in found


def test_a_module_of_a_package_that_runs_as_a_script(tmp_path):
    package = tmp_path / "nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "train.py").write_text("from . import layers")
    with pytest.raises(VariantCrash) as error:
        find(package / "train.py")
    assert f"it is a module of a package, which is written -m nets.train, in the folder {tmp_path}" in str(error.value)
