"""The promises of tests/torture, each in a small number; benchmarks/torture.py counts them in full."""

from pathlib import Path

import pytest
from torture import SECTIONS, Place
from torture.interruptions import kills

pytestmark = pytest.mark.commands

FEW = {"signals": 2, "damage": 5, "checkpoints": 1, "hostile": 3}
MORE = {
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
WITH_MPI = {"kills", "signals", "ways", "ranks", "hosts"}


def holds(folder: Path, name: str, count: int) -> None:
    function, _ = SECTIONS[name]
    outcomes = list(function(Place.at(folder), count))
    if not outcomes:
        pytest.skip("only root may mount file systems and make networks")
    assert [what for good, what in outcomes if not good] == []


def named(counts: dict[str, int]) -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.mpi] * (name in WITH_MPI)) for name in counts]


@pytest.mark.few(2)
@pytest.mark.parametrize("name", named(FEW))
def test_what_is_promised_holds(tmp_path, name):
    holds(tmp_path, name, FEW[name])


@pytest.mark.mpi
def test_a_killed_surface_loses_nothing_and_ends_with_the_same_bits(tmp_path):
    """A kill of rank 0, a worker or everyone; cells that no file held are computed again, and no others."""
    outcomes = list(kills(Place.at(tmp_path), 1, scripts=["plot_surface.py"], sleep=0.008))
    assert len(outcomes) == 3
    assert [what for good, what in outcomes if not good] == []


@pytest.mark.full
@pytest.mark.parametrize("name", named(MORE))
def test_what_is_promised_holds_in_more_cases(tmp_path, name):
    holds(tmp_path, name, MORE[name])
