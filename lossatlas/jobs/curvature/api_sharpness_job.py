"""From the arguments of `lossatlas.sharpness` to a finished result."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lossatlas import config
from lossatlas.data import DataLike, LossLike, as_dataset
from lossatlas.io import Findings
from lossatlas.jobs.curvature.api_hessian_job import ObjectsJob, of_objects, run_function_job
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian, HessianSettings
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.sharpness_job import SharpnessQuantity, SharpnessSettings
from lossatlas.jobs.inputs.api_arguments import check_settings, check_values
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of


@dataclass(frozen=True, kw_only=True)
class SharpnessArguments:
    """Arguments of `lossatlas.sharpness`, checked before anything is read.

    Attributes:
        settings: The radii, and the effort of the search.
        hessian: The parameters that change, their precision and batches.
        device: Where it is computed.
        limit: The number of samples; None for all.
    """

    settings: SharpnessSettings
    hessian: HessianSettings
    device: torch.device
    limit: int | None

    @classmethod
    def checked(
        cls,
        net: nn.Module,
        hessian: HessianSettings,
        rises: config.RiseOptions,
        device: str | torch.device | None,
        *,
        limit: int | None,
    ) -> "SharpnessArguments":
        """Check all arguments.

        Args:
            net: The network, whose device is the default.
            hessian: The parameters that change, their precision and batches.
            rises: The radii, and the effort of the search.
            device: Device to compute on; None for the device of the network.
            limit: The number of samples; None for all.

        Raises:
            BadUsage: An argument is out of range.
        """
        check_values(config.BatchOptions, batch_size=hessian.batch_size)
        check_values(config.DatasetOptions, limit=limit)
        check_values(config.SelectionOptions, only=hessian.parameters, without=hessian.without)
        check_settings(rises)
        settings = SharpnessSettings.of(rises)
        return cls(settings=settings, hessian=hessian, device=device_of(device, net=net), limit=limit)


def run_sharpness_job(
    world: World,
    net: nn.Module,
    arguments: SharpnessArguments,
    data: DataLike,
    loss: LossLike,
    *,
    file: str | Path | None,
    force: bool,
    progress: bool,
) -> Findings:
    """Compute the missing radii for a Python function, see `run_function_job`.

    Args:
        world: The ranks of the script, every one of which calls this.
        net: The network.
        arguments: The checked arguments.
        data: The samples.
        loss: The loss.
        file: The file to write or to continue; None to keep everything in memory.
        force: Start over where `file` exists.
        progress: Print the progress.
    """
    quantity = SharpnessQuantity(arguments.settings, shown=progress)
    samples = on_all(world, lambda: as_dataset(data, limit=arguments.limit))

    def make_job() -> ObjectsJob:
        job = of_objects(
            world,
            net,
            samples,
            loss,
            settings=arguments.hessian,
            device=arguments.device,
            command="lossatlas.sharpness",
            seed=quantity.seed,
        )
        return replace(job, fresh=quantity.new_findings(job.fresh))

    def compute(operator: DistributedHessian, output: FindingsOutput) -> None:
        names = [[name, list(shape)] for name, shape in zip(operator.names, operator.shapes, strict=True)]
        output.findings = output.findings.with_arrays({}, parameters=names)
        quantity.compute(operator, output)

    return run_function_job(
        world, on_all(world, make_job), compute, parts="the radii", seed=quantity.seed, file=file, force=force
    )
