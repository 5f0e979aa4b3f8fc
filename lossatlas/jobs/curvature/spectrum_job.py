"""The spectrum of a Hessian, from its inputs to a finished file: on any number of ranks, continued where it stopped."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch

from lossatlas.data.memory import in_words
from lossatlas.errors import say
from lossatlas.io import Findings
from lossatlas.io.progress import StatusLine, format_duration
from lossatlas.io.spectrum_files import FindingsKind
from lossatlas.jobs.curvature.curvature_quantity import LoadedJob
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.spectrum_parts import SpectrumSettings, compute_parts
from lossatlas.jobs.inputs.output_files import check_space
from lossatlas.landscape.plan import ExecutionPlan, PlannedPath
from lossatlas.mpi.communicator import World
from lossatlas.mpi.rank_resources import has_cuda
from lossatlas.process import how_to_continue, stopped_by

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SpectrumQuantity:
    """The spectrum of a Hessian, as a command computes it: a `CurvatureQuantity` whose result is the findings."""

    settings: SpectrumSettings
    kind: ClassVar[FindingsKind] = "spectrum"

    @property
    def seed(self) -> int:
        """The seed of the random vectors."""
        return self.settings.seed

    def check_files(self, path: Path) -> None:
        """Do nothing: no other file is written."""

    def new_findings(self, fresh: Findings) -> Findings:
        """Return the findings of the Hessian, whose request is complete."""
        return fresh

    def say_cost(self, job: LoadedJob, path: Path) -> None:
        """Print the time and the memory that the job needs: from one product with all samples, by one rank."""
        if job.packed.cuda and not has_cuda():
            say("time: not measured, because there is no CUDA device here")
            return
        hessian, wanted = job.packed.share(World()).hessian, self.settings
        vector_size = hessian.size * hessian.dtype.itemsize
        file_size = vector_size * (wanted.top + (wanted.bottom or 0))
        check_space(path, file_size)
        began = time.perf_counter()
        hessian(torch.ones(hessian.size, dtype=hessian.dtype, device=hessian.device)).sum().item()
        seconds = time.perf_counter() - began
        products = wanted.max_products + wanted.max_trace_products + (wanted.probes - 1) * wanted.steps
        more = ", and more for layers and activations" * (wanted.layers or wanted.activations is not None)
        say(f"spectrum file: about {in_words(file_size)}")
        say(
            f"time: about {seconds:.3g} s for a product on one rank, and at most {products} products for eigenvalues, "
            f"trace and density: up to {format_duration(products * seconds)}{more}"
        )
        basis = in_words(vector_size * wanted.max_products)
        say(f"memory: up to {basis} for the vectors of a run of Lanczos, beside the network and the data")

    def compute(self, operator: DistributedHessian, output: FindingsOutput) -> None:
        """Compute the parts that the output lacks, see `compute_spectrum`."""
        compute_spectrum(operator, self.settings, output, known=lambda part: say(f"{part}: in the file already"))

    def result(self, operator: DistributedHessian, findings: Findings, net: "nn.Module") -> Findings:
        """Return the findings."""
        return findings


def compute_spectrum(
    operator: DistributedHessian,
    settings: SpectrumSettings,
    output: FindingsOutput,
    *,
    shown: bool = True,
    known: Callable[[str], None] = lambda part: None,
) -> Findings:
    """Compute on rank 0 the parts of a spectrum that the output lacks, and save each when it is finished.

    Args:
        operator: The Hessian, which all ranks compute; after a signal that it has caught, the job ends between two
            products.
        settings: The parts, and how exact they are to be.
        output: The findings so far.
        shown: Print the progress.
        known: Called with the name of each part that is there already.

    Returns:
        The complete spectrum.

    Raises:
        Incomplete: A signal came; the finished parts are saved.
        BadInput: The network or its loss is random.
        CannotWrite: The file cannot be written; found at the start, not after the first part.
    """
    findings = output.findings
    path: PlannedPath = "folded" if operator.folded else "not folded"
    plan: ExecutionPlan = {**findings.plan, "path": path, "compiled": operator.share.settings.compiled}
    output.save(replace(findings, plan=plan))
    return compute_parts(
        operator,
        settings,
        output.findings,
        probes=operator.probes(),
        save=output.save,
        during=lambda part: reporting(part, operator.caught, shown=shown, saved=output.path is not None),
        known=known,
    )


@contextmanager
def reporting(
    part: str, caught: list[int], *, shown: bool = True, saved: bool = True
) -> Iterator[Callable[[int, float], None]]:
    """Show the progress of a part of a spectrum.

    Args:
        part: The name of the part.
        caught: The signals received, see `process.signals`.
        shown: Print the progress.
        saved: The parts before this one are in a file.

    Yields:
        A function of the products so far and the error, called after each product. It raises Incomplete after a signal.
    """
    line, last = StatusLine(), (0, 0.0)
    words = {"trace": "standard error", "activations": "relative standard error", "density": ""}
    quantity = words.get(part, "relative residual")  # a density has no residual: its vectors have all of their products
    unit = "probes" if part == "activations" else "products"

    def state(count: int, error: float) -> str:
        return f"{part}: {count} {unit}" + (f", {quantity} {error:.2g}" if quantity else "")

    def progress(count: int, error: float) -> None:
        nonlocal last
        last = count, error
        if caught:
            before = f"saved, {how_to_continue()}" if saved else "computed"
            raise stopped_by(caught[0], f" in the part '{part}'; the parts before it are {before}")
        if shown:
            line.show(state(count, error))

    yield progress
    if shown:
        line.end(state(*last) if last[0] else f"{part}: from what is there")
