"""The findings of a job that computes with a distributed Hessian, and the checks before it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BadUsage
from lossatlas.io import Findings, write_findings
from lossatlas.io.lock import Lock
from lossatlas.jobs.curvature.distributed_hessian import (
    HessianInputs,
    HessianSettings,
)
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.mpi.communicator import World

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.data import AnyData


@dataclass
class FindingsOutput:
    """The findings of a job so far: in memory, and in a file where there is one.

    Attributes:
        findings: The newest ones.
        path: The file, absolute; None where they are kept in memory alone.
        lock: The lock on the file, which is checked before every write.
    """

    findings: Findings
    path: Path | None = None
    lock: Lock | None = None

    def save(self, findings: Findings) -> None:
        """Keep newer findings.

        Raises:
            CannotWrite: The file cannot be written, or another run has taken over its lock.
        """
        self.findings = findings
        if self.path is not None:
            if self.lock is not None:
                self.lock.check()
            write_findings(self.path, findings)

    def add(self, arrays: Mapping[str, Any]) -> None:
        """Add arrays to the findings and save them.

        Raises:
            CannotWrite: As `save`.
        """
        self.save(self.findings.with_arrays(arrays))


def new_findings(
    description: Mapping[str, Any],
    inputs: HessianInputs,
    settings: HessianSettings,
    world: World,
    *,
    device: str,
    about: Mapping[str, Any],
) -> Findings:
    """Return findings without any result.

    Args:
        description: The fields of the request that identify network and loss.
        inputs: The network and the samples.
        settings: The settings of the Hessian.
        world: The ranks.
        device: The type of the device.
        about: Provenance.
    """
    from lossatlas.jobs.inputs.fingerprint import without_classes

    request = {**description, **settings.request(inputs)}
    plan: ExecutionPlan = {"device": device, "batch_size": settings.batch_size, "ranks": world.size}
    samples = inputs.samples
    sketches = {"data": samples.sketch, "samples": without_classes(samples).sketch}
    return Findings({}, request, plan, {**about, "samples": len(samples), "sketches": sketches})


def with_batch_size(
    settings: HessianSettings, samples: int, world: World, device: str, threads: int
) -> HessianSettings:
    """Return settings with the usual batch size where none is asked for.

    Args:
        settings: The settings.
        samples: The number of all samples, which are spread over the ranks.
        world: The ranks.
        device: The type of their device, 'cpu' or 'cuda'.
        threads: The number of threads of each rank.
    """
    from lossatlas.hessian import usual_batch_size

    size = settings.batch_size or usual_batch_size(-(-samples // world.size), device, threads)
    return replace(settings, batch_size=size)


def check_enough_samples(samples: "AnyData", world: World) -> None:
    """Raise BadUsage where there is not a sample, or a batch that stays as it is, for each rank."""
    if samples.parts < world.size:
        what = "samples" if samples.parts == len(samples) else "batches that stay as they are"
        raise BadUsage(f"{samples.parts} {what} cannot be spread over {world.size} ranks: start fewer")
