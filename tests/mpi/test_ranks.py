"""Work in step, as in a script of a user's: lossatlas.jobs.lock_step over the ranks of this session."""

import pytest

from lossatlas.errors import BadInput
from lossatlas.io.block_queue import BlockQueue
from lossatlas.jobs.lock_step import FailedRank, agree_on, agreed, first_alone, from_first, rounds


@pytest.fixture
def last(world) -> int:
    return world.size - 1


def test_what_succeeds_everywhere_is_each_ranks_own(world):
    assert agreed(world.comm, lambda: world.rank) == world.rank


def test_what_fails_on_one_rank_fails_on_all(world, last):
    def function():
        if world.rank == last:
            raise BadInput("not here")

    kind, message = (BadInput, "not here") if world.rank == last else (FailedRank, f"rank {last}: BadInput: not here")
    with pytest.raises(kind, match=message):
        agreed(world.comm, function)


def test_what_rank_0_has_is_everywhere(world):
    assert from_first(world.comm, ("it", world.rank)) == ("it", 0)
    assert first_alone(world.comm, lambda: 10 + world.rank) == 10


def test_ranks_that_are_asked_for_different_things_are_told(world, last):
    agree_on(world.comm, {"seed": 3})
    if world.size > 1:
        with pytest.raises(BadInput, match=f"rank {last} has seed = {last}, rank 0 0: give every rank the same"):
            agree_on(world.comm, {"seed": world.rank if world.rank == last else 0})


@pytest.mark.parametrize("count", [0, 1, 7])
def test_rounds_compute_every_block_once(world, count):
    found = list(
        rounds(world.comm, BlockQueue([[k] for k in range(count)]) if world.root else None, lambda b: b[0] ** 2)
    )
    assert [item for item in found if item] == ([(k, k * k) for k in range(count)] if world.root else [])


def test_an_error_in_a_round_is_raised_everywhere(world, last):
    def work(block):
        if world.rank == last:
            raise ValueError("tired")
        return block

    with pytest.raises(ValueError if world.rank == last else FailedRank, match="tired"):
        list(rounds(world.comm, BlockQueue([[k] for k in range(9)]) if world.root else None, work))
