"""The extreme eigenvalues of the Hessian over a grid: the plan, the operator, and the work of a block of cells."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lossatlas.errors import BadUsage
from lossatlas.hessian.derivative_check import check_derivatives
from lossatlas.hessian.hvp import Hessian, usual_batch_size
from lossatlas.hessian.lanczos import NotFinite, lanczos
from lossatlas.hessian.operator_checks import check_deterministic
from lossatlas.io.block_queue import BlockResult
from lossatlas.io.recorder import BlockNote
from lossatlas.jobs.problem import Problem
from lossatlas.jobs.reference_check import far_points
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.surface import Surface
from lossatlas.parameter_space.planes import AffinePlane, Plane

# The bounds: no eigenvalue is larger, or smaller, but for a probability of 1e-3 at each cell (see hessian.lanczos).
FIELDS = (
    "max_eig",
    "min_eig",
    "max_eig_residual",
    "min_eig_residual",
    "max_eig_bound",
    "min_eig_bound",
    "products",
)

USUAL = 40  # products at a cell

Operator = tuple[Hessian, Plane]


def new_surface(
    grid: Grid,
    *,
    device: str | torch.device = "cpu",
    parameters: Sequence[str] = (),
    without: Sequence[str] = (),
    matrices_only: bool = False,
    tolerance: float = 1e-2,
    most: int = 300,
    precision: str = "float32",
    compiled: bool = False,
    batch_size: int = 0,
    seed: int = 0,
    request: Mapping[str, Any],
    about: Mapping[str, Any],
) -> Surface:
    """A map of which nothing is computed yet; what is 0 or '' in its plan is chosen by `ready`."""
    plan = {
        "device": torch.device(device).type,
        "precision": precision,
        "path": "",
        "compiled": compiled,
        "batch_size": batch_size,
        "most": most,
        "seed": seed,
    }
    own: dict[str, Any] = {
        "parameters": list(parameters) or "all",
        "matrices_only": matrices_only,
        "tolerance": tolerance,
    }
    if without:
        own["without"] = list(without)
    return Surface.of_values(grid, FIELDS, plan=plan, request={**request, **own}, about=about)


def operator_of(problem: Problem, surface: Surface) -> Operator:
    """The Hessian as a map's plan says, and the plane it is moved on."""
    plan, request, net, plane = surface.plan, surface.request, problem.net, problem.plane
    if plan["precision"] == "float64" and isinstance(plane, AffinePlane):
        plane = plane.double()
    operator = Hessian(
        net,
        next(iter(problem.data.values())),
        problem.loss,
        parameters=() if request["parameters"] == "all" else request["parameters"],
        without=request.get("without", ()),
        matrices_only=request["matrices_only"],
        batch_size=plan["batch_size"],
        device=problem.device,
        folded=None if not plan["path"] else plan["path"] == "folded",
        compiled=plan["compiled"],
        precision=plan["precision"],
    )
    return operator, plane


def finalize_plan(problem: Problem, surface: Surface) -> tuple[Surface, Operator]:
    """The operator, and the map with a complete plan. Raises BadInput for a network that is random."""
    plan, about = dict(surface.plan), dict(surface.about)
    if not plan["batch_size"]:
        samples = len(next(iter(problem.data.values())))
        plan["batch_size"] = usual_batch_size(samples, plan["device"], torch.get_num_threads())
    operator, plane = operator_of(problem, replace(surface, plan=plan))
    for point in far_points(surface.grid):
        operator.move_to(plane.point(*point))
        with operator.session():
            check_derivatives(operator)
    operator.move_to(plane.point(0.0, 0.0))
    check_deterministic(operator)
    if not plan["path"]:
        plan["path"] = "folded" if operator.folded else "unfolded"
        about["why_not_folded"] = operator.why_not_folded
    return replace(surface, plan=plan, about=about), (operator, plane)


def estimate_seconds(problem: Problem, surface: Surface) -> tuple[float, str]:
    """Seconds that a cell may take, and what has been measured."""
    _, (operator, plane) = finalize_plan(problem, surface)
    operator.move_to(plane.point(0.0, 0.0))
    vector = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
    began = time.perf_counter()
    operator(vector).sum().item()
    return USUAL * (time.perf_counter() - began), f"from one product; a cell may take {USUAL} of them"


def block_worker(surface: Surface, operator: Operator) -> Callable[[Sequence[int]], tuple[BlockResult, BlockNote]]:
    """The function from cells to rows in the order of FIELDS, and a remark. Each cell starts from nothing: see lanczos."""
    hessian, plane = operator
    tolerance, most, seed = surface.request["tolerance"], surface.plan["most"], surface.plan["seed"]

    def work(cells: Sequence[int]) -> tuple[BlockResult, BlockNote]:
        rows, notes = [], []
        for cell in cells:
            point = surface.grid.point(cell)
            where = f"({point[0]:.4g}, {point[1]:.4g})"
            if clamped := hessian.move_to(plane.point(*point)):
                notes.append(f"{clamped} BatchNorm variances were negative at {where}, set to zero")
            try:
                found = lanczos(hessian, top=1, bottom=1, tolerance=tolerance, max_products=most, seed=seed)
            except NotFinite:
                rows.append([np.nan] * len(FIELDS))
                notes.append(f"the Hessian is not finite at {where}")
                continue
            except torch.cuda.OutOfMemoryError as error:
                raise BadUsage(
                    f"a batch of {hessian.batch_size} does not fit into the memory of {hessian.device}: "
                    "use a smaller --batch_size with --force"
                ) from error
            low, high = found.bounds
            rows.append(
                [found.values[0], found.values[-1], found.residuals[0], found.residuals[-1], high, low, found.products]
            )
        return BlockResult(np.array(rows)), BlockNote("; ".join(notes))

    return work
