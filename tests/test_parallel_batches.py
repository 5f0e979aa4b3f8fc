"""Workers for batches: each item has one to itself, and results come in the order of the items."""

import threading
import time

import pytest
import torch
from torch import nn

from lossatlas.evaluation.parallel_batches import ParallelBatches, default_parallel_batches, replicas


def test_results_come_in_order_and_no_worker_has_two_items():
    busy, lock = set(), threading.Lock()

    def function(worker: str, item: int) -> tuple[int, int]:
        with lock:
            assert worker not in busy
            busy.add(worker)
        time.sleep(0.002 * (item % 3))
        with lock:
            busy.remove(worker)
        return item, torch.get_num_threads()

    pool = ParallelBatches(["a", "b", "c"], threads=2)
    assert list(pool.map(function, range(40))) == [(k, 2) for k in range(40)]


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for k in range(1000):
            taken.append(k)
            yield k

    results = ParallelBatches(["a", "b"]).map(lambda worker, item: item, items())
    assert next(results) == 0
    assert len(taken) < 10


def test_an_error_is_raised_and_the_pool_stays_usable():
    def function(worker: str, item: int) -> int:
        if item == 1:
            raise ValueError("no")
        return item

    pool = ParallelBatches(["a", "b"])
    with pytest.raises(ValueError, match="no"):
        list(pool.map(function, range(5)))
    assert list(pool.map(function, [2, 3])) == [2, 3]


@pytest.mark.parametrize(
    ("batches", "threads", "expected"),
    [(1, 1, 1), (1, 2, 1), (2, 2, 2), (3, 2, 1), (4, 2, 2), (9, 2, 2), (7, 8, 8), (6, 8, 1)],
)
def test_batches_are_parallel_where_few_threads_would_be_idle(batches, threads, expected):
    assert default_parallel_batches(batches, threads) == expected


def test_replicas_share_tensors_and_nothing_else():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    for other in replicas(net, 2):
        assert all(
            a is b
            for a, b in zip(
                net.state_dict(keep_vars=True).values(), other.state_dict(keep_vars=True).values(), strict=True
            )
        )
        assert other[0] is not net[0]
