"""Blocks that are handed to ranks, and sums over them: the same as in one process."""

import time

import numpy as np
import pytest

from lossatlas.mpi.agreement import FailedRank, on_all
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.mpi.communicator import WorkFailed, World
from lossatlas.mpi.scheduler import answer, follow, lead, serve


def served(world: World, supply: BlockQueue, work) -> list:
    """On rank 0 what all blocks gave, in their order; on the others nothing."""
    if not world.root:
        follow(world, lambda: work)
        return []
    found = []
    for item in serve(world, supply, lambda: work):
        if item is not None:
            found.append(item)
            supply.arrived(item[0], BlockResult(np.zeros(0)))
    return [result for _, result in sorted(found, key=lambda item: item[0])]


@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_every_block_is_computed_once_wherever(world, count):
    found = served(world, BlockQueue([[k] for k in range(count)]), lambda block: [v * v for v in block])
    assert found == ([[k * k] for k in range(count)] if world.root else [])


def test_every_rank_computes(world):
    def work(block):
        time.sleep(0.01)
        return world.rank

    found = served(world, BlockQueue([[k] for k in range(12 * world.size)]), work)
    assert set(found) == (set(range(world.size)) if world.root else set())


def test_blocks_and_results_may_be_large(world):
    blocks = [np.full(300_000, float(k)) for k in range(4 * world.size)]
    found = served(world, BlockQueue(blocks), lambda block: 2 * block)
    for k, result in enumerate(found):
        assert np.array_equal(result, np.full(300_000, 2.0 * k))


class Chain(BlockQueue):
    """Each block rests on the one before."""

    def __init__(self, count: int) -> None:
        super().__init__([[k] for k in range(count)])
        self.ready = [0]

    def arrived(self, k: int, found: BlockResult) -> None:
        if k + 1 < len(self):
            self.ready.append(k + 1)


def test_a_block_waits_for_what_it_rests_on(world):
    assert served(world, Chain(9), lambda block: block[0]) == (list(range(9)) if world.root else [])


def test_what_is_shared_is_the_same_everywhere(world):
    large = np.random.default_rng(0).normal(size=200_000)
    for value in (None, ("name", (1, 2)), large if world.root else None):
        found = world.share(value if world.root else None)
        if value is None and not world.root:
            value = found if found is None else large
        assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value


def test_a_total_is_the_sum_in_float64(world):
    own = [np.random.default_rng(rank).normal(size=1000).astype(np.float32) for rank in range(world.size)]
    found = world.total(own[world.rank])
    if world.root:
        np.testing.assert_allclose(found, np.sum([each.astype(np.float64) for each in own], axis=0), rtol=1e-14)


def test_what_leads_is_answered_by_all(world):
    calls = {"total": lambda factor: world.total(np.array([factor * (world.rank + 1.0)]))}
    if not world.root:
        answer(world, lambda: calls)
        return
    together = lead(world, calls)
    for factor in (1, 10):
        assert together("total", factor)[0] == factor * world.size * (world.size + 1) / 2
    world.share(None)


def test_an_error_in_a_script_is_raised_on_every_rank_and_the_next_job_works(world):
    script, last = World.of_communicator(world.comm), world.size - 1

    def work(block):
        if world.rank == last:
            raise ValueError("tired")
        time.sleep(0.01)
        return block

    def once() -> None:
        if script.root:
            list(serve(script, BlockQueue([[k] for k in range(30)]), lambda: work))
        else:
            follow(script, lambda: work)

    kind = ValueError if world.rank == last else WorkFailed if world.root else FailedRank
    with pytest.raises(kind, match="tired"):
        on_all(world, once)
    found = served(script, BlockQueue([[k] for k in range(20)]), lambda block: block[0])
    assert found == (list(range(20)) if world.root else [])


def test_a_caller_that_stops_early_lets_the_others_go(world):
    script = World.of_communicator(world.comm)
    if not script.root:
        follow(script, lambda: lambda block: block)
    else:
        results = serve(script, BlockQueue([[k] for k in range(50)]), lambda: lambda block: block)
        next(results)
        results.close()
    assert served(script, BlockQueue([[7]]), lambda block: block) == ([[7]] if world.root else [])
