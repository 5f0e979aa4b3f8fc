import numpy as np
import pytest

from errors import BadUsage
from surface import STATISTICS, Grid, Surface, Tolerance, refinement, summarize


def test_cells_are_numbered_row_by_row():
    grid = Grid.parse("-1:1:5", "0:2:3")
    assert grid.shape == (3, 5)
    assert grid.point(7) == (0.0, 1.0)
    assert Grid.parse("-1:1:5").point(4) == (1.0, 0.0)


@pytest.mark.parametrize("text", ["", "1", "0:1", "a:b:c", "0:1:2:3", "1:0:5", "0:1:0", "0:1:1", "0:1:2.5", "0:nan:3",
                                  "0:inf:3", "0:1:-3", "0:0:2", "0:1:1e999"])  # fmt: skip
def test_bad_ranges_are_refused_with_the_option_named(text):
    with pytest.raises(BadUsage, match="--x"):
        Grid.parse(text)


def test_one_cell_and_a_range_that_starts_at_zero():
    assert Grid.parse("0:0:1", "0:1:11").shape == (11, 1)


@pytest.mark.parametrize(("x", "y"), [("-1:1:51", None), ("-1:1:9", "-1:1:4"), ("0:1:2", "0:1:2"), ("0:0:1", None)])
def test_coarse_first_visits_every_cell_once_and_coarse_grids_first(x, y):
    grid = Grid.parse(x, y)
    order = grid.coarse_first()
    assert sorted(order) == list(range(grid.size))
    levels = refinement(len(grid.x))
    assert levels.min() == 0
    for level in range(levels.max() + 1):  # each level halves the spacing of a regular sub-grid
        assert len(set(np.diff(np.flatnonzero(levels <= level)))) <= 1


def test_statistics_against_a_plain_mean():
    generator = np.random.default_rng(0)
    loss, weight = generator.exponential(size=30), generator.uniform(1, 2, size=30)
    stats = {"n": 30, "weight": weight.sum(), "weight_loss": (weight * loss).sum(),
             "weight_loss2": (weight * loss**2).sum(), "penalty": 0.25, "clamped": 0,
             "accuracy": (weight * (loss < 1)).sum(), "other": weight.sum() * 3}  # fmt: skip
    found = summarize({k: np.array(v, float) for k, v in stats.items()}, 30)
    assert found["loss"] == pytest.approx(np.average(loss, weights=weight) + 0.25)
    assert found["acc"] == pytest.approx(100 * np.average(loss < 1, weights=weight))
    assert found["other"] == pytest.approx(3)
    assert found["loss_se"] == 0


def test_standard_error_covers_the_truth_for_samples_without_replacement():
    generator = np.random.default_rng(1)
    population, n, errors = generator.exponential(size=400), 300, []
    for _ in range(400):
        part = generator.choice(population, n, replace=False)
        stats = dict(zip(STATISTICS, (n, n, part.sum(), (part**2).sum(), 0, 0), strict=True))
        found = summarize({k: np.array(v, float) for k, v in stats.items()}, 400)
        errors.append((found["loss"] - population.mean()) / found["loss_se"])
    assert np.std(errors) == pytest.approx(1, abs=0.12)  # without the finite-population factor it would be 0.5


def rows(values: list[float]) -> np.ndarray:
    return np.array([[[10, 10, 10 * v, 10 * v * v, 0, 0, 5]] for v in values])


def test_surfaces_are_immutable_and_know_what_is_done():
    empty = Surface.empty(Grid.parse("0:1:3", "0:1:2"), {"train": 10}, ("accuracy",))
    some = empty.with_cells([4, 1], rows([2.0, -1.0]))
    assert not empty.done.any()
    assert sorted(some.pending()) == [0, 2, 3, 5]
    assert some.fields["train_loss"][1, 1] == 2.0
    assert some.fields["train_loss"][0, 1] == -1.0  # a value, not a mark
    assert some.fields["train_acc"][1, 1] == 50
    assert np.isnan(some.fields["train_loss"]).sum() == 4


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_values_that_are_not_ordinary_are_done(value):
    surface = Surface.empty(Grid.parse("0:1:2"), {"train": 10}, ("accuracy",)).with_cells([0], rows([value]))
    assert list(surface.done) == [True, False]
    np.testing.assert_equal(surface.fields["train_loss"][0], value)


def test_complete_part_is_the_finest_finished_sub_grid():
    surface = Surface.empty(Grid.parse("0:1:9", "0:1:9"), {"train": 10}, ("accuracy",))
    order = surface.grid.coarse_first()
    levels = np.maximum.outer(refinement(9), refinement(9)).ravel()
    for level in range(levels.max()):
        cells = order[: (levels <= level).sum() + 1]  # one cell of the next level as well
        part = surface.with_cells(cells, rows([1.0] * len(cells))).complete_part()
        np.testing.assert_array_equal(part[0], np.flatnonzero(refinement(9) <= level))


@pytest.mark.parametrize("text", ["", "x", "-0.1", "0.1,-1", "0.1,0.2,0.3", "nan", "0", "0,0", "inf"])
def test_a_tolerance_that_makes_no_sense(text):
    with pytest.raises(BadUsage, match="--tolerance"):
        Tolerance.parse(text)


def test_a_tolerance_asks_for_enough_samples_and_no_more():
    """Replayed on samples drawn in random orders: the stated error is met, and the first 500 are always taken."""
    rng = np.random.default_rng(0)
    population = rng.gamma(0.5, 2.0, 20_000)
    tolerance, within, used = Tolerance(0.02, 0.01), [], []
    for _ in range(100):
        order, row = rng.permutation(population), np.zeros(6)
        while (wanted := tolerance.samples(row, len(population))) > row[0]:
            assert wanted >= 500
            part = order[:wanted]
            row = np.array([wanted, wanted, part.sum(), (part**2).sum(), 0, 0])
        found = summarize(dict(zip(STATISTICS, row[:, None], strict=True)), len(population))
        assert found["loss_se"][0] <= max(0.02 * found["loss"][0], 0.01)
        within.append(abs(found["loss"][0] - population.mean()) <= 2 * found["loss_se"][0])
        used.append(row[0])
    assert np.mean(within) >= 0.9
    needed = 1 / (1 / 20_000 + (0.02 * population.mean() / population.std()) ** 2)
    assert np.mean(used) == pytest.approx(needed, rel=0.1)


def test_samples_a_tolerance_asks_for():
    assert Tolerance().samples(np.zeros(6), 40_000) == 40_000
    assert Tolerance(0.1).samples(np.zeros(6), 40_000) == 500
    assert Tolerance(0.1).samples(np.zeros(6), 300) == 300
    diverged = np.array([500, 500, np.nan, np.nan, 0, 0])
    assert Tolerance(0.1).samples(diverged, 40_000) == 500  # more samples do not make it finite
    everything = np.array([600, 600, 600, 9e9, 0, 0])
    assert Tolerance(1e-9).samples(everything, 600) == 600


def test_cells_with_too_large_an_error_are_pending():
    surface = Surface.empty(Grid.parse("0:1:4"), {"train": 1000}, ("accuracy",)).with_cells([0, 1, 2], rows([1.0] * 3))
    spread = np.array([[[10, 10, 10, 1000, 0, 0, 5]]])  # a standard error of about 3
    surface = surface.with_cells([1], spread)
    assert sorted(surface.pending(Tolerance(0.5))) == [1, 3]
    assert sorted(surface.pending(Tolerance(5.0))) == [3]
    assert sorted(surface.with_cells([2], spread).pending(Tolerance(0, 0.001))) == [1, 2, 3]


def test_cells_of_one_call_stay_together():
    surface = Surface.empty(Grid.parse("0:1:7"), {"train": 10}, ("accuracy",), plan={"points_per_call": 3})
    order = surface.grid.coarse_first()
    assert list(surface.with_cells(order[:4], rows([1.0] * 4)).pending()) == list(order[3:])
    assert list(surface.with_cells(order[:6], rows([1.0] * 6)).pending()) == [order[6]]
