"""Atomic writes of files: temporary file, fsync, replace, fsync of the folder.

Whatever happens in between, the previous file is unchanged. Temporary files of killed processes are removed by the next
write of the same file.
"""

import hashlib
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from lossatlas.errors import CannotWrite

LONGEST, ENDING = 255, 5  # bytes of a file's name, and of those of its ending
KEPT = 86_400.0  # seconds after which a temporary file of another host is removed


def write_file(path: str | Path, content: bytes | Callable[[BinaryIO], object], *, new: bool = False) -> bool:
    """Write a file atomically.

    Args:
        path: The file; a symbolic link stays one, and its target is written.
        content: Bytes, or a function that writes into an open file.
        new: Write only where there is no such file yet.

    Returns:
        Whether the file was written; False with `new` where there is one.

    Raises:
        CannotWrite: The file cannot be written; the previous one is unchanged.

    Example:
        >>> import tempfile
        >>> write_file(f"{tempfile.mkdtemp()}/a.txt", b"content")
        True
    """
    given, path = Path(path), Path(os.path.realpath(path))
    try:
        before = mode_of(path)
        remove_leftovers(path)
        temporary = path.with_name(f"{temporary_prefix(path)}{host()}.{os.getpid()}.{secrets.token_hex(3)}.part")
        try:
            write_to_disk(temporary, content, before)
            if new:
                if not link_new(temporary, path):
                    return False
            else:
                os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        flush_folder(path.parent)
    except FileNotFoundError as error:
        if path.parent.exists():
            raise CannotWrite(f"cannot write {path}: {error.strerror}") from error
        raise CannotWrite(f"cannot write {given}: no folder {given.parent}: make it first") from error
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
    return True


def write_to_disk(file: Path, content: bytes | Callable[[BinaryIO], object], mode: int | None) -> None:
    """Write a file with these permissions (None for the usual ones), and flush it to the disk."""
    with open(file, "wb") as out:
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(out.fileno(), mode)
        if callable(content):
            content(out)
        else:
            out.write(content)
        out.flush()
        os.fsync(out.fileno())


def link_new(temporary: Path, path: Path) -> bool:
    """Give a file a name that is free; return False where it is not."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


def set_aside(path: str | Path) -> Path | None:
    """Rename an existing file to a free name beside it.

    Args:
        path: The file, such as `surface.h5`.

    Returns:
        The new name, such as `surface.old1.h5`; None where there is no file.

    Raises:
        CannotWrite: The file cannot be renamed.
    """
    path = Path(os.path.realpath(path))
    if not path.exists():
        return None
    number = 1
    while (aside := Path(shortened_base(f"{path.with_suffix('')}.old{number}") + path.suffix)).exists():
        number += 1
    try:
        os.rename(path, aside)
    except OSError as error:
        raise CannotWrite(f"cannot rename {path}: {error.strerror}") from error
    return aside


def mode_of(path: Path) -> int | None:
    """Return the permissions of a file, None where there is none.

    Raises:
        CannotWrite: It is no regular file, but a device or a folder.
    """
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise CannotWrite(f"cannot write {path}: it is no regular file")
    return stat.S_IMODE(found)


def flush_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_prefix(path: Path) -> str:
    """Return the prefix of temporary names for a file, short enough for every file system."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return f".{os.fsencode(path.name)[:60].decode(errors='ignore')}.{digest}."


def shortened_base(base: str) -> str:
    """Shorten the name of a path without ending, by a hash at its end, so that the ending fits on every file system."""
    folder, name = os.path.split(base)
    content = os.fsencode(name)
    if len(content) <= LONGEST - ENDING:
        return base
    kept = content[: LONGEST - ENDING - 13].decode(errors="ignore")
    return os.path.join(folder, f"{kept}_{hashlib.sha256(content).hexdigest()[:12]}")


def host() -> str:
    """Return this host's name in the form of temporary names."""
    return socket.gethostname().replace(".", "-")[:40]


@cache  # once for each file: a folder may be large and far away
def remove_leftovers(path: Path) -> None:
    """Remove temporary files of killed processes for a file."""
    start = temporary_prefix(path)
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(start) and name.endswith(".part") and is_leftover(path.with_name(name)):
                path.with_name(name).unlink(missing_ok=True)


def is_leftover(temporary: Path) -> bool:
    """Test whether the process that wrote a temporary file is gone."""
    *_, where, number, _, _ = temporary.name.split(".")
    if where == host() and number.isdecimal():
        return not Path(f"/proc/{number}").exists() if Path("/proc/self").exists() else False
    with suppress(OSError):
        return time.time() - temporary.stat().st_mtime > KEPT
    return False


def make_folder(folder: Path) -> None:
    """Make a folder for output, with its parents.

    Raises:
        CannotWrite: The folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror}") from error
