"""Losses and metrics as a quantity of `grid_job`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import named, say
from lossatlas.jobs.grid_job import say_ranges
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.landscape.surface import LOW_PRECISION

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.evaluation import Evaluator
    from lossatlas.io.block_queue import BlockQueue
    from lossatlas.io.recorder import Work
    from lossatlas.jobs.problem import Problem


@dataclass(frozen=True)
class LossQuantity:
    """Loss and metrics at every cell, see `grid_job.Quantity`.

    Attributes:
        tolerance: The standard error of a cell's loss; by default all samples are used.
        adaptive: The error within which cells are interpolated instead of computed; None to compute all.
        precision: The precision of the forward pass; None for that of the network.
        batch_size: Samples of a batch; 0 to measure the fastest.
        recalibrated: Training samples that give the BatchNorm statistics at every point; 0 to keep those of the network.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    adaptive: Tolerance | None = None
    precision: str | None = None
    batch_size: int = 0
    recalibrated: int = 0

    @property
    def asked(self) -> str:
        """The tolerance as in a command, 'none' for all samples."""
        if self.tolerance.exact:
            return "none"
        absolute = f",{self.tolerance.absolute:g}" if self.tolerance.absolute else ""
        return f"{self.tolerance.relative:g}{absolute}"

    def new_surface(
        self,
        net: "nn.Module",
        data: Mapping[str, "AnyData"],
        loss: "Loss",
        grid: Grid,
        *,
        device: str,
        request: Mapping[str, Any],
        about: Mapping[str, Any],
    ) -> Surface:
        """Return a surface without computed cells, see `Quantity`."""
        from lossatlas.jobs.loss_plan import new_surface

        return new_surface(
            net,
            data,
            loss,
            grid,
            device=device,
            tolerance=self.tolerance,
            precision=self.precision,
            batch_size=self.batch_size,
            request=request,
            about=about,
            recalibrated=self.recalibrated,
        )

    def pending(self, surface: Surface) -> np.ndarray:
        """Return the indices of the cells that are still to be computed."""
        from lossatlas.sampling.adaptive_grid import keep_matching_predictions

        return keep_matching_predictions(surface, self.adaptive).pending(self.tolerance)

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> "tuple[Surface, Evaluator]":
        """Return the surface with a complete plan, and the operator."""
        from lossatlas.jobs.loss_plan import finalize_plan

        surface, evaluator = finalize_plan(problem, surface, self.tolerance, cells, self.adaptive)
        return replace(surface, about={**surface.about, "tolerance": self.asked}), evaluator

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        from lossatlas.jobs.loss_plan import precision_lines

        if "precision_error" in before.about or "precision_error" not in surface.about:
            return []
        return precision_lines(surface.plan["precision"], surface.about["precision_error"])

    def operator(self, problem: "Problem", surface: Surface) -> "Evaluator":
        """Return the operator that the plan describes."""
        from lossatlas.jobs.loss_plan import evaluator_of

        return evaluator_of(problem, surface.plan, self.tolerance)

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and a description of the measurement."""
        from lossatlas.jobs.loss_plan import estimate_seconds

        return estimate_seconds(problem, surface, self.tolerance)

    def block_worker(self, surface: Surface, operator: "Evaluator") -> "Work":
        """Return the function from a block of `block_queue` to its result."""
        from lossatlas.jobs.loss_plan import block_worker

        return block_worker(surface, operator)

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> "BlockQueue":
        """Return the pending cells in blocks."""
        from lossatlas.jobs.loss_plan import make_queue

        return make_queue(surface, pending, ranks, self.adaptive)

    def execution_mode(self, surface: Surface) -> str:
        """Describe how a rank computes; '' where there is nothing to say."""
        plan = surface.plan
        if not plan.get("batch_size"):  # no measurement yet
            return ""
        if plan["path"] == "in place":
            return f", the network itself, batches of {plan['batch_size']}"
        if plan.get("points_per_call", 1) > 1:
            return f", {plan['points_per_call']} points at once"
        parallel = plan.get("lanes", 1)
        return f", batches of {plan['batch_size']}" + (
            f", {parallel} side by side" if parallel > 1 else " one after the other"
        )

    def report(self, surface: Surface) -> None:
        """Print what a complete surface holds."""
        say_ranges(surface, [name for name in surface.fields if name.endswith(("_loss", "_acc"))])
        for split in surface.splits:
            drawn, drafts = (mean_fraction_drawn(surface, name) for name in (split, f"{LOW_PRECISION}{split}"))
            if drafts < 1:
                say(
                    f"the tolerance took {100 * drafts:.2g} % of the {split} samples in {surface.plan['precision']}, and "
                    f"{100 * drawn:.2g} % in float32 to correct them"
                )
            elif drawn < 1:
                say(f"the tolerance took {100 * drawn:.2g} % of the {split} samples")
        if adaptive := surface.about.get("adaptive"):
            say(adaptive_summary(adaptive, surface.grid.size, noisy=bool(surface.samples)))
        for statistics in list(surface.statistics.values())[:1]:
            if (count := int(np.nansum(statistics["clamped"] > 0))) > 0:
                say(f"note: at {count} cells BatchNorm variances were negative and set to zero")


def mean_fraction_drawn(surface: Surface, split: str) -> float:
    """Return the mean fraction of a split's samples that the cells have drawn; 1 where it is not recorded."""
    if split not in surface.statistics:
        return 1.0
    drawn = surface.statistics[split]["n"]
    used = drawn[np.isfinite(drawn)]  # cells of other programs record none
    return float(used.mean()) / surface.populations[split] if used.size else 1.0


def adaptive_summary(adaptive: dict[str, Any], size: int, *, noisy: bool) -> str:
    """Describe how many cells were interpolated, and how often the interpolation was wrong where it was checked."""
    checks = f"; {adaptive['missed']} of {adaptive['checked']} that were computed to check it were off by more"
    relative, absolute = adaptive["tolerance"]
    noise = f"a smaller {named('tolerance')}, whose errors hide less of what is smooth, " if noisy else ""
    why = f"; with {noise}{'or ' * noisy}a finer grid or a larger {named('adaptive')} some may be"
    return (
        f"{size - adaptive['interpolated']} of {size} cells computed, {adaptive['interpolated']} interpolated within "
        f"max({relative:g} x loss, {absolute:g}){checks * bool(adaptive['checked'])}{why * (not adaptive['interpolated'])}"
    )
