"""Multilevel sampling: landscape.control_variates, landscape.hierarchy, landscape.sample_count, sampling.multilevel."""

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from binomial import counts, least_hits
from conftest import cut, seeded
from replays import PLANE as MARGIN_PLANE
from replays import covered, of_margins

import lossatlas
from lossatlas.data import LOSSES, Losses, as_dataset
from lossatlas.errors import Note
from lossatlas.evaluation import Evaluator
from lossatlas.io import read_surface
from lossatlas.landscape import STATISTICS, Grid, Surface, Tolerance
from lossatlas.landscape.control_variates import (
    ControlVariate,
    control_variate_of,
    correlations,
    error_of_sum,
    estimate_mean,
    regress_on_controls,
)
from lossatlas.landscape.hierarchy import Hierarchy
from lossatlas.landscape.sample_count import FEWEST_CONTROLLED, ErrorTarget, SampleDraw, estimate_cell
from lossatlas.landscape.statistics import estimates, summarize, sums_of
from lossatlas.mpi.block_queue import BlockResult
from lossatlas.sampling.multilevel import MultilevelQueue

ESTIMATE, ERROR, OWN, CONTROL_COUNT = (
    len(STATISTICS) + estimates(()).index(name) for name in ("estimate", "estimate_se", "own_se", "helpers")
)
QUIET = {"progress": False, "device": "cpu"}


def drawing(values, weight=None):
    """Draws from these values, in batches of 16."""

    def draw(start, stop):
        stop = min(-(-stop // 16) * 16, len(values))
        return SampleDraw(values[start:stop], None if weight is None else weight[start:stop])

    return draw


def goal(population, relative=0.02, absolute=0.0, share=1.0, fewest=FEWEST_CONTROLLED):
    return ErrorTarget(Tolerance(relative, absolute), share, fewest, population)


def neighbour(values, population) -> ControlVariate:
    """A cell that has drawn these values of a population."""
    n, samples = len(values), {"loss": values.astype(np.float32)}
    error = values.std(ddof=1) * np.sqrt(1 / n - 1 / population)
    return ControlVariate(samples, {"loss": values.mean()}, {"loss": error}, n)


@pytest.mark.parametrize("shape", [(1, 51), (21, 21), (51, 51), (7, 4), (2, 9), (3, 3)])
def test_a_hierarchy(shape):
    grid = Grid.parse(f"0:1:{shape[1]}", None if shape[0] == 1 else f"0:1:{shape[0]}")
    hierarchy = Hierarchy(grid)
    assert sorted(hierarchy.order(np.arange(grid.size))) == list(range(grid.size))
    for cell in range(grid.size):
        neighbours, level = hierarchy.neighbours(cell), hierarchy.level[cell]
        assert (level == 0) == (not neighbours)
        assert len(neighbours) <= 4
        assert (hierarchy.level[neighbours] < level).all()
    assert (np.diff(hierarchy.shares) > 0).all()
    assert hierarchy.shares[-1] == 1


def test_the_cells_of_the_usual_grid():
    hierarchy = Hierarchy(Grid.parse("-1:1:51", "-1:1:51"))
    assert np.bincount(hierarchy.level).tolist() == [16, 33, 120, 507, 1925]
    assert hierarchy.neighbours(51 * 25 + 25) == [24 * 51 + 24, 24 * 51 + 26, 26 * 51 + 24, 26 * 51 + 26]
    assert hierarchy.neighbours(51 * 24 + 25) == [24 * 51 + 24, 24 * 51 + 26]


def test_rows_that_are_curves_of_their_own_have_no_common_neighbours():
    hierarchy = Hierarchy(Grid.parse("0:1:9", "0:1:5"), rows=True)
    for cell in range(45):
        assert {other // 9 for other in hierarchy.neighbours(cell)} <= {cell // 9}
        assert hierarchy.level[cell] == hierarchy.level[cell % 9]


def test_one_control_is_the_regression_estimator_of_the_textbooks():
    """Cochran, Sampling Techniques, section 7.3."""
    g = np.random.default_rng(0)
    x = g.normal(size=300)
    y = 2 * x + g.normal(size=300)
    slope = np.polyfit(x, y, 1)[0]
    found = regress_on_controls(
        y.mean(), y - y.mean(), [(x.mean(), x - x.mean())], np.array([0.3]), np.zeros(1), population=10**9
    )
    slope /= 1.01  # COLLINEAR
    assert found.mean == pytest.approx(y.mean() + slope * (0.3 - x.mean()), rel=1e-9)
    left = y - y.mean() - slope * (x - x.mean())
    plain = np.sqrt((left**2).sum() / 298 / 300)
    assert plain < found.own_error < 1.2 * plain
    assert found.neighbour_error == 0


def test_what_is_not_known_of_a_control_enters_the_error():
    g = np.random.default_rng(1)
    x = g.normal(size=100)
    y = 3 * x + 0.1 * g.normal(size=100)
    found = regress_on_controls(
        y.mean(), y - y.mean(), [(x.mean(), x - x.mean())], np.zeros(1), np.array([0.05]), population=10**9
    )
    assert found.neighbour_error == pytest.approx(0.15, rel=0.03)
    assert found.error == pytest.approx(np.hypot(found.own_error, found.neighbour_error))
    assert found.mean == pytest.approx(y.mean() - 3 * x.mean(), abs=0.05)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 1.0])
def test_errors_of_neighbours_add_up_as_far_as_their_losses_are_correlated(correlation):
    """Over shuffles of a population, where one has drawn half as many samples as the other, and none is left out."""
    rng = np.random.default_rng(0)
    common, own = rng.standard_normal((2, 20_000))
    losses = np.stack([common, correlation * common + np.sqrt(1 - correlation**2) * own])
    coefficients, counts = np.array([0.8, 0.4]), (800, 400)
    errors = coefficients * losses.std(axis=1) / np.sqrt(counts)
    found = []
    for _ in range(1000):
        order = rng.permutation(20_000)
        means = [each[order[:n]].mean() - each.mean() for each, n in zip(losses, counts, strict=True)]
        found.append(coefficients @ means)
    stated = error_of_sum(errors, np.array([[1, correlation], [correlation, 1]]))
    assert 0.93 * np.std(found) <= stated <= 1.15 * np.std(found) + 1e-12
    assert error_of_sum(errors, np.ones((2, 2))) == pytest.approx(errors.sum())


def test_rare_large_losses_go_together_where_the_first_samples_hold_none():
    rng = np.random.default_rng(0)
    small, rare = rng.standard_normal((2, 3000)), np.zeros(3000)
    rare[500::100] = 100.0
    first, second = (neighbour(each + rare, 60_000) for each in small)
    assert correlations([first, second], "loss")[0, 1] > 0.9
    assert correlations([neighbour(each[:400], 60_000) for each in small], "loss")[0, 1] < 0.2
    assert correlations([first], "loss") == pytest.approx(np.ones((1, 1)))
    rare[1000] = np.inf
    assert correlations([neighbour(each + rare, 60_000) for each in small], "loss")[0, 1] == 1


def test_nested_samples_leave_nothing_that_a_smaller_coefficient_would_gain():
    """Of 400 samples of the control the first 100 are the cell's: least squares against coefficients scaled down."""
    g = np.random.default_rng(2)
    errors = {scale: [] for scale in (1.0, 0.8, 0.5)}
    for _ in range(2000):
        x = g.normal(size=400)
        y = x[:100] + 0.3 * g.normal(size=100)
        slope = np.polyfit(x[:100], y, 1)[0]
        for scale, found in errors.items():
            found.append(y.mean() + scale * slope * (x.mean() - x[:100].mean()))
    spread = {scale: np.std(found) for scale, found in errors.items()}
    assert spread[1.0] < spread[0.8] < spread[0.5]


def test_nearly_equal_neighbours_do_not_get_large_coefficients():
    """They differ in one sample: opposite large coefficients would fit the cell, and multiply their own errors."""
    g = np.random.default_rng(2)
    x = g.exponential(size=200)
    other, y = x.copy(), x + 0.1 * g.normal(size=200)
    other[3] += 0.1
    y[3] += 5.0
    pair = [neighbour(each, 10_000) for each in (x, other)]
    row = sums_of(y[:64], None, [])
    found = estimate_mean("loss", row, {"loss": y[:64].astype(np.float32)}, [], pair, population=10_000)
    assert found.neighbour_error < 1.5 * pair[0].error["loss"]


def test_proportional_losses_take_the_fewest_samples_and_are_as_exact_as_the_neighbour():
    losses = np.random.default_rng(3).exponential(size=20_000)
    near = neighbour(losses[:8000], 20_000)
    row, samples = estimate_cell(drawing(3 * losses), (), [near], goal(20_000, 0.03))
    assert row[0] == FEWEST_CONTROLLED == len(samples["loss"])
    assert row[ESTIMATE] == pytest.approx(3 * losses[:8000].mean(), rel=3e-3)
    assert row[ERROR] == pytest.approx(3 * near.error["loss"], rel=0.1)
    assert row[OWN] < 0.3 * row[ERROR]
    assert row[CONTROL_COUNT] == 1
    alone, _ = estimate_cell(drawing(3 * losses), (), [], goal(20_000, 0.03))
    assert alone[0] > 15 * FEWEST_CONTROLLED


def test_a_neighbour_with_too_few_samples_or_infinite_ones_is_not_used():
    losses = np.random.default_rng(4).exponential(size=5000)
    few, broken = neighbour(losses[:80], 5000), neighbour(np.where(np.arange(400) == 7, np.inf, losses[:400]), 5000)
    row, _ = estimate_cell(drawing(2 * losses), (), [few, broken], goal(5000, 0.05))
    alone, _ = estimate_cell(drawing(2 * losses), (), [], goal(5000, 0.05))
    np.testing.assert_array_equal(row, alone)
    assert row[CONTROL_COUNT] == 0


@pytest.mark.parametrize("worst", [np.inf, np.nan, 1e60])
def test_losses_that_no_regression_bears_stand_for_themselves(worst):
    losses = np.random.default_rng(5).exponential(size=2000)
    own = losses.copy()
    own[5] = worst
    row, _ = estimate_cell(drawing(own), (), [neighbour(losses[:900], 2000)], goal(2000, 0.5))
    known = summarize(dict(zip((*STATISTICS, *estimates(())), row[:, None], strict=True)), 2000)
    if worst == 1e60:
        assert row[0] >= 1920  # one sample carries it all
        assert known["loss"][0] == pytest.approx(own.sum() / row[0])
    else:
        assert row[0] == FEWEST_CONTROLLED
        assert not np.isfinite(known["loss"][0])
        assert np.isnan(known["loss_se"][0])


def test_all_samples_give_the_mean_itself():
    losses = np.random.default_rng(6).exponential(size=777)
    near = neighbour(losses[:600], 777)
    for wanted in (goal(777, 0.0, 0.0), goal(777, 1e-12)):
        row, _ = estimate_cell(drawing(losses**2), (), [near], wanted)
        assert row[0] == 777
        assert row[ESTIMATE] == pytest.approx((losses**2).mean(), rel=1e-12)
        assert row[ERROR] == 0


def test_a_smaller_tolerance_adds_samples_to_those_that_are_there():
    losses = np.random.default_rng(7).exponential(size=30_000)
    near, calls = neighbour(losses[:15_000], 30_000), []

    def draw(start, stop):
        calls.append((start, stop))
        return drawing(losses**1.5)(start, stop)

    coarse, samples = estimate_cell(draw, (), [near], goal(30_000, 0.05))
    finer, more = estimate_cell(draw, (), [near], goal(30_000, 0.01), (coarse, samples))
    assert finer[0] > coarse[0]
    assert [start for start, _ in calls] == [0, *(-(-stop // 16) * 16 for _, stop in calls[:-1])]
    np.testing.assert_array_equal(more["loss"][: int(coarse[0])], samples["loss"])
    again, _ = estimate_cell(draw, (), [near], goal(30_000, 0.01), (finer, more))
    np.testing.assert_array_equal(again, finer)


def test_sums_are_those_of_the_evaluator():
    from lossatlas.evaluation.loss_sums import LossSums

    g = np.random.default_rng(8)
    loss, weight, metric = g.exponential(size=50), g.random(50), g.random(50)
    tensors = [torch.from_numpy(each) for each in (loss, weight, metric)]
    wanted = LossSums(lambda model, batch: None, ("m",)).totals(Losses(tensors[0], tensors[1], {"m": tensors[2]}))
    np.testing.assert_allclose(sums_of(loss, weight, [metric]), wanted, rtol=1e-12)
    wanted = LossSums(lambda model, batch: None, ()).totals(Losses(tensors[0]))
    np.testing.assert_allclose(sums_of(loss, None, []), wanted, rtol=1e-12)


def field(seed, cells=17, samples=4000):
    """Losses (cells, samples) along a line: bowls of every sample, half of them with a bend of their own."""
    g = np.random.default_rng(seed)
    t = np.linspace(-1, 1, cells)[:, None]
    height, place, width = g.lognormal(0, 1, samples), 0.3 * g.normal(size=samples), 0.3 + g.random(samples)
    bend = np.where(g.random(samples) < 0.5, g.exponential(size=samples), 0) * np.sin(3 * t + g.random(samples)) ** 2
    return height * ((t - place) / width) ** 2 + bend + 0.1 * g.exponential(size=samples)


def replay(losses, order, tolerance, weight=None):
    """Rows of all cells of a line, and how many samples there are."""
    grid = Grid(np.arange(float(len(losses))))
    hierarchy, known, rows = Hierarchy(grid), {}, {}
    for cell in hierarchy.order(np.arange(grid.size)).tolist():
        level = int(hierarchy.level[cell])
        wanted = ErrorTarget(
            tolerance, hierarchy.shares[level], hierarchy.fewest(level, FEWEST_CONTROLLED), losses.shape[1]
        )
        own = None if weight is None else weight[cell][order]
        draw = drawing(losses[cell][order], own)
        rows[cell], samples = estimate_cell(draw, (), [known[other] for other in hierarchy.neighbours(cell)], wanted)
        known[cell] = control_variate_of(rows[cell], (), samples)
    return np.stack([rows[cell] for cell in range(grid.size)])


@pytest.mark.parametrize("weighted", [False, True])
def test_stated_errors_hold_and_samples_are_saved(weighted):
    """Weights differ from sample to sample, and from cell to cell, as those of a loss that looks at its outputs may."""
    losses, g = field(0), np.random.default_rng(1)
    weight = g.random(losses.shape) * np.linspace(0.5, 1, len(losses))[:, None] + 0.1 if weighted else None
    truth = losses.mean(1) if weight is None else (weight * losses).sum(1) / weight.sum(1)
    tolerance, within, used, alone = Tolerance(0.03), [], [], []
    for _ in range(60):
        order = g.permutation(losses.shape[1])
        rows = replay(losses, order, tolerance, weight)
        assert (rows[:, ERROR] <= tolerance.relative * rows[:, ESTIMATE] * (1 + 1e-9)).all()
        within.append(np.abs(rows[:, ESTIMATE] - truth) <= 2 * rows[:, ERROR] + 1e-9)
        used.append(rows[:, 0])
        for cell in (1, 8):
            own = None if weight is None else weight[cell][order]
            alone.append(estimate_cell(drawing(losses[cell][order], own), (), [], goal(4000, 0.03))[0][0])
    assert np.mean(within) >= 0.94
    assert np.mean(within, axis=0).min() >= 0.8
    assert np.mean(used) < (0.95 if weighted else 0.75) * np.mean(alone)  # random weights are a cell's own


def test_errors_hold_where_few_samples_carry_what_neighbours_do_not_tell():
    """Each cell has outliers of its own, one sample in a hundred."""
    g = np.random.default_rng(2)
    losses = field(3)
    losses += np.where(g.random(losses.shape) < 0.01, 20 * g.exponential(size=losses.shape), 0)
    truth, within = losses.mean(1), []
    for _ in range(60):
        rows = replay(losses, g.permutation(losses.shape[1]), Tolerance(0.05))
        within.append(np.abs(rows[:, ESTIMATE] - truth) <= 2 * rows[:, ERROR] + 1e-9)
    assert np.mean(within) >= 0.92


@pytest.mark.parametrize(("share", "height"), [(0.01, 30.0), (0.005, 30.0), (0.01, 10.0)])
def test_what_few_samples_carry_is_not_lost_where_the_first_ones_hold_none(share, height):
    """All losses are small except for one in 100 or 200, which 64 samples often miss; the neighbours have seen it."""
    g = np.random.default_rng(4)
    t = np.linspace(-1, 1, 17)[:, None]
    bad = g.random(20_000) < share
    losses = 0.1 + 0.02 * g.random(20_000) + 0.05 * t**2 + np.where(bad, height * (1 + t**2) * g.random(20_000), 0)
    truth, level = losses.mean(1), Hierarchy(Grid(np.arange(17.0))).level
    within, used = [], []
    for _ in range(10):
        rows = replay(losses, g.permutation(20_000), Tolerance(0.05, 0.03))
        within.append(np.abs(rows[:, ESTIMATE] - truth) <= 2 * rows[:, ERROR] + 1e-9)
        used.append(rows[:, 0])
    for each in range(level.max() + 1):
        assert np.mean(np.array(within)[:, level == each]) >= 0.9
    assert np.mean(used) < 10_000


def test_samples_that_mostly_weigh_nothing_are_drawn_until_enough_of_them_count():
    g = np.random.default_rng(5)
    losses = field(6)
    weight = np.broadcast_to(np.where(g.random(losses.shape[1]) < 0.05, 1.0, 0.0), losses.shape)
    truth = (weight * losses).sum(1) / weight.sum(1)
    rows = replay(losses, g.permutation(losses.shape[1]), Tolerance(0.2), weight)
    assert np.isfinite(rows[:, ESTIMATE]).all()
    assert (rows[:, 0] > 500).all()
    assert np.mean(np.abs(rows[:, ESTIMATE] - truth) <= 2 * rows[:, ERROR] + 1e-9) > 0.8


def test_a_metric_of_equal_values_is_not_stated_as_certain():
    row = sums_of(np.full(64, 0.1), None, [np.ones(64)])
    samples = {"loss": np.full(64, 0.1, np.float32), "top": np.ones(64, np.float32)}
    assert estimate_mean("top", row, samples, ["top"], [], population=10_000).error > 0.01


def test_a_cell_that_nobody_helps_draws_as_many_as_those_of_the_first_level():
    losses = np.full(20_000, 0.1)
    losses[::100] = 0.100001
    row, _ = estimate_cell(drawing(losses), (), [], goal(20_000, 0.5))
    assert row[0] >= 1000


def test_an_accuracy_of_all_right_is_not_stated_as_certain():
    n, population = 64, 10_000
    row = sums_of(np.full(n, 0.1), None, [np.ones(n)])
    samples = {"loss": np.full(n, 0.1, np.float32), "accuracy": np.ones(n, np.float32)}
    found = estimate_mean("accuracy", row, samples, ["accuracy"], [], population=population)
    assert found.mean == 1
    assert 0.01 < found.error < 0.05


# ---------------------------------------------------------------------------------------------- grids of networks


def small_problem():
    """A trained network, and its data."""
    torch.manual_seed(0)
    x = torch.randn(6000, 4)
    y = (x[:, 0] * x[:, 1] + 0.5 * torch.randn(6000) > 0).long()
    net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for index in torch.randperm(6000).repeat(10).split(500):
        optimizer.zero_grad()
        F.cross_entropy(net(x[index]), y[index]).backward()
        optimizer.step()
    return net, (x, y)


@pytest.fixture(scope="module")
def problem():
    return small_problem()


PLANE = {"x": "-1:1:9", "y": "-1:1:9", "batch_size": 32, **QUIET}


@pytest.fixture(scope="module")
def exact(problem):
    return lossatlas.surface(*problem, **PLANE)


def test_a_surface_of_cells_that_help_each_other(problem, exact):
    found = lossatlas.surface(*problem, tolerance=(0.01, 0.002), **PLANE)
    error = found.fields["train_loss_se"]
    assert (error <= np.maximum(0.01 * found.loss, 0.002) * (1 + 1e-9)).all()
    assert (np.abs(found.loss - exact.loss) <= 4 * error + 1e-7).all()
    off = np.abs(found.fields["train_acc"] - exact.fields["train_acc"])
    assert (off <= 4 * found.fields["train_acc_se"] + 1e-9).all()
    statistics = found.statistics["train"]
    assert statistics["n"].mean() < 2500
    assert (statistics["helpers"] > 0).sum() > 40
    for cell, own in enumerate(found.samples["train"]):
        assert len(own["loss"]) == len(own["accuracy"]) == statistics["n"].flat[cell]


def test_figures_and_commands_say_how_large_errors_are(problem, capsys):
    """Of a loss relative to it, of an accuracy in its points; the cross is at the best cell."""
    from matplotlib.figure import Figure

    from lossatlas.figures.panels import surface_panel
    from lossatlas.figures.plane_marks import mark_best
    from lossatlas.jobs.sweep.grid_job import say_ranges

    found = lossatlas.surface(*problem, tolerance=(0.05, 0.02), **PLANE)
    loss, accuracy = (surface_panel(found, name, "") for name in ("train_loss", "train_acc"))
    relative = (found.fields["train_loss_se"] / found.loss).max()
    points = found.fields["train_acc_se"].max()
    assert loss.note == f"standard errors up to {100 * relative:.2g} %"
    assert accuracy.note == f"standard errors up to {points:.2g} points"
    axis = Figure().add_subplot()
    for each, best in ((loss, found.loss.min()), (accuracy, found.fields["train_acc"].max())):
        mark_best(axis, each)
        (x,), (y,) = axis.lines[-1].get_data()
        assert each.values[list(each.y).index(y), list(each.x).index(x)] == best
    say_ranges(found, ["train_acc"])
    assert f"standard errors up to {points:.2g}" in capsys.readouterr().out


def test_the_samples_of_a_cell_are_the_losses_of_the_shuffled_order(problem):
    from lossatlas.evaluation.sample_storage import shuffled_order

    net, (x, y) = problem
    found = lossatlas.surface(net, (x, y), x=[0.0], tolerance=0.05, batch_size=32, **QUIET)
    own = found.samples["train"][0]["loss"]
    order = shuffled_order(6000)[: len(own)]
    with torch.no_grad():
        wanted = F.cross_entropy(net(x[order]), y[order], reduction="none")
    np.testing.assert_allclose(own, wanted, rtol=1e-5, atol=1e-6)


def test_the_order_in_which_blocks_come_back_does_not_matter(problem):
    """Blocks are computed in a random order among those that are ready; the neighbours of every block are done."""
    net, data = problem
    found = lossatlas.surface(net, data, tolerance=(0.02, 0.005), **PLANE)
    samples = as_dataset(data)
    from lossatlas.jobs.sweep.loss_quantity import LossQuantity
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.parameter_space import AffinePlane, random_direction, tensors

    at = {name: value.detach().clone() for name, value in tensors(net).items()}
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))
    scene = Problem(net, plane, {"train": samples}, LOSSES["crossentropy"], "cpu", samples)
    quantity = LossQuantity(Tolerance(0.02, 0.005), batch_size=32)
    fresh = quantity.new_surface(net, scene.data, scene.loss, found.grid, device="cpu", request={}, about={})
    results = []
    for seed in (0, 1):
        surface, evaluator = quantity.finalize_plan(scene, fresh, fresh.grid.size)
        work, g = quantity.block_worker(surface, evaluator), np.random.default_rng(seed)
        supply = quantity.block_queue(surface, surface.pending(Tolerance(0.02, 0.005)))
        taken, done = [], set()
        while len(done) < surface.grid.size:
            while (item := supply.take()) is not None:
                taken.append(item)
                for cell, neighbours in zip(*item[1], strict=True):
                    assert len(neighbours[0]) == len(surface.hierarchy.neighbours(cell))
            k, block = taken.pop(int(g.integers(len(taken))))
            answer, _ = work(block)
            surface = surface.with_cells(block[0], *answer)
            supply.arrived(k, answer)
            done.update(block[0])
        results.append(surface)
    for name, array in results[0].statistics["train"].items():
        np.testing.assert_array_equal(array, results[1].statistics["train"][name])


def test_a_file_keeps_the_samples_and_goes_on_with_them(problem, exact, tmp_path):
    file = tmp_path / "s.h5"
    coarse = lossatlas.surface(*problem, tolerance=(0.05, 0.02), file=file, **PLANE)
    saved = read_surface(file)
    for cell, own in enumerate(coarse.samples["train"]):
        for name, array in own.items():
            np.testing.assert_array_equal(saved.samples["train"][cell][name], array)
    finer = lossatlas.surface(*problem, tolerance=(0.01, 0.002), file=file, **PLANE)
    n = coarse.statistics["train"]["n"], finer.statistics["train"]["n"]
    assert (n[1] >= n[0]).all()
    assert (n[1] > n[0]).any()
    assert (np.abs(finer.loss - exact.loss) <= 4 * finer.fields["train_loss_se"] + 1e-7).all()
    whole = lossatlas.surface(*problem, file=file, **PLANE)
    assert (whole.statistics["train"]["n"] == 6000).all()
    np.testing.assert_allclose(whole.loss, exact.loss, rtol=1e-7)
    np.testing.assert_allclose(whole.fields["train_acc"], exact.fields["train_acc"], rtol=1e-7)
    assert not whole.fields["train_loss_se"].any()


def test_curves_along_several_directions():
    """Each row of --repeat rests on its own cells."""
    grid = Grid(np.linspace(-1, 1, 9), np.arange(2.0))
    surface = Surface.empty(
        grid, {"train": 10}, (), multilevel=True, request={"rows_of": "repeats", "rows": ["a", "b"]}
    )
    supply = MultilevelQueue(surface, surface.pending(Tolerance(0.1)), 1)
    seen = set()
    while (item := supply.take()) is not None:
        (cell,), _ = item[1]
        seen.add(cell)
        assert all(other // 9 == cell // 9 for other in supply.neighbours[cell])
        row = estimate_cell(drawing(np.ones(10)), (), [], goal(10, 0.5))
        supply.arrived(item[0], BlockResult(np.stack([[row[0]]]), [[row[1]]]))
    assert seen == set(range(18))


def test_an_evaluator_draws_what_it_sums(problem):
    from lossatlas.parameter_space import AffinePlane, random_direction, tensors

    net, data = problem
    at = {name: value.detach().clone() for name, value in tensors(net).items()}
    plane = AffinePlane(at, random_direction(at, "filter", "biasbn", 1), None)
    samples = as_dataset(data)
    for parallel_batches in (1, 2):
        evaluator = Evaluator(
            net, plane, {"train": samples}, LOSSES["crossentropy"], batch_size=64, parallel_batches=parallel_batches
        )
        evaluator.move_to(0.3, 0.0)
        parts = [evaluator.draw_samples("train", 0, 100), evaluator.draw_samples("train", 128, 6000)]
        assert [len(part.loss) for part in parts] == [128, 6000 - 128]
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("loss", "weight")]
        accuracy = np.concatenate([part.metrics["accuracy"] for part in parts])
        row = sums_of(*joined, [accuracy])
        np.testing.assert_allclose(row, evaluator([(0.3, 0.0)])[0, 0], rtol=1e-6)


@pytest.mark.full
def test_a_lower_precision_is_corrected_by_samples_in_float32(problem, exact, tmp_path):
    """bfloat16 alone is off by many of the errors that are stated; corrected, it is within them."""
    low = lossatlas.surface(*problem, precision="bfloat16", **PLANE)
    file, tolerance = tmp_path / "s.h5", (0.001, 0.0002)
    found = lossatlas.surface(*problem, precision="bfloat16", tolerance=tolerance, file=file, **PLANE)
    error = found.fields["train_loss_se"]
    assert (error <= np.maximum(0.001 * found.loss, 0.0002) * (1 + 1e-9)).all()
    assert (np.abs(found.loss - exact.loss) <= 4 * error + 1e-7).all()
    assert (np.abs(low.loss - exact.loss) > 4 * error).any()
    few, many = (found.statistics[name]["n"] for name in ("train", "draft of train"))
    assert few.mean() < 0.3 * many.mean()
    assert [name for name in found.fields if "draft" in name] == []
    saved = read_surface(file)
    np.testing.assert_array_equal(saved.fields["train_loss"], found.loss)
    assert saved.splits == ["train"]
    again = lossatlas.surface(*problem, precision="bfloat16", tolerance=tolerance, file=file, **PLANE)
    np.testing.assert_array_equal(again.loss, found.loss)
    finer = lossatlas.surface(*problem, precision="bfloat16", tolerance=(0.0005, 0.0001), file=file, **PLANE)
    assert (finer.statistics["draft of train"]["n"] >= many).all()
    assert (np.abs(finer.loss - exact.loss) <= 4 * finer.fields["train_loss_se"] + 1e-7).all()


def test_a_file_of_cells_of_which_some_have_met_a_weight_and_others_not(problem, tmp_path):
    """The first sample that does not count comes late in the shuffled order: cells with few samples know of none."""
    from lossatlas.evaluation.sample_storage import shuffled_order

    net, (x, y) = problem
    y = y.clone()
    y[shuffled_order(6000)[200::50]] = -100
    file, tolerance = tmp_path / "s.h5", (0.03, 0.01)
    found = lossatlas.surface(net, (x, y), tolerance=tolerance, file=file, **PLANE)
    assert {"weight" in own for own in found.samples["train"] if own} == {True, False}
    whole = lossatlas.surface(net, (x, y), **PLANE)
    assert (np.abs(found.loss - whole.loss) <= 4 * found.fields["train_loss_se"] + 1e-7).all()
    cut(file, found.hierarchy.order(np.arange(81))[:40])
    again = lossatlas.surface(net, (x, y), tolerance=tolerance, file=file, **PLANE)
    np.testing.assert_array_equal(again.loss, found.loss)
    np.testing.assert_array_equal(again.fields["train_loss_se"], found.fields["train_loss_se"])


@pytest.mark.parametrize("seeds", counts(40, 100))
def test_a_cell_alone_draws_enough_samples_and_no_more(seeds):
    """Replayed on samples drawn in random orders: the stated error is met, and the first 1000 are always taken."""
    rng = np.random.default_rng(0)
    population = rng.gamma(0.5, 2.0, 20_000)
    within, used = [], []
    for _ in range(seeds):
        row, _ = estimate_cell(drawing(rng.permutation(population)), (), [], goal(20_000, 0.02, 0.01))
        assert row[0] >= 1000
        assert row[ERROR] <= max(0.02 * row[ESTIMATE], 0.01)
        within.append(abs(row[ESTIMATE] - population.mean()) <= 2 * row[ERROR])
        used.append(row[0])
    assert sum(within) >= (0.94 * seeds if seeds == 100 else least_hits(seeds, 0.95))
    needed = 1 / (1 / 20_000 + (0.02 * population.mean() / population.std()) ** 2)
    assert needed < np.mean(used) < 1.25 * needed


def test_samples_that_a_cell_alone_draws():
    def drawn(losses, *tolerance):
        return estimate_cell(drawing(np.asarray(losses, dtype=np.float64)), (), [], goal(len(losses), *tolerance))[0][0]

    assert drawn(np.arange(400) % 2 + 1.0, 0, 0) == 400  # no tolerance: all
    assert drawn(np.arange(40_000) % 2 + 1.0, 0.1) == 1008  # the first 1000, in batches of 16
    assert drawn(np.arange(300) % 2 + 1.0, 0.1) == 300
    assert drawn([np.nan] * 40_000, 0.1) == FEWEST_CONTROLLED  # more do not make it finite
    assert drawn([1.0, np.inf] * 20_000, 0.1) == FEWEST_CONTROLLED
    assert drawn([0.0, 9e3] * 300, 1e-9) == 600


def few_carry(rng, population):
    """One sample in 250 has a loss that is 100 times as large."""
    return np.where(rng.random(population) < 1 / 250, 1.0, 0.01) * rng.exponential(size=population)


@pytest.mark.parametrize("seeds", counts(30, 60))
@pytest.mark.parametrize(
    "draw", [few_carry, lambda rng, n: np.exp(rng.normal(-6, 3, n))], ids=["few carry", "lognormal"]
)
@pytest.mark.parametrize("tolerance", [(0.02, 0.05), (0.2, 0.0)])
def test_a_stated_error_holds_where_few_samples_carry_the_loss(draw, tolerance, seeds):
    rng = np.random.default_rng(2)
    population, within = draw(rng, 30_000), []
    for _ in range(seeds):
        row, _ = estimate_cell(drawing(rng.permutation(population)), (), [], goal(30_000, *tolerance))
        assert row[ERROR] <= Tolerance(*tolerance).allowed(row[ESTIMATE]) * (1 + 1e-9)
        within.append(abs(row[ESTIMATE] - population.mean()) <= 2 * row[ERROR] + 1e-12)
    assert sum(within) >= (0.92 * seeds if seeds == 60 else least_hits(seeds, 0.95))


def test_a_file_begun_without_a_tolerance_gets_all_samples_at_its_other_cells(problem, tmp_path):
    """Its cells have no samples that others could use; that is said, and what is there stays."""
    file = tmp_path / "s.h5"
    exact = lossatlas.surface(*problem, file=file, **PLANE)
    done = exact.done.copy()
    done[1:] = False
    cut(file, np.flatnonzero(done))
    with pytest.warns(Note, match="missing cells use all samples"):
        found = lossatlas.surface(*problem, tolerance=(0.02, 0.005), file=file, **PLANE)
    assert found.done.all()
    for name, array in exact.fields.items():
        np.testing.assert_array_equal(found.fields[name], array)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)  # nothing is missing now, and nothing is said
        lossatlas.surface(*problem, tolerance=(0.02, 0.005), file=file, **PLANE)


# ---------------------------------------------------------------------------------------------- losses that jump

JUMPS = ["0-1", "step", "hinge", "squared hinge", "cross-entropy"]


def coverage(loss, tolerance, shuffles):
    """Share of cells with a mean within two stated errors: in five bands of the loss and on each level, the lowest."""
    found = [of_margins(loss, tolerance, seed) for seed in range(shuffles)]
    _, bands, levels = covered(found, Hierarchy(MARGIN_PLANE).level)
    return min(*bands, *levels)


@pytest.mark.few(1)
@pytest.mark.parametrize("loss", JUMPS)
def test_stated_errors_hold_where_losses_jump(loss):
    """As if the cells of a shuffle were one: no less than 92 % in any band, but for a probability of 1e-3."""
    shuffles = 8
    lowest = coverage(loss, Tolerance(0.02, 0.02), shuffles)
    covered_least = math.floor(shuffles * lowest)
    chance = sum(math.comb(shuffles, k) * 0.92**k * 0.08 ** (shuffles - k) for k in range(covered_least + 1))
    assert chance >= 1e-3, f"{100 * lowest:.0f} %"


@pytest.mark.full
@pytest.mark.parametrize("tolerance", [Tolerance(0.02, 0.02), Tolerance(0.05, 0.05)], ids=["0.02", "0.05"])
@pytest.mark.parametrize("loss", JUMPS)
def test_stated_errors_hold_in_each_band_where_losses_jump(loss, tolerance):
    assert coverage(loss, tolerance, 200) >= 0.92


@pytest.mark.parametrize("height", [1.0, 22.0])
def test_a_cell_with_equal_losses_says_no_more_than_its_count(height):
    """One sample in 100 jumps at the cell; 64 first samples without it, and neighbours without any, do not hide it."""
    losses = np.full(20_000, 0.05)
    losses[70::100] += height
    before = neighbour(np.full(8000, 0.05), 20_000)
    row, _ = estimate_cell(drawing(losses), (), [before], goal(20_000, 0.02, 0.01))
    assert row[0] >= 1000
    assert abs(row[ESTIMATE] - losses.mean()) <= 2 * row[ERROR]


def test_a_jump_that_only_the_neighbour_has_seen_is_as_large_as_there():
    """Of 256 equal losses at the cell the next could be 20, as at the neighbour: a share of 1 in 258."""
    theirs, own = np.full(6000, 0.05), np.full(256, 0.05)
    theirs[3::10] = 20.05
    near = neighbour(theirs[:2000], 6000)
    samples = {"loss": own.astype(np.float32)}
    found = estimate_mean("loss", sums_of(own, None, []), samples, [], [near], population=6000)
    tied = 0.9
    laplace = 20 * np.sqrt(tied) * np.sqrt(257) / 258 * np.sqrt(1 / 256 - 1 / 6000)
    assert found.own_error == pytest.approx(laplace, rel=0.01)


def test_losses_without_ties_are_as_they_were():
    """No two losses of a smooth loss are equal, so nothing is added to what the regression leaves."""
    g = np.random.default_rng(7)
    theirs = g.exponential(size=400)
    own = 2 * theirs[:64] + 0.1 * g.normal(size=64)
    near = neighbour(theirs, 10_000)
    samples = {"loss": own.astype(np.float32)}
    found = estimate_mean("loss", sums_of(own, None, []), samples, [], [near], population=10_000)
    (at, left), (there, other) = ((part.mean(), part - part.mean()) for part in (own, theirs[:64]))
    plain = regress_on_controls(
        at, left, [(there, other)], np.array([theirs.mean()]), np.array([near.error["loss"]]), population=10_000
    )
    assert found.own_error == pytest.approx(plain.own_error * min(max(found.missing_spread, 1), 2), rel=1e-5)


def test_a_surface_of_a_zero_one_loss_of_a_user(problem):
    """Errors are those of a network that is wrong for one sample in ten or more."""

    def zero_one(model, batch):
        x, y = batch
        return (model(x).argmax(1) != y).to(torch.float64)

    whole = lossatlas.surface(*problem, loss=zero_one, **PLANE)
    found = lossatlas.surface(*problem, loss=zero_one, tolerance=(0.02, 0.02), **PLANE)
    error = found.fields["train_loss_se"]
    assert (error <= np.maximum(0.02 * found.loss, 0.02) * (1 + 1e-9)).all()
    within = np.abs(found.loss - whole.loss) <= 2 * error + 1e-9
    assert within.mean() >= 0.9
    assert (np.abs(found.loss - whole.loss) <= 4 * error + 1e-9).all()
    assert found.statistics["train"]["n"].mean() < 3000


def test_a_corrected_low_precision_measures_its_own_batch_size():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4000, 4, generator=generator), torch.randint(0, 3, (4000,), generator=generator)
    net = seeded(lambda: torch.nn.Linear(4, 3))
    line = {"x": "-1:1:3", "progress": False}
    exact = lossatlas.surface(net, data, **line)
    found = lossatlas.surface(net, data, tolerance=(0.02, 0.02), precision="bfloat16", **line)
    assert (np.abs(found.loss - exact.loss) <= 5 * found.fields["train_loss_se"] + 1e-3).all()
