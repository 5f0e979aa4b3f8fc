"""A split's samples on the device of an evaluation, in the precision of its forward pass: all of them, or as they are needed.

samples = placed(data, device, dtype)
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
from lossatlas.data.structures import Structure, leaves, mapped, part
from lossatlas.parameter_space.points import movable, real_dtype

SHUFFLE_SEED = 0  # seed of the one order in which samples are drawn when not all of them are used
MAX_MEMORY_SHARE = 0.6  # of a device's free memory may be taken by samples
PREFETCHED_BATCHES = 2  # batches that are read before they are needed

Span = tuple[int, int]


def place_samples(
    data: AnyData, device: torch.device, dtype: torch.dtype, channels_last: bool = True
) -> "StoredSamples":
    """On the device where they fit, otherwise as they are needed."""
    if isinstance(data, FixedBatches):
        return FixedBatchSamples(data, device, dtype, channels_last)
    if isinstance(data, Streamed) or not fits_in_memory(data, device):
        return StreamingSamples(data, device, dtype, channels_last)
    return InMemorySamples(data, device, dtype, channels_last)


def fits_in_memory(data: Dataset, device: torch.device) -> bool:
    return device.type != "cuda" or bytes_of(data.samples) <= MAX_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]


class StoredSamples:
    """Samples for an evaluation. Inputs are converted to `dtype`, and images put into channels-last order, which is the
    faster one on CPU and GPU alike; targets stay as they are.

    overwritten: whether the network writes into its input, and so is given copies. order: the numbers of the samples in
    the shuffled order. resident: whether they lie on the device.
    """

    in_memory = True

    def __init__(self, data: AnyData, device: torch.device, dtype: torch.dtype, channels_last: bool = True) -> None:
        self.data, self.device, self.dtype, self.channels_last = data, device, dtype, channels_last
        self.overwritten = False

    def __len__(self) -> int:
        return len(self.data)

    def spans(self, start: int, stop: int, size: int) -> Iterator[Span]:
        return self.data.spans(start, stop, size)

    def batch(self, start: int, stop: int, shuffled: bool = False) -> Structure:
        """The samples from start to stop, in their own order or in the shuffled one."""
        return mapped(self.load(start, stop, shuffled), cloned if self.overwritten else unchanged)

    def stream(self, spans: Iterable[Span], shuffled: bool = False) -> Iterator[Structure]:
        """The batches of these spans, in this order."""
        for start, stop in spans:
            yield self.batch(start, stop, shuffled)

    def first_samples(self, count: int = 8) -> Structure:
        """A copy of the first samples, which a network may overwrite."""
        _, stop = next(self.spans(0, len(self), count))
        return mapped(self.load(0, stop, False), lambda t: t.clone() if t.dim() else t)

    def load(self, start: int, stop: int, shuffled: bool) -> Structure:
        raise NotImplementedError

    def clear_cache(self) -> None:
        """Free what is kept of batches that will not be asked for again."""

    def to_device(self, samples: Structure) -> Structure:
        """Onto the device, inputs in the precision and the layout of the forward pass."""
        on_device = mapped(samples, lambda t: t.to(self.device))
        return map_inputs(on_device, lambda t: to_input_format(t, self.dtype, self.channels_last))


class InMemorySamples(StoredSamples):
    """All of them on the device."""

    def __init__(self, data: Dataset, device: torch.device, dtype: torch.dtype, channels_last: bool = True) -> None:
        super().__init__(data, device, dtype, channels_last)
        self.samples, self.order = self.to_device(data.samples), shuffled_order(len(data)).to(device)

    def load(self, start: int, stop: int, shuffled: bool) -> Structure:
        return part(self.samples, self.order[start:stop] if shuffled else slice(start, stop))


class FixedBatchSamples(StoredSamples):
    """Batches of shapes that differ, all of them on the device."""

    def __init__(
        self, data: FixedBatches, device: torch.device, dtype: torch.dtype, channels_last: bool = True
    ) -> None:
        super().__init__(data, device, dtype, channels_last)
        self.fixed = {start: self.to_device(batch) for start, batch in zip(data.edges, data.contents, strict=False)}

    def load(self, start: int, stop: int, shuffled: bool) -> Structure:
        return self.fixed[start]  # as new containers, which a loss may take apart


class StreamingSamples(StoredSamples):
    """Samples that are read when they are needed, a few batches ahead; as many batches as fit stay.

    A pass over all of them comes by in the same order each time, so the batches that were read first are kept, and none
    is dropped for another.
    """

    in_memory = False

    def __init__(
        self, data: Dataset | Streamed, device: torch.device, dtype: torch.dtype, channels_last: bool = True
    ) -> None:
        super().__init__(data, device, dtype, channels_last)
        self.source, self.order = data, shuffled_order(len(data))
        self.cache: dict[tuple[int, int, bool], Structure] = {}
        self.free_bytes = self.cache_bytes = cache_budget(device)
        self.read_seconds, self.samples_read = 0.0, 0

    def load(self, start: int, stop: int, shuffled: bool) -> Structure:
        key = (start, stop, shuffled)
        if key not in self.cache:
            batch = self.to_device(self.timed_read(lambda: self.source.read(self.index(*key)), stop - start))
            self.cache_batch(key, batch)
            return batch
        return self.cache[key]

    def stream(self, spans: Iterable[Span], shuffled: bool = False) -> Iterator[Structure]:
        keys = [(start, stop, shuffled) for start, stop in spans]
        for batch in prefetched(self.batches(keys)):
            yield mapped(batch, cloned if self.overwritten else unchanged)

    def batches(self, keys: list[tuple[int, int, bool]]) -> Iterator[Structure]:
        """In the reader's thread."""
        missing = iter(self.source.stream([self.index(*key) for key in keys if key not in self.cache]))
        cached = set(self.cache)
        for key in keys:
            if key in cached:
                yield self.cache[key]
                continue
            batch = self.to_device(pinned(self.timed_read(lambda: next(missing), key[1] - key[0]), self.device))
            self.cache_batch(key, batch)
            yield batch

    def timed_read(self, read: Callable[[], Structure], count: int) -> Structure:
        started = time.perf_counter()
        result = read()
        self.read_seconds += time.perf_counter() - started
        self.samples_read += count
        return result

    @property
    def seconds_per_sample(self) -> float:
        """Of reading."""
        return self.read_seconds / max(1, self.samples_read)

    @property
    def all_fit(self) -> bool:
        """Whether all of them can be kept."""
        sample = self.source.sample_bytes if isinstance(self.source, Streamed) else bytes_of(self.source.read(slice(1)))
        return sample * len(self) <= self.cache_bytes

    def index(self, start: int, stop: int, shuffled: bool) -> Any:
        return self.order[start:stop].tolist() if shuffled else slice(start, stop)

    def cache_batch(self, key: tuple[int, int, bool], batch: Structure) -> None:
        size = bytes_of(batch)
        if size <= self.free_bytes and key not in self.cache:
            self.cache[key] = batch
            self.free_bytes -= size

    def clear_cache(self) -> None:
        self.cache, self.free_bytes = {}, self.cache_bytes


END = object()


@dataclass(frozen=True)
class ReadFailure:
    error: BaseException


def prefetched(items: Iterator[Structure], count: int = PREFETCHED_BATCHES) -> Iterator[Structure]:
    """The items, of which the next few are made by a thread while one is used.

    A thread of its own, and none of a pool: processes that a `DataLoader` starts from one of those end with an error. It
    lets torch use one thread, because a second team of threads slows the first one down.
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
        except BaseException as error:  # travels to the thread that computes
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
    """Bytes that batches may take which are kept."""
    return int(MAX_MEMORY_SHARE * torch.cuda.mem_get_info(device)[0] / 2) if device.type == "cuda" else budget()


def pinned(samples: Structure, device: torch.device) -> Structure:
    """In memory that a CUDA device copies from without being waited for."""
    return mapped(samples, Tensor.pin_memory) if device.type == "cuda" else samples


def shuffled_order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(SHUFFLE_SEED))


def map_inputs(samples: Structure, function: Callable[[Tensor], Tensor]) -> Structure:
    """Samples with function(tensor) in the place of the inputs; targets stay."""
    if isinstance(samples, Mapping):
        return {name: value if name in TARGETS else mapped(value, function) for name, value in samples.items()}
    if isinstance(samples, list | tuple) and len(samples) >= 2 and not hasattr(samples, "_fields"):
        return type(samples)([*(mapped(value, function) for value in samples[:-1]), samples[-1]])
    return mapped(samples, function)


def fitted(samples: Structure, net: nn.Module) -> Structure:
    """Samples on a network's device, floating-point inputs in the type of its first parameter."""
    first = next(p for p in net.parameters() if movable(p))
    on_device = mapped(samples, lambda tensor: tensor.to(first.device))
    return map_inputs(on_device, lambda t: t.to(real_dtype(first.dtype)) if t.is_floating_point() else t)


def to_input_format(tensor: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if tensor.dim() == 4:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        tensor = tensor.contiguous(memory_format=layout)
    return tensor


def cloned(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.dim() else tensor


def unchanged(tensor: Tensor) -> Tensor:
    return tensor


def is_changed(sample: Structure, original: Structure) -> bool:
    """Whether something has written into this copy since it was made (outside of inference mode).

    Writes that change nothing are counted by torch; writes through `.data` are not, but change something.
    """
    before = dict(leaves(original))
    return any(
        isinstance(a, Tensor) and (a._version > 0 or not torch.equal(a, before[path])) for path, a in leaves(sample)
    )


def copy_samples(samples: Structure, count: int | None = None) -> Structure:
    """A copy of (the first) samples that a network may overwrite, contiguous, as every network takes it."""
    few = samples if count is None else part(samples, slice(count))
    return mapped(few, lambda t: t.detach().clone(memory_format=torch.contiguous_format))
