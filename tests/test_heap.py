"""Memory that was freed goes back to the system."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT

FREED = """
from pathlib import Path
from lossatlas.evaluation.heap import give_back

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

blocks = [bytes(100_000) for _ in range(2_000)]
last = bytes(100_000)  # behind them, so that the heap does not shrink by itself
del blocks
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves, or not at all"
)
def test_what_was_freed_is_given_back():
    result = subprocess.run([sys.executable, "-c", FREED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 100
