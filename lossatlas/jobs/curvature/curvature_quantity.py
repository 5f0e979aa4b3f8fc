"""A quantity that is computed with the Hessian at one point, and the job that computes it, as the ranks get it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from lossatlas.config import LossChoice
from lossatlas.io import Findings
from lossatlas.io.spectrum_files import FindingsKind
from lossatlas.jobs.curvature.distributed_hessian import (
    DistributedHessian,
    HessianInputs,
    HessianSettings,
    HessianShare,
)
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.inputs.configured_data import loss_of
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import device_of, use_threads

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn


Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True)
class HessianJob:
    """A distributed Hessian as rank 0 of a command sends it to the other ranks.

    Attributes:
        packed: The network and its data.
        loss: A name of a loss, or a user's function.
        settings: The operator: its parameters, precision and batches.
        cuda: The ranks use CUDA devices.
        threads: The threads of each rank.
    """

    packed: PackedInputs
    loss: LossChoice
    settings: HessianSettings
    cuda: bool
    threads: int

    def share(self, world: World) -> HessianShare:
        """Unpack network and data, and return this rank's part. Every rank calls it at the same time."""

        use_threads(self.threads)
        net, splits = self.packed.unpack()
        inputs = HessianInputs(net, next(iter(splits.values())), loss_of(self.loss))
        return HessianShare(world, inputs, self.settings, device_of(self.cuda, local_rank=world.local_rank))


@dataclass(frozen=True)
class LoadedJob:
    """A job of a command whose inputs rank 0 has read.

    Attributes:
        loaded: The network and its data.
        packed: The job as the other ranks receive it.
        fresh: Findings without any result: request, plan and provenance of this run.
    """

    loaded: LoadedInputs
    packed: HessianJob
    fresh: Findings


class CurvatureQuantity(Protocol[Result_co]):
    """A quantity that is computed with the Hessian, the losses and the gradients of one network."""

    @property
    def kind(self) -> FindingsKind:
        """The kind of the file: 'spectrum' or 'sharpness'."""
        ...

    @property
    def seed(self) -> int:
        """The seed of the random vectors."""
        ...

    def check_files(self, path: Path) -> None:
        """Raise BadInput where a file that is written beside the output `path` would replace something else."""
        ...

    def new_findings(self, fresh: Findings) -> Findings:
        """Return findings without any result, with the request of this quantity.

        Args:
            fresh: The findings of the Hessian.
        """
        ...

    def say_cost(self, job: LoadedJob, path: Path) -> None:
        """Print the time and the space that a dry run predicts.

        Raises:
            CannotWrite: The folder lacks the space.
        """
        ...

    def compute(self, operator: DistributedHessian, output: FindingsOutput) -> None:
        """Compute what the output lacks, and save each part.

        Raises:
            Incomplete: There is a signal in `operator.caught`.
        """
        ...

    def result(self, operator: DistributedHessian, findings: Findings, net: "nn.Module") -> Result_co:
        """Return what the command reports of complete findings, while the operator is still there."""
        ...
