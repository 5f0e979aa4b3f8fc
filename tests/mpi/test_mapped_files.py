"""Temporary files of rank 0 on every rank, also on ranks that cannot reach them."""

import numpy as np

from lossatlas.io.scratch_files import new_file, temporary_folder
from lossatlas.mpi import mapped_files
from lossatlas.mpi.mapped_files import shared_files

SIZES = [1000, 0, 70_001]


def made(world):
    files = [new_file(size, temporary_folder()) for size in SIZES] if world.root else []
    for k, file in enumerate(files):
        file.bytes[:] = (np.arange(len(file.bytes)) * (k + 3)) % 251
    return files


def check(files) -> None:
    assert [len(file.bytes) for file in files] == SIZES
    for k, file in enumerate(files):
        assert np.array_equal(file.bytes, (np.arange(SIZES[k]) * (k + 3)) % 251)


def test_every_rank_has_the_bytes_of_rank_0(world):
    check(shared_files(world, made(world), SIZES))


def test_a_rank_that_cannot_reach_the_files_gets_its_own(world, monkeypatch):
    """As in a container of its own; the messages are shorter than a file."""
    monkeypatch.setattr(mapped_files, "CHUNK", 999)
    if world.rank == world.size - 1:
        monkeypatch.setattr(mapped_files, "opened_files", lambda places, sizes: [])
    check(shared_files(world, made(world), SIZES))


def test_hosts_of_one_rank_each_get_a_copy(world, monkeypatch):
    monkeypatch.setattr(mapped_files, "split_by_node", lambda comm: comm.Split(comm.rank, 0))
    check(shared_files(world, made(world), SIZES))
