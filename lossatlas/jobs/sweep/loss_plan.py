"""Execution plan of losses over a grid, which decides the last digits and is measured once, and its evaluator."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from lossatlas.choices import EvaluationPrecision
from lossatlas.data.dataset import FixedBatches
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData, Streamed
from lossatlas.errors import BadUsage, first_line, named
from lossatlas.evaluation.autotuning import choose_parallel_batches, seconds_in_place, tune
from lossatlas.evaluation.evaluator import Evaluator, choose_path
from lossatlas.evaluation.memory_trim import trim_memory
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.evaluation.precision import LOW, OWN_PRECISION, resolve_precision
from lossatlas.evaluation.sample_storage import StreamingSamples
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.landscape.grid import Coordinates, Grid, coordinates_text
from lossatlas.landscape.plan import ExecutionPath, ExecutionPlan
from lossatlas.landscape.sample_count import FEWEST_CONTROLLED
from lossatlas.landscape.surface import Surface
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.parameter_space.offloaded import is_dispatched
from lossatlas.sampling.multilevel import with_small_batches

CHECKED_SAMPLES = 256  # samples on which a reduced precision is compared with float32
MOST_IN_A_PASS = 32  # points that share a pass over streamed data, at most
READING = 4  # the share of reading is kept below 1 / (1 + READING) of the time
SHORTEST_BLOCK = 0.02  # seconds; shorter cells are sent in blocks
IN_PLACE: Final = "in place"  # the path that moves the network itself
IN_PLACE_BATCH = 64  # samples of its batches
EXACT = ("float32", "float64")  # precisions whose error is not measured


def evaluator_of(problem: Problem, plan: ExecutionPlan, tolerance: Tolerance | None = None) -> Evaluator:
    """Return the evaluator that a plan describes.

    Args:
        problem: The network, its plane, data and loss.
        plan: The execution plan.
        tolerance: The tolerance of the loss at each cell.

    Raises:
        BadUsage: The device lacks memory, or the network does not compute in the plan's precision.
    """
    count, training = plan.get("recalibrated", 0), problem.training
    corrected, in_place = plan.get("corrected", False), plan["path"] == IN_PLACE
    trim_memory()  # releases the memory of the set-up
    net = own_network(problem, plan) if in_place else problem.net
    try:
        evaluator = Evaluator(
            net,
            problem.plane,
            problem.data,
            problem.loss,
            batch_size=min([plan["batch_size"], *(halved["batch_size"] for halved in plan.get("halved", []))]),
            device=problem.device,
            precision=plan["precision"],
            folded=plan["path"] == "folded",
            points_per_call=plan.get("points_per_call", 1) or 1,
            parallel_batches=plan.get("lanes", 1) or 1,
            tolerance=tolerance,
            recalibrate=(training, count) if count and training is not None else None,
            in_place=in_place,
        )
        if corrected:
            evaluator.full_precision = evaluator_of(
                problem, {**plan, "precision": "float32", "corrected": False}, tolerance
            )
        trim_memory()
        return evaluator
    except torch.cuda.OutOfMemoryError as error:
        raise BadUsage(
            f"the data and the directions do not fit into the memory of {problem.device}: use fewer samples "
            f"({named('limit')})"
        ) from error
    except RuntimeError as error:
        if plan["precision"] in LOW:
            raise BadUsage(
                f"{named('precision', plan['precision'])}: this network does not compute in it on {problem.device}: "
                f"{first_line(error)}"
            ) from error
        raise


def own_network(problem: Problem, plan: ExecutionPlan) -> nn.Module:
    """Return the user's network, to be evaluated in place.

    Args:
        problem: The network, its plane, data and loss.
        plan: The execution plan.

    Raises:
        BadUsage: The network has another precision, or is on another device.
    """
    net, precision = problem.own(), plan["precision"]
    own, device = resolve_precision(None, net), next(net.parameters()).device
    if precision not in (own, "tf32"):
        raise BadUsage(f"{named('precision', precision)}: {why_not_converted(net, plan, own)}")
    if device.type != torch.device(problem.device).type:
        raise BadUsage(
            f"device {problem.device}: this network can only be evaluated in place, on {device}: move it to "
            f"{problem.device} first"
        )
    return net


def why_not_converted(net: nn.Module, plan: ExecutionPlan, own: EvaluationPrecision) -> str:
    """Say why a network is evaluated in its own precision alone, and what to do.

    Args:
        net: The network.
        plan: The execution plan.
        own: The precision of the network.
    """
    if is_dispatched(net):
        return (
            f"a network whose modules accelerate has placed is computed where its weights lie, in their precision "
            f"({own}): leave {named('precision')} out, or convert the network before it is placed"
        )
    if plan.get("memory") == "low":
        return (
            f"with {named('memory', 'low')} there is one copy of the weights, in their precision ({own}): leave "
            f"{named('precision')} out, convert the network first, or choose {named('memory', 'fast')}"
        )
    return (
        f"this network can only be evaluated in place, which is in its own precision ({own}), because a converted "
        "copy does not compute the same (tensors that are no parameters, casts within forward)"
    )


def fastest_path(net: nn.Module, loss: Loss, few: Any, precision: EvaluationPrecision) -> tuple[ExecutionPath, str]:
    """Choose the fastest execution path, which `LossQuantity.finalize_plan` verifies.

    Args:
        net: The network; it is not changed.
        loss: The loss.
        few: A batch of samples, by which a folded network is compared with the unfolded one.
        precision: Precision of the forward pass.

    Returns:
        'folded', 'unfolded' or IN_PLACE, and why BatchNorm is not folded or the network cannot be copied; '' if folded.
    """
    try:
        net = frozen_copy(net, fixed=True)
    except Exception as error:  # what a module holds cannot be copied
        return IN_PLACE, f"it cannot be copied ({first_line(error)})"
    if precision == OWN_PRECISION:
        return "unfolded", "folding would round differently in this precision"
    folded, why_not = choose_path(net, loss, few)
    return ("folded" if folded else "unfolded"), why_not


def comparable_evaluator(problem: Problem, plan: ExecutionPlan, evaluator: Evaluator) -> Evaluator:
    """Return an evaluator to compare with the network: without recalibration of BatchNorm, otherwise the same one."""
    return (
        evaluator
        if evaluator.recalibrator is None
        else evaluator_of(problem, {**plan, "recalibrated": 0, "batch_size": 1})
    )


def complete_plan(
    problem: Problem, surface: Surface, tolerance: Tolerance, cells: int, *, adaptive: bool
) -> tuple[Surface, Evaluator]:
    """Make the evaluator of a plan's path, and complete the plan with it.

    Args:
        problem: The network, the plane and the data.
        surface: The surface so far, whose plan names the path.
        tolerance: The standard error of a cell's loss.
        cells: Number of pending cells; few of them are not worth a measurement.
        adaptive: Cells are interpolated, too.

    Returns:
        The surface with a complete plan, and the evaluator.
    """
    evaluator = evaluator_of(problem, surface.plan, tolerance)
    with evaluator.session():
        return measure_plan(problem, surface, evaluator, cells, adaptive=adaptive), evaluator


def measure_plan(problem: Problem, surface: Surface, evaluator: Evaluator, cells: int, *, adaptive: bool) -> Surface:
    """Complete the plan of a surface by measurements.

    Args:
        problem: The network, the plane and the data.
        surface: The surface so far; entries of its plan that are 0 are measured.
        evaluator: The evaluator of the plan's path, which is set to the plan.
        cells: Number of pending cells; few of them are not worth a measurement.
        adaptive: Cells are interpolated, too; then no points are stacked in one call.

    Returns:
        The surface with a complete plan.
    """
    plan, about = surface.plan.copy(), dict(surface.about)
    if plan["points_per_call"] == 0 and plan["path"] == IN_PLACE:
        size = plan["batch_size"] or IN_PLACE_BATCH
        plan = {**plan, "points_per_call": 1, "lanes": 1, "batch_size": size}
        evaluator.batch_size = plan["batch_size"]
        about["seconds_per_cell"] = seconds_in_place(evaluator)
        if surface.samples:
            plan["fewest"] = FEWEST_CONTROLLED
    elif plan["points_per_call"] == 0:
        chosen = bool(plan["batch_size"])
        if chosen:
            evaluator.parallel_batches = choose_parallel_batches(evaluator)
        else:
            many = plan["precision"] in ("float32", "float64", "tf32") and not adaptive
            corners = grid_corners(surface.grid)
            about["seconds_per_cell"] = tune(evaluator, cells, stacked=many, check_points=corners)
        plan = {
            **plan,
            "batch_size": evaluator.batch_size,
            "points_per_call": evaluator.points_per_call,
            "lanes": evaluator.parallel_batches,
        }
        if surface.samples:
            plan = with_small_batches(evaluator, plan, keep_batch_size=chosen)
            evaluator.batch_size = plan["batch_size"]
        if (full := evaluator.full_precision) is not None:
            full.batch_size, full.parallel_batches = evaluator.batch_size, evaluator.parallel_batches
    if surface.plan["points_per_call"] == 0:
        if plan["precision"] not in EXACT and plan["path"] != IN_PLACE:
            about["precision_error"] = precision_error(problem, surface.grid, plan)
        if evaluator.streaming:
            about["points_per_pass"] = points_per_pass(evaluator, about.get("seconds_per_cell"))
    return replace(surface, plan=plan, about=about)


def refuse_tolerance(splits: Mapping[str, AnyData], *, spread: bool) -> None:
    """Refuse a tolerance where losses of single samples are missing.

    Args:
        splits: The data of each split.
        spread: The loss gives the loss of each sample.

    Raises:
        BadUsage: The loss gives means alone, or the data come in batches that stay as they are.
    """
    if not spread:
        raise BadUsage("a tolerance needs the loss of each sample, and this loss gives the mean of a batch alone")
    for split, d in splits.items():
        if isinstance(d, FixedBatches) or (isinstance(d, Streamed) and d.fixed):
            raise BadUsage(
                f"a tolerance draws single samples, and the {split} data come in batches that stay as they are: their "
                "shapes differ, or they are made by a collate_fn of its own"
            )


def cells_per_block(surface: Surface, cells: int, ranks: int = 1) -> int:
    """Return the number of cells of a block, a multiple of the points of one call.

    Short cells share a block, which saves messages, as long as every rank gets several blocks.

    Args:
        surface: The surface with a complete plan.
        cells: The number of pending cells.
        ranks: The number of ranks.
    """
    per_call = surface.plan["points_per_call"] or 1  # 0 where no cell was pending
    seconds = surface.about.get("seconds_per_cell", SHORTEST_BLOCK)
    for_messages = min(SHORTEST_BLOCK / seconds, cells / (8 * ranks))
    for_reading = min(surface.about.get("points_per_pass", 1), -(-cells // (2 * ranks)))
    return max(1, int(max(for_messages, for_reading) / per_call)) * per_call


def points_per_pass(evaluator: Evaluator, seconds_per_cell: float | None) -> int:
    """Return at how many points a batch of streamed data is evaluated: reading should take a small part of the time."""
    flowing = [samples for samples in evaluator.data.values() if isinstance(samples, StreamingSamples)]
    if all(samples.all_fit for samples in flowing):
        return 1  # they are read once and stay in memory
    if seconds_per_cell is None:
        return MOST_IN_A_PASS // 4
    reading = max(samples.seconds_per_sample for samples in flowing) * sum(len(samples) for samples in flowing)
    return max(1, min(MOST_IN_A_PASS, int(np.ceil(READING * reading / max(seconds_per_cell, 1e-9)))))


def grid_corners(grid: Grid) -> list[Coordinates]:
    """Return the corners of a grid; of a curve both ends, each twice."""
    return list(itertools.product(*((float(axis[0]), float(axis[-1])) for axis in grid.point_axes)))


def precision_error(problem: Problem, grid: Grid, plan: ExecutionPlan) -> dict[str, Any]:
    """Compare a reduced precision with float32 on some samples at three points: centre, between, and a corner.

    Args:
        problem: The network, its plane, data and loss.
        grid: The grid.
        plan: The plan with the reduced precision.

    Returns:
        'points' (3, 2), of a volume (3, 3), 'relative': the relative error of each loss at each point by field, and the
        numbers of samples.
    """
    few = replace(problem, data={split: d.first(CHECKED_SAMPLES) for split, d in problem.data.items()})
    one: ExecutionPlan = {**plan, "points_per_call": 1, "lanes": 1}
    exact, reduced = (
        evaluator_of(few, {**one, "precision": precision}) for precision in ("float32", plan["precision"])
    )
    columns = len(grid.x)
    points = [
        tuple(float(axis[min(i * len(axis) // columns, len(axis) - 1)]) for axis in grid.point_axes)
        for i in (columns // 2, columns // 4, 0)
    ]
    sizes = {split: len(d) for split, d in few.data.items()}
    curve = Surface.empty(Grid(np.arange(3.0)), sizes, exact.metrics)
    reduced_fields, exact_fields = (curve.with_cells(range(3), e(points)).fields for e in (reduced, exact))
    errors = {
        name: [float(abs(f - w) / abs(w)) for f, w in zip(reduced_fields[name], exact_fields[name], strict=True)]
        for name in exact_fields
        if name.endswith("_loss")
    }
    return {"points": points, "relative": errors, "samples": CHECKED_SAMPLES, "used": next(iter(sizes.values()))}


def precision_lines(precision: EvaluationPrecision, error: Mapping[str, Any]) -> list[str]:
    """Describe the result of `precision_error`, a line for each loss."""
    label = "the network's own precision" if precision == OWN_PRECISION else precision
    return [
        f"{label} changes {name} by "
        + ", ".join(
            f"{value:.1e} at {coordinates_text(tuple(at), 3)}"
            for value, at in zip(values, error["points"], strict=True)
        )
        + f" (relative to float32, {error['used']} samples)"
        for name, values in error["relative"].items()
    ]
