"""A network that is moved in a plane has the tensors that the plane says, in the types that it has them in."""

import numpy as np
import pytest
import torch
from torch import nn

from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.evaluation.parameter_buffers import AffineBuffers, GeneralBuffers, InPlaceBuffers
from lossatlas.parameter_space import AffinePlane, MappedPlane, position
from lossatlas.parameter_space.points import named_tensors


class Mixed(nn.Module):
    """Tensors of every type that can be moved, some without axes, and one that cannot."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 2))
        self.gate = nn.Parameter(torch.tensor(0.5))
        self.spectral = nn.Parameter(torch.randn(2, 2, dtype=torch.complex64))
        self.low = nn.Parameter(torch.randn(3).bfloat16())
        self.wide = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.whole = nn.Parameter(torch.arange(3), requires_grad=False)
        self.register_buffer("level", torch.tensor(2.0))
        self.conv = nn.Conv2d(1, 2, 3)


def plane_of(net, dir_type="states"):
    origin = position(net, dir_type)
    generator = torch.Generator().manual_seed(1)
    dx, dy = (
        {name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in origin.items()}
        for _ in range(2)
    )
    return AffinePlane(origin, dx, dy)


@pytest.mark.parametrize("kind", ["affine", "any", "own"])
@pytest.mark.parametrize("point", [(0.0, 0.0), (0.7, -0.3)])
def test_every_tensor_is_where_the_plane_says(kind, point):
    net = Mixed()
    plane, before = (
        plane_of(net),
        {name: value.detach().clone() for name, value in named_tensors(net, every_name=True).items()},
    )
    moved = net if kind == "own" else evaluation_copy(net, {id(t): t for t in [*net.parameters(), *net.buffers()]})
    buffers = {
        "affine": lambda: AffineBuffers(moved, plane),
        "any": lambda: GeneralBuffers(moved, MappedPlane(plane.point)),
        "own": lambda: InPlaceBuffers(moved, plane),
    }[kind]()
    buffers.move(*point)
    expected = plane.point(*point)
    assert set(expected) == set(before) - {"whole"}
    for name, value in named_tensors(moved, every_name=True).items():
        if name == "whole":
            assert torch.equal(value, before[name])
            continue
        assert value.dtype == before[name].dtype
        close = {"rtol": 1e-2, "atol": 1e-2} if value.dtype == torch.bfloat16 else {"rtol": 1e-6, "atol": 1e-6}
        torch.testing.assert_close(value.detach(), expected[name].to(value.dtype), **close)
    if kind != "own":
        assert all(torch.equal(value, before[name]) for name, value in named_tensors(net, every_name=True).items())


def test_the_origin_is_that_of_the_network_to_the_bit():
    net = Mixed()
    moved = evaluation_copy(net)
    AffineBuffers(moved, plane_of(net)).move(0.0, 0.0)
    for name, value in named_tensors(net, every_name=True).items():
        assert torch.equal(named_tensors(moved, every_name=True)[name], value)


def test_several_points_are_those_of_one_at_a_time():
    net = Mixed()
    moved = evaluation_copy(net)
    buffers = AffineBuffers(moved, plane_of(net))
    points = [(0.1, 0.2), (-0.5, 1.0)]
    stacked, _ = buffers.stack(np.array(points))
    for k, point in enumerate(points):
        buffers.move(*point)
        for name, value in stacked.items():
            own = named_tensors(moved, every_name=True)[name]
            assert value.dtype == own.dtype
            torch.testing.assert_close(
                value[k], own.detach(), rtol=1e-2 if own.dtype == torch.bfloat16 else 1e-6, atol=1e-6
            )
