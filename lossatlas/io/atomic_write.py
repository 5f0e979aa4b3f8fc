"""The one way in which files come about: at once or not at all.

Content goes to a temporary file in the same folder, then to the disk, then takes the place of what was there. Whatever
happens in between, the previous file is as it was; what a killed process left behind goes with the next write.
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
KEPT = 86_400.0  # seconds after which a temporary file of another host is nobody's any more


def write_file(path: str | Path, content: bytes | Callable[[BinaryIO], object], *, new: bool = False) -> bool:
    """Write a file atomically. Raises CannotWrite.

    content: bytes, or a function that writes into an open file. new: only where there is no such file yet; whether it was
    written is returned, and False means that somebody else was first.
    """
    path = Path(os.path.realpath(path))  # a symbolic link stays one
    try:
        before = mode_of(path)
        remove_leftovers(path)
        temporary = path.with_name(f"{temporary_prefix(path)}{host()}.{os.getpid()}.{secrets.token_hex(3)}.part")
        try:
            with open(temporary, "wb") as out:
                if before is not None:
                    os.fchmod(out.fileno(), before)
                if callable(content):
                    content(out)
                else:
                    out.write(content)
                out.flush()
                os.fsync(out.fileno())
            if new:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                except OSError:  # a file system without hard links
                    if path.exists():
                        return False
                    os.replace(temporary, path)
            else:
                os.replace(temporary, path)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        flush_folder(path.parent)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
    return True


def set_aside(path: str | Path) -> Path | None:
    """Give a file that is there another name beside it, and return that. Raises CannotWrite."""
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
    """The permissions of a file that is there. Raises CannotWrite for what is no file, such as a device."""
    try:
        found = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise CannotWrite(f"cannot write {path}: it is no regular file")
    return stat.S_IMODE(found)


def flush_folder(folder: Path) -> None:
    """Bring the folder's list of names to the disk, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_prefix(path: Path) -> str:
    """Of the names of temporary files for this one: short enough for every file system, however long its name is."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    return f".{os.fsencode(path.name)[:60].decode(errors='ignore')}.{digest}."


def shortened_base(base: str) -> str:
    """The same path, or one whose name ends in a hash, so that with an ending it is short enough for a file."""
    folder, name = os.path.split(base)
    content = os.fsencode(name)
    if len(content) <= LONGEST - ENDING:
        return base
    kept = content[: LONGEST - ENDING - 13].decode(errors="ignore")
    return os.path.join(folder, f"{kept}_{hashlib.sha256(content).hexdigest()[:12]}")


def host() -> str:
    return socket.gethostname().replace(".", "-")[:40]


@cache  # once for each file: a folder may be large and far away
def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left behind of this file."""
    start = temporary_prefix(path)
    with suppress(OSError):
        for name in os.listdir(path.parent):
            if name.startswith(start) and name.endswith(".part") and is_leftover(path.with_name(name)):
                path.with_name(name).unlink(missing_ok=True)


def is_leftover(temporary: Path) -> bool:
    """Whether the process that was writing this is gone."""
    *_, where, number, _, _ = temporary.name.split(".")
    if where == host() and number.isdecimal():
        return not Path(f"/proc/{number}").exists() if Path("/proc/self").exists() else False
    with suppress(OSError):
        return time.time() - temporary.stat().st_mtime > KEPT
    return False


def make_folder(folder: Path) -> None:
    """Make a folder for output. Raises CannotWrite."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}: {error.strerror}") from error
