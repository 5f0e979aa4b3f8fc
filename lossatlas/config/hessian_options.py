"""Options of the Hessian and its spectrum."""

from dataclasses import dataclass, replace
from typing import ClassVar

from lossatlas.choices import ActivationSite, CurvatureMatrix
from lossatlas.config.option_fields import above_zero, changed, natural, option, pattern, positive
from lossatlas.errors import BadUsage, named

PLAIN_RADII, ADAPTIVE_RADII = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2), (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class HessianOptions:
    """The parameters that the Hessian belongs to."""

    HEADING: ClassVar[str] = "Hessian"

    parameters: tuple[str, ...] = option(
        (),
        "parameters with respect to which the Hessian is taken, as regular expressions (default: those of --only and "
        "--except, otherwise all)",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )
    matrices_only: bool = option(False, "leave out biases and BatchNorm parameters, as the original release does")
    compile: bool = option(
        False,
        "let torch.compile fuse the operations: each product takes a quarter less time, and the start half a minute or "
        "more",
    )


@dataclass(frozen=True)
class MatrixOptions:
    """The matrix of second order whose spectrum is computed."""

    HEADING: ClassVar[str] = "Hessian"

    matrix: CurvatureMatrix = option(
        "hessian",
        "hessian; ggn: the generalized Gauss-Newton matrix, which is the Hessian without the curvature of the network; "
        "fisher: the Fisher information matrix of the distribution that crossentropy, next_token, or mse of numbers "
        "stands for; mc_fisher: an estimate of it by targets drawn from that distribution; empirical_fisher: the mean "
        "outer product of the samples' gradients",
    )
    fisher_draws: int = option(
        1, "with --matrix mc_fisher: number of targets drawn for each sample, by --seed", kind=positive, metavar="N"
    )


@dataclass(frozen=True)
class LanczosOptions:
    """Options of Lanczos: the tolerance of a resolved eigenvalue, and the largest number of products."""

    HEADING: ClassVar[str] = "Hessian"

    tolerance: float = option(
        1e-2,
        "an eigenvalue is resolved when its residual is below REL x |eigenvalue|, or below the rounding error (2e-6 of "
        "the largest eigenvalue in float32), and no eigenvalue farther from zero is missed",
        kind=above_zero,
        metavar="REL",
    )
    max_products: int = option(
        300,
        "largest number of Hessian-vector products of a Lanczos run",
        kind=positive,
        old=("most",),
        metavar="N",
    )


@dataclass(frozen=True)
class LangevinSettings:
    """The chains from which a local learning coefficient is estimated."""

    HEADING: ClassVar[str] = "sampling"

    chains: int = option(4, "number of chains; their spread gives the standard error", kind=positive, metavar="N")
    draws: int = option(400, "losses that are recorded in each chain", kind=positive, metavar="N")
    burn_in: int = option(400, "steps of each chain before the first of them", kind=natural, metavar="N")
    steps_between: int = option(1, "steps from one of them to the next", kind=positive, metavar="N")
    minibatch: int = option(128, "samples whose gradient is computed in a step", kind=positive, metavar="N")
    localization: float = option(
        100.0,
        "factor of half the squared distance from the weights, which keeps the chains near them",
        kind=above_zero,
        metavar="GAMMA",
    )
    inverse_temperature: float | None = option(
        None, "factor of the mean loss (default: n / log n for n samples)", kind=above_zero, metavar="NBETA"
    )
    learning_rate: float | None = option(
        None,
        "length of a step (default: one that the largest eigenvalue of the Hessian allows; needed for a network "
        "without second derivatives)",
        kind=above_zero,
        metavar="EPSILON",
    )
    seed: int = option(0, "seed of the chains", kind=natural)


@dataclass(frozen=True)
class RiseOptions:
    """The radii within which the rise of the loss is searched for, and how thoroughly."""

    HEADING: ClassVar[str] = "sharpness"

    rho: tuple[float, ...] = option(PLAIN_RADII, "radii of the ball", kind=above_zero, many="*", metavar="R")
    adaptive_rho: tuple[float, ...] = option(
        ADAPTIVE_RADII, "radii for changes relative to each parameter", kind=above_zero, many="*", metavar="R"
    )
    steps: int = option(20, "largest number of gradients for each radius", kind=positive, metavar="N")
    directions: int = option(10, "number of random directions for the average", kind=positive, metavar="N")
    seed: int = option(0, "seed of the random directions, and of the mini-batches", kind=natural)
    minibatch: int | None = option(
        None,
        "compute the sharpness of mini-batches of M samples too: the mean rise of each one's loss after the ascent "
        "step of SAM on it",
        kind=positive,
        metavar="M",
    )
    minibatches: int = option(
        32, "largest number of these mini-batches; their spread gives the standard error", kind=positive, metavar="N"
    )

    def __post_init__(self) -> None:
        if not self.rho and not self.adaptive_rho:
            raise BadUsage(f"{named('rho')} and {named('adaptive_rho')} are both empty: give a radius")


@dataclass(frozen=True)
class SpectrumSettings(LanczosOptions):
    """The parts of a spectrum to compute, and their accuracy.

    activations: patterns of layers, empty for all layers, None for no traces with respect to activations.
    """

    HEADING: ClassVar[str] = "spectrum"

    tolerance: float = changed(LanczosOptions, "tolerance", default=1e-3)
    top: int = option(10, "number of largest eigenvalues", kind=positive, metavar="K")
    bottom: int | None = option(
        None,
        "number of smallest eigenvalues, which take the most products (default: 1 for the Hessian; 0 for the other "
        "matrices, which have no negative ones with usual losses)",
        kind=natural,
        metavar="K",
    )
    trace_error: float = option(0.02, "relative standard error of the trace", kind=above_zero, metavar="REL")
    max_trace_products: int = option(
        500, "largest number of products for the trace", kind=positive, old=("trace_most",), metavar="N"
    )
    probes: int = option(
        1,
        "number of random vectors for the spectral density; the first needs no further products, several give an error "
        "band",
        kind=positive,
        metavar="N",
    )
    steps: int = option(80, "products for each further random vector", kind=positive, metavar="N")
    damping: float = option(
        5e-4,
        "regularization z in the effective dimension, the sum of v / (v + z) over the eigenvalues v; to match a weight "
        "decay, give the weight decay",
        kind=above_zero,
        old=("z",),
        metavar="Z",
    )
    layers: bool = option(False, "compute the largest eigenvalue of each layer's diagonal block as well")
    activations: tuple[str, ...] | None = option(
        None,
        "compute the trace of the matrix with respect to the activations of layers whose name or type matches one of "
        "these regular expressions (without a pattern: of every layer)",
        kind=pattern,
        many="*",
        metavar="PATTERN",
    )
    activation_site: ActivationSite = option(
        "output",
        "with --activations: the outputs of the layers, or their inputs",
        old=("at",),
    )
    activation_error: float = option(
        0.1, "relative standard error of each trace with respect to activations", kind=above_zero, metavar="REL"
    )
    max_activation_probes: int = option(
        30,
        "largest number of random vectors for these traces; each costs about one gradient per layer, and "
        "for other matrices than the Hessian about three in all",
        kind=positive,
        old=("activation_most",),
        metavar="N",
    )
    seed: int = option(0, "seed of the random vectors", kind=natural)

    def __post_init__(self) -> None:
        bottom = self.bottom or 0
        if self.top + bottom > self.max_products:
            raise BadUsage(
                f"{self.top} largest and {bottom} smallest eigenvalues are more than {self.max_products} products "
                f"can give: raise {named('max_products')}"
            )

    def of_matrix(self, matrix: CurvatureMatrix) -> "SpectrumSettings":
        """Choose the number of smallest eigenvalues by the matrix, where none is given."""
        return self if self.bottom is not None else replace(self, bottom=1 if matrix == "hessian" else 0)
