"""The promises of benchmarks/torture.py, each in a small number; it counts them in full."""

import sys

import pytest
from conftest import MPIRUN, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from torture import SECTIONS, Place

FEW = {
    "kills": 4,
    "signals": 6,
    "ways": 8,
    "disks": 9,
    "small_disk": 1,
    "damage": 40,
    "checkpoints": 12,
    "hostile": 16,
    "jobs": 2,
    "ranks": 3,
    "hosts": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SECTIONS)
def test_what_is_promised_holds(tmp_path, name):
    if name in ("kills", "signals", "ways", "ranks", "hosts") and MPIRUN is None:
        pytest.skip("no mpirun: pip install -r requirements-mpi.txt")
    function, _ = SECTIONS[name]
    outcomes = list(function(Place.at(tmp_path), FEW[name]))
    if not outcomes:
        pytest.skip("only root may mount file systems and make networks")
    assert [what for good, what in outcomes if not good] == []
