"""Archives from other programs: those that unpack to far more than images or weights do are refused."""

import zipfile
from pathlib import Path

from lossatlas.errors import BadInput

MOST_FROM_ZIP = 100  # times its size that a compressed file may unpack to; images reach 5
SMALL = 1 << 26  # bytes to which any archive may unpack


def check_archive(file: Path) -> None:
    """Check the unpacked size of a zip archive (.npz, torch), as its headers state it.

    Args:
        file: Any file; one that is no zip archive passes.

    Raises:
        BadInput: The archive unpacks to more than SMALL bytes and MOST_FROM_ZIP times its size.
    """
    size = file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # its reader has a message of its own
    if unpacked > max(SMALL, MOST_FROM_ZIP * size):
        raise BadInput(f"{file} has {size} bytes, and says that it unpacks to {unpacked}: nothing is read from it")
