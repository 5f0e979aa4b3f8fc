"""The files that a job writes: their folder, their lock, and an earlier file of the same name."""

import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeVar

from lossatlas.errors import BadInput, BadUsage, CannotWrite, FrontEnd, Stop, named, note, say
from lossatlas.io.atomic_write import set_aside
from lossatlas.io.lock import Lock, holder
from lossatlas.io.progress import Log
from lossatlas.io.spectrum_files import FindingsKind
from lossatlas.jobs.inputs import file_names
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World

T = TypeVar("T")
FileKind = Literal[FindingsKind, "surface", "direction"]


def check_folder(kind: FileKind, path: Path) -> None:
    """Check that the folder of a file exists.

    Args:
        kind: 'surface', 'direction' and so on.
        path: The file.

    Raises:
        BadInput: There is no such folder.
    """
    if not path.resolve().parent.is_dir():
        raise BadInput(f"no folder {path.parent} for the {kind} file: make it first")


def lock_output(kind: FileKind, path: Path, log: Log, releases: ExitStack, *, dry_run: bool) -> Lock | None:
    """Take the lock on a file that a command writes.

    Args:
        kind: Kind of the file, for messages.
        path: The file.
        log: The log, which is written beside it from now on.
        releases: Releases the lock when it is closed.
        dry_run: Take no lock, and report another run that writes the file.

    Returns:
        The lock; None in a dry run.

    Raises:
        BadInput: The folder does not exist.
        CannotWrite: Another run writes the file.
    """
    if not dry_run:
        log.beside(path)
    check_folder(kind, path)
    if dry_run:
        if other_run := holder(path):
            say(f"note: {path} is being written by {other_run}")
        return None
    lock = releases.enter_context(Lock(path))
    if lock.previous_run:
        log.line(lock.previous_run)
    return lock


def with_lock(
    kind: FileKind, file: str | Path | None, world: World, *, force: bool, finish: Callable[[Lock | None], T]
) -> T:
    """Call a function on every rank of a script, while rank 0 holds the lock on a file.

    Args:
        kind: Kind of the file, for messages.
        file: The file; None for no file and no lock.
        world: The ranks of the script.
        force: Keep an earlier file under another name first, and say so.
        finish: Gets the lock; None on other ranks.

    Returns:
        The result of `finish`.

    Raises:
        BadInput: The folder does not exist.
        CannotWrite: Another run writes the file.
    """

    def acquired() -> Lock | None:
        if file is not None and not isinstance(file, str | Path):
            raise BadUsage(f"{named('file', file)}: give the path of a file")
        if file is None or not world.root:
            return None
        check_folder(kind, Path(file))
        lock = Lock(Path(file))
        lock.acquire()
        if force:
            keep_aside(Path(file))
        return lock

    named_on = [file is not None] if world.comm is None else world.comm.allgather(file is not None)
    if any(named_on) and not named_on[0]:
        raise BadUsage(f"{named('file')}: rank {named_on.index(True)} names a file and rank 0, which writes, does not")
    lock = on_all(world, acquired)
    try:
        return finish(lock)
    finally:
        if lock is not None:
            lock.release()


def keep_aside(path: Path) -> None:
    """Keep an earlier file under another name, and say so.

    Raises:
        CannotWrite: As `set_aside`.
    """
    if old := set_aside(path):
        line = f"the file that was there is now {old}"
        say(f"note: {line}") if FrontEnd.command else note(line)


def draw_if_possible(draw: Callable[[], object]) -> None:
    """Draw a finished file, and say why where it cannot be drawn: the file is complete all the same.

    Args:
        draw: Draws the file.

    Raises:
        CannotWrite: The figure cannot be written.
    """
    try:
        draw()
    except CannotWrite:
        raise
    except Stop as error:
        say(f"note: not drawn: {error}")


def output_path(file: str | None, default: Path, beside: str | None) -> Path:
    """Return the file that a job writes: the one that the user names, or a default.

    Args:
        file: The file that the user names.
        default: The file otherwise.
        beside: Another output, into whose folder the default goes when its own is read-only.
    """
    if file:
        return Path(file)
    if beside and not default.exists() and not file_names.writable_folder(default):
        say(f"note: {default.parent} is read-only, so {default.name} is written beside {beside}")
        return Path(beside).with_name(default.name)
    return default


def check_space(path: Path, size: int) -> None:
    """Check that a folder has space for a new file beside the existing one.

    Args:
        path: The file.
        size: Its size in bytes.

    Raises:
        CannotWrite: The folder lacks the space, or is not writable.
    """
    from lossatlas.data.memory import in_words

    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        raise CannotWrite(f"cannot write {path}: the folder {folder} is not writable")
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise CannotWrite(f"cannot write {path}: it needs {in_words(2 * size)}, and {in_words(free)} are free there")
