"""A split's samples on the device of an evaluation, in the precision of its forward pass."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from lossatlas.data.dataset import AnyData, Dataset
from lossatlas.data.losses import TARGETS
from lossatlas.data.structures import Structure, leaves, mapped, part

SHUFFLE = 0  # seed of the one order in which samples are drawn when not all of them are used


class Resident:
    """Samples on a device. Inputs are converted to `dtype`, and images put into channels-last order, which is the faster
    one on CPU and GPU alike; targets stay as they are.

    overwritten: whether the network writes into its input, and so is given copies.
    """

    def __init__(self, data: AnyData, device: torch.device, dtype: torch.dtype, channels_last: bool = True) -> None:
        self.data, self.overwritten = data, False

        def place(samples: Structure) -> Structure:
            return of_inputs(mapped(samples, lambda t: t.to(device)), lambda t: arranged(t, dtype, channels_last))

        if isinstance(data, Dataset):
            self.samples = place(data.samples)
            order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SHUFFLE))
            self.order = order.to(device)
        else:
            self.fixed = {start: place(batch) for start, batch in zip(data.edges, data.contents, strict=False)}

    def __len__(self) -> int:
        return len(self.data)

    def spans(self, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
        return self.data.spans(start, stop, size)

    def batch(self, start: int, stop: int, shuffled: bool = False) -> Structure:
        """The samples from start to stop, in their own order or in the shuffled one."""
        if not isinstance(self.data, Dataset):
            found = self.fixed[start]  # as new containers, which a loss may take apart
        elif shuffled:
            return part(self.samples, self.order[start:stop])
        else:
            found = part(self.samples, slice(start, stop))
        return mapped(found, copied_leaf if self.overwritten else same)

    def few(self, count: int = 8) -> Structure:
        """A copy of the first samples, which a network may overwrite."""
        _, stop = next(self.spans(0, len(self), count))
        return mapped(self.batch(0, stop), lambda t: t.clone() if t.dim() else t)


def of_inputs(samples: Structure, function: Callable[[Tensor], Tensor]) -> Structure:
    """Samples with function(tensor) in the place of the inputs; targets stay."""
    if isinstance(samples, Mapping):
        return {name: value if name in TARGETS else mapped(value, function) for name, value in samples.items()}
    if isinstance(samples, list | tuple) and len(samples) >= 2 and not hasattr(samples, "_fields"):
        return type(samples)([*(mapped(value, function) for value in samples[:-1]), samples[-1]])
    return mapped(samples, function)


def arranged(tensor: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)
    if tensor.dim() == 4:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        tensor = tensor.contiguous(memory_format=layout)
    return tensor


def copied_leaf(tensor: Tensor) -> Tensor:
    return tensor.clone() if tensor.dim() else tensor


def same(tensor: Tensor) -> Tensor:
    return tensor


def is_changed(sample: Structure, original: Structure) -> bool:
    """Whether something has written into this copy since it was made (outside of inference mode).

    Writes that change nothing are counted by torch; writes through `.data` are not, but change something.
    """
    before = dict(leaves(original))
    return any(
        isinstance(a, Tensor) and (a._version > 0 or not torch.equal(a, before[path])) for path, a in leaves(sample)
    )


def sample_of(samples: Structure, count: int | None = None) -> Structure:
    """A copy of (the first) samples that a network may overwrite, contiguous, as every network takes it."""
    few = samples if count is None else part(samples, slice(count))
    return mapped(few, lambda t: t.detach().clone(memory_format=torch.contiguous_format))
