"""Measures of flatness against what is known of simple surfaces."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from lossatlas.commands import flatness as command
from lossatlas.errors import BadUsage
from lossatlas.io import write_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.flatness_measures import RISES, Measure, flatness
from lossatlas.landscape.repeats import flatness_of_repeats

BETWEEN = [["one", 0.0, 0.0], ["other", 1.0, 0.0]]


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
    line = made(lambda a, b: 1 + 2 * a + 20 * a * (1 - a) + 0 * b, "-0.1:1.1:25", None, networks=BETWEEN)
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


def left_out(surface: Surface, cells: np.ndarray, values, tolerance=(0.05, 0.05)) -> Surface:
    """The surface where these cells (a mask) are not computed, but predicted as values."""
    return replace(
        surface,
        done=~cells,
        predicted={"train_loss": np.where(cells, values, np.nan)},
        about={**surface.about, "adaptive": {"tolerance": list(tolerance)}},
    )


def checkerboard(surface: Surface) -> np.ndarray:
    """All cells but every second one along each axis."""
    kept = np.zeros(surface.grid.shape, bool)
    kept[tuple(np.s_[::2] for _ in surface.grid.shape)] = True
    return ~kept


def test_lowest_cell_and_curvature_are_of_computed_cells():
    """A bowl with 0.2 at the bottom, cells between predicted 0.05 lower: lowest cell 0.155, curvature -36."""
    whole = made(bowl)
    found = flatness(left_out(whole, checkerboard(whole), whole.fields["train_loss"] - 0.05))
    assert found["lowest cell"] == Measure(pytest.approx(0.2))
    assert found["curvature along x"].value == pytest.approx(4, rel=1e-6)
    assert found["curvature along x"].method == "cells 0.1 apart"
    assert found["curvature along y"].value == pytest.approx(16, rel=1e-6)


@pytest.mark.parametrize("off", [-1, 1])
def test_radii_and_shares_of_interpolated_cells_state_an_error_that_holds(off):
    """They were printed as if measured: a smallest radius of 0.137 instead of 0.112, for one."""
    whole = made(bowl)
    exact, error = flatness(whole), 0.05
    found = flatness(left_out(whole, checkerboard(whole), whole.fields["train_loss"] + off * error, (0.0, error)))
    for what, each in found.items():
        if what.startswith(("radius", "share")):
            assert 0 < abs(each.value - exact[what].value) <= 1.1 * each.error < 0.3
            assert " +- " in str(each)
        assert exact[what].error == 0


def test_where_the_tolerance_of_predictions_is_not_known_that_is_said():
    whole = made(bowl)
    begun = left_out(whole, checkerboard(whole), whole.fields["train_loss"])
    found = flatness(replace(begun, about={}))
    assert "error unknown" in str(found["radius below +1, mean"])
    assert "unknown" not in str(found["lowest cell"])


def test_a_centre_that_is_not_computed_is_marked():
    """It was printed as if measured."""
    whole = made(bowl)
    found = flatness(left_out(whole, ~checkerboard(whole), whole.fields["train_loss"] + 0.02, (0.0, 0.05)))
    assert str(found["train_loss at the centre"]) == "0.22 +- 0.05"
    assert "curvature along x" not in found
    between = flatness(made(bowl, "-1:1:40", "-1:1:40"))["train_loss at the centre"]
    assert between.method == "between cells"


def test_negative_predictions_of_a_positive_loss_in_older_files_are_moved_into_its_range():
    whole = made(bowl)
    found = flatness(left_out(whole, ~checkerboard(whole), whole.fields["train_loss"] - 0.3))
    assert found["train_loss at the centre"].value >= 0.1


def test_an_infinite_loss_is_above_every_level():
    """The share was 1 of what was finite; radii were bounds ('> 0.3'), which they are not."""
    surface = made(lambda a, b: np.where(np.maximum(abs(a), abs(b)) > 0.301, np.inf, 0.1), "-1:1:21", "-1:1:21")
    found = flatness(surface)
    for rise in RISES:
        share, radius = found[f"share of the plane below +{rise:g}"], found[f"radius below +{rise:g}, smallest"]
        assert share.value == pytest.approx(0.35**2, rel=0.02)  # half of a cell beyond 0.3
        assert radius.value == pytest.approx(0.35, abs=0.02)
        assert not radius.bound
        assert "infinite" in radius.method
    assert found["lowest cell"].value == pytest.approx(0.1)


def test_infinite_cells_of_a_line_end_its_radii_and_are_a_barrier():
    """The barrier was 0 between two networks that an infinite loss separates."""
    line = made(lambda a, b: np.where(abs(a - 0.5) < 0.11, np.inf, 0.1 + 0 * b), "0:1:21", None, networks=BETWEEN)
    found = flatness(line)
    assert found["barrier from 0 to 1"].value == np.inf
    assert found["radius below +1, smallest"].value == pytest.approx(0.375, abs=0.01)
    assert found["share of the line below +1"].value == pytest.approx(0.75, abs=0.01)


def test_a_share_says_of_how_much_it_is_known():
    holed = flatness(made(lambda a, b: np.where(a > 0, np.nan, 0.1 + 0 * a * b)))
    assert str(holed["share of the plane below +1"]) == "1 (of the 50 % that is known)"


@pytest.mark.parametrize("about", [{}, {"command": "plot_surface.py --x=-1:1:41"}, {"networks": BETWEEN[:1]}])
def test_there_is_no_barrier_but_between_two_networks(about):
    """A line along a random direction had a 'barrier from 0 to 1'."""
    found = flatness(made(lambda a, b: 1 + np.sin(6 * a) + 0 * b, "-1:1:41", None, **about))
    assert not [what for what in found if "barrier" in what]


def test_older_files_say_by_their_command_that_there_are_two_networks():
    command = "python plot_surface.py --model_file a.pt --model_file2 b.pt --x=0:1:11"
    assert "barrier from 0 to 1" in flatness(
        made(lambda a, b: 1 + a * (1 - a) + 0 * b, "0:1:11", None, command=command)
    )


def test_recorded_options_say_that_there_are_two_networks_where_the_command_does_not():
    """A command with --config names no option; all options are recorded, also the default of the x direction."""
    line = {"command": "python plot_surface.py --config line.yaml"}
    config = {"model_file2": "b.pt", "xdirection": "random"}
    for options, expected in ((config, True), ({**config, "xdirection": "gradient"}, False), ({}, False)):
        surface = made(lambda a, b: 1 + a * (1 - a) + 0 * b, "0:1:11", None, **line, config=options)
        assert ("barrier from 0 to 1" in flatness(surface)) is expected


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_kink_at_an_end_is_no_barrier(end):
    """Straight between the ends, and steeper beyond one of them: 0.074 was found, where the interpolant swings."""
    line = made(
        lambda a, b: 1 + np.where(np.abs(a - 0.5) > 0.5, 10 * (0.5 - abs(a - 0.5)), 0) * ((a > 0.5) == end) + 0 * b,
        "-0.5:1.5:21",
        None,
        networks=BETWEEN,
    )
    found = flatness(line)
    assert found["barrier from 0 to 1"] == Measure(0.0)
    assert "barrier at" not in found


def test_a_barrier_is_of_computed_cells():
    """0.4975 was found, at a cell that was predicted."""
    line = made(lambda a, b: 1 + a * (1 - a) + 0 * b, "0:1:21", None, networks=BETWEEN)
    found = flatness(left_out(line, checkerboard(line), line.fields["train_loss"] + 0.25))
    assert found["barrier from 0 to 1"].value == pytest.approx(0.25)
    assert found["barrier from 0 to 1"].bound


def test_the_command_says_what_is_not_finite_and_writes_errors(tmp_path, capsys):
    whole = made(lambda a, b: np.where(a > 0.9, np.inf, np.where(a < -0.9, np.nan, bowl(a, b))))
    write_surface(
        tmp_path / "s.h5", left_out(whole, checkerboard(whole), bowl(*np.meshgrid(whole.grid.x, whole.grid.y)))
    )
    assert command.main(["-f", str(tmp_path / "s.h5"), "--csv", str(tmp_path / "t.csv")]) == 0
    printed = capsys.readouterr().out
    assert "cells of" in printed
    assert "infinite, which is above every level" in printed
    assert "NaN, and left out" in printed
    rows = list(csv.reader((tmp_path / "t.csv").open()))
    assert rows[0] == ["measure", "s", "s is a bound", "s error", "s confidence"]
    assert float({row[0]: row for row in rows}["radius below +0.5, mean"][3]) > 0


# Basins: how far a field stays within some percent -------------------------------------------------------------------


def test_a_loss_leaves_the_basin_where_it_has_risen_and_a_score_where_it_has_fallen():
    line = made(lambda a, b: 2 + a**2 + 0 * b, "-1:1:81", None)
    found = flatness(line, within=10)
    assert found["radius within +10 %, smallest"].value == pytest.approx(0.2**0.5, rel=1e-3)
    assert str(flatness(line, within=90)["radius within +90 %, mean"]).startswith("> 1")  # 1.8 above 2 is off the grid
    score = replace(made(lambda a, b: 80 - 40 * a**2 - 10 * np.maximum(a, 0) + 0 * b, "-1:1:81", None))
    score = replace(score, values={"train_acc": score.values["train_loss"]})
    found = flatness(score, "train_acc", within=10)  # until 72
    left, right = 0.2**0.5, (-10 + np.sqrt(100 + 4 * 40 * 8)) / 80
    assert found["radius within -10 %, smallest"].value == pytest.approx(right, rel=2e-3)
    assert found["radius within -10 %, mean"].value == pytest.approx((left + right) / 2, rel=2e-3)
    assert "radius within -10 %, mean" not in flatness(score, "train_acc")
    # Cells are 0.025 apart, and where the steps of a score lie between two of them is not known.
    assert str(found["radius within -10 %, smallest"]) == f"{right:.2f}"
    assert set(found) == {  # levels above the centre are for what should be low
        *("train_acc at the centre", "lowest cell", "highest cell"),
        *("radius within -10 %, smallest", "radius within -10 %, mean"),
    }
    assert found["highest cell"].value == 80


def test_a_basin_of_a_plane_is_that_of_its_worst_ray():
    found = flatness(made(bowl), within=100)  # until 0.4
    assert found["radius within +100 %, smallest"].value == pytest.approx(np.sqrt(0.2 / 8), rel=5e-3)


@pytest.mark.parametrize(
    ("centre", "within", "words"),
    [
        (0.0, 5, "is 0 at the centre"),
        (1.0, -5, "within=-5: give a number, above 0"),
        (1.0, float("nan"), "give a number, above 0"),
        (1.0, True, "above 0"),
        (1.0, "5", "within='5'"),
    ],
)
def test_a_percentage_of_nothing_is_refused(centre, within, words):
    with pytest.raises(BadUsage, match=words):
        flatness(made(lambda a, b: centre + a**2 + 0 * b, "-1:1:21", None), within=within)


def repeated(steepness, x="-1:1:81") -> Surface:
    grid = Grid(Grid.parse(x, None).x, np.arange(float(len(steepness))))
    values = np.stack([1 + k * grid.x**2 for k in steepness])
    request = {"rows_of": "repeats", "rows": [{"x": str(k)} for k in range(len(steepness))]}
    empty = Surface.of_values(grid, ["train_loss"], request=request)
    return empty.with_cells(np.arange(grid.size), values.reshape(-1, 1))


def test_repeats_have_means_over_the_directions_with_their_confidence():
    from scipy import stats

    steepness = [1.0, 2.0, 4.0, 5.0]
    radii = np.sqrt(0.5 / np.array(steepness))
    found = flatness_of_repeats(repeated(steepness), within=50)
    measure = found["radius within +50 %, mean"]
    assert measure.value == pytest.approx(radii.mean(), rel=1e-3)
    low, high = stats.t.interval(0.95, 3, radii.mean(), stats.sem(radii))
    assert measure.confidence == pytest.approx((high - low) / 2, rel=5e-3)
    assert str(measure) == f"{measure.value:.4g} +- {measure.confidence:.2g} (4 directions)"
    assert found["radius within +50 %, smallest"].value == pytest.approx(radii.min(), rel=1e-3)
    assert found["curvature along x"].value == pytest.approx(2 * np.mean(steepness), rel=1e-3)
    assert found["train_loss at the centre"] == Measure(1.0)
    censored = flatness_of_repeats(repeated([0.1, 4.0]), within=50)["radius within +50 %, mean"]
    assert censored.bound
    assert "+-" not in str(censored)  # the interval of a mean of lower bounds holds nothing
    with pytest.raises(BadUsage, match="along 1 of 1 directions"):
        flatness_of_repeats(repeated([1.0]))


def test_the_command_measures_basins_of_repeats(tmp_path, capsys):
    write_surface(tmp_path / "s.h5", repeated([1.0, 2.0, 4.0]))
    arguments = ["--surf_file", str(tmp_path / "s.h5"), "--within", "50", "--csv", str(tmp_path / "t.csv")]
    assert command.main(arguments) == 0
    line = next(each for each in capsys.readouterr().out.splitlines() if each.startswith("radius within +50 %, mean"))
    assert "(3 directions)" in line
    with open(tmp_path / "t.csv") as file:
        row = next(each for each in csv.reader(file) if each[0] == "radius within +50 %, mean")
    assert float(row[4]) > 0


@pytest.mark.parametrize("name", ["exp(train_loss/2)", "log(train_loss + 1)", "train_loss * 1.0"])
def test_expressions_of_a_loss_rise(name):
    line = made(lambda a, b: 2 + a**2 + 0 * b, "-1:1:81", None)
    line = replace(line, values={name: line.values["train_loss"]})
    assert "radius within +10 %, smallest" in flatness(line, name, 10)


def test_a_radius_ends_at_the_last_known_point():
    values = np.full(9, np.nan)
    values[3:6] = 1.0
    line = made(lambda a, b: np.broadcast_to(values, a.shape) + 0 * b, "-1:1:9", None)
    found = flatness(line)["radius below +0.5, mean"]
    assert found.bound
    assert 0.2 <= found.value <= 0.25  # cells at -0.25, 0 and 0.25 are known


def test_noise_between_cells_does_not_shorten_a_radius():
    """All cells near the centre are below the level, and so is the surface between them."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        noise = np.where(np.abs(np.linspace(-1, 1, 17)) < 0.6, generator.uniform(0, 0.4, 17), 3.0)
        noise[8] = 0.0
        line = made(lambda a, b, noise=noise: 1 + np.broadcast_to(noise, a.shape) + 0 * b, "-1:1:17", None)
        assert flatness(line)["radius below +0.5, smallest"].value >= 0.5


def test_a_direction_without_a_value_at_the_origin_is_left_out():
    rows = repeated([1.0, 2.0, 4.0])
    broken = rows.values["train_loss"].copy()
    broken[1, 30:51] = np.nan
    found = flatness_of_repeats(replace(rows, values={"train_loss": broken}), within=50)
    wanted = flatness_of_repeats(repeated([1.0, 4.0]), within=50)
    assert found["radius within +50 %, mean"] == wanted["radius within +50 %, mean"]


def test_the_file_without_a_percentage_is_named(tmp_path, capsys):
    for name, bottom in (("a", 1.0), ("b", 0.0)):
        write_surface(tmp_path / f"{name}.h5", made(lambda a, b, c=bottom: c + a**2 + 0 * b, "-1:1:21", None))
    files = [str(tmp_path / f"{name}.h5") for name in "ab"]
    assert command.main(["--surf_file", *files, "--within", "5"]) == 2
    assert f"{files[1]}: train_loss is 0 at the centre" in capsys.readouterr().err
