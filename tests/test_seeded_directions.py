"""Random directions that a file holds as their seed: drawn again bit for bit, whatever the normalization."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.errors import BadInput
from lossatlas.io import Directions, read_directions, write_directions
from lossatlas.io.seeded_directions import DRAWN_BLOCK, SeededDirection, blocks, fill_normal
from lossatlas.jobs.inputs.make_directions import Origin, as_stored
from lossatlas.parameter_space import Layout, Selection, as_arrays, position, random_direction
from lossatlas.parameter_space.scratch import Scratch

NORMS = ["filter", "layer", "weight", "dfilter", "dlayer", "unit", ""]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3), nn.Embedding(3001, 97), nn.Linear(5, 3)
    )


@pytest.mark.parametrize(
    "size", [1, 15, 16, 17, 40, DRAWN_BLOCK - 1, DRAWN_BLOCK, DRAWN_BLOCK + 15, DRAWN_BLOCK + 16, 2 * DRAWN_BLOCK + 31]
)
def test_blocks_have_the_numbers_of_one_draw(size):
    together = torch.randn(size, generator=torch.Generator().manual_seed(3))
    apart, generator = torch.empty(size), torch.Generator().manual_seed(3)
    fill_normal(apart, generator)
    assert torch.equal(apart, together)
    other = torch.Generator().manual_seed(3)
    torch.randn(size, generator=other)
    assert torch.equal(
        torch.rand(5, generator=generator), torch.rand(5, generator=other)
    )  # what follows is the same too
    assert [n for part in blocks(size) for n in range(part.start, part.stop)] == list(range(size))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("ignore", ["biasbn", ""])
@pytest.mark.parametrize("only", [(), ("0", "3")])
def test_a_direction_in_a_file_has_the_bits_of_one_in_memory(tmp_path, norm, ignore, only):
    """Drawn in a file, written as its seed, read and drawn again: the numbers of `random_direction` in memory."""
    net = network()
    at, layout, selection = position(net, "states"), Layout.of(net), Selection(only)
    expected = random_direction(at, norm, ignore, 5, layout, selection=selection)
    drawn = random_direction(at, norm, ignore, 5, layout, selection=selection, scratch=Scratch.in_folder(tmp_path))
    assert all(torch.equal(drawn[name], value) for name, value in expected.items())
    origin = Origin(net=net, dir_type="states", point=at, selection=selection)
    stored = Directions(as_stored(drawn, origin))
    write_directions(tmp_path / "d.h5", stored)
    found = read_directions(tmp_path / "d.h5")
    assert isinstance(found.x, SeededDirection)
    arrays = as_arrays(expected, net, "states")
    assert len(found.x) == len(arrays)
    assert all(np.array_equal(a, b) for a, b in zip(found.x, arrays, strict=True))
    assert found.sha256 == stored.sha256 == Directions(arrays).sha256


def test_the_file_is_small(tmp_path):
    net = nn.Embedding(20_000, 500)  # 40 MB
    at = position(net)
    drawn = random_direction(at, "filter", "biasbn", 5, Layout.of(net), scratch=Scratch.in_folder(tmp_path))
    origin = Origin(net=net, dir_type="weights", point=at, selection=Selection())
    write_directions(tmp_path / "d.h5", Directions(as_stored(drawn, origin)))
    assert (tmp_path / "d.h5").stat().st_size < 200_000


def test_a_network_in_half_precision_is_normalized_in_float32(tmp_path):
    net = network().bfloat16()
    wide, half = position(net), {name: value.detach() for name, value in net.named_parameters()}
    expected = random_direction(wide, "filter", "", 5, Layout.of(net))
    found = random_direction(half, "filter", "", 5, Layout.of(net), scratch=Scratch.in_folder(tmp_path))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def seeded(tmp_path):
    net = nn.Linear(40, 30)
    at = position(net)
    drawn = random_direction(at, "filter", "", 5, Layout.of(net), scratch=Scratch.in_folder(tmp_path))
    origin = Origin(net=net, dir_type="weights", point=at, selection=Selection())
    write_directions(tmp_path / "d.h5", Directions(as_stored(drawn, origin)))
    return tmp_path / "d.h5"


def test_numbers_that_come_out_different_are_refused(tmp_path):
    """As with another version of torch: the sketch in the file tells them apart before anything is computed."""
    file = seeded(tmp_path)
    with h5py.File(file, "r+") as f:
        f["seeded_xdirection"].attrs["seed"] = 6
    with pytest.raises(BadInput, match="come out different here"):
        list(read_directions(file).x)


@pytest.mark.parametrize("change", ["generator", "kind", "factor", "order"])
def test_a_damaged_record_is_refused(tmp_path, change):
    file = seeded(tmp_path)
    with h5py.File(file, "r+") as f:
        group = f["seeded_xdirection"]
        if change == "generator":
            group.attrs["generator"] = np.bytes_(b"another")
        elif change == "kind":
            group["tensors/0"].attrs["kind"] = np.bytes_(b"odd")
        elif change == "factor":
            del group["tensors/0/factor"]
            group["tensors/0/factor"] = np.zeros(7, np.float32)
        else:
            group["order/0"].attrs["tensor"] = 9
    with pytest.raises(BadInput):
        read_directions(file)
