"""Losses and metrics as a quantity of `grid_job`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from lossatlas.choices import EvaluationPrecision, Memory, Precision, is_word
from lossatlas.data.losses import Loss
from lossatlas.data.streamed import AnyData
from lossatlas.errors import BadInput, BadUsage, Stop, first_line, named, note, say
from lossatlas.evaluation.autotuning import estimate_seconds_per_cell, seconds_in_place
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.precision import LOW, resolve_precision
from lossatlas.evaluation.recalibration import RECALIBRATION_BATCH
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import copy_samples, fitted
from lossatlas.jobs.inputs.network_memory import small_batch_size, takes_little_memory
from lossatlas.jobs.sweep.cell_loop import BlockNote, BlockWork
from lossatlas.jobs.sweep.grid_job import say_ranges
from lossatlas.jobs.sweep.loss_plan import (
    IN_PLACE,
    cells_per_block,
    comparable_evaluator,
    complete_plan,
    evaluator_of,
    fastest_path,
    precision_lines,
    refuse_tolerance,
)
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.sweep.reference_check import ReferenceLosses
from lossatlas.landscape import Grid, Surface, Tolerance
from lossatlas.landscape.plan import PATHS, ExecutionPath, ExecutionPlan
from lossatlas.landscape.surface import LOW_PRECISION
from lossatlas.mpi.block_queue import BlockQueue, BlockResult
from lossatlas.parameter_space.offloaded import is_spread
from lossatlas.sampling.adaptive_grid import AdaptiveQueue, check_plan, keep_matching_predictions, without_predictions
from lossatlas.sampling.multilevel import MultilevelQueue, MultilevelWorker

LOW_MEMORY = "so that it takes little memory"
PATH_SAMPLES = 8  # samples on which the path is chosen


@dataclass(frozen=True)
class LossQuantity:
    """Loss and metrics at every cell, see `grid_job.Quantity`.

    Attributes:
        tolerance: The standard error of a cell's loss; by default all samples are used.
        adaptive: The error within which cells are interpolated instead of computed; None to compute all.
        precision: The precision of the forward pass; None for the network's own.
        batch_size: Samples of a batch; 0 to measure the fastest.
        recalibrated: Training samples that give the BatchNorm statistics at every point; 0 to keep those of the
            network.
        memory: 'low' moves the network in place, in small batches, whatever would be faster; None does so for a large
            network.
    """

    tolerance: Tolerance = field(default_factory=Tolerance)
    adaptive: Tolerance | None = None
    precision: Precision | None = None
    batch_size: int = 0
    recalibrated: int = 0
    memory: Memory | None = "fast"

    @property
    def asked(self) -> str:
        """The tolerance as in a command, 'none' for all samples."""
        if self.tolerance.exact:
            return "none"
        absolute = f",{self.tolerance.absolute:g}" if self.tolerance.absolute else ""
        return f"{self.tolerance.relative:g}{absolute}"

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
        """Return a surface without computed cells; `finalize_plan` measures plan entries that are 0.

        Args:
            net: The network at the origin.
            data: The samples by split.
            loss: The loss.
            grid: The grid.
            device: 'cpu' or 'cuda'.
            request: The fields that identify the job, see `io.resume`.
            about: Provenance.

        Raises:
            BadUsage: A tolerance needs standard errors, which this loss or these data do not have.
        """
        first, low = next(iter(data.values())), takes_little_memory(net, self.memory)
        size = min(PATH_SAMPLES, small_batch_size(first)) if low else PATH_SAMPLES
        few = fitted(next(first.batches(size)), net)
        precision = resolve_precision(self.precision, net)
        check_spread_precision(net, precision)
        # A copy may share its parameters, into which a forward pass may write.
        with evaluated_in_place(net) as own, torch.no_grad():
            found = loss(own, copy_samples(few))
            if not self.tolerance.exact:
                refuse_tolerance(data, spread=found.spread)
            chosen: tuple[ExecutionPath, str] = (
                (IN_PLACE, LOW_MEMORY) if low else fastest_path(net, loss, few, precision)
            )
        mode, why_not = chosen
        plan: ExecutionPlan = {
            "device": torch.device(device).type,
            "precision": precision,
            "path": mode,
            "batch_size": self.batch_size or (small_batch_size(first) if low else 0),
            "points_per_call": 0,
            "lanes": 0,
        }
        if low:
            plan["memory"] = "low"
        if self.recalibrated:
            plan |= {"recalibrated": self.recalibrated, "recalibrated_batch": RECALIBRATION_BATCH}
        populations, multilevel = {split: len(samples) for split, samples in data.items()}, not self.tolerance.exact
        if multilevel and precision in LOW:
            plan["corrected"] = True
            populations |= {f"{LOW_PRECISION}{split}": count for split, count in populations.items()}
        about = {**about, "parameters": sum(parameter.numel() for parameter in net.parameters())}
        if mode == IN_PLACE:
            about = {**about, "why_in_place": why_not}
        elif any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in net.modules()):
            about = {**about, "why_not_folded": why_not}
        metrics = tuple(found.metrics)
        return Surface.empty(grid, populations, metrics, multilevel=multilevel, plan=plan, request=request, about=about)

    def pending(self, surface: Surface) -> np.ndarray:
        """Return the indices of the cells that are still to be computed."""
        return keep_matching_predictions(surface, self.adaptive).pending(self.tolerance)

    def finalize_plan(self, problem: Problem, surface: Surface, cells: int) -> tuple[Surface, Evaluator]:
        """Complete the plan of a surface, and verify its evaluator against the user's network.

        A new plan is completed by measurements, also of the error of a reduced precision. Where a path gives other
        losses than the user's network moved in place, a new plan takes the next slower path, in the end the network
        itself.

        Args:
            problem: The network, its plane, data and loss.
            surface: The surface so far. Where its plan is complete, nothing is measured.
            cells: The number of cells to be computed.

        Returns:
            The surface with its complete plan, and the evaluator.

        Raises:
            BadInput: The network is random, or the path that a file was started with gives other losses than the
                network.
            BadUsage: The network can only be evaluated in place, and not in this precision or on this device.
        """
        check_plan(surface, self.adaptive)
        surface = without_predictions(surface)
        low, start = surface.plan.get("memory") == "low", surface.plan["path"]
        if not is_word(start, PATHS):
            raise BadInput(f"the file was started with '{start}' evaluation, which is not known: write another file")
        batch = surface.plan["batch_size"] if low else 0
        reference = ReferenceLosses.of(problem, surface.grid, batch)
        new, why_not = surface.plan["points_per_call"] == 0, surface.about.get("why_in_place", "")
        for mode in PATHS[PATHS.index(start) :]:
            plan: ExecutionPlan = {**surface.plan, "path": mode}
            try:
                known, evaluator, differs = self.verify(problem, replace(surface, plan=plan), reference, cells)
            except (Stop, torch.cuda.OutOfMemoryError):
                raise
            except Exception as error:
                if mode == IN_PLACE:
                    raise
                differs = first_line(error)
            if not differs:
                break
            if not new:
                raise BadInput(
                    f"the file was started with {mode} evaluation, which is not what the network computes: {differs}: "
                    "write another file"
                )
            why_not = differs
        if mode == IN_PLACE and new and not low:
            note(f"the network itself is moved for every point, which is slower: {why_not}")
        if mode != start:
            known = replace(known, about={**known.about, f"why_not_{start}": why_not})
        return replace(known, about={**known.about, "tolerance": self.asked}), evaluator

    def verify(
        self, problem: Problem, surface: Surface, reference: ReferenceLosses, cells: int
    ) -> tuple[Surface, Evaluator, str]:
        """Complete the plan of a surface for its path, and compare the evaluator with the network itself.

        Args:
            problem: The network, the plane and the data.
            surface: The surface so far, whose plan names the path.
            reference: Losses of the network itself.
            cells: Number of pending cells.

        Returns:
            The surface with a complete plan, the evaluator, and the difference of its losses in words; '' for none.
        """
        plan, adaptive = surface.plan, self.adaptive is not None
        known, evaluator = complete_plan(problem, surface, self.tolerance, cells, adaptive=adaptive)
        in_place = plan["path"] == IN_PLACE
        differs = "" if in_place else reference.difference(comparable_evaluator(problem, plan, evaluator))
        return known, evaluator, differs

    def plan_lines(self, before: Surface, surface: Surface) -> list[str]:
        """Describe what `finalize_plan` measured that the user should know."""
        if "precision_error" in before.about or "precision_error" not in surface.about:
            return []
        return precision_lines(surface.plan["precision"], surface.about["precision_error"])

    def evaluator(self, problem: Problem, surface: Surface) -> Evaluator:
        """Return the evaluator that the plan describes."""
        return evaluator_of(problem, surface.plan, self.tolerance)

    def estimate_seconds(self, problem: Problem, surface: Surface) -> tuple[float, str]:
        """Return the seconds that a cell may take, and a description of the measurement."""
        evaluator = self.evaluator(problem, surface)
        if evaluator.in_place:
            return seconds_in_place(evaluator), "from a few batches of the network itself"
        fewer = "" if self.tolerance.exact else ", with all samples, of which a tolerance draws fewer"
        if seconds := surface.about.get("seconds_per_cell"):
            return seconds, "measured when the file was started" + fewer
        return estimate_seconds_per_cell(evaluator), "from a few batches" + fewer

    def block_worker(self, surface: Surface, evaluator: Evaluator) -> BlockWork:
        """Return the function from a block of `block_queue` to its result and a remark.

        A batch that does not fit into memory is halved, which the remark reports. The function raises BadUsage where
        one sample does not fit into memory.
        """
        evaluate = MultilevelWorker(surface, evaluator) if surface.samples else exact_worker(surface, evaluator)

        def work(block: Any) -> tuple[BlockResult, BlockNote]:
            remark = BlockNote()
            while True:
                try:
                    with evaluator.session():
                        return evaluate(block), remark
                except torch.cuda.OutOfMemoryError as error:
                    if evaluator.batch_size == 1:
                        raise BadUsage(f"one sample does not fit into the memory of {evaluator.device}") from error
                    evaluator.batch_size //= 2
                    if evaluator.full_precision is not None:
                        evaluator.full_precision.batch_size = evaluator.batch_size
                    first = (block[0] if surface.samples else block)[0]
                    remark = BlockNote(
                        f"out of memory on {evaluator.device}: batch size {evaluator.batch_size} from cell {first} on",
                        evaluator.batch_size,
                    )
                    evaluator.clear_cache()
                    torch.cuda.empty_cache()

        return work

    def block_queue(self, surface: Surface, pending: np.ndarray, ranks: int = 1) -> BlockQueue:
        """Return the pending cells in blocks.

        With `adaptive`, the queue interpolates cells that their neighbours predict.
        """

        def blocks(known: Surface, cells: np.ndarray) -> BlockQueue:
            size = cells_per_block(known, len(cells), ranks)
            return MultilevelQueue(known, cells, size) if known.samples else BlockQueue.of(cells, size)

        if self.adaptive is None:
            return blocks(surface, pending)
        return AdaptiveQueue(surface, pending, self.adaptive, blocks)

    def execution_mode(self, surface: Surface) -> str:
        """Describe how a rank computes; '' where there is nothing to say."""
        plan = surface.plan
        if not plan.get("batch_size"):  # no measurement yet
            return ""
        if plan["path"] == IN_PLACE:
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
                    f"the tolerance took {100 * drafts:.2g} % of the {split} samples in {surface.plan['precision']}, "
                    f"and {100 * drawn:.2g} % in float32 to correct them"
                )
            elif drawn < 1:
                say(f"the tolerance took {100 * drawn:.2g} % of the {split} samples")
        if adaptive := surface.about.get("adaptive"):
            say(adaptive_summary(adaptive, surface.grid.size, noisy=bool(surface.samples)))
        for statistics in list(surface.statistics.values())[:1]:
            if (count := int(np.nansum(statistics["clamped"] > 0))) > 0:
                say(f"note: at {count} cells BatchNorm variances were negative and set to zero")


def exact_worker(surface: Surface, evaluator: Evaluator) -> Callable[[Sequence[int]], BlockResult]:
    """Return the function from cells to their statistics over all samples."""
    return lambda cells: BlockResult(evaluator([surface.grid.point(cell) for cell in cells]))


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
        f"max({relative:g} x loss, {absolute:g})"
        f"{checks * bool(adaptive['checked'])}{why * (not adaptive['interpolated'])}"
    )


def check_spread_precision(net: nn.Module, precision: EvaluationPrecision) -> None:
    """Raise BadUsage where a network on several ranks would be computed in another precision than its own."""
    if is_spread(net) and precision != (own := resolve_precision(None, net)):
        raise BadUsage(
            f"{named('precision', precision)}: a network with weights on several ranks is computed in their precision "
            f"({own}): leave {named('precision')} out, or convert the network before its weights are spread"
        )
