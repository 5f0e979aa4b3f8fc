"""Samples of a split on the device of an evaluation, in the precision of its forward pass: in memory or streaming.

samples = place_samples(data, device, dtype)
for batch in samples.stream(samples.spans(0, len(samples), 64)): ...
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.dataset import Dataset, FixedBatches, bytes_of
from lossatlas.data.losses import TARGETS
from lossatlas.data.memory import budget
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.data.structures import Structure, leaves, mapped, selected_samples
from lossatlas.parameter_space.points import movable, real_dtype

SHUFFLE_SEED = 0  # of the one order in which samples are drawn when not all of them are used
MAX_MEMORY_SHARE = 0.6  # of a device's free memory that samples may take
PREFETCHED_BATCHES = 2  # batches that are read before they are needed

SampleSpan = tuple[int, int]  # first sample, and the one after the last
BatchKey = tuple[int, int, bool]  # start, stop, shuffled


def place_samples(
    data: AnyData, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True
) -> "StoredSamples":
    """Store samples on a device, in memory if they fit, otherwise streaming.

    Args:
        data: The samples.
        device: The device.
        dtype: The type of floating-point inputs; targets keep theirs.
        channels_last: Store images in channels-last order, which is the faster one in most cases.
    """
    if isinstance(data, FixedBatches):
        return FixedBatchSamples(data, device, dtype, channels_last=channels_last)
    if isinstance(data, Streamed) or not fits_in_memory(data, device):
        return StreamingSamples(data, device, dtype, channels_last=channels_last)
    return InMemorySamples(data, device, dtype, channels_last=channels_last)


def fits_in_memory(data: Dataset, device: torch.device) -> bool:
    """Return whether samples fit into the memory of a device; on the CPU they are in memory already."""
    return device.type != "cuda" or bytes_of(data.samples) <= MAX_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]


class StoredSamples:
    """Samples for an evaluation.

    Args:
        data: The samples.
        device: The device.
        dtype: The type of floating-point inputs; targets keep theirs.
        channels_last: Store images in channels-last order.

    Attributes:
        overwritten: The network writes into its input, and is given copies.
        order: The numbers of the samples in the shuffled order, (n,); not for fixed batches.
        in_memory: All samples are on the device.
    """

    in_memory = True

    def __init__(self, data: AnyData, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True) -> None:
        self.data, self.device, self.dtype, self.channels_last = data, device, dtype, channels_last
        self.overwritten = False

    def __len__(self) -> int:
        return len(self.data)

    def spans(self, start: int, stop: int, size: int) -> Iterator[SampleSpan]:
        """Yield the ranges (start, stop) of the batches from `start` up to `stop`."""
        return self.data.spans(start, stop, size)

    def batch(self, start: int, stop: int, *, shuffled: bool = False) -> Structure:
        """Return the samples from start to stop as one batch, in their own order or in the shuffled one."""
        return mapped(self.load(start, stop, shuffled=shuffled), cloned if self.overwritten else same_tensor)

    def stream(self, spans: Iterable[SampleSpan], *, shuffled: bool = False) -> Iterator[Structure]:
        """Yield the batches of some spans, in this order."""
        for start, stop in spans:
            yield self.batch(start, stop, shuffled=shuffled)

    def select(self, numbers: list[int]) -> Structure:
        """Return the samples with these numbers as a batch of its own; not for fixed batches."""
        raise NotImplementedError

    def first_samples(self, count: int = 8) -> Structure:
        """Return a copy of the first samples, which a network may overwrite."""
        _, stop = next(self.spans(0, len(self), count))
        return mapped(self.load(0, stop, shuffled=False), lambda t: t.clone() if t.dim() else t)

    def load(self, start: int, stop: int, *, shuffled: bool) -> Structure:
        """Return the samples from start to stop, as a batch that must not be overwritten."""
        raise NotImplementedError

    def clear_cache(self) -> None:
        """Free cached batches that will not be used again."""

    def to_device(self, samples: Structure) -> Structure:
        """Copy samples to the device, inputs in the precision and the layout of the forward pass."""
        on_device = mapped(samples, lambda t: t.to(self.device))
        return map_inputs(on_device, lambda t: to_input_format(t, self.dtype, channels_last=self.channels_last))


class InMemorySamples(StoredSamples):
    """All samples in the memory of the device."""

    def __init__(self, data: Dataset, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True) -> None:
        super().__init__(data, device, dtype, channels_last=channels_last)
        self.samples, self.order = self.to_device(data.samples), shuffled_order(len(data)).to(device)

    def load(self, start: int, stop: int, *, shuffled: bool) -> Structure:
        """Return the samples from start to stop."""
        return selected_samples(self.samples, self.order[start:stop] if shuffled else slice(start, stop))

    def select(self, numbers: list[int]) -> Structure:
        """Return the samples with these numbers as a batch of its own."""
        return selected_samples(self.samples, torch.tensor(numbers, device=self.device))


class FixedBatchSamples(StoredSamples):
    """Batches of different shapes, all of them in the memory of the device."""

    def __init__(
        self, data: FixedBatches, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True
    ) -> None:
        super().__init__(data, device, dtype, channels_last=channels_last)
        self.fixed = {start: self.to_device(batch) for start, batch in zip(data.edges, data.contents, strict=False)}

    def load(self, start: int, stop: int, *, shuffled: bool) -> Structure:
        """Return the batch that begins at `start`."""
        return self.fixed[start]


class StreamingSamples(StoredSamples):
    """Samples that are read when they are needed, a few batches ahead; as many batches as fit are cached.

    Each pass over all samples has the same order, so the batches that were read first are cached, and none is dropped
    for another one.
    """

    in_memory = False

    def __init__(
        self, data: Dataset | Streamed, device: torch.device, dtype: torch.dtype, *, channels_last: bool = True
    ) -> None:
        super().__init__(data, device, dtype, channels_last=channels_last)
        self.source, self.order = data, shuffled_order(len(data))
        self.cache: dict[BatchKey, Structure] = {}
        self.free_bytes = self.cache_bytes = cache_budget(device)
        self.read_seconds, self.samples_read = 0.0, 0

    def load(self, start: int, stop: int, *, shuffled: bool) -> Structure:
        """Return the samples from start to stop."""
        key = (start, stop, shuffled)
        if key not in self.cache:
            batch = self.to_device(self.timed_read(lambda: self.source.read(self.index(key)), stop - start))
            self.cache_batch(key, batch)
            return batch
        return self.cache[key]

    def select(self, numbers: list[int]) -> Structure:
        """Return the samples with these numbers as a batch of its own."""
        return self.to_device(self.timed_read(lambda: self.source.read(numbers), len(numbers)))

    def stream(self, spans: Iterable[SampleSpan], *, shuffled: bool = False) -> Iterator[Structure]:
        """Yield the batches of some spans, reading ahead in a thread."""
        keys = [(start, stop, shuffled) for start, stop in spans]
        missing = [key for key in keys if key not in self.cache]
        read = self.source.stream([self.index(key) for key in missing])
        for batch in prefetched(self.batches(keys, set(missing), read)):
            yield mapped(batch, cloned if self.overwritten else same_tensor)

    def batches(self, keys: list[BatchKey], missing: set[BatchKey], read: Iterator[Structure]) -> Iterator[Structure]:
        """Yield batches from the cache, or the missing ones as they are read; runs in the thread that reads."""
        for key in keys:
            if key not in missing:
                yield self.cache[key]
                continue
            batch = self.to_device(pinned(self.timed_read(lambda: next(read), key[1] - key[0]), self.device))
            self.cache_batch(key, batch)
            yield batch

    def timed_read(self, read: Callable[[], Structure], count: int) -> Structure:
        """Read `count` samples, and add the seconds to the statistics."""
        started = time.perf_counter()
        result = read()
        self.read_seconds += time.perf_counter() - started
        self.samples_read += count
        return result

    @property
    def seconds_per_sample(self) -> float:
        """Seconds of reading, per sample, on average."""
        return self.read_seconds / max(1, self.samples_read)

    @property
    def all_fit(self) -> bool:
        """True if all samples fit into the cache."""
        sample = self.source.sample_bytes if isinstance(self.source, Streamed) else bytes_of(self.source.read(slice(1)))
        return sample * len(self) <= self.cache_bytes

    def index(self, key: BatchKey) -> slice | list[int]:
        """Return the numbers of the samples from start to stop, as a slice or a list."""
        start, stop, shuffled = key
        return self.order[start:stop].tolist() if shuffled else slice(start, stop)

    def cache_batch(self, key: BatchKey, batch: Structure) -> None:
        """Store a batch if there is room."""
        size = bytes_of(batch)
        if size <= self.free_bytes and key not in self.cache:
            self.cache[key] = batch
            self.free_bytes -= size

    def clear_cache(self) -> None:
        """Free all batches."""
        self.cache, self.free_bytes = {}, self.cache_bytes


END = object()


@dataclass(frozen=True)
class ReadFailure:
    """An error in the thread that reads, to be raised in the thread that computes.

    Attributes:
        error: The error.
    """

    error: BaseException


def prefetched(items: Iterator[Structure], count: int = PREFETCHED_BATCHES) -> Iterator[Structure]:
    """Yield items, the next few of which are made by a thread while one is used.

    The thread is not from a pool: processes that a `DataLoader` starts from a pool's thread end with an error. It lets
    torch use one thread, because a second team of threads would slow down the first one.
    """
    found: queue.Queue[Any] = queue.Queue(count)
    unwanted = threading.Event()

    def offer(item: Any) -> bool:
        while not unwanted.is_set():
            with suppress(queue.Full):
                found.put(item, timeout=0.1)
                return True
        return False

    def read() -> None:
        torch.set_num_threads(1)
        last: Any = END
        try:
            for item in items:
                if not offer(item):
                    return
        except BaseException as error:  # raised again in the thread that computes
            last = ReadFailure(error)
        offer(last)

    threading.Thread(target=read, name="reader", daemon=True).start()
    try:
        while (item := found.get()) is not END:
            if isinstance(item, ReadFailure):
                raise item.error
            yield item
    finally:
        unwanted.set()


def cache_budget(device: torch.device) -> int:
    """Return how many bytes of batches may be cached on a device."""
    return int(MAX_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / 2) if device.type == "cuda" else budget()


def pinned(samples: Structure, device: torch.device) -> Structure:
    """Return samples in page-locked memory, from which a CUDA device copies asynchronously."""
    return mapped(samples, Tensor.pin_memory) if device.type == "cuda" else samples


def shuffled_order(count: int) -> Tensor:
    """Return the one order (count,) in which samples are drawn when not all of them are used."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED))


def map_inputs(samples: Structure, function: Callable[[Tensor], Tensor]) -> Structure:
    """Apply a function to the inputs of a batch; targets stay.

    Args:
        samples: A batch.
        function: Applied to every tensor of the inputs.

    Returns:
        A batch of the same structure.
    """
    if isinstance(samples, Mapping):
        return {name: value if name in TARGETS else mapped(value, function) for name, value in samples.items()}
    if isinstance(samples, list | tuple) and len(samples) >= 2 and not hasattr(samples, "_fields"):
        return type(samples)([*(mapped(value, function) for value in samples[:-1]), samples[-1]])
    return mapped(samples, function)


def fitted(samples: Structure, net: nn.Module) -> Structure:
    """Move samples to a network's device.

    Args:
        samples: A batch.
        net: The network.

    Returns:
        The batch, with floating-point inputs in the type of the network's first parameter.
    """
    first = next(p for p in net.parameters() if movable(p))
    on_device = mapped(samples, lambda tensor: tensor.to(first.device))
    return map_inputs(on_device, lambda t: t.to(real_dtype(first.dtype)) if t.is_floating_point() else t)


def to_input_format(tensor: Tensor, dtype: torch.dtype, *, channels_last: bool) -> Tensor:
    """Return an input in the type and the memory layout of the forward pass."""
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if tensor.dim() == 4:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        tensor = tensor.contiguous(memory_format=layout)
    return tensor


def cloned(tensor: Tensor) -> Tensor:
    """Return a copy, except of a number without axes."""
    return tensor.clone() if tensor.dim() else tensor


def same_tensor(tensor: Tensor) -> Tensor:
    """Return the tensor itself."""
    return tensor


def is_changed(sample: Structure, original: Structure) -> bool:
    """Detect writes into a copy since it was made (outside of inference mode).

    Torch counts writes, also those that change nothing; writes through `.data` are not counted, but change something.

    Args:
        sample: The copy.
        original: The batch that it was copied from.
    """
    before = dict(leaves(original))
    return any(
        isinstance(a, Tensor) and (a._version > 0 or not torch.equal(a, before[path])) for path, a in leaves(sample)
    )


def copy_samples(samples: Structure, count: int | None = None) -> Structure:
    """Copy samples, so that a network may overwrite them.

    Args:
        samples: A batch, or arguments of a network.
        count: The number of samples, from the first one; all by default.

    Returns:
        Contiguous copies without autograd history.
    """
    few = samples if count is None else selected_samples(samples, slice(count))
    return mapped(few, lambda t: t.detach().clone(memory_format=torch.contiguous_format))
