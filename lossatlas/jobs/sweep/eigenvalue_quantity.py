"""The extreme eigenvalues of the Hessian, or the largest one of a relative of it, as a quantity of `grid_job`."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lossatlas.choices import PRODUCT_PRECISIONS, CurvatureMatrix, ProductPrecision, is_word
from lossatlas.config.matrix_choice import check_matrix, matrix_request
from lossatlas.data.drawn_targets import TargetDraws
from lossatlas.data.finite_check import blamed_on
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadUsage, named, say
from lossatlas.evaluation.precision import product_precision
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.curvature_operator import CurvatureOperator
from lossatlas.hessian.gauss_newton import GaussNewton
from lossatlas.hessian.hvp import Hessian
from lossatlas.hessian.lanczos import NotFinite, Pairs, lanczos
from lossatlas.hessian.operator_checks import check_deterministic
from lossatlas.jobs.sweep.cell_loop import BlockNote, BlockWork
from lossatlas.jobs.sweep.grid_job import say_ranges
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.sweep.reference_check import far_points
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.landscape.spectrum import matrix_name
from lossatlas.landscape.surface import Surface, unresolved
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.parameter_space.planes import AffinePlane, Plane

# At each cell all eigenvalues lie within each of the bounds with probability 1 - 1e-3, see hessian.lanczos.
FIELDS = (
    "max_eig",
    "min_eig",
    "max_eig_residual",
    "min_eig_residual",
    "max_eig_bound",
    "min_eig_bound",
    "products",
)


def fields_of_matrix(matrix: CurvatureMatrix) -> tuple[str, ...]:
    """Return the names of the fields: FIELDS for the Hessian, those of the largest eigenvalue for other matrices.

    Example:
        >>> fields_of_matrix("ggn")
        ('ggn_max_eig', 'ggn_max_eig_residual', 'ggn_max_eig_bound', 'products')
    """
    if matrix == "hessian":
        return FIELDS
    name = f"{matrix}_max_eig"
    return name, f"{name}_residual", f"{name}_bound", "products"


USUAL = 40  # products at a cell, for estimates of time


class MovedMatrix(NamedTuple):
    """A Hessian, or another matrix of second order, and the plane over which it is moved."""

    operator: CurvatureOperator
    plane: Plane


@dataclass(frozen=True)
class EigenvalueQuantity:
    """The largest and, for the Hessian, the smallest eigenvalue at every cell, see `grid_job.Quantity`.

    Attributes:
        parameters: Regular expressions of the names of the parameters that the matrix is with respect to; empty for
            all.
        without: Regular expressions of the names of parameters that are left out.
        matrices_only: Leave out parameters with fewer than two axes.
        tolerance: The relative residual below which an eigenvalue is resolved.
        max_products: The largest number of products for each cell.
        precision: 'float32' or 'float64'; None for that of the network.
        compiled: Fuse the products with torch.compile.
        batch_size: Samples of a batch; 0 for the usual number.
        seed: The seed of the first Lanczos vector, and of drawn targets.
        matrix: The matrix, see `hessian.gauss_newton`.
        fisher_draws: For 'mc_fisher', the number of targets that are drawn for each sample.

    Raises:
        BadUsage: Products of another matrix than the Hessian are to be compiled, or targets drawn for another one.
    """

    parameters: Sequence[str] = ()
    without: Sequence[str] = ()
    matrices_only: bool = False
    tolerance: float = 1e-2
    max_products: int = 300
    precision: ProductPrecision | None = None
    compiled: bool = False
    batch_size: int = 0
    seed: int = 0
    matrix: CurvatureMatrix = "hessian"
    fisher_draws: int = 1

    def __post_init__(self) -> None:
        check_matrix(self.matrix, self.fisher_draws, compiled=self.compiled)

    def new_surface(
        self,
        net: nn.Module,
        data: Mapping[str, AnyData],
        loss: Loss,
        grid: Grid,
        *,
        device: str,
        request: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> Surface:
        """Return a surface without computed cells.

        Args:
            net: The network at the origin.
            data: The samples by split.
            loss: The loss.
            grid: The grid.
            device: 'cpu' or 'cuda'.
            request: The fields that identify the job, see `io.resume`.
            about: Provenance.
        """
        plan: ExecutionPlan = {
            "device": torch.device(device).type,
            "precision": product_precision(self.precision, net),
            "path": "",
            "compiled": self.compiled,
            "batch_size": self.batch_size,
            "most": self.max_products,
            "seed": self.seed,
        }
        own: dict[str, Any] = {
            "parameters": list(self.parameters) or "all",
            "matrices_only": self.matrices_only,
            "tolerance": self.tolerance,
        }
        if self.without:
            own["without"] = list(self.without)
        own |= matrix_request(self.matrix, self.fisher_draws, self.seed)
        about = {**about, "parameters": sum(parameter.numel() for parameter in net.parameters())}
        return Surface.of_values(
            grid, fields_of_matrix(self.matrix), plan=plan, request={**request, **own}, about=about
        )

    def pending(self, surface: Surface) -> np.ndarray:
        """Return the indices of the cells that are still to be computed."""
        return surface.pending()

    def finalize_plan(self, problem: Problem, surface: Surface, cells: int) -> tuple[Surface, MovedMatrix]:
        """Complete the plan of a map, and check derivatives at two far points and determinism at the origin.

        Returns:
            The map with its complete plan, and the matrix that is moved over it.

        Raises:
            BadInput: The network is random, or its derivatives disagree with finite differences.
        """
        plan, about = surface.plan.copy(), dict(surface.about)
        if not plan["batch_size"]:
            samples = len(next(iter(problem.data.values())))
            plan["batch_size"] = usual_batch_size(samples, plan["device"], torch.get_num_threads())
        operator, plane = self.evaluator(problem, replace(surface, plan=plan))
        for point in far_points(surface.grid):
            operator.move_to(plane.point(*point))
            with operator.session():
                operator.check()
        operator.move_to(plane.point(0.0, 0.0))
        with blamed_on(next(iter(problem.data.values()))):
            check_deterministic(operator)
        if not plan["path"]:
            plan["path"] = "folded" if operator.folded else "unfolded"
            about["why_not_folded"] = operator.why_not_folded
        return replace(surface, plan=plan, about=about), MovedMatrix(operator, plane)

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        return []

    def evaluator(self, problem: Problem, surface: Surface) -> MovedMatrix:
        """Return the matrix that the plan of a map describes, and the plane."""
        plan, request, net, plane = surface.plan, surface.request, problem.net, problem.plane
        precision = plan["precision"]
        assert is_word(precision, PRODUCT_PRECISIONS)  # see `new_surface`; a file that is continued has the same one
        if precision == "float64" and isinstance(plane, AffinePlane):
            plane = plane.double()
        make: Callable[..., CurvatureOperator]
        if self.matrix == "hessian":
            folded = None if not plan["path"] else plan["path"] == "folded"
            make = partial(Hessian, folded=folded, compiled=plan["compiled"])
        else:
            draws = TargetDraws(self.fisher_draws, self.seed)
            make = partial(GaussNewton, matrix=self.matrix, draws=draws)
        operator = make(
            net,
            next(iter(problem.data.values())),
            problem.loss,
            parameters=() if request["parameters"] == "all" else request["parameters"],
            without=request.get("without", ()),
            matrices_only=request["matrices_only"],
            batch_size=plan["batch_size"],
            device=problem.device,
            precision=precision,
        )
        return MovedMatrix(operator, plane)

    def estimate_seconds(self, problem: Problem, surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and a description of the measurement."""
        _, (operator, plane) = self.finalize_plan(problem, surface, surface.grid.size)
        operator.move_to(plane.point(0.0, 0.0))
        vector = torch.ones(operator.size, dtype=operator.dtype, device=operator.device)
        began = time.perf_counter()
        operator(vector).sum().item()
        return USUAL * (time.perf_counter() - began), f"from one product; a cell may take {USUAL} of them"

    def block_worker(self, surface: Surface, evaluator: MovedMatrix) -> BlockWork:
        """Return the function from cells to rows of the fields and a remark; Lanczos starts anew each time."""
        operator, plane = evaluator
        fields, bottom = fields_of_matrix(self.matrix), int(self.matrix == "hessian")
        tolerance, most, seed = surface.request["tolerance"], surface.plan["most"], surface.plan["seed"]

        def work(cells: Sequence[int]) -> tuple[BlockResult, BlockNote]:
            rows, notes = [], []
            for cell in cells:
                point = surface.grid.point(cell)
                where = f"({point[0]:.4g}, {point[1]:.4g})"
                if clamped := operator.move_to(plane.point(*point)):
                    notes.append(f"{clamped} BatchNorm variances were negative at {where}, set to zero")
                try:
                    found = lanczos(operator, top=1, bottom=bottom, tolerance=tolerance, max_products=most, seed=seed)
                except NotFinite:
                    rows.append([np.nan] * len(fields))
                    notes.append(f"the {matrix_name({'matrix': self.matrix})} is not finite at {where}")
                    continue
                except torch.cuda.OutOfMemoryError as error:
                    raise BadUsage(
                        f"a batch of {operator.samples.batch_size} does not fit into the memory of {operator.device}: "
                        f"use a smaller {named('batch_size')} with {named('force')}"
                    ) from error
                rows.append(row_of(found, bottom=bool(bottom)))
            return BlockResult(np.array(rows)), BlockNote("; ".join(notes))

        return work

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> BlockQueue:
        """Return the pending cells in blocks."""
        return BlockQueue.of(pending)

    def execution_mode(self, surface: Surface) -> str:
        """Describe how a rank computes; '' where there is nothing to say."""
        return ""

    def report(self, surface: Surface) -> None:
        """Print what a complete surface holds."""
        fields = surface.fields
        for name in (each for each in fields if each.endswith("_eig")):
            say_ranges(surface, [name])
            if loose := int(unresolved(surface, name).sum()):
                say(
                    f"note: {name} is not resolved at {loose} of {surface.grid.size} cells: more products with "
                    f"{named('max_products')} and {named('force')}"
                )
        say(f"{int(np.nansum(fields['products']))} products, {np.nanmean(fields['products']):.1f} a cell")


def row_of(found: Pairs, *, bottom: bool) -> list[float]:
    """Return the row of a cell in the order of `fields_of_matrix`.

    Args:
        found: The largest eigenvalue, and with `bottom` the smallest one.
        bottom: The smallest eigenvalue is in the row.
    """
    low, high = found.bounds
    ends = (0, -1) if bottom else (0,)
    values, residuals = [found.values[k] for k in ends], [found.residuals[k] for k in ends]
    return [*values, *residuals, *((high, low) if bottom else (high,)), found.products]
