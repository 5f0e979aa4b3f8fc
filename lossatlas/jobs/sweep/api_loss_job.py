"""Arguments and inputs of `lossatlas.surface`: losses of a network at the points of a line or a plane."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from lossatlas import config
from lossatlas.choices import BatchNormMode, DirType, Memory, Precision
from lossatlas.config.job_configs import memory_of
from lossatlas.data import DataLike, LossLike
from lossatlas.evaluation.evaluator import Evaluator
from lossatlas.evaluation.precision import resolve_precision
from lossatlas.evaluation.recalibration import check_recalibrated
from lossatlas.evaluation.reference import KeptTensors
from lossatlas.jobs.inputs.api_arguments import AxisLike, check_values, tolerance_of
from lossatlas.jobs.inputs.api_inputs import DirectionArguments, shared_copy
from lossatlas.jobs.inputs.fingerprint import recalibration_record
from lossatlas.jobs.inputs.network_memory import small_batch_size, takes_little_memory
from lossatlas.jobs.inputs.networks import state_unless_module, statistics_differ
from lossatlas.jobs.sweep.api_grid_job import SurfaceArguments, SurfaceInputs
from lossatlas.jobs.sweep.loss_quantity import LossQuantity
from lossatlas.jobs.sweep.problem import Problem
from lossatlas.jobs.sweep.reference_check import check_ends


@dataclass(frozen=True, kw_only=True)
class LossArguments:
    """Arguments of `lossatlas.surface` about the evaluation, as the user gave them.

    Attributes:
        tolerance: REL or (REL, ABS), the standard error of a cell's loss; None for all samples.
        adaptive: REL or (REL, ABS), the error within which cells are interpolated; None to compute all.
        precision: The precision of the forward pass; None for the network's own.
        bn: 'keep', or 'recalibrate' to estimate the BatchNorm statistics again at every point.
        bn_samples: Training samples for that.
        batch_size: Samples of a batch; 0 to measure the fastest.
        memory: 'low' or 'fast'; None to choose by the size of the network.
    """

    tolerance: float | tuple[float, float] | None
    adaptive: float | tuple[float, float] | None
    precision: Precision | None
    bn: BatchNormMode
    bn_samples: int
    batch_size: int
    memory: Memory | None

    @property
    def recalibrates(self) -> bool:
        """BatchNorm statistics are estimated again at every point."""
        return self.bn == "recalibrate"

    def checked(
        self,
        net: nn.Module,
        axes: DirectionArguments,
        *,
        x: AxisLike,
        y: AxisLike | None,
        z: AxisLike | None,
        device: str | torch.device | None,
        limit: int | None,
        dir_type: DirType | None,
    ) -> SurfaceArguments[Evaluator]:
        """Check the arguments of `surface`, these and the others.

        Args:
            net: The network.
            axes: The arguments that define the axes.
            x: Coordinates along the first direction.
            y: Coordinates along the second direction; None for a line.
            z: Coordinates along the third direction; None for a line or a plane.
            device: Device to compute on; None for the device of the network.
            limit: Number of samples of each split; None for all.
            dir_type: 'weights' or 'states'; None where the networks decide.

        Raises:
            BadUsage: An argument is out of range, or two contradict each other.
        """
        others = (("repeat", axes.repeat), ("per_layer", axes.per_layer), ("bn", self.recalibrates))
        low = takes_little_memory(net, memory_of(self.memory, [field for field, chosen in others if chosen]))
        check_values(config.BatchOptions, batch_size=self.batch_size)
        check_values(config.BatchNormOptions, bn_samples=self.bn_samples)
        check_values(config.SchemeOptions, repeat=axes.repeat)
        quantity = self.quantity(low=low)
        return SurfaceArguments.checked(
            net, quantity=quantity, axes=axes, x=x, y=y, z=z, device=device, limit=limit, dir_type=dir_type, low=low
        )

    def quantity(self, *, low: bool) -> LossQuantity:
        """Return the quantity to compute.

        Args:
            low: The network is moved in place.

        Raises:
            BadUsage: As `tolerance_of`.
        """
        return LossQuantity(
            tolerance=tolerance_of(self.tolerance),
            adaptive=None if self.adaptive is None else tolerance_of(self.adaptive, "adaptive"),
            precision=self.precision,
            batch_size=self.batch_size,
            recalibrated=self.bn_samples if self.recalibrates else 0,
            memory="low" if low else "fast",
        )

    def read(
        self,
        arguments: SurfaceArguments[Evaluator],
        net: nn.Module,
        data: DataLike,
        loss: LossLike,
        *,
        test: DataLike | None,
        kept: KeptTensors | None,
    ) -> SurfaceInputs:
        """Read the data, and prove that they, the network and those at the ends of the axes fit each other.

        Args:
            arguments: The checked arguments.
            net: The network.
            data: Training samples.
            loss: The loss.
            test: Test samples, or None.
            kept: The copies of a large network's tensors on disk; None where everything is in memory.

        Returns:
            The inputs, with their problem.

        Raises:
            BadUsage: Arguments contradict each other.
            BadInput: Network, data and loss do not fit each other.
        """
        inputs = arguments.read(net, data, test, loss, kept)
        training = inputs.splits["train"]
        if self.recalibrates:
            check_recalibrated(net, training, resolve_precision(self.precision, net), self.bn_samples)
            inputs.request["bn"] = recalibration_record(self.bn_samples, training)
        problem = Problem(
            shared_copy(net) if kept is None else net,
            inputs.plane,
            inputs.splits,
            inputs.loss,
            arguments.device,
            training,
            lambda: net,
        )
        batch = 0 if kept is None else small_batch_size(training)
        check_other_networks(net, problem, arguments.axes, inputs.dir_type, batch=batch)
        return replace(inputs, problem=problem)


def check_other_networks(
    net: nn.Module, problem: Problem, axes: DirectionArguments, dir_type: DirType, *, batch: int
) -> None:
    """Compare the losses at coordinate 1 of the axes with those of the networks there, see `check_ends`.

    Args:
        net: The network at the origin.
        problem: The problem.
        axes: The arguments that define the axes.
        dir_type: 'weights' or 'states'.
        batch: The number of samples to compare, as of a large network; 0 for the usual one.

    Raises:
        BadInput: The losses differ.
    """
    # With `orthogonalize` the second network is off the y axis.
    others = [state_unless_module(net, each) for each in axes.others[: 1 if axes.orthogonalize else None]]
    selected = any((*axes.selection.only, *axes.selection.without))  # an empty pattern selects everything
    if others and not selected and not axes.per_layer:
        check_ends(problem, others, dir_type, states_differ=statistics_differ(net, others), batch=batch)
