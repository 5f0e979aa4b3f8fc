"""Decide what a rank may use: its CPU threads, and its CUDA device."""

import math
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lossatlas.errors import BadUsage, first_line, named

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import nn


def threads_of(asked: int, share: int) -> int:
    """Return the CPU threads of a rank.

    Args:
        asked: The number that is asked for; 0 for none.
        share: The rank's share of the cores, see `core_share`, which OMP_NUM_THREADS of the environment can lower.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return asked or (min(share, max(1, int(limit))) if limit.isdigit() else share)


def use_threads(threads: int) -> None:
    """Let torch compute with this number of CPU threads in this process; 0 leaves it as it is."""
    import torch

    if threads:
        torch.set_num_threads(threads)


def cores() -> frozenset[int]:
    """Return the cores that this process may run on."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def core_share(masks: Sequence[frozenset[int]], limit: float = math.inf) -> int:
    """Return the number of cores for the first of several processes; a core is shared equally by the processes on it.

    Args:
        masks: The cores that each process may run on.
        limit: The number of cores that all of them may use together, as a container limits it.

    Returns:
        The number of cores, at least 1.
    """
    share = sum(1 / sum(core in mask for mask in masks) for core in masks[0])
    return max(1, int(min(share, limit / len(masks)) + 1e-9))


def core_limit(root: str = "/sys/fs/cgroup") -> float:
    """Return the CPU quota of the container that this process runs in, in cores; infinity where there is none."""
    with suppress(OSError, ValueError):
        quota, period = Path(root, "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = (Path(root, "cpu", f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if int(quota) < 0 else int(quota) / int(period)
    return math.inf


def device_of(
    asked: "bool | str | torch.device | None", *, local_rank: int = 0, net: "nn.Module | None" = None
) -> "torch.device":
    """Return the device that computes.

    Args:
        asked: The flag `cuda` of a command, with which every rank takes a CUDA device of its own; or the argument
            `device` of a Python function, None for the device of the network.
        local_rank: The number of the rank among those on its host.
        net: The network; None for one on the CPU.

    Raises:
        BadUsage: torch does not know the device, or there is no CUDA device.

    Example:
        >>> device_of(False), device_of("cpu")
        (device(type='cpu'), device(type='cpu'))
    """
    import torch

    if isinstance(asked, bool):
        if asked and not torch.cuda.is_available():
            raise BadUsage(
                f"{named('cuda')}: no CUDA device on {socket.gethostname()}: leave the flag out to use the CPU"
            )
        return torch.device(f"cuda:{local_rank % torch.cuda.device_count()}" if asked else "cpu")
    if asked is None:
        asked = "cpu" if net is None else next(net.parameters()).device
    try:
        found = torch.device(asked)
    except RuntimeError as error:
        raise BadUsage(f"{named('device', asked)}: {first_line(error, 120)}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise BadUsage(
            f"{named('device', str(found))}: torch finds no CUDA device here: leave it out to compute on the CPU"
        )
    return found


def has_cuda() -> bool:
    """Return whether there is a CUDA device."""
    import torch

    return torch.cuda.is_available()
