"""The extreme eigenvalues of the Hessian as a quantity of `grid_job`."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lossatlas.choices import PRODUCT_PRECISIONS, ProductPrecision, is_word
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadUsage, named, say
from lossatlas.evaluation.precision import product_precision
from lossatlas.hessian.batching import usual_batch_size
from lossatlas.hessian.derivative_check import check_derivatives
from lossatlas.hessian.hvp import Hessian
from lossatlas.hessian.lanczos import NotFinite, lanczos
from lossatlas.hessian.operator_checks import check_deterministic
from lossatlas.jobs.sweep.cell_loop import BlockNote, BlockWork
from lossatlas.jobs.sweep.grid_job import say_ranges
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.sweep.reference_check import far_points
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.plan import ExecutionPlan
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

USUAL = 40  # products at a cell, for estimates of time


class MovedHessian(NamedTuple):
    """A Hessian, and the plane over which it is moved."""

    hessian: Hessian
    plane: Plane


@dataclass(frozen=True)
class EigenvalueQuantity:
    """The largest and the smallest eigenvalue at every cell, see `grid_job.Quantity`.

    Attributes:
        parameters: Regular expressions of the names of the parameters that the Hessian is with respect to; empty for
            all.
        without: Regular expressions of the names of parameters that are left out.
        matrices_only: Leave out parameters with fewer than two axes.
        tolerance: The relative residual below which an eigenvalue is resolved.
        max_products: The largest number of products for each cell.
        precision: 'float32' or 'float64'; None for that of the network.
        compiled: Fuse the products with torch.compile.
        batch_size: Samples of a batch; 0 for the usual number.
        seed: The seed of the first Lanczos vector.
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
        about = {**about, "parameters": sum(parameter.numel() for parameter in net.parameters())}
        return Surface.of_values(grid, FIELDS, plan=plan, request={**request, **own}, about=about)

    def pending(self, surface: Surface) -> np.ndarray:
        """Return the indices of the cells that are still to be computed."""
        return surface.pending()

    def finalize_plan(self, problem: Problem, surface: Surface, cells: int) -> tuple[Surface, MovedHessian]:
        """Complete the plan of a map, and check derivatives at two far points and determinism at the origin.

        Returns:
            The map with its complete plan, and the Hessian that is moved over it.

        Raises:
            BadInput: The network is random, or its derivatives disagree with finite differences.
        """
        plan, about = surface.plan.copy(), dict(surface.about)
        if not plan["batch_size"]:
            samples = len(next(iter(problem.data.values())))
            plan["batch_size"] = usual_batch_size(samples, plan["device"], torch.get_num_threads())
        hessian, plane = self.evaluator(problem, replace(surface, plan=plan))
        for point in far_points(surface.grid):
            hessian.move_to(plane.point(*point))
            with hessian.session():
                check_derivatives(hessian)
        hessian.move_to(plane.point(0.0, 0.0))
        check_deterministic(hessian)
        if not plan["path"]:
            plan["path"] = "folded" if hessian.folded else "unfolded"
            about["why_not_folded"] = hessian.why_not_folded
        return replace(surface, plan=plan, about=about), MovedHessian(hessian, plane)

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        return []

    def evaluator(self, problem: Problem, surface: Surface) -> MovedHessian:
        """Return the Hessian that the plan of a map describes, and the plane."""
        plan, request, net, plane = surface.plan, surface.request, problem.net, problem.plane
        precision = plan["precision"]
        assert is_word(precision, PRODUCT_PRECISIONS)  # see `new_surface`; a file that is continued has the same one
        if precision == "float64" and isinstance(plane, AffinePlane):
            plane = plane.double()
        hessian = Hessian(
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
            precision=precision,
        )
        return MovedHessian(hessian, plane)

    def estimate_seconds(self, problem: Problem, surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and a description of the measurement."""
        _, (hessian, plane) = self.finalize_plan(problem, surface, surface.grid.size)
        hessian.move_to(plane.point(0.0, 0.0))
        vector = torch.ones(hessian.size, dtype=hessian.dtype, device=hessian.device)
        began = time.perf_counter()
        hessian(vector).sum().item()
        return USUAL * (time.perf_counter() - began), f"from one product; a cell may take {USUAL} of them"

    def block_worker(self, surface: Surface, evaluator: MovedHessian) -> BlockWork:
        """Return the function from cells to rows in the order of FIELDS and a remark; Lanczos starts anew each time."""
        hessian, plane = evaluator
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
                        f"a batch of {hessian.samples.batch_size} does not fit into the memory of {hessian.device}: "
                        f"use a smaller {named('batch_size')} with {named('force')}"
                    ) from error
                low, high = found.bounds
                rows.append(
                    [
                        found.values[0],
                        found.values[-1],
                        found.residuals[0],
                        found.residuals[-1],
                        high,
                        low,
                        found.products,
                    ]
                )
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
        for name in ("max_eig", "min_eig"):
            say_ranges(surface, [name])
            if loose := int(unresolved(surface, name).sum()):
                say(
                    f"note: {name} is not resolved at {loose} of {surface.grid.size} cells: more products with "
                    f"{named('max_products')} and {named('force')}"
                )
        say(f"{int(np.nansum(fields['products']))} products, {np.nanmean(fields['products']):.1f} a cell")
