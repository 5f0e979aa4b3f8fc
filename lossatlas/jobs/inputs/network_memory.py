"""Memory that a job may take beside the network: large networks are moved in place, with everything else on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lossatlas.choices import Memory
from lossatlas.errors import BadUsage, named

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
        memory: 'low' or 'fast'; None to choose by the number of parameters, which is the same on every machine. A
            network whose modules accelerate has placed, or that is spread over ranks, has low memory, because copies of
            it would be on one device.

    Raises:
        BadUsage: 'fast' is asked for, or needed, and the network has weights on several devices or ranks.
    """
    from lossatlas.parameter_space.offloaded import is_dispatched, is_spread

    if memory is None and is_dispatched(net):
        return True
    devices = sorted({str(parameter.device) for parameter in net.parameters()})
    if memory == "fast" and (is_spread(net) or len(devices) > 1):
        places = "several ranks" if is_spread(net) else " and ".join(devices)
        raise BadUsage(
            f"the network has weights on {places}: they stay there on lines, planes and volumes along directions with "
            f"{named('memory', 'low')} alone"
        )
    if memory is not None:
        return memory == "low"
    return sum(parameter.numel() for parameter in net.parameters()) >= LARGE_NETWORK


@contextmanager
def kept_on_disk(net: "nn.Module", *, low: bool) -> "Iterator[KeptTensors | None]":
    """Keep the tensors of a network in scratch files within the block.

    Args:
        net: The network.
        low: Keep them; without it nothing is done.

    Raises:
        CannotWrite: As `keep_on_disk`.
    """
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
