"""The losses over a grid, as filling.py wants a quantity."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadUsage, say
from lossatlas.jobs import file_names
from lossatlas.jobs.grid_inputs import GridInputs
from lossatlas.jobs.grid_job import say_ranges
from lossatlas.jobs.inputs import loss_of
from lossatlas.landscape import Surface, Tolerance
from lossatlas.landscape.surface import LOW_PRECISION

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.evaluation import Evaluator
    from lossatlas.io.block_queue import BlockQueue
    from lossatlas.io.recorder import Work
    from lossatlas.jobs.problem import Problem


@dataclass(frozen=True)
class LossQuantity:
    """Loss and metrics at every cell, of all samples or of as many as a tolerance asks for. See filling.Quantity."""

    tolerance: Tolerance
    asked: str
    adaptive: Tolerance | None = None

    @classmethod
    def of(cls, args: argparse.Namespace) -> "LossQuantity":
        """Raises BadUsage."""
        if args.precision == "tf32" and not args.cuda:
            raise BadUsage("--precision tf32: TF32 is a mode of CUDA devices: add --cuda, or choose another precision")
        tolerance = Tolerance.parse(args.tolerance) if args.tolerance else Tolerance()
        adaptive = Tolerance.parse(args.adaptive, "adaptive") if args.adaptive else None
        return cls(tolerance, args.tolerance or "none", adaptive)

    def file_name(self, dir_file: Path, task: config.GridConfig) -> Path:
        return file_names.surface_name(dir_file, task)

    def new_surface(self, inputs: GridInputs, task: config.GridConfig, about: dict[str, Any]) -> Surface:
        from lossatlas.jobs.loss_surface import new_surface

        run = task.run
        return new_surface(
            inputs.loaded.net,
            inputs.loaded.data,
            loss_of(task.loss),
            inputs.grid,
            device=run.device,
            tolerance=self.tolerance,
            precision=run.precision,
            batch_size=run.batch_size,
            request=inputs.record,
            about=about,
            recalibrated=task.recalibrated,
        )

    def pending(self, surface: Surface) -> np.ndarray:
        from lossatlas.sampling.adaptive_grid import keep_matching_predictions

        return keep_matching_predictions(surface, self.adaptive).pending(self.tolerance)

    def finalize_plan(self, problem: "Problem", surface: Surface, cells: int) -> "tuple[Surface, Evaluator]":
        from lossatlas.jobs.loss_surface import finalize_plan, precision_lines

        known = "precision_error" in surface.about
        surface, evaluator = finalize_plan(problem, surface, self.tolerance, cells, self.adaptive)
        if "precision_error" in surface.about and not known:
            for line in precision_lines(surface.plan["precision"], surface.about["precision_error"]):
                say(line)
        return replace(surface, about={**surface.about, "tolerance": self.asked}), evaluator

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
            drawn, drafts = (mean_fraction_drawn(surface, name) for name in (split, f"{LOW_PRECISION}{split}"))
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

    def draw(self, surf_file: Path, dir_file: Path | None, surface: Surface, looks: config.PlotConfig) -> None:
        if surface.rows_of == "layers":
            from lossatlas.commands import plot_layers

            plot_layers.draw(surf_file, show=looks.show)
            return
        if surface.grid.y is None or surface.rows_of:
            from lossatlas.commands import plot_1D

            plot_1D.draw([surf_file], axes=plot_1D.AxisLimits(log=looks.log, loss_max=looks.loss_max), show=looks.show)
            return
        from lossatlas.commands import plot_2D

        plot_2D.draw(
            [surf_file],
            vmin=looks.vmin,
            vmax=looks.vmax,
            vlevel=looks.vlevel,
            proj_file=looks.proj_file,
            dir_file=str(dir_file) if dir_file else None,
            log=looks.log,
            show=looks.show,
        )


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
