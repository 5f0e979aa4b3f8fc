"""Measures of flatness against what is known of simple surfaces."""

import numpy as np
import pytest

from lossatlas.errors import BadUsage
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.flatness import RISES, flatness


def made(function, x="-1:1:41", y="-1:1:41", **about) -> Surface:
    grid = Grid.parse(x, y)
    a, b = np.meshgrid(grid.x, [0.0] if grid.y is None else grid.y)
    values = function(a, b) if grid.y is not None else function(a, b)[0]
    empty = Surface.of_values(grid, ["train_loss"], about=about)
    return empty.with_cells(np.arange(grid.size), values.reshape(-1, 1))


def bowl(a, b):
    return 0.2 + 2 * a * a + 8 * b * b


def test_a_bowl_has_the_measures_that_algebra_gives():
    found = flatness(made(bowl))
    assert found["train_loss at the centre"].value == pytest.approx(0.2)
    assert found["curvature along x"].value == pytest.approx(4, rel=1e-6)
    assert found["curvature along y"].value == pytest.approx(16, rel=1e-6)
    for rise in RISES:
        radius = found[f"radius below +{rise:g}, smallest"]
        assert radius.value == pytest.approx(np.sqrt(rise / 8), rel=5e-3)
        assert not radius.bound
        turns = np.linspace(0, 2 * np.pi, 10000)
        mean = np.sqrt(rise / (2 * np.cos(turns) ** 2 + 8 * np.sin(turns) ** 2)).mean()
        assert found[f"radius below +{rise:g}, mean"].value == pytest.approx(mean, rel=5e-3)
        area = np.pi * np.sqrt(rise / 2) * np.sqrt(rise / 8)  # of the ellipse
        assert found[f"share of the plane below +{rise:g}"].value == pytest.approx(area / 4, rel=0.01)


def test_where_the_grid_ends_first_the_number_is_a_bound():
    found = flatness(made(lambda a, b: 0.1 + 0.3 * b * b + 0 * a, "-0.5:1:16", "-1:1:21"))
    radius = found["radius below +0.5, smallest"]
    assert radius.bound
    assert radius.value == pytest.approx(0.5, abs=1e-9)
    assert str(radius) == "> 0.5"
    assert str(found["radius below +0.5, mean"]).startswith("> ")
    assert found["share of the plane below +0.5"].value == 1
    holed = flatness(made(lambda a, b: np.where(a > 0.6, np.nan, 0.1 + 0 * a * b)))
    assert holed["radius below +1, smallest"].bound
    assert holed["radius below +1, smallest"].value == pytest.approx(0.6, abs=0.06)


def test_what_a_product_has_given_is_taken():
    found = flatness(made(bowl, second_derivatives={"xx": 4.5, "yy": 15.5, "xy": 0}))
    assert str(found["curvature along x"]) == "4.5 (exact)"
    assert "apart" in str(flatness(made(bowl))["curvature along x"])


def test_without_the_origin_the_lowest_cell_is_the_centre():
    found = flatness(made(lambda a, b: bowl(a - 1, b - 1), "0.5:1.5:21", "0.5:1.5:21"))
    assert found["train_loss at the centre (the lowest cell)"].value == pytest.approx(0.2)
    assert found["radius below +0.1, smallest"].value == pytest.approx(np.sqrt(0.1 / 8), rel=0.01)


def test_the_barrier_of_an_interpolation():
    """Ends of 1 and 3, and a parabola of height 5 in between."""
    line = made(lambda a, b: 1 + 2 * a + 20 * a * (1 - a) + 0 * b, "-0.1:1.1:25", None)
    found = flatness(line)
    assert found["barrier from 0 to 1"].value == pytest.approx(5, rel=1e-3)
    assert found["barrier at"].value == pytest.approx(0.5, abs=0.01)
    assert "curvature along y" not in found
    assert found["radius below +1, smallest"].value == pytest.approx(0.0477, abs=2e-3)


def test_a_centre_on_the_edge_looks_inwards():
    """As of an interpolation from 0 to 1: nothing is known on the other side."""
    found = flatness(made(lambda a, b: 0.02 + a**2 + 0 * b, "0:1:21", None))
    assert "curvature along x" not in found
    assert found["radius below +0.5, smallest"].value == pytest.approx(0.5**0.5, rel=1e-3)
    assert not found["radius below +0.5, smallest"].bound
    low = flatness(made(lambda a, b: 0.02 + 0.3 * a * (1 - a) + 0 * b, "0:1:21", None))["radius below +0.5, mean"]
    assert (low.value, low.bound) == (pytest.approx(1.0), True)


def test_the_origin_counts_though_its_neighbour_is_not_known():
    found = flatness(made(lambda a, b: np.where(np.isclose(a, 0.2), np.nan, 5 - 4 * a) + 0 * b, "0:1:6", None))
    assert found["train_loss at the centre"].value == pytest.approx(5)


def test_one_point_is_refused():
    with pytest.raises(BadUsage, match="one point"):
        flatness(made(bowl, "0:0:1", None))


def test_nothing_known_is_said():
    with pytest.raises(BadUsage, match="finite"):
        flatness(made(lambda a, b: np.full(a.shape, np.nan)))
    with pytest.raises(BadUsage, match="no field"):
        flatness(made(bowl), "test_loss")
