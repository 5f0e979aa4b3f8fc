"""The spectrum of a Hessian, from its inputs to a finished file: on any number of ranks, continued where it stopped."""

from collections.abc import Callable
from dataclasses import replace

from lossatlas.io import Findings
from lossatlas.jobs.cell_loop import reporting
from lossatlas.jobs.distributed_hessian import DistributedHessian
from lossatlas.jobs.hessian_job import FindingsOutput
from lossatlas.jobs.spectrum_parts import SpectrumSettings, compute


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
        operator: The Hessian, which all ranks compute; after a signal that it has caught, the job ends between two products.
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
        during=lambda part: reporting(part, operator.caught, shown=shown),
        known=known,
    )
