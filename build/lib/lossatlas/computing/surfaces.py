"""The losses of a grid: what decides their digits, measured once, and the work of a block of cells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lossatlas.data.dataset import AnyData, Dataset
from lossatlas.data.losses import Loss
from lossatlas.errors import BadUsage
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.tuning import lanes_of, tune
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.surface import Surface
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.space.planes import Plane

CHECKED_SAMPLES = 256  # on which a reduced precision is compared with float32
SHORTEST_BLOCK = 0.02  # seconds; cells that take less are sent out together
EXACT = ("float32", "float64")  # precisions whose error is not worth a measurement


@dataclass(frozen=True)
class Scene:
    """A network, a plane through its parameters, data by split, a loss, and the device that computes."""

    net: nn.Module
    plane: Plane
    data: Mapping[str, AnyData]
    loss: Loss
    device: str | torch.device = "cpu"

    def evaluator(self, plan: Mapping[str, Any], tolerance: Tolerance | None = None) -> Evaluator:
        """What computes as a plan says. Raises BadUsage where the device cannot."""
        try:
            return Evaluator(
                self.net, self.plane, self.data, self.loss, batch_size=plan["batch_size"], device=self.device,
                precision=plan["precision"], folded=plan["path"] == "folded",
                points_per_call=plan.get("points_per_call", 1) or 1, lanes=plan.get("lanes", 1) or 1, tolerance=tolerance,
            )  # fmt: skip
        except torch.cuda.OutOfMemoryError as error:
            raise BadUsage(
                f"the data and the directions do not fit into the memory of {self.device}: use fewer samples (--limit)"
            ) from error
        except RuntimeError as error:
            if plan["precision"] in ("bfloat16", "float16"):
                raise BadUsage(f"--precision {plan['precision']}: this network does not compute in it on {self.device}: "
                               f"{str(error).splitlines()[0][:150]}") from error  # fmt: skip
            raise


def new_plan(device: str, precision: str, folded: bool, batch_size: int = 0) -> dict[str, Any]:
    """What decides the last digits of a new surface; what is 0 is still to be measured."""
    return {
        "device": device,
        "precision": precision,
        "path": "folded" if folded else "unfolded",
        "batch_size": batch_size,
        "points_per_call": 0,
        "lanes": 0,
        "order": "of the file; with a tolerance a random one",
    }


def tuned(
    scene: Scene, surface: Surface, tolerance: Tolerance, cells: int, batch_size: int = 0
) -> tuple[Surface, Evaluator]:
    """The evaluator for a surface; a new plan is completed by measurements, and what a reduced precision changes is measured.

    cells: how many are to be computed. batch_size: where it is given, nothing else is measured.
    """
    evaluator = scene.evaluator(surface.plan, tolerance)
    plan, about = dict(surface.plan), dict(surface.about)
    if plan["points_per_call"] == 0:
        if batch_size:
            evaluator.lanes = lanes_of(evaluator)
        else:
            many = plan["precision"] in ("float32", "float64", "tf32")
            x, y = surface.grid.x, [0.0] if surface.grid.y is None else surface.grid.y
            corners = [(float(a), float(b)) for a in (x[0], x[-1]) for b in (y[0], y[-1])]
            about["seconds_per_cell"] = tune(evaluator, cells, many=many, far=corners)
        for name in ("batch_size", "points_per_call", "lanes"):
            plan[name] = getattr(evaluator, name)
        if plan["precision"] not in EXACT:
            about["precision_error"] = precision_error(scene, surface.grid, plan)
    return replace(surface, plan=plan, about=about), evaluator


def refuse_tolerance(splits: Mapping[str, AnyData], spread: bool) -> None:
    """Raise BadUsage where a standard error cannot be known."""
    if not spread:
        raise BadUsage("a tolerance needs the loss of each sample, and this loss gives the mean of a batch alone")
    for split, d in splits.items():
        if not isinstance(d, Dataset):
            raise BadUsage(
                f"a tolerance draws single samples, and the {split} data come in batches whose shapes differ"
            )


def cells_per_block(surface: Surface, cells: int, ranks: int = 1) -> int:
    """Whole calls; several where cells are so short that messages would count, if every rank still gets its blocks."""
    company, seconds = surface.plan["points_per_call"], surface.about.get("seconds_per_cell", SHORTEST_BLOCK)
    wanted = min(SHORTEST_BLOCK / seconds, cells / (8 * ranks))
    company = company or 1  # 0 where nothing was left to measure it for
    return max(1, int(wanted / company)) * company


def precision_error(scene: Scene, grid: Grid, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What a reduced precision changes, against float32 on a few samples at the middle, on the way out, in a corner."""
    few = replace(scene, data={split: d.first(CHECKED_SAMPLES) for split, d in scene.data.items()})
    one = {**plan, "points_per_call": 1, "lanes": 1}
    exact, reduced = (few.evaluator({**one, "precision": precision}) for precision in ("float32", plan["precision"]))
    x, y = grid.x, np.zeros(1) if grid.y is None else grid.y
    points = [(float(x[i]), float(y[min(i * len(y) // len(x), len(y) - 1)])) for i in (len(x) // 2, len(x) // 4, 0)]
    sizes = {split: len(d) for split, d in few.data.items()}
    curve = Surface.empty(Grid(np.arange(3.0)), sizes, exact.metrics)
    found, wanted = (curve.with_cells(range(3), e(points)).fields for e in (reduced, exact))
    errors = {name: [float(abs(f - w) / abs(w)) for f, w in zip(found[name], wanted[name], strict=True)]
              for name in wanted if name.endswith("_loss")}  # fmt: skip
    return {"points": points, "relative": errors, "samples": CHECKED_SAMPLES, "used": next(iter(sizes.values()))}


def precision_lines(precision: str, error: Mapping[str, Any]) -> list[str]:
    """What `precision_error` found, in words."""
    return [
        f"{precision} changes {name} by "
        + ", ".join(f"{value:.1e} at ({a:.3g}, {b:.3g})" for value, (a, b) in zip(values, error["points"], strict=True))
        + f" (relative to float32, {error['used']} samples)"
        for name, values in error["relative"].items()
    ]


def work_of(surface: Surface, evaluator: Evaluator) -> Callable[[Sequence[int]], tuple[np.ndarray, str]]:
    """The function from cells to their statistics and a note. A batch that does not fit into memory is halved."""
    before = np.stack([np.stack([array.ravel() for array in statistics.values()], axis=1)
                       for statistics in surface.statistics.values()], axis=1)  # fmt: skip

    def work(cells: Sequence[int]) -> tuple[np.ndarray, str]:
        points, note = [surface.grid.point(cell) for cell in cells], ""
        while True:
            try:
                return evaluator(points, before[cells]), note
            except torch.cuda.OutOfMemoryError as error:
                if evaluator.batch_size == 1:
                    raise BadUsage(f"one sample does not fit into the memory of {evaluator.device}") from error
                note = f"out of memory on {evaluator.device}: batch size {evaluator.batch_size // 2} from cell {cells[0]} on"
                evaluator.batch_size //= 2
                evaluator.forget_graphs()
                torch.cuda.empty_cache()

    return work
