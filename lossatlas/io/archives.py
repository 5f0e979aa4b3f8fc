"""Archives of others: what would unpack to far more than images or weights do is not read."""

import zipfile
from pathlib import Path

from lossatlas.errors import BadInput

MOST_FROM_ZIP = 100  # times its size that a compressed file may unpack to; images reach 5
SMALL = 1 << 26  # bytes to which any archive may unpack


def check_archive(file: Path) -> None:
    """Raise BadInput for a zip archive (.npz, torch) that unpacks to far more than it is: images and weights do not."""
    size = file.stat().st_size
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # whoever reads it says what it is instead
    if unpacked > max(SMALL, MOST_FROM_ZIP * size):
        raise BadInput(f"{file} has {size} bytes, and says that it unpacks to {unpacked}: nothing is read from it")
