"""From the arguments of `lossatlas.learning_coefficient` to a finished estimate."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lossatlas import config
from lossatlas.data import DataLike, LossLike, as_dataset
from lossatlas.io import Findings
from lossatlas.jobs.curvature.api_hessian_job import ObjectsJob, of_objects, run_function_job
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.learning_coefficient_job import coefficient_findings, compute_chains
from lossatlas.jobs.inputs.api_arguments import check_settings, check_values
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of


@dataclass(frozen=True, kw_only=True)
class CoefficientArguments:
    """Arguments of `lossatlas.learning_coefficient`, checked before anything is read.

    Attributes:
        chains: The chains.
        hessian: The parameters that vary, and their precision.
        device: Where it is computed.
        limit: The number of samples; None for all.
    """

    chains: config.LangevinSettings
    hessian: HessianSettings
    device: torch.device
    limit: int | None

    @classmethod
    def checked(
        cls,
        net: nn.Module,
        hessian: HessianSettings,
        chains: config.LangevinSettings,
        device: str | torch.device | None,
        *,
        limit: int | None,
    ) -> "CoefficientArguments":
        """Check all arguments.

        Args:
            net: The network, whose device is the default.
            hessian: The parameters that vary, and their precision.
            chains: The chains.
            device: Device to compute on; None for the device of the network.
            limit: The number of samples; None for all.

        Raises:
            BadUsage: An argument is out of range.
        """
        check_values(config.DatasetOptions, limit=limit)
        check_values(config.SelectionOptions, only=hessian.parameters, without=hessian.without)
        check_settings(chains)
        return cls(chains=chains, hessian=hessian, device=device_of(device, net=net), limit=limit)


def run_coefficient_job(
    world: World,
    net: nn.Module,
    arguments: CoefficientArguments,
    data: DataLike,
    loss: LossLike,
    *,
    file: str | Path | None,
    force: bool,
    progress: bool,
) -> Findings:
    """Compute the missing chains for a Python function, see `run_function_job`.

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
    seed = arguments.chains.seed
    samples = on_all(world, lambda: as_dataset(data, limit=arguments.limit))

    def make_job() -> ObjectsJob:
        job = of_objects(
            world,
            net,
            samples,
            loss,
            settings=arguments.hessian,
            device=arguments.device,
            command="lossatlas.learning_coefficient",
            seed=seed,
        )
        return replace(job, fresh=coefficient_findings(job.fresh, arguments.chains))

    return run_function_job(
        world,
        on_all(world, make_job),
        lambda operator, output: compute_chains(operator, arguments.chains, output, shown=progress),
        parts="the chains",
        seed=seed,
        file=file,
        force=force,
    )
