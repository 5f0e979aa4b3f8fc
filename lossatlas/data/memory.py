"""The memory that data may take."""

import os
from contextlib import suppress
from pathlib import Path

LOCAL_SIZE_VARIABLES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "MPI_LOCALNRANKS",
    "PALS_LOCAL_SIZE",
    "SLURM_TASKS_PER_NODE",
    "PMI_SIZE",
)
UNLIMITED = 1 << 60  # cgroup v1 writes a larger number where there is no limit
MEMORY_SHARE = 0.4  # of the free memory: batches exist twice while they are joined


def budget() -> int:
    """Return the bytes that the data of this process may take: its part of the free memory of the node."""
    return int(MEMORY_SHARE * available() / local_ranks())


def available() -> int:
    """Return the bytes that are free on this machine, or in the container of this process."""
    free = [limit for limit in (machine_memory(), container_memory()) if limit is not None]
    return min(free, default=1 << 33)


def machine_memory() -> int | None:
    """Return the free bytes of the machine, or None if they are not known."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def container_memory(root: str = "/sys/fs/cgroup") -> int | None:
    """Return the bytes that the limit of a container leaves, or None without a limit."""
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            limit = Path(root, most).read_text().strip()
            if limit == "max" or int(limit) > UNLIMITED:
                return None
            return max(0, int(limit) - int(Path(root, used).read_text()))
    return None


def local_ranks() -> int:
    """Return the largest number of ranks that the launcher started on this node."""
    for name in LOCAL_SIZE_VARIABLES:
        first = os.environ.get(name, "").split("(")[0].split(",")[0]
        if first.isdigit() and int(first):
            return int(first)
    return 1


def in_words(count: float) -> str:
    """Format a number of bytes, such as '1.5 GB'."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
