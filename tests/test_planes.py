"""Maps from coordinates to parameters, against numpy."""

import numpy as np
import pytest
import torch

from lossatlas.errors import BadInput
from lossatlas.parameter_space import AffinePlane, CurvePlane, MappedPlane, RowLines, SchemePlane


def parts(*seeds: int) -> list[dict[str, torch.Tensor]]:
    """Random points of a space of two tensors."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        found.append(
            {"w": torch.tensor(rng.normal(size=(3, 2))).float(), "b": torch.tensor(rng.normal(size=4)).float()}
        )
    return found


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0.3, -2.0), (-1.0, 0.0), (1e3, 1e-3)])
def test_a_point_is_origin_plus_multiples_of_the_directions(a, b):
    origin, dx, dy = parts(0, 1, 2)
    plane, line = AffinePlane(origin, dx, dy), AffinePlane(origin, dx)
    for name, w in origin.items():
        w, x, y = (each.double().numpy() for each in (w, dx[name], dy[name]))
        np.testing.assert_allclose(plane.double().point(a, b)[name], w + a * x + b * y, rtol=1e-14)
        np.testing.assert_allclose(plane.point(a, b)[name], w + a * x + b * y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(line.point(a, b)[name], w + a * x, rtol=1e-5, atol=1e-5)
    assert plane.point(a, b)["w"].dtype == torch.float32


def test_the_middle_is_the_origin_to_the_last_bit_and_nothing_is_changed():
    origin, dx, dy = parts(0, 1, 2)
    before = {name: value.clone() for name, value in origin.items()}
    plane = AffinePlane(origin, dx, dy)
    assert all(torch.equal(plane.point(0, 0)[name], origin[name]) for name in origin)
    plane.point(2, 3)["w"].zero_()
    assert all(torch.equal(origin[name], before[name]) for name in origin)


def test_the_same_plane_in_float64_has_the_same_numbers():
    origin, dx, dy = parts(0, 1, 2)
    double, line = AffinePlane(origin, dx, dy).double(), AffinePlane(origin, dx).double()
    for part, own in ((double.origin, origin), (double.dx, dx), (double.dy, dy), (line.dx, dx)):
        assert {value.dtype for value in part.values()} == {torch.float64}
        assert all(torch.equal(part[name].float(), own[name]) for name in own)
    assert line.dy is None


def test_a_direction_may_know_more_tensors_but_none_less_and_of_no_other_shape():
    origin, dx, dy = parts(0, 1, 2)
    assert set(AffinePlane(origin, {**dx, "more": dx["b"]}, dy).point(1, 1)) == {"w", "b"}
    with pytest.raises(BadInput, match=r"the x direction lacks 'b' \(4,\)"):
        AffinePlane(origin, {"w": dx["w"]}, dy)
    with pytest.raises(BadInput, match=r"the y direction lacks 'w' \(3, 2\)"):
        AffinePlane(origin, dx, {"b": dy["b"]})
    with pytest.raises(BadInput, match=r"the y direction has shape \(2, 3\) for 'w', the network \(3, 2\)"):
        AffinePlane(origin, dx, {**dy, "w": dy["w"].T})


def test_any_function_of_two_numbers_is_a_plane():
    """Of the cell's own coordinates, in their order."""
    curve = MappedPlane(lambda a, b: {"w": torch.tensor([a * a, a - b])})
    np.testing.assert_allclose(curve.point(3.0, 1.0)["w"], [9.0, 2.0])


@pytest.mark.parametrize(
    "plane",
    [
        AffinePlane(*({"w": torch.full((2,), value)} for value in (1.0, 2.0, 3.0))),
        AffinePlane(*({"w": torch.full((2,), value)} for value in (1.0, 2.0))),
        MappedPlane(lambda a, b: {"w": torch.tensor([a, b])}),
        CurvePlane("bezier", [{"w": torch.full((2,), value)} for value in (1.0, 2.0, 3.0)]),
        RowLines({"w": torch.ones(2)}, lambda k: {"w": torch.full((2,), float(k))}),
        SchemePlane("linear2x", *({"w": torch.full((2,), value)} for value in (1.0, 2.0, 3.0)), ["w"]),
    ],
    ids=lambda plane: type(plane).__name__,
)
def test_every_plane_gives_its_points_where_it_is_told(plane):
    here, elsewhere = plane.point(0.5, 1.0)["w"], plane.on(torch.device("meta"), torch.float64).point(0.5, 1.0)["w"]
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", torch.float64)
    assert here.device.type == "cpu"
    double = plane.on(torch.device("cpu"), torch.float64).point(0.5, 1.0)["w"]
    np.testing.assert_allclose(double.numpy(), here.numpy(), rtol=1e-6)
