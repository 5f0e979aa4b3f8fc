"""The spectrum of a Hessian, from its inputs to a finished file: on any number of ranks, continued where it stopped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lossatlas.io import Findings
from lossatlas.io.progress import StatusLine
from lossatlas.jobs.curvature.distributed_hessian import DistributedHessian
from lossatlas.jobs.curvature.hessian_job import FindingsOutput
from lossatlas.jobs.curvature.spectrum_parts import SpectrumSettings, compute
from lossatlas.process import how_to_continue, stopped_by


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
    path, compiled = "folded" if operator.folded else "not folded", operator.share.settings.compiled
    output.save(replace(findings, plan={**findings.plan, "path": path, "compiled": compiled}))
    return compute(
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
    quantity = {"trace": "standard error", "activations": "relative standard error"}.get(part, "relative residual")
    unit = "probes" if part == "activations" else "products"

    def progress(count: int, error: float) -> None:
        nonlocal last
        last = count, error
        if caught:
            before = f"saved, {how_to_continue()}" if saved else "computed"
            raise stopped_by(caught[0], f" in the part '{part}'; the parts before it are {before}")
        if shown:
            line.show(f"{part}: {count} {unit}, {quantity} {error:.2g}")

    yield progress
    if shown:
        line.end(f"{part}: {last[0]} {unit}, {quantity} {last[1]:.2g}" if last[0] else f"{part}: from what is there")
