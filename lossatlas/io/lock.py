"""One run at a time on an output: a small file beside it says who writes.

It needs nothing of the file system but that two hard links cannot get one name, which holds on NFS as well, where `flock`
may not. Whoever writes touches its lock every second. A lock is stale, and taken over, when its process is gone; on another
host, where nobody can ask for a process, when it has not been touched for half a minute.
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
WATCHED = 4.0  # seconds in which the lock of another host has to be touched to count as held
STALE = 30.0  # seconds without a touch after which the lock of another host is nobody's


class Lock:
    """Held from `with Lock(path):` on, or from `take`. Raises CannotWrite, which says who holds it instead.

    Where the folder cannot be written to there is no lock; whoever writes there hears of it anyway.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.realpath(path))
        self.file = self.path.with_name(temporary_prefix(self.path) + "lock")
        self.token = secrets.token_hex(8)
        self.held = False
        self.before = ""  # what became of a run whose lock was stale
        self.over = threading.Event()

    def __enter__(self) -> "Lock":
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, t: TracebackType | None) -> None:
        self.release()

    def take(self) -> None:
        """Raises CannotWrite where somebody else has it."""
        first: float | None = None  # when the lock of another host was touched last, as first seen
        began, waiting = time.monotonic(), False
        while not self.created():
            there, touched = read(self.file)
            if touched is None:  # gone in this moment
                time.sleep(0.02)
                continue
            if not stat.S_ISREG(os.lstat(self.file).st_mode):
                raise CannotWrite(f"cannot write {self.path}: {self.file} is in the way, which is no file: remove it")
            alive = runs_here(there)
            if alive is None:
                first = touched if first is None else first
                alive = touched != first
                if not alive and max(self.clock() - touched, time.monotonic() - began) < STALE:
                    if time.monotonic() - began > WATCHED and not waiting:
                        waiting = True
                        note(
                            f"{self.path} was being written by {who(there)}, which is silent: waiting until that is sure"
                        )
                    time.sleep(0.25)
                    continue
            if alive:
                raise CannotWrite(
                    f"cannot write {self.path}: it is being written by {who(there)}: wait for it, or give another file"
                )
            if self.cleared(there):
                self.before = f"the run on {self.path} before, {who(there)}, ended without a word"
                note(self.before)
        self.held = os.path.lexists(self.file)
        if self.held:
            HELD.append(self)
            threading.Thread(target=self.beat, daemon=True).start()

    def beside(self, what: str) -> Path:
        """The name of a temporary file, which goes with the next write if this process is killed."""
        return self.path.with_name(f"{temporary_prefix(self.path)}{host()}.{os.getpid()}.{self.token}-{what}.part")

    def created(self) -> bool:
        """Whether the lock is ours now, or there can be none."""
        temporary = self.beside("lock")
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
        """What time it is for the file system, whose clock need not be this host's."""
        temporary = self.beside("clock")
        try:
            temporary.touch()
            return temporary.stat().st_mtime
        except OSError:
            return time.time()
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def cleared(self, stale: dict[str, Any]) -> bool:
        """Whether this process has removed the stale lock. Of several who try, one succeeds."""
        aside = self.beside("stale")
        try:
            os.rename(self.file, aside)
        except OSError:
            return False
        there, _ = read(aside)
        right = there.get("token") == stale.get("token")
        with contextlib.suppress(OSError):
            if not right:  # somebody was faster, and it is theirs already
                os.link(aside, self.file)
            aside.unlink()
        return right

    def beat(self) -> None:
        while not self.over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def check(self) -> None:
        """Before every write: raise CannotWrite where somebody has taken it over, because this process seemed to be gone."""
        if not self.held:
            return
        there, touched = read(self.file)
        if touched is None and self.created():  # somebody has tidied up
            return
        if there.get("token") != self.token:
            self.held = False
            self.over.set()  # the lock is no longer ours to touch
            raise CannotWrite(
                f"cannot write {self.path}: this run was silent for so long that another one, {who(there)}, goes on with it"
            )

    def release(self) -> None:
        self.over.set()
        if self.held and read(self.file)[0].get("token") == self.token:
            with contextlib.suppress(OSError):
                self.file.unlink()
        self.held = False
        with contextlib.suppress(ValueError):
            HELD.remove(self)


HELD: list[Lock] = []  # of this process


def release_all() -> None:
    """Before this process ends at once."""
    for lock in list(HELD):
        lock.release()


def holder(path: str | Path) -> str:
    """Who writes this output now, as far as can be told without waiting; '' for nobody."""
    there, touched = read(Lock(path).file)
    return "" if touched is None or runs_here(there) is False else who(there)


def read(file: Path) -> tuple[dict[str, Any], float | None]:
    """What a lock says, and when it was touched last; None where it is gone."""
    try:
        touched = os.lstat(file).st_mtime
        found = json.loads(file.read_bytes()[:10_000]) if file.is_file() else {}
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError):  # another user's, or no lock of ours
        found = {}
    return found if isinstance(found, dict) else {}, touched


def this_process() -> dict[str, Any]:
    return {
        "where": here(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": start_of(os.getpid()),
        "since": datetime.now().isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200].encode(errors="replace").decode(),
    }


def here() -> str:
    """What has to be equal for a process number to mean the same process: the host, since it runs, and the container."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def start_of(pid: int) -> str:
    """When a process began, in ticks of its system; '' where it does not run, 'unknown' where it does and nobody says."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else rest[18]
    except OSError:  # gone, or another user's in a system that hides them, or no Linux
        pass
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except OSError:
        pass
    return "unknown"


def runs_here(there: dict[str, Any]) -> bool | None:
    """Whether the process that holds a lock runs; None where that cannot be known from here."""
    if there.get("where") != here() or type(there.get("pid")) is not int or there["pid"] < 1:
        return None
    now = start_of(there["pid"])
    return now == "unknown" or (bool(now) and now == there.get("started"))


def who(there: dict[str, Any]) -> str:
    """The holder of a lock, in words."""
    if "pid" not in there:
        return "somebody whose lock cannot be read"
    return f"process {there['pid']} on {there.get('host')} since {there.get('since')} ({shortened(str(there.get('command')))})"


def shortened(text: str, width: int = 100) -> str:
    """The first words of it."""
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " ..."
