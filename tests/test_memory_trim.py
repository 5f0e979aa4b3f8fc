"""Memory that was freed goes back to the system, and what is written is there once."""

import io
import platform
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from lossatlas.io import hdf5

FREED = """
from pathlib import Path
from lossatlas.evaluation.memory_trim import trim_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

blocks = [bytes(100_000) for _ in range(2_000)]
last = bytes(100_000)  # behind them, so that the heap does not shrink by itself
del blocks
before = resident()
trim_memory()
print(before - resident())
"""


@pytest.mark.commands
@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries give back by themselves, or not at all"
)
def test_what_was_freed_is_given_back():
    result = subprocess.run([sys.executable, "-c", FREED], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 100


WRITTEN = """
import sys
from pathlib import Path
import numpy as np
from lossatlas.io import Directions, write_directions

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

small, large = (Directions([np.ones((count, 2**18), np.float32)]) for count in (1, 100))
write_directions(Path(sys.argv[1]), small, new=True)
before = peak()
write_directions(Path(sys.argv[2]), large, new=True)
print(peak() - before)
"""


@pytest.mark.commands
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_a_file_of_directions_is_in_memory_once_while_it_is_written(tmp_path):
    """Beside the directions themselves, which have 100 MB."""
    files = [str(tmp_path / name) for name in ("small.h5", "large.h5")]
    result = subprocess.run(
        [sys.executable, "-c", WRITTEN, *files], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert 90 < float(result.stdout) < 130


def test_no_memory_for_a_file_is_said_as_that(monkeypatch):
    class Small(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > 2**20:
                raise MemoryError
            return super().write(data)

    monkeypatch.setattr(hdf5, "BytesIO", Small)
    with pytest.raises(MemoryError):
        hdf5.image_of(lambda f: f.create_dataset("large", data=np.ones(2**18)))
    with pytest.raises(ValueError, match="of its own"):
        hdf5.image_of(own_error)


def own_error(file):
    raise ValueError("of its own")
