"""Sharpness of a minimum, from its inputs to a finished file: on any number of ranks, continued where it stopped."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from lossatlas.config import RiseOptions
from lossatlas.errors import BadInput, BadUsage, counted, named, say
from lossatlas.io import Directions, Findings, read_directions, write_directions
from lossatlas.io.spectrum_files import FindingsKind
from lossatlas.jobs.curvature.curvature_quantity import LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.hessian.sharpness_measures import Rise

RiseKind = Literal["plain", "adaptive"]  # of changes of a length, and of changes of a length relative to each parameter
KINDS: tuple[RiseKind, ...] = get_args(RiseKind)
WORST = "change"  # the word with which a direction file describes the change with the largest rise
COLUMNS = ("radius", "worst", "steps", "average", "average_se")
CRITICAL_LOSSES = 40  # about as many losses are computed for the critical sharpness


@dataclass(frozen=True)
class SharpnessSettings:
    """The radii, and how thoroughly the rise of the loss is searched for.

    Attributes:
        rho: Radii of the ball, increasing.
        adaptive_rho: Radii for changes relative to each parameter, increasing.
        steps: The limit of the number of gradients for each radius.
        directions: The number of random directions for the average.
        seed: The seed of the random directions, and of the mini-batches.
        minibatch: The samples of a mini-batch, whose own rises are computed; None for none.
        minibatches: The largest number of mini-batches.
    """

    rho: Sequence[float]
    adaptive_rho: Sequence[float]
    steps: int
    directions: int
    seed: int
    minibatch: int | None = None
    minibatches: int = 32

    @classmethod
    def of(cls, options: RiseOptions) -> "SharpnessSettings":
        """Return the settings of options, with increasing radii."""
        return cls(
            rho=sorted(set(options.rho)),
            adaptive_rho=sorted(set(options.adaptive_rho)),
            steps=options.steps,
            directions=options.directions,
            seed=options.seed,
            minibatch=options.minibatch,
            minibatches=options.minibatches,
        )

    def radii(self, kind: RiseKind) -> Sequence[float]:
        """Return the radii of one of KINDS."""
        return self.adaptive_rho if kind == "adaptive" else self.rho

    @property
    def kinds(self) -> list[RiseKind]:
        """The kinds of changes that have a radius."""
        return [kind for kind in KINDS if self.radii(kind)]

    @property
    def cost(self) -> tuple[int, int]:
        """The limits of the numbers of gradients and of losses, without those for the critical sharpness."""
        from lossatlas.hessian.sharpness_measures import RADIUS_FRACTIONS

        radii = len(self.rho) + len(self.adaptive_rho)
        return radii * self.steps, radii * (self.directions + 2 * len(RADIUS_FRACTIONS) + 1)


@dataclass(frozen=True)
class SharpnessResult:
    """Complete findings, and the changes with the largest rises as directions."""

    findings: Findings
    worst: Directions


@dataclass(frozen=True)
class SharpnessQuantity:
    """The sharpness of a minimum: a `CurvatureQuantity`.

    Attributes:
        settings: The radii, and the effort of the search.
        shown: Print a line for each radius.
    """

    settings: SharpnessSettings
    shown: bool = True
    kind: ClassVar[FindingsKind] = "sharpness"

    @property
    def seed(self) -> int:
        """The seed of the random directions."""
        return self.settings.seed

    def say(self, line: str) -> None:
        """Print a line where the progress is shown."""
        if self.shown:
            say(line)

    def check_files(self, path: Path) -> None:
        """Raise BadInput where something else has the name of the direction file."""
        check_worst(worst_file(path))

    def new_findings(self, fresh: Findings) -> Findings:
        """Return findings without any result.

        Args:
            fresh: The findings of the Hessian, which identify network, data and loss.
        """
        request = {name: value for name, value in fresh.request.items() if name != "matrices_only"}  # all tensors move
        own = {
            "rho": list(self.settings.rho),
            "adaptive_rho": list(self.settings.adaptive_rho),
            "steps": self.settings.steps,
            "directions": self.settings.directions,
            "seed": self.settings.seed,
            **({} if self.settings.minibatch is None else {"minibatch": self.settings.minibatch}),
        }
        return replace(fresh, request={**request, **own}, kind=self.kind)

    def say_cost(self, job: LoadedJob, path: Path) -> None:
        """Print the limits of the work."""
        gradients, losses = self.settings.cost
        critical = f"some {CRITICAL_LOSSES} losses for the critical sharpness"
        say(f"at most {gradients} gradients and {losses} losses, and {critical}")
        if self.settings.minibatch is not None:
            radii = len(self.settings.rho) + len(self.settings.adaptive_rho)
            say(
                f"{self.settings.minibatches} mini-batches of {self.settings.minibatch} samples: a gradient and "
                f"{radii} losses of each"
            )

    def compute(self, operator: DistributedHessian, output: FindingsOutput) -> None:
        """Compute on rank 0 what the output lacks, and save it and print a line after each radius.

        Args:
            operator: The loss and its gradients, which all ranks compute; after a signal that it has caught, the job
                ends.
            output: The findings so far.

        Raises:
            Incomplete: A signal came; the finished radii are saved.
            BadInput: The loss is not finite.
            CannotWrite: The file cannot be written; found at the start, not after the first radius.
        """
        from lossatlas.hessian.sharpness_measures import critical_sharpness

        output.save(output.findings)
        for kind in self.settings.kinds:
            self.compute_rises(operator, output, kind)
        if self.settings.minibatch is not None:
            self.compute_minibatches(operator, output, self.settings.minibatch)
        if "critical" not in output.findings.arrays:
            value, _ = critical_sharpness(operator)
            output.add({"critical": value})

    def compute_rises(self, operator: DistributedHessian, output: FindingsOutput, kind: RiseKind) -> None:
        """Compute the rises within every radius of one kind that the output lacks, see `compute`."""
        from lossatlas.hessian.sharpness_measures import rises_within

        def add(rise: "Rise") -> None:
            row = [rise.radius, rise.worst, rise.steps, rise.average, rise.average_se]
            rows = np.vstack([rows_of(output.findings, kind), row])
            output.add({f"{kind}/rises": rows, f"{kind}/change": rise.change.cpu().numpy()})
            self.say(line_of(kind, row))

        for row in rows_of(output.findings, kind).tolist():
            self.say(f"{line_of(kind, row)}, in the file already")
        rises_within(
            operator,
            self.settings.radii(kind),
            adaptive=kind == "adaptive",
            steps=self.settings.steps,
            directions=self.settings.directions,
            seed=self.settings.seed,
            known=known_rises(output.findings, kind),
            each=add,
        )

    def compute_minibatches(self, operator: DistributedHessian, output: FindingsOutput, size: int) -> None:
        """Compute the rises of the loss of each mini-batch that the output lacks, see `compute`.

        Raises:
            BadUsage: There are fewer samples than a mini-batch has.
        """
        from lossatlas.hessian.minibatch_sharpness import choose_minibatches, minibatch_rises

        if size > operator.part_count:
            raise BadUsage(f"{named('minibatch', size)}: there are {operator.part_count} samples: give at most these")
        chosen = choose_minibatches(operator.part_count, size, self.settings.minibatches, self.settings.seed)
        radii = [self.settings.radii(kind) for kind in KINDS]
        names = [f"{kind}/minibatches" for kind in KINDS]
        arrays, weights = output.findings.arrays, operator.weights()
        known = [arrays.get(name, np.zeros((0, len(own)))) for name, own in zip(names, radii, strict=True)]
        for numbers in chosen[len(known[0]) :]:
            rows = minibatch_rises(operator, weights, numbers, *radii)
            known = [np.vstack([before, row]) for before, row in zip(known, rows, strict=True)]
            output.add(dict(zip(names, known, strict=True)))
        self.say(f"{counted(len(chosen), 'mini-batch', 'mini-batches')} of {size} samples")

    def result(self, operator: DistributedHessian, findings: Findings, net: "nn.Module") -> SharpnessResult:
        """Return the findings, and the changes with the largest rises."""
        return SharpnessResult(findings, worst_changes(findings, operator, net))


def rows_of(findings: Findings, kind: RiseKind) -> np.ndarray:
    """Return the finished radii (radii, len(COLUMNS))."""
    return findings.arrays.get(f"{kind}/rises", np.zeros((0, len(COLUMNS))))


def known_rises(findings: Findings, kind: RiseKind) -> "list[Rise]":
    """Return the finished radii. Each has the change of its largest rise, where the search for a larger one starts."""
    import torch

    from lossatlas.hessian.sharpness_measures import Rise

    change = torch.from_numpy(findings.arrays.get(f"{kind}/change", np.zeros(0, np.float32)))
    return [
        Rise(radius, worst, int(steps), change, average, error)
        for radius, worst, steps, average, error in rows_of(findings, kind).tolist()
    ]


def line_of(kind: RiseKind, row: Sequence[float]) -> str:
    """Return a radius, with the columns COLUMNS, in words."""
    radius, worst, _, average, error = row
    spread = "" if math.isnan(error) else f" +- {error:.2g}"  # of one direction there is none
    rise = f"at least {worst:.4g} at worst, by {average:.4g}{spread} on average"
    return f"{kind}, rho {radius:g}: the loss rises by {rise}"


def worst_changes(findings: Findings, operator: DistributedHessian, net: "nn.Module") -> Directions:
    """Return the changes with the largest rises as directions, one for each kind.

    Args:
        findings: The complete findings.
        operator: The operator, which knows the order of the parameters.
        net: The network, which gives the tensors that do not change.
    """
    import torch

    from lossatlas.parameter_space import as_arrays

    about: dict[str, Any] = {name: value for name, value in findings.request.items() if name in ("model", "checkpoint")}
    arrays = []
    for letter, kind in zip("xy", [kind for kind in KINDS if len(rows_of(findings, kind))], strict=False):
        change = torch.from_numpy(findings.arrays[f"{kind}/change"].astype(np.float32))
        moved = {name: piece.clone() for name, piece in operator.unflatten(change).items()}
        radius = rows_of(findings, kind)[-1, 0]
        about[letter] = f"{WORST} with the largest rise of the loss that was found within rho = {radius:g} ({kind})"
        arrays.append(as_arrays(moved, net, "weights"))
    return Directions(arrays[0], arrays[1] if len(arrays) > 1 else None, about)


def worst_file(path: Path) -> Path:
    """Return the name of the direction file beside a sharpness file."""
    return path.with_name(f"{path.name.removesuffix('.h5')}_worst.h5")


def write_worst(path: Path, changes: Directions) -> Path:
    """Write the changes with the largest rises beside a sharpness file.

    Returns:
        The direction file.

    Raises:
        BadInput: As `write_directions`.
        CannotWrite: As `write_directions`.
    """
    file = worst_file(path)
    write_directions(file, changes, new=not file.exists())
    return file


def check_worst(path: Path) -> None:
    """Raise BadInput where something else has the name of the direction file."""
    if path.exists() and not str(read_directions(path).about.get("x", "")).startswith(WORST):
        raise BadInput(
            f"{path} is no direction of sharpness.py, and would be replaced: give another {named('sharpness_file')}"
        )
