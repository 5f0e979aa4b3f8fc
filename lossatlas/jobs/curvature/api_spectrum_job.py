"""From the arguments of `lossatlas.spectrum` to a finished spectrum."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lossatlas import config
from lossatlas.data import DataLike, LossLike, as_dataset
from lossatlas.io import Findings
from lossatlas.jobs.curvature.api_hessian_job import ObjectsJob, of_objects, run_function_job
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.spectrum_job import compute_spectrum
from lossatlas.jobs.curvature.spectrum_parts import SpectrumSettings
from lossatlas.jobs.inputs.api_arguments import check_settings, check_values
from lossatlas.mpi.agreement import on_all
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of


@dataclass(frozen=True, kw_only=True)
class SpectrumArguments:
    """Arguments of `lossatlas.spectrum`, checked before anything is read.

    Attributes:
        wanted: The parts of the spectrum, and their accuracy.
        hessian: The settings of the Hessian.
        device: Where it is computed.
        limit: The number of samples; None for all.
    """

    wanted: SpectrumSettings
    hessian: HessianSettings
    device: torch.device
    limit: int | None

    @classmethod
    def checked(
        cls,
        net: nn.Module,
        hessian: HessianSettings,
        wanted: SpectrumSettings,
        device: str | torch.device | None,
        *,
        limit: int | None,
    ) -> "SpectrumArguments":
        """Check all arguments; the activations of the Hessian are those of the spectrum.

        Args:
            net: The network, whose device is the default.
            hessian: The settings of the Hessian.
            wanted: The parts of the spectrum, and their accuracy.
            device: Device to compute on; None for the device of the network.
            limit: The number of samples; None for all.

        Raises:
            BadUsage: An argument is out of range.
        """
        check_values(config.BatchOptions, batch_size=hessian.batch_size)
        check_values(config.DatasetOptions, limit=limit)
        check_values(config.SelectionOptions, only=hessian.parameters, without=hessian.without)
        check_settings(wanted)
        hessian = replace(hessian, activations=wanted.activations)
        return cls(
            wanted=wanted.of_matrix(hessian.matrix), hessian=hessian, device=device_of(device, net=net), limit=limit
        )


def run_spectrum_job(
    world: World,
    net: nn.Module,
    arguments: SpectrumArguments,
    data: DataLike,
    loss: LossLike,
    *,
    file: str | Path | None,
    force: bool,
    progress: bool,
) -> Findings:
    """Compute the missing parts of a spectrum for a Python function, under the lock of its file.

    Args:
        world: The ranks of the script, every one of which calls this.
        net: The network.
        arguments: The checked arguments.
        data: The samples.
        loss: The loss.
        file: The spectrum file to write or to continue; None to keep everything in memory.
        force: Start over where `file` exists.
        progress: Print the progress.

    Returns:
        The spectrum; after Ctrl-C the parts that are finished.

    Raises:
        BadInput: The network, the data and the file do not fit each other, or ranks have different arguments.
        CannotWrite: The file cannot be written, or another run writes it.
    """
    seed = arguments.wanted.seed
    samples = on_all(world, lambda: as_dataset(data, limit=arguments.limit))

    def make_job() -> ObjectsJob:
        return of_objects(
            world,
            net,
            samples,
            loss,
            settings=arguments.hessian,
            device=arguments.device,
            command="lossatlas.spectrum",
            seed=seed,
        )

    return run_function_job(
        world,
        on_all(world, make_job),
        lambda operator, output: compute_spectrum(operator, arguments.wanted, output, shown=progress),
        parts="the parts of the spectrum",
        seed=seed,
        file=file,
        force=force,
    )
