import numpy as np
import pytest
from conftest import statistics_row

from lossatlas.errors import BadUsage, option_names
from lossatlas.landscape import STATISTICS, Grid, Surface, Tolerance
from lossatlas.landscape.grid import refinement
from lossatlas.landscape.statistics import effective_samples, summarize, with_moments


def test_cells_are_numbered_row_by_row():
    grid = Grid.parse("-1:1:5", "0:2:3")
    assert grid.shape == (3, 5)
    assert grid.point(7) == (0.0, 1.0)
    assert Grid.parse("-1:1:5").point(4) == (1.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "0:1",
        "a:b:c",
        "0:1:2:3",
        "1:0:5",
        "0:1:0",
        "0:1:1",
        "0:1:2.5",
        "0:nan:3",
        "0:inf:3",
        "0:1:-3",
        "0:0:2",
        "0:1:1e999",
        "-1e300:1e300:5",
        "-1e308:1e308:5",
        "0:1e-323:5",
        "1:1.0000000000000002:2",
        "0:1:1000001",
        "0:1:" + "9" * 5000,
    ],
)
def test_bad_ranges_are_refused_with_the_option_named(text):
    with pytest.raises(BadUsage, match=r"^x='"):
        Grid.parse(text)
    with option_names(), pytest.raises(BadUsage, match=r"^--x="):
        Grid.parse(text)


def test_more_cells_than_a_memory_holds_are_refused():
    with pytest.raises(BadUsage, match="1e\\+12 cells are more than ten million"):
        Grid.parse("0:1:1000000", "0:1:1000000")
    assert Grid.parse("0:1:5000", "0:1:2000").size == 10_000_000


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
    stats = dict(zip(STATISTICS, statistics_row(loss, weight, penalty=0.25), strict=True))
    stats |= {"accuracy": (weight * (loss < 1)).sum(), "other": weight.sum() * 3}
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
        stats = dict(zip(STATISTICS, statistics_row(part), strict=True))
        found = summarize({k: np.array(v, float) for k, v in stats.items()}, 400)
        errors.append((found["loss"] - population.mean()) / found["loss_se"])
    assert np.std(errors) == pytest.approx(
        0.9, abs=0.1
    )  # stated somewhat larger, because few samples carry it; without the finite-population factor it would be 0.5


def rows(values: list[float]) -> np.ndarray:
    return np.array([[statistics_row([v] * 10, metrics=[5])] for v in values])


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
    with pytest.raises(BadUsage, match=r"^tolerance='"):
        Tolerance.parse(text)
    with option_names(), pytest.raises(BadUsage, match=r"^--adaptive[ =]"):
        Tolerance.parse(text, "adaptive")


def test_cells_with_too_large_an_error_are_pending():
    surface = Surface.empty(Grid.parse("0:1:4"), {"train": 1000}, ("accuracy",)).with_cells([0, 1, 2], rows([1.0] * 3))
    spread = np.array([[statistics_row([-9, 11] * 5, metrics=[5])]])  # a standard error of about 3, stated as 5
    surface = surface.with_cells([1], spread)
    assert sorted(surface.pending(Tolerance(0.5))) == [1, 3]
    assert sorted(surface.pending(Tolerance(9.0))) == [3]
    assert sorted(surface.with_cells([2], spread).pending(Tolerance(0, 0.001))) == [1, 2, 3]


def test_cells_of_one_call_stay_together():
    surface = Surface.empty(Grid.parse("0:1:7"), {"train": 10}, ("accuracy",), plan={"points_per_call": 3})
    order = surface.grid.coarse_first()
    assert list(surface.with_cells(order[:4], rows([1.0] * 4)).pending()) == list(order[3:])
    assert list(surface.with_cells(order[:6], rows([1.0] * 6)).pending()) == [order[6]]


@pytest.mark.parametrize("n", [500, 2000])
def test_the_standard_error_of_weighted_losses_is_that_of_a_ratio(n):
    """Divided by n it covered 46 % here: few samples have the weight."""
    rng = np.random.default_rng(3)
    weights, within = np.exp(rng.normal(0, 1.5, 20_000)), []
    losses = rng.gamma(2.0, 1.0, 20_000) + 0.3 * np.log(weights)
    for _ in range(400):
        part = rng.choice(20_000, n, replace=False)
        row = statistics_row(losses[part], weights[part])
        found = summarize(dict(zip(STATISTICS, row[:, None], strict=True)), 20_000)
        within.append(abs(found["loss"][0] - np.average(losses, weights=weights)) <= 2 * found["loss_se"][0])
    assert np.mean(within) >= 0.92


def test_effective_samples_counts_the_samples_that_dominate_the_variance():
    def count(losses):
        return effective_samples(dict(zip(STATISTICS, statistics_row(losses)[:, None], strict=True)))[0]

    assert count([-1.0, 1.0] * 50) == pytest.approx(100)
    assert count([0.0] * 9999 + [1.0]) == pytest.approx(1, rel=1e-3)
    assert count([2.0] * 50) == 50


def test_statistics_of_earlier_files_keep_their_losses_and_lose_unreliable_errors():
    row = statistics_row([1.0, 2.0, 3.0, 4.0])
    old = {name: np.array([row[STATISTICS.index(name)]]) for name in STATISTICS[:4]}
    old |= {"penalty": np.zeros(1), "clamped": np.zeros(1), "accuracy": np.array([3.0])}
    upgraded = with_moments(old)
    assert tuple(upgraded) == (*STATISTICS, "accuracy")
    assert summarize(upgraded, 4)["loss_se"] == 0
    assert summarize(upgraded, 9)["loss"] == 2.5
    assert np.isnan(summarize(upgraded, 9)["loss_se"])
    assert Tolerance(1.0).excess(upgraded, 9)[0] == np.inf


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("0:1e-9:3", "0:5e-10:3", False),
        ("-1:1:51", "-1:1.0000001:51", False),
        ("1e6:1000000.0001:3", "1e6:1000000.0002:3", False),
        ("-1:1:51", "-1:1:51", True),
        ("0:0:1", "0:0:1", True),
        ("0:0:1", "1e-9:1e-9:1", False),
    ],
)
def test_grids_are_the_same_up_to_rounding_alone(one, other, same):
    assert Grid.parse(one).matches(Grid.parse(other)) is same
    third = Grid(Grid.parse(one).x * 3 / 3)
    assert Grid.parse(one).matches(third)
