"""One run at a time on an output: a small file beside it names the process that writes.

    with Lock("surface.h5") as lock:
        ...
        lock.check()      # before every write

The lock needs nothing of the file system but that two hard links cannot get one name, which holds on NFS as well, where
`flock` may not. The holder touches its lock every second. A lock is stale, and taken over, when its process is gone.
From another host, where a process cannot be asked for, it is stale when it has not been touched for half a minute.

Libraries were compared in 2026, and none covers this with less code:

- flufl.lock 10.0 compares the local clock with an expiry time that the holder writes by its own clock, with 10 s of
  slop, so a clock that is wrong by more breaks the lock of a running job, or waits for a dead one. Its `lock()` does
  not use the process number that it records, so a killed holder on the same host blocks until its lifetime ends; the
  caller has to extend that lifetime by a thread of its own.
- filelock 4.3 (`SoftFileLease`) recognizes dead processes and measures expiry by the observer's clock. But it creates
  the marker before it fills it, and an empty marker, which a kill or a full disk in between leaves, is never taken
  over; one that cannot be read is taken over after 2 s. A running holder on another host is told from a dead one only
  by waiting for the whole lease. The marker names no command and no time, and a lost lease is noticed by its heartbeat,
  not before the next write. A wrapper for these would be as long as this module.
"""

import contextlib
import json
import os
import secrets
import socket
import stat
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from lossatlas.errors import CannotWrite, note
from lossatlas.io.atomic_write import host, temporary_prefix

BEAT = 1.0  # seconds between touches
WATCHED = 4.0  # seconds in which the lock of another host has to be touched to count as alive
STALE = 30.0  # seconds without a touch after which the lock of another host is taken over
POLL = 0.25  # seconds between looks at the lock of another host


class Lock:
    """The lock of an output file or folder, from `with Lock(path):` or `acquire` until `release`.

    In a folder that cannot be written to there is no lock: writing the output fails there with a message of its own.

    Args:
        path: The output. A symbolic link counts as its target.

    Attributes:
        acquired: The lock file exists, and belongs to this process.
        previous_run: A line about the run whose stale lock was taken over, '' for none.

    Raises:
        CannotWrite: Another process has the lock; the message names it.

    Example:
        >>> import tempfile
        >>> with Lock(f"{tempfile.mkdtemp()}/surface.h5") as lock:
        ...     lock.acquired
        True
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.file = self.path.with_name(temporary_prefix(self.path) + "lock")
        self.token = secrets.token_hex(8)
        self.acquired = False
        self.previous_run = ""
        self.over = threading.Event()

    def __enter__(self) -> "Lock":
        self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        """Create the lock file, or take over a stale one.

        Raises:
            CannotWrite: Another process has the lock, or something else has its name.
        """
        observed = Observation()
        while not self.created():
            record, touched = read_lock(self.file)
            if touched is None:  # removed at this moment
                time.sleep(0.02)
                continue
            try:
                regular = stat.S_ISREG(os.lstat(self.file).st_mode)
            except FileNotFoundError:  # removed since it was read
                continue
            if not regular:
                raise CannotWrite(f"cannot write {self.path}: {self.file} is in the way, which is no file: remove it")
            alive = runs_here(record)
            if alive is None:
                alive = observed.touched_again(touched)
                if not alive and max(self.clock() - touched, observed.seconds) < STALE:
                    self.wait(record, observed)
                    continue
            if alive:
                raise CannotWrite(
                    f"cannot write {self.path}: it is being written by {who(record)}: wait for it, or give another file"
                )
            if self.cleared(record):
                self.previous_run = f"the run on {self.path} before, {who(record)}, ended without releasing its lock"
                note(self.previous_run)
        self.acquired = os.path.lexists(self.file)
        if self.acquired:
            ACQUIRED.append(self)
            threading.Thread(target=self.beat, daemon=True).start()

    def wait(self, record: dict[str, Any], observed: "Observation") -> None:
        """Wait for a touch of another host's lock, and give a note when that takes long."""
        if observed.seconds > WATCHED and not observed.noted:
            observed.noted = True
            note(
                f"{self.path} was being written by {who(record)}, which does not refresh its lock: waiting "
                f"{STALE:g} s before taking it over"
            )
        time.sleep(POLL)

    def temporary(self, purpose: str) -> Path:
        """Name a temporary file, which the next write removes if this process is killed."""
        return self.path.with_name(f"{temporary_prefix(self.path)}{host()}.{os.getpid()}.{self.token}-{purpose}.part")

    def created(self) -> bool:
        """Try to create the lock file; True also where no file can be created."""
        temporary = self.temporary("lock")
        try:
            temporary.write_text(json.dumps({**this_process(), "token": self.token}))
            try:
                os.link(temporary, self.file)
            except FileExistsError:
                return False
            except OSError:  # no hard links here
                try:
                    os.close(os.open(self.file, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return False
                os.replace(temporary, self.file)
        except OSError:  # the folder cannot be written to, or its disk is full
            return True
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def clock(self) -> float:
        """Read the clock of the file system, which need not be this host's."""
        temporary = self.temporary("clock")
        try:
            temporary.touch()
            return temporary.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def cleared(self, stale: dict[str, Any]) -> bool:
        """Try to remove a stale lock; of several processes that try, one succeeds."""
        aside = self.temporary("stale")
        try:
            os.rename(self.file, aside)
        except OSError:
            return False
        record, _ = read_lock(aside)
        right = record.get("token") == stale.get("token")
        with contextlib.suppress(OSError):
            if not right:  # another process was faster, and this is its new lock
                os.link(aside, self.file)
            aside.unlink()
        return right

    def beat(self) -> None:
        """Touch the lock file until it is released."""
        while not self.over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def check(self) -> None:
        """Verify before a write that this process still has the lock.

        Raises:
            CannotWrite: Another process has taken it over, because this one did not touch it in time.
        """
        if not self.acquired:
            return
        record, touched = read_lock(self.file)
        if touched is None and self.created():  # the file was deleted by hand
            return
        if record.get("token") != self.token:
            self.acquired = False
            self.over.set()  # the lock is no longer ours to touch
            raise CannotWrite(
                f"cannot write {self.path}: this run did not refresh its lock for so long that another one, "
                f"{who(record)}, has taken over"
            )

    def release(self) -> None:
        """Remove the lock file if it is this process's."""
        self.over.set()
        if self.acquired and read_lock(self.file)[0].get("token") == self.token:
            with contextlib.suppress(OSError):
                self.file.unlink()
        self.acquired = False
        with contextlib.suppress(ValueError):
            ACQUIRED.remove(self)


class Observation:
    """The lock of another host as seen by this one, on this one's monotonic clock."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first: float | None = None  # time of the touch that was seen first
        self.noted = False

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def touched_again(self, touched: float) -> bool:
        """Test whether the lock was touched since it was first seen."""
        self.first = touched if self.first is None else self.first
        return touched != self.first


ACQUIRED: list[Lock] = []  # of this process


def release_all() -> None:
    """Release all locks of this process, before it ends at once."""
    for lock in list(ACQUIRED):
        lock.release()


def holder(path: str | Path) -> str:
    """Name the process that writes an output now, as far as that can be told without waiting; '' for none."""
    record, touched = read_lock(Lock(path).file)
    return "" if touched is None or runs_here(record) is False else who(record)


def read_lock(file: Path) -> tuple[dict[str, Any], float | None]:
    """Read a lock: its entries, and the time of its last touch; None where it is gone."""
    try:
        touched = os.lstat(file).st_mtime
        found = json.loads(file.read_bytes()[:10_000]) if file.is_file() else {}
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError):  # another user's, or no lock of ours
        found = {}
    return found if isinstance(found, dict) else {}, touched


def this_process() -> dict[str, Any]:
    """Describe this process for its lock."""
    return {
        "where": here(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": start_of(os.getpid()),
        "since": datetime.now().isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200].encode(errors="replace").decode(),
    }


def here() -> str:
    """Identify the namespace of process numbers: host, boot and container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def start_of(pid: int) -> str:
    """Start time of a process in ticks of its system; '' where it does not run, 'unknown' where it is hidden."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    except OSError:  # gone, or another user's in a system that hides them, or not Linux
        pass
    if os.name == "nt":  # there os.kill sends an event, and ends the process
        return "unknown"
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except OSError:
        pass
    return "unknown"


def runs_here(record: dict[str, Any]) -> bool | None:
    """Test whether the process of a lock runs; None where that cannot be known from here."""
    if record.get("where") != here() or type(record.get("pid")) is not int or record["pid"] < 1:
        return None
    now = start_of(record["pid"])
    return now == "unknown" or (bool(now) and now == record.get("started"))


def who(record: dict[str, Any]) -> str:
    """Describe the holder of a lock."""
    if "pid" not in record:
        return "another process whose lock cannot be read"
    command = shortened_text(str(record.get("command")))
    return f"process {record['pid']} on {record.get('host')} since {record.get('since')} ({command})"


def shortened_text(text: str, width: int = 100) -> str:
    """Cut a text after a word."""
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " ..."
