"""What every rank is sent: directions, each in one buffer."""

import numpy as np
import pytest
import torch

from lossatlas.evaluation.parameter_buffers import AffineBuffers, FlatLayout
from lossatlas.io import Directions
from lossatlas.jobs.sweep.parametrization import AffineParametrization
from lossatlas.models import build
from lossatlas.parameter_space import as_arrays, tensors


@pytest.mark.parametrize("dir_type", ["weights", "states"])
def test_directions_lie_in_one_buffer_and_nowhere_else(dir_type):
    net = build("resnet20")
    points = [{name: torch.randn_like(value) for name, value in tensors(net, dir_type).items()} for _ in range(2)]
    x, y = (as_arrays(point, net, dir_type) for point in points)
    before = [array.copy() for array in x]
    along = AffineParametrization.of(dir_type, Directions(x, y), net)
    for axis, flat, point in ((x, along.x, points[0]), (y, along.y, points[1])):
        assert sum(np.shares_memory(array, flat) for array in axis) == len(point)
    assert all(np.array_equal(now, then) for now, then in zip(x, before, strict=True))
    plane = along.plane(net)
    for direction, point in zip((plane.dx, plane.dy), points, strict=True):
        assert all(torch.equal(direction[name], value) for name, value in point.items())
    place = AffineBuffers(build("resnet20"), plane)
    assert [d.data_ptr() for d in place.directions] == [flat.ctypes.data for flat in (along.x, along.y)]
    found = place.layout.views(place.directions[0])
    assert all(torch.equal(found[name], value) for name, value in points[0].items())
    assert FlatLayout.of(plane.origin, net).total == sum(value.numel() for value in points[0].values())


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f2", "<f8"])
def test_the_digest_of_directions_is_that_of_their_file(kind):
    net = build("resnet20")
    arrays = [np.random.default_rng(0).standard_normal(p.shape).astype(kind) for p in net.parameters()]
    directions = Directions(arrays)
    before, values = directions.sha256, [array.astype(np.float32) for array in arrays]
    along = AffineParametrization.of("weights", directions, net)
    assert directions.sha256 == before
    assert along.x.dtype == np.float32
    moved = along.plane(net).dx.values()
    assert all(np.array_equal(tensor.numpy(), array) for tensor, array in zip(moved, values, strict=True))
