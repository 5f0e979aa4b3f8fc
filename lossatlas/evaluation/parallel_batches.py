"""Batches in parallel on the CPU, by one or a few threads each, and copies of networks for them.

Threads that share one batch synchronize after every operation, and wait for the one whose core the system has given to
another process. Threads with batches of their own do not.
"""

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_IDLE = 0.2  # share of the threads' time that may be idle while the last batches are computed


class ParallelBatches(Generic[Worker]):
    """A pool of threads, each of which computes with a worker of its own.

    Args:
        workers: One object per thread, such as replicas of a network.
        threads: Threads that torch may use in each of them.

    Example:
        >>> pool = ParallelBatches(["a", "b"])
        >>> list(pool.map(lambda worker, item: 2 * item, [1, 2, 3]))
        [2, 4, 6]
    """

    def __init__(self, workers: Sequence[Worker], threads: int = 1) -> None:
        self.count = len(workers)
        self.pool = ThreadPoolExecutor(self.count, initializer=lambda: torch.set_num_threads(threads))
        self.free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in workers:
            self.free.put(worker)

    def map(self, function: Callable[[Worker, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield function(worker, item) of each item, in their order.

        Args:
            function: Called in a thread, with the worker of that thread.
            items: Taken one after the other, as they are needed.
        """

        def run(item: Item) -> Result:
            worker = self.free.get()
            try:
                return function(worker, item)
            finally:
                self.free.put(worker)

        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(self.pool.submit(run, item))
            if len(ahead) > 2 * self.count:  # bounds the results that wait for those before them
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def default_parallel_batches(batches: int, threads: int) -> int:
    """Return the number of batches to evaluate at a time.

    Args:
        batches: The number of batches.
        threads: The number of threads.

    Returns:
        `threads` if at most MAX_IDLE of them would be idle on average, otherwise 1.
    """
    rounds = -(-batches // threads)
    return threads if batches >= (1 - MAX_IDLE) * rounds * threads else 1


def replicas(net: nn.Module, count: int) -> list[nn.Module]:
    """Copy a network's modules, which may store results between calls, around the same tensors.

    Args:
        net: The network.
        count: The number of copies.
    """
    own = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    return [deep_copy(net, own) for _ in range(count)]


def deep_copy(net: nn.Module, replaced: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Copy a network.

    Modules that store results with an autograd history are copied too: `torch.nn.utils.weight_norm` leaves such a
    weight behind at every call, which `copy.deepcopy` refuses.

    Args:
        net: The network.
        replaced: Tensors of the copy that are given, often the network's own, by the `id` of the network's tensor.
    """
    results = {
        id(value): value.detach()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return deepcopy(net, {**results, **(replaced or {})})


def is_training(net: nn.Module) -> bool:
    """Return whether any module of a network is in training mode."""
    return any(module.training for module in net.modules())


def changes_weights_with_mode(net: nn.Module) -> bool:
    """Return whether a module overrides `train` or `eval`, so that switching the mode may do more than set flags.

    Adapters that merge their weights on `eval()` are of this kind.
    """
    plain = nn.Module.train, nn.Module.eval
    return any(
        (type(module).train, type(module).eval) != plain or {"train", "eval"} & vars(module).keys()
        for module in net.modules()
    )


def evaluation_copy(net: nn.Module, replaced: Mapping[int, Tensor] | None = None) -> nn.Module:
    """Copy a network, with the copy in evaluation mode.

    Flags are set and `eval()` is not called, because it may change tensors (see `reference.check_modes`).

    Args:
        net: The network.
        replaced: Tensors that are not copied, see `deep_copy`.
    """
    result = deep_copy(net, replaced)
    for module in result.modules():
        module.training = False
    return result


def frozen_copy(net: nn.Module, *, fixed: bool = False) -> nn.Module:
    """Return a copy in evaluation mode that shares the parameters; the network keeps its mode and its buffers.

    Args:
        net: The network.
        fixed: The copy's parameters, which share their memory with the network's, require no gradient.
    """

    def of_copy(parameter: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(parameter.detach(), requires_grad=False) if fixed else parameter

    result = evaluation_copy(net, {id(p): of_copy(p) for p in net.parameters()})
    return result.requires_grad_(False) if fixed else result
