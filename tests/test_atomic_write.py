"""Files come about at once or not at all, of every kind, with names of every kind."""

import os
import stat
import threading

import pytest

from lossatlas.errors import CannotWrite
from lossatlas.io import atomic_write
from lossatlas.io.atomic_write import host, remove_leftovers, set_aside, shortened_base, temporary_prefix, write_file


def test_content_arrives_and_nothing_else_stays(tmp_path):
    write_file(tmp_path / "a", b"one")
    write_file(tmp_path / "a", lambda out: out.write(b"two"))
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_permissions_and_links_stay(tmp_path):
    write_file(tmp_path / "a", b"one")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "link").symlink_to("a")
    write_file(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (tmp_path / "a").read_bytes() == b"two"


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_whatever_fails_the_previous_file_stays(tmp_path, monkeypatch, step):
    write_file(tmp_path / "a", b"one")

    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    if step != "write":
        monkeypatch.setattr(atomic_write.os, step, full)
    with pytest.raises(CannotWrite, match="No space left"):
        write_file(tmp_path / "a", full if step == "write" else b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/null", tmp_path):
        with pytest.raises(CannotWrite, match="no regular file"):
            write_file(path, b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_the_first_of_two_new_files_wins(tmp_path):
    assert write_file(tmp_path / "a", b"one", new=True)
    assert not write_file(tmp_path / "a", b"two", new=True)
    assert (tmp_path / "a").read_bytes() == b"one"
    wins, content = [], []

    def one(k):
        wins.append(write_file(tmp_path / "b", str(k).encode(), new=True))
        content.append((tmp_path / "b").read_bytes())

    threads = [threading.Thread(target=one, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(wins) == 1
    assert len(set(content)) == 1


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    path = tmp_path / "a"
    dead = tmp_path / f"{temporary_prefix(path)}{host()}.4194304.abc.part"
    alive = tmp_path / f"{temporary_prefix(path)}{host()}.{os.getppid()}.abc.part"
    elsewhere = tmp_path / f"{temporary_prefix(path)}node7.77.abc.part"
    old = tmp_path / f"{temporary_prefix(path)}node8.77.abc.part"
    others = tmp_path / f"{temporary_prefix(tmp_path / 'b')}{host()}.4194304.abc.part"
    for file in (dead, alive, elsewhere, old, others):
        file.write_bytes(b"half")
    os.utime(old, (1, 1))
    remove_leftovers.cache_clear()
    write_file(path, b"one")
    assert {p for p in tmp_path.iterdir() if p != path} == {alive, elsewhere, others}


@pytest.mark.parametrize("name", ["a" * 250, "漢" * 80, "\udcff\udcfe", "$\\foo$ <b>&", "-", "a b\nc"])
def test_names_of_every_kind(tmp_path, name):
    write_file(tmp_path / name, b"one")
    assert [os.fsencode(p.name) for p in tmp_path.iterdir()] == [os.fsencode(name)]


def test_names_that_get_an_ending_are_shortened_and_stay_different():
    assert shortened_base("/x/surface") == "/x/surface"
    long = [shortened_base("/x/" + "漢" * 80 + end) for end in "ab"]
    assert long[0] != long[1]
    assert all(len(os.fsencode(os.path.basename(base))) <= 250 for base in long)


def test_a_file_is_set_aside_under_a_name_of_its_own(tmp_path):
    assert set_aside(tmp_path / "s.h5") is None
    for k in range(3):
        write_file(tmp_path / "s.h5", str(k).encode())
        set_aside(tmp_path / "s.h5")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"s.old1.h5": "0", "s.old2.h5": "1", "s.old3.h5": "2"}
