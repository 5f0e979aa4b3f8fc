"""From the arguments of `lossatlas.spectrum` to a finished spectrum."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from lossatlas import config
from lossatlas.data import DataLike, LossLike, as_dataset
from lossatlas.errors import Incomplete, note
from lossatlas.io import Findings
from lossatlas.io.lock import Lock
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.api_hessian_job import ObjectsJob, of_objects, run_objects_job
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.spectrum_job import compute_spectrum
from lossatlas.jobs.curvature.spectrum_parts import SpectrumSettings
from lossatlas.jobs.inputs.api_arguments import check_settings, check_values
from lossatlas.jobs.inputs.output_files import with_lock
from lossatlas.jobs.sweep.grid_job import obey_signal
from lossatlas.mpi.agreement import check_same_request, on_all, on_first
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
        return cls(wanted=wanted, hessian=hessian, device=device_of(device, net=net), limit=limit)


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

    job = on_all(world, make_job)
    check_same_request(world, job.fresh.request)

    def finish(lock: Lock | None) -> Findings:
        known = on_first(world, lambda: job.fresh if file is None else resume_findings(Path(file), job.fresh, seed))
        output = FindingsOutput(known, None if file is None else Path(file).absolute(), lock)
        return finished_parts(world, job, arguments.wanted, output, progress=progress)

    return with_lock("spectrum", file, world, force=force, finish=finish)


def finished_parts(
    world: World, job: ObjectsJob, wanted: SpectrumSettings, output: FindingsOutput, *, progress: bool
) -> Findings:
    """Compute the parts that the output lacks; after Ctrl-C return those that are finished.

    Args:
        world: The ranks.
        job: The job.
        wanted: The parts of the spectrum, and their accuracy.
        output: The findings so far, and their file.
        progress: Print the progress.
    """
    try:
        return run_objects_job(
            world, job, lambda operator: compute_spectrum(operator, wanted, output, shown=progress), output
        )
    except (KeyboardInterrupt, Incomplete) as error:
        if isinstance(error, Incomplete):
            obey_signal(error)
        note("stopped: the parts of the spectrum that were finished are there")
        return output.findings
