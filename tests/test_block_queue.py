"""Blocks are handed out once, in their order, and know how many cells they hold."""

import numpy as np
import pytest

from lossatlas.landscape import Grid, Surface
from lossatlas.mpi.block_queue import BlockQueue, BlockResult


def drained(queue: BlockQueue) -> list[tuple[int, list[int]]]:
    taken = []
    while (one := queue.take()) is not None:
        taken.append(one)
    return taken


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_every_cell_is_handed_out_once_and_in_order(size):
    cells = np.random.default_rng(0).permutation(20)[:17]
    queue = BlockQueue.of(cells, size)
    assert (queue.cells, len(queue), queue.left) == (17, -(-17 // size), len(queue))
    taken = drained(queue)
    assert [k for k, _ in taken] == list(range(len(queue)))
    assert [cell for _, block in taken for cell in block] == cells.tolist()
    assert all(len(block) == size for _, block in taken[:-1])
    assert queue.left == 0
    assert queue.take() is None
    assert queue.cells == 17  # in all blocks, also those that are gone


def test_what_is_left_counts_blocks_that_nobody_has():
    queue = BlockQueue([[4, 2], [0]])
    assert queue.take() == (0, [4, 2])
    assert queue.left == 1
    queue.arrived(0, BlockResult(np.zeros((2, 1))))
    assert queue.left == 1
    assert queue.take() == (1, [0])


def test_nothing_to_compute_is_a_supply_too():
    queue = BlockQueue.of(np.array([], int), 5)
    assert (queue.cells, len(queue), queue.take()) == (0, 0, None)


def test_content_is_given_instead_of_the_cells_and_the_lowest_ready_block_comes_first():
    """As those supplies use it whose blocks rest on others: numbers become ready in any order."""

    class Late(BlockQueue):
        def __init__(self) -> None:
            super().__init__([[0], [1], [2], [3]])
            self.ready = [2]

        def content(self, k: int) -> str:
            return f"cell {self.blocks[k][0]}"

        def arrived(self, k: int, found: BlockResult) -> None:
            self.ready = sorted({2: [3, 1], 1: [0]}.get(k, []) + self.ready)

    queue = Late()
    taken = []
    while (one := queue.take()) is not None:
        taken.append(one)
        queue.arrived(one[0], BlockResult(np.zeros((1, 1))))
    assert taken == [(2, "cell 2"), (1, "cell 1"), (0, "cell 0"), (3, "cell 3")]
    assert queue.left == 0


def test_a_finished_surface_is_the_same():
    surface = Surface.of_values(Grid.parse("-1:1:3"), ["train_loss"])
    assert BlockQueue([]).finished(surface) is surface
