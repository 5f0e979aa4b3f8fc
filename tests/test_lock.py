"""One run at a time on an output: who is let in, who is refused, and what becomes of the locks of the dead."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from lossatlas.errors import CannotWrite, Note
from lossatlas.io import lock as module
from lossatlas.io.lock import Lock, holder, this_process


def test_the_second_is_told_who_writes(tmp_path):
    with Lock(tmp_path / "s.h5") as first:
        assert first.acquired
        with pytest.raises(CannotWrite, match=rf"being written by process {os.getpid()} on .* since 20\d\d-"):
            Lock(tmp_path / "s.h5").acquire()
        assert f"process {os.getpid()}" in holder(tmp_path / "s.h5")
        with Lock(tmp_path / "other.h5"):
            pass
    assert list(tmp_path.iterdir()) == []
    assert holder(tmp_path / "s.h5") == ""
    with Lock(tmp_path / "s.h5"):
        pass


def test_a_symbolic_link_is_the_same_output(tmp_path):
    (tmp_path / "link.h5").symlink_to(tmp_path / "s.h5")
    with Lock(tmp_path / "link.h5"), pytest.raises(CannotWrite, match="being written"):
        Lock(tmp_path / "s.h5").acquire()


@pytest.mark.commands
def test_the_lock_of_a_killed_process_is_taken_over(tmp_path):
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from lossatlas.io.lock import Lock
Lock({str(tmp_path / "s.h5")!r}).acquire()
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1
    lock = Lock(tmp_path / "s.h5")
    with pytest.warns(Note, match="ended without releasing its lock"):
        lock.acquire()
    assert lock.acquired
    assert "ended without releasing its lock" in lock.previous_run
    lock.release()


def left_by(path, monkeypatch, **changed):
    """A lock that another process has left."""
    lock = Lock(path)
    lock.file.write_text(json.dumps({**this_process(), "token": "theirs", **changed}))
    return lock


def test_a_process_number_that_is_used_again_is_another_process(tmp_path, monkeypatch):
    left_by(tmp_path / "s.h5", monkeypatch, started="1")
    with pytest.warns(Note, match="ended without releasing its lock"), Lock(tmp_path / "s.h5") as lock:
        assert lock.acquired


def test_a_lock_of_another_host_is_held_while_it_is_touched(tmp_path, monkeypatch):
    lock = left_by(tmp_path / "s.h5", monkeypatch, where="elsewhere", host="node7", pid=1)
    over = threading.Event()

    def touch():
        while not over.wait(0.2):
            os.utime(lock.file)

    thread = threading.Thread(target=touch)
    thread.start()
    try:
        began = time.monotonic()
        with pytest.raises(CannotWrite, match="process 1 on node7"):
            Lock(tmp_path / "s.h5").acquire()
    finally:
        over.set()
        thread.join()
    assert time.monotonic() - began < 60


def test_a_lock_of_another_host_that_is_silent_is_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STALE", 1.0)
    monkeypatch.setattr(module, "WATCHED", 0.2)
    lock = left_by(tmp_path / "s.h5", monkeypatch, where="elsewhere", host="node7", pid=1)
    now = time.time()
    with pytest.warns(Note, match="node7"), Lock(tmp_path / "s.h5") as mine:
        assert mine.acquired
    assert time.time() - now >= 0.9  # not before it was sure
    assert not lock.file.exists()


def test_a_lock_that_cannot_be_read_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STALE", 0.5)
    Lock(tmp_path / "s.h5").file.write_bytes(b"\xff not json")
    with pytest.warns(Note, match="cannot be read"), Lock(tmp_path / "s.h5") as mine:
        assert mine.acquired


def test_who_was_taken_for_dead_writes_nothing_more(tmp_path, monkeypatch):
    with Lock(tmp_path / "s.h5") as sleeper:
        sleeper.check()
        sleeper.file.unlink()
        left_by(tmp_path / "s.h5", monkeypatch)
        with pytest.raises(CannotWrite, match="another one"):
            sleeper.check()
    assert "theirs" in sleeper.file.read_text()  # and it does not remove what is not its own


def test_a_lock_that_somebody_has_tidied_up_is_made_again(tmp_path):
    with Lock(tmp_path / "s.h5") as lock:
        lock.file.unlink()
        lock.check()
        assert lock.file.exists()


def test_a_lock_that_disappears_while_it_is_examined_is_taken(tmp_path, monkeypatch):
    left_by(tmp_path / "s.h5", monkeypatch, started="1")
    read = module.read_lock

    def read_and_remove(file):
        found = read(file)
        file.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "read_lock", read_and_remove)
    with Lock(tmp_path / "s.h5") as lock:
        assert lock.acquired


@pytest.mark.commands
def test_of_many_who_find_a_stale_lock_one_gets_it(tmp_path, monkeypatch):
    left_by(tmp_path / "s.h5", monkeypatch, started="1")
    code = f"""
import sys, time, warnings
sys.path.insert(0, {str(ROOT)!r})
warnings.simplefilter("ignore")
from lossatlas.errors import CannotWrite
from lossatlas.io.lock import Lock
print("ready", flush=True)
sys.stdin.readline()
try:
    Lock({str(tmp_path / "s.h5")!r}).acquire()
    print("mine", flush=True)
except CannotWrite:
    print("theirs", flush=True)
sys.stdin.readline()
"""
    start = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in start:
        assert process.stdout.readline() == "ready\n"
    for process in start:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in start]
    for process in start:
        process.communicate("\n")
    assert sorted(said) == ["mine\n", *["theirs\n"] * 5]


def test_a_folder_that_cannot_be_written_to_has_no_lock(tmp_path):
    lock = Lock(tmp_path / "absent" / "s.h5")
    with lock:
        assert not lock.acquired
        lock.check()


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_what_is_in_the_way_is_named(tmp_path, kind):
    lock = Lock(tmp_path / "s.h5")
    lock.file.mkdir() if kind == "folder" else lock.file.symlink_to("nowhere")
    with pytest.raises(CannotWrite, match="is in the way"):
        lock.acquire()


def test_a_lock_from_the_future_is_stale_after_a_while_too(tmp_path, monkeypatch):
    """The clock of another host goes wrong."""
    monkeypatch.setattr(module, "STALE", 1.0)
    lock = left_by(tmp_path / "s.h5", monkeypatch, where="elsewhere", host="node7", pid=1)
    os.utime(lock.file, (time.time() + 1e6, time.time() + 1e6))
    with pytest.warns(Note, match="ended without releasing its lock"), Lock(tmp_path / "s.h5") as mine:
        assert mine.acquired


@pytest.mark.parametrize("content", [b"[" * 9999, b"[1]", b'{"pid": "x"}', b"{}", b""])
def test_odd_contents_of_a_lock(tmp_path, monkeypatch, content):
    monkeypatch.setattr(module, "STALE", 0.3)
    Lock(tmp_path / "s.h5").file.write_bytes(content)
    with pytest.warns(Note, match="ended without releasing its lock"), Lock(tmp_path / "s.h5") as mine:
        assert mine.acquired


def test_a_process_that_the_system_hides_is_alive(tmp_path, monkeypatch):
    """As with hidepid, where /proc shows nobody else's processes."""
    lock = left_by(tmp_path / "s.h5", monkeypatch, pid=os.getppid())
    monkeypatch.setattr(
        module, "Path", lambda name: tmp_path / "absent" if str(name).startswith("/proc/") else type(tmp_path)(name)
    )
    monkeypatch.setattr(module, "here", lambda: json.loads(lock.file.read_text())["where"])
    with pytest.raises(CannotWrite, match="being written"):
        lock.acquire()
