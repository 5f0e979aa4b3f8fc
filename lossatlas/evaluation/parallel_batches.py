"""Batches side by side on the CPU, by a few threads of their own each, instead of one batch by all threads.

    lanes = Lanes([net, *replicas(net, 3)])
    for result in lanes.map(function, batches): ...      # function(net, batch), in the order of the batches

Threads that share one batch meet after every operation, and wait there for the one whose core the system has given to
another process; threads with batches of their own do not.
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

IDLE = 0.2  # share of the threads that may have nothing to do while others compute the last batches side by side


class ParallelBatches(Generic[Worker]):
    """One lane for each of `workers`, which belongs to the batch that is computed in it; `threads` for each of them."""

    def __init__(self, workers: Sequence[Worker], threads: int = 1) -> None:
        self.count = len(workers)
        self.pool = ThreadPoolExecutor(self.count, initializer=lambda: torch.set_num_threads(threads))
        self.free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in workers:
            self.free.put(worker)

    def map(self, function: Callable[[Worker, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """function(worker, item) of each item, in their order; items are taken as they are needed."""

        def one(item: Item) -> Result:
            worker = self.free.get()
            try:
                return function(worker, item)
            finally:
                self.free.put(worker)

        ahead: deque[Future[Result]] = deque()
        for item in items:
            ahead.append(self.pool.submit(one, item))
            if len(ahead) > 2 * self.count:  # results wait for those before them, but not any number of them
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def default_parallel_batches(batches: int, threads: int) -> int:
    """As many lanes as there are threads, where there are enough batches for all of them; otherwise one."""
    rounds = -(-batches // threads)
    return threads if batches >= (1 - IDLE) * rounds * threads else 1


def replicas(net: nn.Module, count: int) -> list[nn.Module]:
    """Copies of a network's modules, which may keep things between calls, around the same tensors."""
    shared = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    return [copied(net, shared) for _ in range(count)]


def copied(net: nn.Module, shared: Mapping[int, Tensor] | None = None) -> nn.Module:
    """A deep copy, but for the tensors that are `shared` by id; also of modules that hold results with a history.

    `torch.nn.utils.weight_norm` leaves such a weight behind at every call.
    """
    results = {
        id(value): value.detach()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    return deepcopy(net, {**results, **(shared or {})})


def is_training(net: nn.Module) -> bool:
    """Tell whether any module of a network is in training mode."""
    return any(module.training for module in net.modules())


def changes_weights_with_mode(net: nn.Module) -> bool:
    """Tell whether a module overrides `train` or `eval`, so that switching the mode may do more than set flags.

    Adapters that merge their weights on `eval()` are of this kind.
    """
    plain = nn.Module.train, nn.Module.eval
    return any(
        (type(module).train, type(module).eval) != plain or {"train", "eval"} & vars(module).keys()
        for module in net.modules()
    )


def evaluation_copy(net: nn.Module, shared: Mapping[int, Tensor] | None = None) -> nn.Module:
    """A deep copy in evaluation mode, except for the tensors that are `shared` by id.

    Its flags are set; `eval()` is not called, because it may change tensors (see `reference.check_modes`).
    """
    result = copied(net, shared)
    for module in result.modules():
        module.training = False
    return result


def frozen_copy(net: nn.Module, fixed: bool = False) -> nn.Module:
    """A copy in evaluation mode that shares the parameters: the network keeps its mode and its buffers.

    Args:
        net: The network.
        fixed: The copy's parameters, which share their memory with the network's, require no gradient.
    """

    def shared(parameter: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(parameter.detach(), requires_grad=False) if fixed else parameter

    result = evaluation_copy(net, {id(p): shared(p) for p in net.parameters()})
    return result.requires_grad_(False) if fixed else result
