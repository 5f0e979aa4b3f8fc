"""Cells that are predicted instead of computed: landscape.cell_prediction and sampling.adaptive_grid."""

from types import SimpleNamespace

import numpy as np
import pytest
from test_multilevel import PLANE, small_problem

import lossatlas
from lossatlas.errors import BadUsage
from lossatlas.io import read_surface, write_surface
from lossatlas.landscape import STATISTICS, Grid, Surface, Tolerance
from lossatlas.landscape.cell_prediction import Predictor, stencil
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.sampling.adaptive_grid import AdaptiveQueue, keep_matching_predictions

GRID = Grid.parse("-1:1:51", "-1:1:51")


@pytest.fixture(scope="module")
def problem():
    return small_problem()


SMOOTH = lambda a, b: 0.5 + 4 * a**2 + 3 * b**2 + np.sin(2 * a + b)  # noqa: E731
ROUGH = lambda a, b: 2 + np.sin(40 * a + 3) * np.cos(37 * b)  # noqa: E731


def row_of(loss: float) -> np.ndarray:
    row = np.zeros(len(STATISTICS))
    row[[0, 1, 2]] = 1, 1, loss
    return row


TOLERANCE = Tolerance(0.02, 0.02)


def computed(function, tolerance=TOLERANCE, grid=GRID, surface=None, order=None):
    """A surface of a function, whose cells `LeavingOut` hands out; and the cells in the order they were asked for."""
    surface = surface or Surface.empty(grid, {"train": 1}, ())
    supply = AdaptiveQueue(surface, surface.pending(), tolerance, lambda known, cells: BlockQueue.of(cells, 3))
    generator, taken, asked_for = np.random.default_rng(order), [], []
    while True:
        while (item := supply.take()) is not None:
            taken.append(item)
        if not taken:
            break
        k, cells = taken.pop(int(generator.integers(len(taken))) if order is not None else 0)
        rows = np.array([[row_of(function(*grid.point(cell)))] for cell in cells])
        surface = surface.with_cells(cells, rows)
        supply.arrived(k, BlockResult(rows))
        asked_for += cells
    return supply.finished(surface), asked_for


def truth(function, grid=GRID):
    y = np.zeros(1) if grid.y is None else grid.y
    return function(*np.meshgrid(grid.x, y)).reshape(grid.shape)


def test_a_stencil_is_exact_for_cubic_polynomials():
    x = np.sort(np.random.default_rng(0).random(9))
    coarse = np.array([0, 2, 5, 7, 8])
    for k in (1, 3, 4, 6):
        near, weights = stencil(x, coarse, k)
        for power in range(min(4, len(near))):
            assert (weights * x[near] ** power).sum() == pytest.approx(x[k] ** power)
    assert stencil(x, np.array([2, 5]), 1) is None
    assert stencil(x, np.array([2, 5]), 7) is None


def test_predictions_are_made_from_coarser_cells_alone():
    hierarchy = Hierarchy(GRID)
    predict, values = Predictor(GRID, hierarchy), truth(lambda a, b: a**3 - 2 * a * b**2 + b).ravel()
    for cell in range(GRID.size):
        found = predict.cell_stencil(cell)
        if found is not None:
            assert (hierarchy.level[found[0]] < hierarchy.level[cell]).all()
            assert predict(cell, values) == pytest.approx(values[cell], abs=1e-10) or len(found[0]) < 16


def test_a_smooth_surface_leaves_most_cells_out_and_is_within_the_tolerance():
    found, cells = computed(SMOOTH)
    assert len(cells) == len(set(cells)) == found.done.sum() < GRID.size / 2.5
    left_out = found.interpolated
    assert (found.done ^ left_out).all()
    wanted, loss = truth(SMOOTH), found.fields["train_loss"]
    np.testing.assert_allclose(loss[found.done], wanted[found.done], rtol=1e-14)
    off = np.abs(loss - wanted) / np.maximum(0.02 * np.abs(wanted), 0.02)
    assert (off[left_out] > 1).mean() <= 0.05
    assert off[left_out].max() > 1e-9  # they are predicted, not computed
    assert np.isnan(found.fields["train_loss_se"][left_out]).all()
    about = found.about["adaptive"]
    assert about["interpolated"] == left_out.sum()
    assert about["checked"] >= left_out.sum() / 8
    assert about["missed"] == 0


def test_a_rough_surface_leaves_next_to_nothing_out():
    found, _ = computed(ROUGH)
    assert found.done.mean() > 0.97
    off = np.abs(found.fields["train_loss"] - truth(ROUGH)) / np.maximum(0.02 * truth(ROUGH), 0.02)
    assert (off > 1).sum() <= 1 + 0.05 * found.interpolated.sum()


def test_a_surface_that_is_smooth_in_one_half_alone():
    def half(a, b):
        return SMOOTH(a, b) + np.where(a > 0.2, 2 * np.sin(45 * a) * np.cos(50 * b), 0)

    found, _ = computed(half)
    right = GRID.x > 0.2
    assert found.done[:, right].mean() > 0.95
    assert found.done[:, GRID.x < -0.1].mean() < 0.6
    off = np.abs(found.fields["train_loss"] - truth(half)) / np.maximum(0.02 * np.abs(truth(half)), 0.02)
    assert (off[found.interpolated] > 1).mean() <= 0.05


def test_roughness_that_coarse_levels_do_not_see_is_found_by_the_checks():
    """A ridge along every second column, which is between those of all coarser levels."""

    def hidden(a, b):
        return SMOOTH(a, b) + 3 * np.abs(np.sin(np.pi * 12.5 * (a + 1)))

    found, _ = computed(hidden)
    hierarchy = Hierarchy(GRID)
    assert found.done.ravel()[hierarchy.level == hierarchy.count - 1].all()
    assert found.interpolated.any()
    assert found.about["adaptive"]["missed"] > 20
    off = np.abs(found.fields["train_loss"] - truth(hidden)) / np.maximum(0.02 * truth(hidden), 0.02)
    assert (off[found.interpolated] > 1).mean() <= 0.05


def test_a_dip_in_the_same_column_of_many_curves_is_found():
    """The cells that are computed to check come in no regular pattern."""
    rows = Grid(np.linspace(-1, 1, 17), np.arange(40.0))
    surface = Surface.empty(rows, {"train": 1}, (), request={"rows_of": "repeats", "rows": [str(k) for k in range(40)]})
    found, _ = computed(lambda a, b: SMOOTH(a / 3, 0) + (abs(a - rows.x[9]) < 1e-9), grid=rows, surface=surface)
    assert found.about["adaptive"]["missed"] > 0
    assert found.done[:, 9].all()


def test_around_a_check_that_failed_more_is_computed():
    def well(a, b):
        return 3 + a + b - 2.5 * np.exp(-((a - 0.31) ** 2 + (b - 0.19) ** 2) / 0.04**2)

    found, _ = computed(well, grid=Grid.parse("-1:1:65", "-1:1:65"))
    wanted = truth(well, found.grid)
    off = np.abs(found.fields["train_loss"] - wanted) / np.maximum(0.02 * np.abs(wanted), 0.02)
    assert found.about["adaptive"]["missed"] > 0
    assert found.interpolated.mean() > 0.5
    assert (off[found.interpolated] > 1).sum() <= 4


def test_an_accuracy_is_predicted_within_what_is_around_it_and_judged():
    def accuracy(a, b):
        return 1 / (1 + np.exp(-30 * (a - 0.1 * b)))

    surface = Surface.empty(GRID, {"train": 1}, ("accuracy",))
    supply = AdaptiveQueue(surface, surface.pending(), TOLERANCE, lambda _, cells: BlockQueue.of(cells))
    while (item := supply.take()) is not None:
        k, cells = item
        rows = np.array([[[*row_of(1.0), accuracy(*GRID.point(cell))]] for cell in cells])
        surface = surface.with_cells(cells, rows)
        supply.arrived(k, BlockResult(rows))
    found = supply.finished(surface)
    wanted, shown = 100 * truth(accuracy), found.fields["train_acc"]
    assert 0.2 < found.interpolated.mean() < 0.95
    assert (shown >= wanted.min() - 1e-9).all()
    assert (shown <= wanted.max() + 1e-9).all()
    assert (np.abs(shown - wanted)[found.interpolated] > 2).mean() <= 0.05


def test_infinite_and_missing_losses_are_computed_around():
    found, _ = computed(lambda a, b: np.where(a > 0.5, np.inf, np.where(b < -0.6, np.nan, SMOOTH(a, b))))
    wanted = truth(lambda a, b: np.where(a > 0.5, np.inf, np.where(b < -0.6, np.nan, SMOOTH(a, b))))
    loss = found.fields["train_loss"]
    np.testing.assert_array_equal(np.isfinite(loss), np.isfinite(wanted))
    assert found.known.all()


@pytest.mark.parametrize("order", [1, 2])
def test_neither_the_order_of_arrival_nor_an_interruption_changes_what_is_computed(order):
    wanted, cells = computed(SMOOTH)
    found, _ = computed(SMOOTH, order=order)
    np.testing.assert_array_equal(found.done, wanted.done)
    np.testing.assert_array_equal(found.fields["train_loss"], wanted.fields["train_loss"])
    early = [*cells[:400], *cells[450:470]]
    rows = np.array([[row_of(SMOOTH(*GRID.point(cell)))] for cell in early])
    begun = Surface.empty(GRID, {"train": 1}, ()).with_cells(early, rows)
    found, later = computed(SMOOTH, surface=begun)
    assert not set(later) & set(early)
    np.testing.assert_array_equal(found.done, wanted.done)
    np.testing.assert_array_equal(found.predicted["train_loss"], wanted.predicted["train_loss"])


def test_a_line_and_curves_of_their_own():
    line = Grid.parse("-1:1:201")
    found, _ = computed(lambda a, b: SMOOTH(a, 0), grid=line)
    assert found.done.mean() < 0.4
    off = np.abs(found.fields["train_loss"] - truth(lambda a, b: SMOOTH(a, 0), line))
    assert off.max() < 0.05
    rows = Grid(line.x, np.arange(2.0))
    surface = Surface.empty(rows, {"train": 1}, (), request={"rows_of": "repeats", "rows": ["a", "b"]})
    found, _ = computed(lambda a, b: SMOOTH(a, 0) if b == 0 else ROUGH(2 * a, 1), grid=rows, surface=surface)
    assert found.done[0].mean() < 0.8
    assert found.done[1].mean() > 0.9
    np.testing.assert_array_equal(found.curve(0).interpolated, found.interpolated[0])


def test_predictions_of_another_tolerance_are_not_kept():
    found, _ = computed(SMOOTH)
    assert keep_matching_predictions(found, Tolerance(0.02, 0.02)).known.all()
    for other in (Tolerance(0.01), None):
        np.testing.assert_array_equal(keep_matching_predictions(found, other).known, found.done)
    finer, _ = computed(SMOOTH, Tolerance(0.002, 0.002), surface=found)
    assert finer.done.sum() > found.done.sum()
    assert (finer.done >= found.done).all()


def test_a_file_says_what_is_interpolated(tmp_path):
    from lossatlas.io import contents

    found, _ = computed(SMOOTH)
    write_surface(tmp_path / "s.h5", found)
    saved = read_surface(tmp_path / "s.h5")
    np.testing.assert_array_equal(saved.interpolated, found.interpolated)
    np.testing.assert_array_equal(saved.fields["train_loss"], found.fields["train_loss"])
    assert f"interpolated: {found.interpolated.sum()} cells" in contents.describe(tmp_path / "s.h5")
    assert f"{found.interpolated.sum()} of them by interpolation" in contents.check(tmp_path / "s.h5")[-1]
    contents.slim(tmp_path / "s.h5", tmp_path / "slim.h5")
    slim = read_surface(tmp_path / "slim.h5")
    np.testing.assert_array_equal(slim.fields["train_loss"], found.fields["train_loss"])
    np.testing.assert_array_equal(slim.interpolated, found.interpolated)


@pytest.mark.slow
def test_a_smaller_tolerance_reaches_cells_that_could_be_left_out_too(problem, tmp_path):
    file = tmp_path / "s.h5"
    lossatlas.surface(*problem, tolerance=(0.2, 0.2), file=file, **PLANE)
    found = lossatlas.surface(*problem, tolerance=(0.01, 0.005), adaptive=(0.1, 0.1), file=file, **PLANE)
    assert found.done.all()
    assert found.about["adaptive"]["interpolated"] == 0
    assert (found.fields["train_loss_se"] <= np.maximum(0.01 * found.loss, 0.005) * (1 + 1e-9)).all()


@pytest.mark.slow
def test_what_a_file_says_of_predictions_goes_with_them(problem, tmp_path):
    file, plane = tmp_path / "s.h5", {**PLANE, "x": "-0.5:0.5:17", "y": "-0.5:0.5:17", "batch_size": 1000}
    some = lossatlas.surface(*problem, adaptive=(0.05, 0.05), file=file, **plane)
    assert some.about["adaptive"]["interpolated"] == some.interpolated.sum() > 50
    whole = lossatlas.surface(*problem, file=file, **plane)
    assert whole.done.all()
    assert "adaptive" not in whole.about
    assert "adaptive" not in read_surface(file).about


def test_a_plan_of_several_points_in_one_call_leaves_no_cell_out():
    from lossatlas.sampling.adaptive_grid import check_plan

    surface = Surface.empty(GRID, {"train": 1}, (), plan={"points_per_call": 16})
    check_plan(surface, None)
    with pytest.raises(BadUsage, match="begun with 16 points in one call"):
        check_plan(surface, Tolerance(0.1))


def test_the_cross_and_the_range_are_of_computed_cells(capsys):
    """Of equal ones the cross is at the one nearest to the origin."""
    from matplotlib.figure import Figure

    from lossatlas.figures.panels import Panel
    from lossatlas.figures.plane_marks import mark_best
    from lossatlas.jobs.sweep.grid_job import say_ranges

    at, values = np.array([-1.0, 0.0, 1.0]), np.array([[2.0, 1.0, 3.0], [1.0, 1.0, 3.0], [0.5, 2.0, 4.0]])
    left_out = values == 0.5
    whole = np.ones((3, 3), bool)
    axis = Figure().add_subplot()
    for more, best in ((False, (0, 0)), (True, (1, 1))):
        mark_best(
            axis, Panel("", at, at, values, whole, slice(3), slice(3), more_is_better=more, interpolated=left_out)
        )
        assert tuple(float(each[0]) for each in axis.lines[-1].get_data()) == best
    say_ranges(SimpleNamespace(fields={"train_loss": values}, interpolated=left_out), ["train_loss"])
    assert "train_loss: 1 to 4" in capsys.readouterr().out


def test_what_would_help_is_said_where_nothing_is_left_out():
    from lossatlas.jobs.sweep.loss_quantity import adaptive_summary

    none = {"tolerance": [0.02, 0.05], "interpolated": 0, "checked": 0, "missed": 0}
    assert "with a finer grid or a larger adaptive some may be" in adaptive_summary(none, 9, noisy=False)
    assert "with a smaller tolerance" in adaptive_summary(none, 9, noisy=True)
    assert "some may be" not in adaptive_summary({**none, "interpolated": 3, "checked": 4}, 9, noisy=True)


def steep_bowl(a, b):
    """A cross-entropy's shape: next to zero in a narrow basin, with walls that rise steeply and then level off."""
    r = np.hypot(a, 0.8 * b)
    return 3e-4 + 4.5 * (1 - np.exp(-((r / 0.5) ** 4)))


@pytest.mark.parametrize("floor", [0.0, 3e-4])
def test_no_prediction_of_positive_losses_is_below_zero(floor):
    """They were down to -0.0103 here, of losses that are not below zero: such cells are computed."""
    found, _ = computed(
        lambda a, b: steep_bowl(a, b) - 3e-4 + floor, Tolerance(0.05, 0.05), Grid.parse("-1:1:33", "-1:1:33")
    )
    loss = found.fields["train_loss"]
    assert found.interpolated.mean() > 0.2
    assert loss[found.interpolated].min() >= loss[found.done].min() / 2 >= 0


def test_no_prediction_is_above_a_loss_that_several_cells_share_as_the_largest():
    """A share of wrong answers is 1 at most; 1.02 was predicted beside the plateau."""
    found, _ = computed(lambda a, b: np.minimum(1, 0.02 + 2 * a**2 + b**2), Tolerance(0.05, 0.05))
    assert found.interpolated.mean() > 0.2
    assert found.fields["train_loss"].max() <= 1


def test_losses_that_are_negative_somewhere_have_no_lower_limit():
    found, _ = computed(lambda a, b: SMOOTH(a, b) - 1)
    assert found.fields["train_loss"][found.interpolated].min() < 0
    assert found.done.sum() < GRID.size / 2.5
