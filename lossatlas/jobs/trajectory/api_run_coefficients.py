"""From the arguments of `lossatlas.learning_coefficients` to the finished estimates of a run's checkpoints."""

from pathlib import Path
from typing import Any

from torch import nn

from lossatlas.data import DataLike, LossLike, as_dataset
from lossatlas.errors import BadUsage, Incomplete, note
from lossatlas.evaluation.parallel_batches import evaluation_copy
from lossatlas.io import Findings
from lossatlas.io.lock import Lock
from lossatlas.io.resume import resume_findings
from lossatlas.jobs.curvature.api_coefficient_job import CoefficientArguments
from lossatlas.jobs.curvature.api_hessian_job import ObjectsJob, of_objects, run_objects_job
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.inputs.networks import state_for
from lossatlas.jobs.inputs.output_files import with_lock
from lossatlas.jobs.sweep.grid_job import obey_signal
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.jobs.trajectory.run_coefficients import (
    checkpoints_of,
    compute_checkpoint,
    is_finished,
    key_of,
    path_findings,
    with_checkpoints,
)
from lossatlas.models.checkpoint import state_digest
from lossatlas.models.state_names import state_tensors
from lossatlas.mpi.agreement import check_same_request, on_all, on_first
from lossatlas.mpi.communicator import World


def only_run(runs: tuple[CheckpointSeries, ...]) -> CheckpointSeries:
    """Return the run of a function that takes one.

    Raises:
        BadUsage: There are several, or there is no checkpoint.
    """
    if not runs[0].checkpoints:
        raise BadUsage("there is no checkpoint: give a list of them, or the folder of a run")
    if len(runs) > 1:
        raise BadUsage(f"these are {len(runs)} runs: call learning_coefficients() for each of them")
    return runs[0]


class RunOfNetworks:
    """The checkpoints of a run as networks, one at a time in one copy of the user's network.

    Args:
        world: The ranks of the script.
        net: The user's network, which stays as it is.
        run: The checkpoints.
        arguments: The checked arguments.
        data: The samples.
        loss: The loss.
    """

    def __init__(
        self,
        world: World,
        net: nn.Module,
        run: CheckpointSeries,
        *,
        arguments: CoefficientArguments,
        data: DataLike,
        loss: LossLike,
    ) -> None:
        self.world, self.net, self.run, self.arguments, self.loss = world, net, run, arguments, loss
        self.samples = on_all(world, lambda: as_dataset(data, limit=arguments.limit))
        self.copy = on_all(world, lambda: evaluation_copy(net))

    def load(self, k: int) -> nn.Module:
        """Return the copy with the weights of the k-th checkpoint."""
        self.copy.load_state_dict({**self.copy.state_dict(), **state_for(self.net, self.run.checkpoints[k])})
        return self.copy

    def digests(self) -> list[str]:
        """Return the digest of each checkpoint."""
        return [state_digest(state_tensors(self.load(k))) for k in range(len(self.run.checkpoints))]

    def job(self, k: int) -> ObjectsJob:
        """Return the job of the k-th checkpoint, as every rank has it."""
        return of_objects(
            self.world,
            self.load(k),
            self.samples,
            self.loss,
            settings=self.arguments.hessian,
            device=self.arguments.device,
            command="lossatlas.learning_coefficients",
            seed=self.arguments.chains.seed,
        )

    def compute(self, output: FindingsOutput, digests: list[str], *, progress: bool) -> Findings:
        """Compute the checkpoints that the output lacks; every rank calls this with the same output.

        Args:
            output: The findings so far.
            digests: The digest of each checkpoint.
            progress: Print the progress.

        Returns:
            The findings; after Ctrl-C those of the finished chains.
        """
        chains, keys = self.arguments.chains, [key_of(digest) for digest in digests]
        left = [k for k, key in enumerate(keys) if not is_finished(output.findings, key, chains)]
        try:
            for k in left:

                def compute(operator: DistributedHessian, key: str = keys[k]) -> None:
                    compute_checkpoint(operator, chains, output, key, shown=progress)

                run_objects_job(self.world, on_all(self.world, lambda k=k: self.job(k)), compute, output)  # type: ignore[misc]
        except (KeyboardInterrupt, Incomplete) as error:
            if isinstance(error, Incomplete):
                obey_signal(error)
            note("stopped: the chains that were finished are there")
        found: Findings = self.world.share(output.findings)
        return found


def run_coefficient_path(networks: RunOfNetworks, *, file: str | Path | None, force: bool, progress: bool) -> Findings:
    """Compute the coefficients of the checkpoints of a run for a Python function, under the lock of its file.

    Args:
        networks: The checkpoints.
        file: The file to write or to continue; None to keep everything in memory.
        force: Start over where `file` exists.
        progress: Print the progress.

    Raises:
        BadInput: A checkpoint does not fit the network or the file, or ranks have different arguments.
        CannotWrite: The file cannot be written, or another run writes it.
    """
    world, run, chains = networks.world, networks.run, networks.arguments.chains

    def prepared() -> tuple[list[str], Findings]:
        digests = networks.digests()
        fresh = path_findings(networks.job(0).fresh, chains, run)
        return digests, fresh

    digests, fresh = on_all(world, prepared)
    same: dict[str, Any] = {**fresh.request, "checkpoints": " ".join(digests)}
    check_same_request(world, same)

    def finish(lock: Lock | None) -> Findings:
        known = on_first(world, lambda: fresh if file is None else resume_findings(Path(file), fresh, chains.seed))
        findings = with_checkpoints(known, checkpoints_of(run, digests))
        output = FindingsOutput(findings, None if file is None else Path(file).absolute(), lock)
        return networks.compute(output, digests, progress=progress)

    return with_lock(fresh.kind, file, world, force=force, finish=finish)
