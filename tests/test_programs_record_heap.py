"""From how many free bytes on the allocator gives memory back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlpprof.programs.record.heap import LEAST, given_back_from

FREED = """
import numpy as np
from mlpprof.programs.record.heap import given_back_from
before = given_back_from()
block = np.ones(3_000_000, np.uint8)
del block
print(before, given_back_from())
"""


@pytest.mark.skipif(given_back_from() is None, reason="the allocator is not glibc's, or its heap is not shown")
def test_a_large_block_that_is_freed_raises_what_the_allocator_keeps():
    run = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, run.stdout.split())
    assert 2 * LEAST <= before < 6_000_000 <= after < 6_700_000
