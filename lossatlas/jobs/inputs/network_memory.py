"""Memory that a job may take beside the network: large networks are moved in place, with everything else on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lossatlas.choices import Memory

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData
    from lossatlas.evaluation.reference import KeptTensors

LARGE_NETWORK = 100_000_000  # parameters; from here on memory is 'low' unless the user asks for 'fast'
TOKENS = 2048  # of a batch of sequences of a large network
SAMPLES = 16  # of a batch of anything else


def takes_little_memory(net: "nn.Module", memory: Memory | None) -> bool:
    """Return whether a network is evaluated with its origin and directions on disk.

    Args:
        net: The network.
        memory: 'low' or 'fast'; None to choose by the number of parameters, which is the same on every machine.
    """
    if memory is not None:
        return memory == "low"
    return sum(parameter.numel() for parameter in net.parameters()) >= LARGE_NETWORK


@contextmanager
def kept_on_disk(net: "nn.Module", *, low: bool) -> "Iterator[KeptTensors | None]":
    """Keep the tensors of a network in scratch files within the block; low=False does nothing. Raises CannotWrite."""
    from lossatlas.evaluation.reference import restored_from_disk

    if not low:
        yield None
        return
    with restored_from_disk(net) as kept:
        yield kept


def memory_record(*, low: bool) -> dict[str, str]:
    """Return the field by which a file knows that memory was low; none otherwise, as in files of earlier versions."""
    return {"memory": "low"} if low else {}


def small_batch_size(data: "AnyData") -> int:
    """Return the samples of a batch of a large network: TOKENS for sequences of whole numbers, otherwise SAMPLES."""
    from lossatlas.data.structures import leaves

    first = next((leaf for _, leaf in leaves(next(data.batches(1))) if hasattr(leaf, "is_floating_point")), None)
    if first is None or first.is_floating_point() or first.dim() < 2:
        return SAMPLES
    return max(1, TOKENS // first[0].numel())
