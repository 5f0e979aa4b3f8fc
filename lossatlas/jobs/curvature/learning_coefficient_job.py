"""The local learning coefficient of a minimum, from its inputs to a finished file, chain by chain."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossatlas.config import LangevinSettings
from lossatlas.errors import BadInput, named, say
from lossatlas.io import Findings
from lossatlas.io.progress import StatusLine
from lossatlas.io.spectrum_files import FindingsKind
from lossatlas.jobs.curvature.curvature_quantity import LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.hessian.langevin import ChainSettings

CHAIN_ARRAYS = ("differences", "slopes", "first_order")  # of the file, in the order of `langevin_chain`
CURVATURE_TOLERANCE = 0.1  # of the largest eigenvalue, by which the usual learning rate is chosen


@dataclass(frozen=True)
class CoefficientQuantity:
    """A local learning coefficient, as a command computes it: a `CurvatureQuantity`."""

    settings: LangevinSettings
    kind: ClassVar[FindingsKind] = "learning_coefficient"

    @property
    def seed(self) -> int:
        """The seed of the chains."""
        return self.settings.seed

    def check_files(self, path: Path) -> None:
        """Do nothing: no file is written beside the output."""

    def new_findings(self, fresh: Findings) -> Findings:
        """Return findings without any result; further chains may be added to a file.

        Args:
            fresh: The findings of the Hessian, which identify network, data and loss.
        """
        return coefficient_findings(fresh, self.settings)

    def say_cost(self, job: LoadedJob, path: Path) -> None:
        """Print the work."""
        s = self.settings
        say(
            f"{s.chains} chains of {chain_steps(s)} gradients and {s.draws} losses, each of "
            f"{min(s.minibatch, len(job.loaded.first))} samples"
        )

    def compute(self, operator: DistributedHessian, output: FindingsOutput) -> None:
        """Compute on rank 0 the chains that the output lacks, and save each.

        Args:
            operator: The loss and its gradients, which all ranks compute.
            output: The findings so far.

        Raises:
            Incomplete: A signal came; the finished chains are saved.
            BadInput: The loss of the network itself, or its curvature, is not finite.
            CannotWrite: The file cannot be written; found at the start, not after the first chain.
        """
        compute_chains(operator, self.settings, output, shown=True)

    def result(self, operator: DistributedHessian, findings: Findings, net: "nn.Module") -> Findings:
        """Return the findings."""
        return findings


def coefficient_findings(fresh: Findings, settings: LangevinSettings) -> Findings:
    """Return findings without any chain, of a fresh file of a Hessian; the number of chains may grow."""
    own = {
        "inverse_temperature": settings.inverse_temperature or usual_inverse_temperature(fresh.about["samples"]),
        "localization": settings.localization,
        "learning_rate": settings.learning_rate or "by curvature",
        "draws": settings.draws,
        "burn_in": settings.burn_in,
        "steps_between": settings.steps_between,
        "minibatch": settings.minibatch,
        "seed": settings.seed,
    }
    return replace(fresh, request={**fresh.request, **own}, kind="learning_coefficient")


def compute_chains(
    operator: DistributedHessian, settings: LangevinSettings, output: FindingsOutput, *, shown: bool
) -> None:
    """Compute the chains that the output lacks, see `CoefficientQuantity.compute`.

    Args:
        operator: The loss and its gradients.
        settings: The settings of the chains.
        output: The findings so far.
        shown: Print the progress.
    """
    from lossatlas.data.finite_check import NotFiniteLoss

    output.save(output.findings)
    loss, gradient = operator.gradient_at(None)
    if not math.isfinite(loss):
        raise NotFiniteLoss(f"the loss of this network is {loss}", "there is no distribution around it")
    if "loss" not in output.findings.arrays:
        output.add({"loss": loss})
    chosen = chain_settings(operator, settings, output)
    while (first := len(draws_of(output.findings, "differences"))) < settings.chains:
        chains = next_chains(operator, chosen, settings, first, gradient, shown=shown)
        for number, chain in enumerate(chains, first):
            if shown:
                say(f"chain {number + 1} of {settings.chains}: {chosen.inverse_temperature * chain[0].mean():.4g}")
            output.add(with_chain(output.findings, chain))
    found = output.findings.learning_coefficient()
    output.add(
        {
            "value": found.value,
            "error": found.error,
            "spread": found.spread,
            "growth": found.growth,
            "drift": found.drift,
        }
    )


def with_chain(findings: Findings, chain: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays (chains, draws) of the finished chains with one more, see `hessian.langevin.langevin_chain`."""
    before = {name: draws_of(findings, name) for name in CHAIN_ARRAYS}
    if len(before["first_order"]) < len(before["differences"]):  # of a version that did not record it
        before["first_order"] = np.full_like(before["differences"], np.nan)
    return {name: np.vstack([before[name], own]) for name, own in zip(CHAIN_ARRAYS, chain, strict=True)}


def next_chains(
    operator: DistributedHessian,
    chosen: "ChainSettings",
    settings: LangevinSettings,
    first: int,
    gradient: "Tensor",
    *,
    shown: bool,
) -> Sequence[np.ndarray]:
    """Run one chain on each rank while there are enough of them, otherwise one chain on all ranks.

    Args:
        operator: The loss and its gradients.
        chosen: The distribution and the steps of the chains.
        settings: Their settings, as asked for.
        first: The number of the first chain that is not finished.
        gradient: (size,) that at the network itself.
        shown: Print the progress.

    Returns:
        The finished chains from the first on, see `hessian.langevin.langevin_chain`.
    """
    from lossatlas.hessian.langevin import langevin_chain

    ranks = operator.rank_count
    count = ranks if settings.chains - first >= ranks else 1
    each = shown_steps(settings, first, count) if shown else lambda step: None
    if count > 1:
        return list(operator.whole_chains(chosen, range(first, first + count), gradient, each))
    return [langevin_chain(operator, chosen, first, gradient, each)]


def shown_steps(settings: LangevinSettings, first: int, count: int) -> Callable[[int], None]:
    """Return a function that shows the number of finished steps of `count` chains that are computed at a time."""
    line, total = StatusLine(), chain_steps(settings)
    name = f"chain {first + 1}" if count == 1 else f"chains {first + 1} to {first + count}"

    def show(step: int) -> None:
        line.show(f"{name} of {settings.chains}: {step} of {total} steps")
        if step == total:
            line.close()

    return show


def chain_settings(operator: DistributedHessian, settings: LangevinSettings, output: FindingsOutput) -> "ChainSettings":
    """Return the settings of the chains, with a learning rate that the curvature allows where none is given."""
    from lossatlas.hessian.langevin import ChainSettings, minibatch_noise, usual_learning_rate

    beta = float(output.findings.request["inverse_temperature"])
    if "learning_rate" not in output.findings.arrays:
        noise, rate = minibatch_noise(operator, settings.minibatch, settings.seed), settings.learning_rate
        if rate is None:
            rate = usual_learning_rate(largest_curvature(operator), noise, beta, settings.localization)
        output.add({"learning_rate": rate, "noise": rate * beta * (beta * noise) / 4})
    return ChainSettings(
        inverse_temperature=beta,
        localization=settings.localization,
        learning_rate=float(output.findings.arrays["learning_rate"]),
        draws=settings.draws,
        burn_in=settings.burn_in,
        steps_between=settings.steps_between,
        minibatch=settings.minibatch,
        seed=settings.seed,
    )


def largest_curvature(operator: DistributedHessian) -> float:
    """Compute the largest eigenvalue of the Hessian roughly.

    Raises:
        BadInput: A product is not finite.
    """
    from lossatlas.hessian import NotFinite, lanczos

    try:
        return float(lanczos(operator, top=1, bottom=0, tolerance=CURVATURE_TOLERANCE).values[0])
    except NotFinite as error:
        raise BadInput(
            f"the Hessian of this network is not finite: give a {named('learning_rate')} for its chains"
        ) from error


def without_second_derivatives() -> str:
    """Say what to do for a network without second derivatives."""
    return f"chains with a {named('learning_rate')} of your own need no second derivatives"


def chain_steps(settings: LangevinSettings) -> int:
    """Return the number of steps of a chain."""
    return settings.burn_in + (settings.draws - 1) * settings.steps_between + 1


def usual_inverse_temperature(samples: int) -> float:
    """Return n / log n, the inverse temperature of the widely applicable Bayesian information criterion.

    Args:
        samples: n.

    Example:
        >>> round(usual_inverse_temperature(1000), 1)
        144.8
    """
    return samples / math.log(max(samples, 3))


def draws_of(findings: Findings, name: str) -> np.ndarray:
    """Return an array (chains, draws) of the finished chains."""
    return findings.arrays.get(name, np.zeros((0, int(findings.request["draws"]))))
