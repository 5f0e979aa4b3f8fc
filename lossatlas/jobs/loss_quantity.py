"""The losses and metrics over a grid, as `grid_job` wants a quantity."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.errors import say
from lossatlas.jobs.grid_job import say_ranges
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.landscape.surface import DRAFT

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.evaluation import Evaluator
    from lossatlas.io.block_queue import BlockQueue
    from lossatlas.io.recorder import Work
    from lossatlas.jobs.problem import Problem


@dataclass(frozen=True)
class LossQuantity:
    """Loss and metrics at every cell. See `grid_job.Quantity`.

    Attributes:
        tolerance: The standard error that the samples of a cell have to reach; by default all samples are used.
        adaptive: The error up to which cells are interpolated instead of computed; None to compute all.
        precision: Of the forward pass; None for that of the network.
        batch_size: Samples of a batch; 0 to measure the fastest.
        recalibrated: Training samples that give the statistics of BatchNorm at every point; 0 to keep those there are.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    adaptive: Tolerance | None = None
    precision: str | None = None
    batch_size: int = 0
    recalibrated: int = 0

    @property
    def asked(self) -> str:
        """The tolerance as it is written in a command."""
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
        from lossatlas.jobs.loss_surface import new_surface

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
        from lossatlas.sampling.adaptive_grid import requested

        return requested(surface, self.adaptive).pending(self.tolerance)

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> "tuple[Surface, Evaluator]":
        from lossatlas.jobs.loss_surface import finalize_plan

        surface, evaluator = finalize_plan(problem, surface, self.tolerance, cells, self.adaptive)
        return replace(surface, about={**surface.about, "tolerance": self.asked}), evaluator

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        from lossatlas.jobs.loss_surface import precision_lines

        if "precision_error" in before.about or "precision_error" not in surface.about:
            return []
        return precision_lines(surface.plan["precision"], surface.about["precision_error"])

    def operator(self, problem: "Problem", surface: Surface) -> "Evaluator":
        from lossatlas.jobs.loss_surface import evaluator_of

        return evaluator_of(problem, surface.plan, self.tolerance)

    def estimate_seconds(self, problem: "Problem", surface: Surface) -> tuple[float, str]:
        from lossatlas.jobs.loss_surface import estimate_seconds

        return estimate_seconds(problem, surface, self.tolerance)

    def block_worker(self, surface: Surface, operator: "Evaluator") -> "Work":
        from lossatlas.jobs.loss_surface import block_worker

        return block_worker(surface, operator)

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int) -> "BlockQueue":
        from lossatlas.jobs.loss_surface import make_queue

        return make_queue(surface, pending, ranks, self.adaptive)

    def execution_mode(self, surface: Surface) -> str:
        plan = surface.plan
        if not plan.get("batch_size"):  # not measured yet
            return ""
        if plan["path"] == "in place":
            return f", the network itself, batches of {plan['batch_size']}"
        if plan.get("points_per_call", 1) > 1:
            return f", {plan['points_per_call']} points at once"
        lanes = plan.get("lanes", 1)
        return f", batches of {plan['batch_size']}" + (
            f", {lanes} side by side" if lanes > 1 else " one after the other"
        )

    def report(self, surface: Surface) -> None:
        say_ranges(surface, [name for name in surface.fields if name.endswith(("_loss", "_acc"))])
        for split in surface.splits:
            drawn, drafts = (mean_fraction_drawn(surface, name) for name in (split, f"{DRAFT}{split}"))
            if drafts < 1:
                say(
                    f"the tolerance took {100 * drafts:.2g} % of the {split} samples in {surface.plan['precision']}, and "
                    f"{100 * drawn:.2g} % in float32 to correct them"
                )
            elif drawn < 1:
                say(f"the tolerance took {100 * drawn:.2g} % of the {split} samples")
        if found := surface.about.get("adaptive"):
            say(adaptive_summary(found, surface.grid.size, bool(surface.samples)))
        for statistics in list(surface.statistics.values())[:1]:
            if (count := int(np.nansum(statistics["clamped"] > 0))) > 0:
                say(f"note: at {count} cells BatchNorm variances were negative and set to zero")


def mean_fraction_drawn(surface: Surface, split: str) -> float:
    """Which part of a split's samples the cells have drawn, on average; 1 where nothing is known of it."""
    if split not in surface.statistics:
        return 1.0
    used = surface.statistics[split]["n"][
        np.isfinite(surface.statistics[split]["n"])
    ]  # other programs' cells record none
    return float(used.mean()) / surface.populations[split] if used.size else 1.0


def adaptive_summary(found: dict[str, Any], size: int, noisy: bool) -> str:
    """How many cells were not computed, and how often the prediction was off where it was checked."""
    checks = f"; {found['missed']} of {found['checked']} that were computed to check it were off by more"
    relative, absolute = found["tolerance"]
    noise = "a smaller --tolerance, whose errors hide less of what is smooth, " if noisy else ""
    why = f"; with {noise}{'or ' * noisy}a finer grid or a larger --adaptive some may be"
    return (
        f"{size - found['interpolated']} of {size} cells computed, {found['interpolated']} interpolated within "
        f"max({relative:g} x loss, {absolute:g}){checks * bool(found['checked'])}{why * (not found['interpolated'])}"
    )
