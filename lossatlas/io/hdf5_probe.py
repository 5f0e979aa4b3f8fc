"""A program that reads an HDF5 file once, with limited time and memory: see lossatlas.io.hdf5.

    python hdf5_probe.py FILE        exit code 0 where reading it ends

It imports nothing of the package, and follows no links to other files.
"""

import os
import sys
from contextlib import suppress

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 2  # of the processor, and more for large files
MEMORY = 1 << 30  # bytes beside those of the file
LARGE = 1 << 28  # bytes of one array that a smaller file may hold


def limit(size: int) -> None:
    """Limit processor time and memory of this process.

    Args:
        size: The size of the file in bytes.
    """
    if resource is None:
        return
    used, _ = resource.getrusage(resource.RUSAGE_SELF)[:2]
    seconds = int(used) + SECONDS + size // 50_000_000
    with suppress(ValueError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 2))
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as f:
            taken = int(f.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY + 4 * size,) * 2)


def read_all(path: str) -> None:
    """Read all attributes and arrays of a file.

    Raises:
        Exception: An error of h5py, which cannot read the file.
        SystemExit: An array is larger than the file allows.
    """
    import h5py

    size = os.path.getsize(path)
    limit(size)

    def look(item: h5py.HLObject) -> None:
        for name in item.attrs:
            item.attrs[name]
        if not isinstance(item, h5py.Dataset):
            return
        amount = item.dtype.itemsize * item.size if item.size else 0
        if amount > max(LARGE, 4 * size):
            sys.exit(f"'{item.name}' says that it holds {amount} bytes, more than four times those of the file")
        if item.id.get_offset() is None or item.dtype.hasobject:
            item[()]
        elif item.id.get_offset() + item.id.get_storage_size() > size:
            sys.exit(f"'{item.name}' ends beyond the end of the file")

    with h5py.File(path, "r", locking=False) as f:
        look(f)
        f.visititems(lambda name, item: look(item))


if __name__ == "__main__":
    try:
        read_all(sys.argv[1])
    except Exception as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        sys.exit(text[text.find("(") + 1 : -1] if isinstance(error, OSError) and text.endswith(")") else text)
