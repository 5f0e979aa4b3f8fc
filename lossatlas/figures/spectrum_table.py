"""The findings of a spectrum file as lines of text."""

import numpy as np

from lossatlas.errors import named
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.spectrum import matrix_name


def spectrum_table(findings: Findings) -> list[str]:
    """Return the findings as lines of text; the last one says where parts are missing."""
    a, about = findings.arrays, findings.about
    split = f", {findings.request['split']}" if "split" in findings.request else ""
    size = sum(int(np.prod(shape)) for _, shape in about.get("parameters", []))
    lines = [f"{matrix_name(findings.request)} of the mean loss ({_loss_name(findings)}{split}), {size:,} parameters:"]
    if "bounds" in a:
        lines += _eigenvalues(findings)
    if "trace" in a:
        lines.append(
            f"trace: {float(a['trace']):.6g} +- {float(a['trace_se']):.2g}"
            f" ({int(a['trace_products'])} products after {int(a['eigenvalue_products'])} for the eigenvalues)"
        )
    if "effective_dimension" in a:
        known, low, high = a["effective_dimension"]
        value, error = a.get("effective_dimension_estimate", (np.nan, np.nan))  # missing in files of earlier versions
        lines.append(
            f"effective dimension at z = {float(a['z']):g}: "
            + (f"{value:.4g} +- {error:.2g}; " if error < value else "")  # too few steps to say
            + f"{known:.4g} from these eigenvalues, between {low:.4g} and {high:.4g} with all others "
            f"(closer with more {named('top')}, {named('probes')} and {named('steps')})"
        )
    lines += [*_layers(findings), *_activations(findings)]
    return lines if "effective_dimension" in a else [*lines, "not complete: it was stopped before the other parts"]


def _loss_name(findings: Findings) -> str:
    """Return the name of the loss; of a function that Python was given, its module and name."""
    return str(findings.request.get("loss", findings.request.get("loss_function", "")))


def _eigenvalues(findings: Findings) -> list[str]:
    a = findings.arrays
    lines = ["     eigenvalue    residual"]
    numbers = [f"{k}" for k in range(1, 1 + len(a["eigenvalues"]))]
    rows = [*zip(numbers, a["eigenvalues"], a["residuals"], a["converged"], strict=True)]
    if len(a["smallest"]):
        labels = ["min", *[f"min+{k}" for k in range(1, len(a["smallest"]))]]
        smallest = [*zip(labels, a["smallest"], a["smallest_residuals"], a["smallest_converged"], strict=True)]
        rows += smallest[::-1]
    for label, value, residual, resolved in rows:
        note = "" if resolved else f" not resolved: more products with {named('max_products')}"
        lines.append(f"{label:>5} {value:12.6g} {residual:9.1e}{note}")
    below, above = a["bounds"]
    lines.append(f"no eigenvalue is below {below:.6g} or above {above:.6g} (each with probability 1 - 1e-3)")
    return lines


def _layers(findings: Findings) -> list[str]:
    a = findings.arrays
    if "layers/trace" not in a:
        return []
    top = a.get("layers/max_eig")
    lines = ["blocks of the layers:  parameters         trace" + ("   largest eigenvalue" if top is not None else "")]
    for k, name in enumerate(findings.about["layers"]):
        value, error = a["layers/trace"][k], a["layers/trace_se"][k]
        line = f"  {name:<24} {int(a['layers/size'][k]):9,} {value:11.5g} +- {error:.1e}"
        if top is not None:
            line += f" {top[k]:11.5g}" + " not resolved" * (not a["layers/max_eig_converged"][k])
        lines.append(line)
    return lines


def _activations(findings: Findings) -> list[str]:
    a, about = findings.arrays, findings.about
    if "activations/trace" not in a:
        return []
    where = about["parts"]["activations"]["at"]
    lines = [f"with respect to activations ({where}s), mean over the samples:  trace"]
    for k, (name, kind, shape) in enumerate(about["activations"]):
        value, error = a["activations/trace"][k], a["activations/trace_se"][k]
        lines.append(f"  {name:<24} {kind:<14} {'x'.join(map(str, shape)):<12} {value:11.5g} +- {error:.1e}")
    return lines
