"""Local learning coefficients of the checkpoints of a training run, in one file.

The file holds the chains of each checkpoint under a key, the beginning of the digest of its weights, so that a run that
has gone on adds its new checkpoints, and a changed checkpoint is never taken for the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossatlas.config import LangevinSettings
from lossatlas.errors import say
from lossatlas.io import Findings
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES
from lossatlas.io.spectrum_files import PathCheckpoint
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.learning_coefficient_job import coefficient_findings, compute_chains
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries

OF_ONE_NETWORK = ("checkpoint", LOSS_OF_SOME_SAMPLES)  # fields of a request that differ from checkpoint to checkpoint
KEY_LENGTH = 16  # of the digest of a checkpoint


def key_of(digest: str) -> str:
    """Return the key of a checkpoint in a file.

    Args:
        digest: See `models.checkpoint.state_digest`.
    """
    return digest[:KEY_LENGTH]


def checkpoints_of(run: CheckpointSeries, digests: Sequence[str]) -> list[PathCheckpoint]:
    """Return the checkpoints of a run as a file lists them.

    Args:
        run: The run.
        digests: The digest of each.
    """
    epochs = run.epochs or [None] * len(digests)
    return [
        PathCheckpoint(key_of(digest), run.file_name(k), None if epoch is None else float(epoch))
        for k, (digest, epoch) in enumerate(zip(digests, epochs, strict=True))
    ]


def path_findings(fresh: Findings, settings: LangevinSettings, run: CheckpointSeries) -> Findings:
    """Return findings without any checkpoint.

    Args:
        fresh: The findings of the Hessian of one of them.
        settings: The settings of the chains.
        run: The run.
    """
    found = coefficient_findings(fresh, settings)
    request = {name: value for name, value in found.request.items() if name not in OF_ONE_NETWORK}
    about = {**found.about, "run": run.name, "counted": run.counted, "checkpoints": []}
    return replace(found, request=request, about=about, kind="learning_coefficients")


def with_checkpoints(findings: Findings, checkpoints: Sequence[PathCheckpoint]) -> Findings:
    """Add checkpoints to the list of a file, which is in the order of their epochs where all are known.

    Args:
        findings: The findings.
        checkpoints: Those of this run; they replace earlier ones of the same weights.
    """
    own = {each.key for each in checkpoints}
    every = [each for each in findings.path_checkpoints() if each.key not in own] + list(checkpoints)
    if all(each.epoch is not None for each in every):
        every.sort(key=lambda each: each.epoch or 0.0)
    return findings.with_arrays({}, checkpoints=[list(each) for each in every])


def is_finished(findings: Findings, key: str, settings: LangevinSettings) -> bool:
    """Return whether the findings hold all chains of a checkpoint and its estimate."""
    arrays = findings.arrays
    return f"{key}/value" in arrays and len(arrays[f"{key}/differences"]) >= settings.chains


@dataclass
class CheckpointOutput(FindingsOutput):
    """The findings of one checkpoint, which are saved as a part of those of the whole path.

    Attributes:
        whole: The findings of the path.
        key: The key of the checkpoint.
    """

    whole: FindingsOutput | None = None
    key: str = ""

    def save(self, findings: Findings) -> None:
        """Keep newer findings, and write them into the file of the path.

        Raises:
            CannotWrite: As for the path.
        """
        assert self.whole is not None
        self.findings = findings
        own = {f"{self.key}/{name}": array for name, array in findings.arrays.items()}
        self.whole.save(summarized(self.whole.findings.with_arrays(own)))


def summarized(findings: Findings) -> Findings:
    """Add arrays with a number for each checkpoint: epoch, value, error and loss, NaN where it is not known yet."""
    checkpoints, found = findings.path_checkpoints(), findings.arrays
    numbers = {
        name: np.array([float(found.get(f"{each.key}/{name}", np.nan)) for each in checkpoints])
        for name in ("value", "error", "loss")
    }
    epochs = np.array([np.nan if each.epoch is None else each.epoch for each in checkpoints])
    return findings.with_arrays({"epochs": epochs, **numbers})


def compute_checkpoint(
    operator: DistributedHessian, settings: LangevinSettings, whole: FindingsOutput, key: str, *, shown: bool
) -> None:
    """Compute on rank 0 the chains that the file of a path lacks for one checkpoint.

    Args:
        operator: The loss of this checkpoint and its gradients.
        settings: The settings of the chains.
        whole: The findings of the path.
        key: The key of the checkpoint.
        shown: Print the progress.

    Raises:
        Incomplete: A signal came; the finished chains are saved.
        BadInput: The loss of the checkpoint, or its curvature, is not finite.
        CannotWrite: The file cannot be written.
    """
    checkpoint = next(each for each in whole.findings.path_checkpoints() if each.key == key)
    if shown:
        counted = whole.findings.about["counted"]
        say(f"{checkpoint.name}" + ("" if checkpoint.epoch is None else f", {counted} {checkpoint.epoch:g}") + ":")
    output = CheckpointOutput(whole.findings.of_checkpoint(checkpoint), whole=whole, key=key)
    compute_chains(operator, settings, output, shown=shown)
