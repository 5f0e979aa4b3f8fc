"""Work in step, as in a script of a user's: lossatlas.mpi.agreement over the ranks of this session."""

import pytest

from lossatlas.errors import BadInput
from lossatlas.mpi.agreement import FailedRank, check_same_request, from_first, on_all, on_first


@pytest.fixture
def last(world) -> int:
    return world.size - 1


def test_what_succeeds_everywhere_is_each_ranks_own(world):
    assert on_all(world, lambda: world.rank) == world.rank


def test_what_fails_on_one_rank_fails_on_all(world, last):
    def function():
        if world.rank == last:
            raise BadInput("not here")

    kind, message = (BadInput, "not here") if world.rank == last else (FailedRank, f"rank {last}: BadInput: not here")
    with pytest.raises(kind, match=message):
        on_all(world, function)


def test_what_rank_0_has_is_everywhere(world):
    assert from_first(world, ("it", world.rank)) == ("it", 0)
    assert on_first(world, lambda: 10 + world.rank) == 10


def test_ranks_that_are_asked_for_different_things_are_told(world, last):
    check_same_request(world, {"seed": 3})
    if world.size > 1:
        with pytest.raises(BadInput, match=f"rank {last} has seed = {last}, rank 0 0: give every rank the same"):
            check_same_request(world, {"seed": world.rank if world.rank == last else 0})
