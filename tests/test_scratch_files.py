"""Temporary files of large networks: mapped, without a name, refused on a full disk, reachable by neighbours."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from lossatlas.errors import CannotWrite
from lossatlas.io import Directions, hdf5, scratch_files, write_directions
from lossatlas.io.scratch_files import new_file, open_file
from lossatlas.parameter_space.scratch import ALIGNMENT, MappedPoint, Scratch, layout_of

TENSORS = {
    "half": torch.randn(3, 5).bfloat16(),
    "one": torch.tensor(2.5, dtype=torch.float64),
    "none": torch.zeros(0, 4),
    "pairs": torch.randn(2, 2, dtype=torch.complex64),
    "whole": torch.arange(7),
    "mask": torch.tensor([True, False]),
}


def test_a_copy_has_the_bits_types_and_shapes_of_any_tensor(tmp_path):
    copies = Scratch.in_folder(tmp_path).copy(TENSORS)
    for name, value in TENSORS.items():
        assert copies[name].dtype == value.dtype
        assert torch.equal(copies[name], value)
    copies["half"].zero_()
    assert TENSORS["half"].any()


def test_nothing_is_left_in_the_folder(tmp_path):
    copies = Scratch.in_folder(tmp_path).copy(TENSORS)
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(copies["whole"], TENSORS["whole"])


def test_tensors_begin_at_aligned_bytes():
    places, size = layout_of([("a", (3,), torch.float32), ("b", (5,), torch.bfloat16), ("c", (), torch.float64)])
    assert [start % ALIGNMENT for start, _ in places] == [0, 0, 0]
    assert [count for _, count in places] == [12, 10, 8]
    assert size == 3 * ALIGNMENT


@pytest.mark.commands
def test_the_pages_are_no_memory_of_the_process(tmp_path):
    """In a process of its own: 400 MB in a file leave the anonymous memory as it is."""
    code = f"""
import numpy as np
from pathlib import Path
from lossatlas.io.scratch_files import new_file
def anonymous():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
before = anonymous()
file = new_file(400_000_000, Path({str(tmp_path)!r}))
file.bytes[:] = 7
assert int(file.bytes[::4096].sum()) > 0
print(anonymous() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20_000  # kB


def test_a_disk_without_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(scratch_files.os, "posix_fallocate", full)
    with pytest.raises(CannotWrite, match=r"no space for 2 GB .* \(No space left on device\): set TMPDIR"):
        new_file(2_000_000_000, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_said(tmp_path):
    with pytest.raises(CannotWrite, match=r"cannot write temporary files to .*gone"):
        new_file(10, tmp_path / "gone")


@pytest.mark.commands
def test_another_process_maps_the_same_bytes(tmp_path):
    file = new_file(1000, tmp_path)
    file.bytes[:] = np.arange(1000) % 251
    code = f"""
from lossatlas.io.scratch_files import open_file
file = open_file({file.place!r}, 1000)
print(int(file.bytes.astype(int).sum()))
file.bytes[0] = 99
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == int((np.arange(1000) % 251).sum())
    assert file.bytes[0] == 99


def test_a_file_of_another_size_is_not_opened(tmp_path):
    file = new_file(1000, tmp_path)
    with pytest.raises(OSError, match="another size"):
        open_file(file.place, 999)


def test_an_image_in_a_file_has_the_bytes_of_one_in_memory(monkeypatch):
    def fill(f) -> None:
        f.create_dataset("group/numbers", data=np.arange(70_000.0))
        f.attrs["name"] = "what"

    expected = bytes(hdf5.image_of(fill).getbuffer())
    monkeypatch.setattr(hdf5, "LARGE", 100_000)
    found = hdf5.image_of(fill, size=8 * 70_000)
    assert isinstance(found, scratch_files.MappedImage)
    assert bytes(found.getbuffer()) == expected


def test_a_large_direction_file_is_written_through_a_file(tmp_path, monkeypatch):
    directions = Directions([np.arange(70_000, dtype=np.float32)])
    write_directions(tmp_path / "a.h5", directions)
    monkeypatch.setattr(hdf5, "LARGE", 100_000)
    write_directions(tmp_path / "b.h5", directions)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_image_does_not_grow_beyond_its_space():
    image = scratch_files.MappedImage(10)
    assert image.write(b"12345678") == 8
    with pytest.raises(OSError, match="11 bytes in an image of 10"):
        image.write(b"901")
    image.seek(2)
    assert image.read(3) == b"345"


def test_a_point_is_found_again_in_its_file(tmp_path):
    made = Scratch.in_folder(tmp_path).copy(TENSORS)
    again = MappedPoint(open_file(made.file.place, layout_of(made.formats)[1]), made.formats)
    assert all(torch.equal(again[name], value) for name, value in TENSORS.items())
