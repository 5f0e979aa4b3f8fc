"""The parts of a Hessian's spectrum: eigenvalues, trace, density, blocks of layers, activations, effective dimension.

    findings = compute_parts(operator, SpectrumSettings(top=5), findings)

Parts that the findings lack, or that are less exact than asked for, are computed; the others are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lossatlas.config import SpectrumSettings
from lossatlas.hessian.activations import Layer, traces
from lossatlas.hessian.density import density
from lossatlas.hessian.effective_dimension import effective_dimension
from lossatlas.hessian.lanczos import Basis, Operator, Pairs, lanczos, quadrature_rule
from lossatlas.hessian.operator_checks import check_deterministic
from lossatlas.hessian.trace import hutchinson
from lossatlas.io.resume import merged_settings, satisfies
from lossatlas.io.spectrum_files import DENSITY_ARRAYS, Findings

PartProgress = Callable[[int, float], None]  # products (or probes) so far, and how exact it is
Part = Callable[[PartProgress, Mapping[str, Any]], dict[str, Any]]


class Products(Operator, Protocol):
    """A Hessian, in one process or distributed over ranks: products with it, and with the blocks of its layers."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def shapes(self) -> Sequence[torch.Size]: ...

    @property
    def semidefinite(self) -> bool: ...

    def block(self, names: Sequence[str]) -> Operator: ...


@dataclass(frozen=True)
class ActivationProbes:
    """Samples of the traces with respect to activations, see `hessian.Activations`.

    Attributes:
        probe: Returns a sample of each trace (layers,), by the number of the probe.
        layers: Returns the layers.
    """

    probe: Callable[[int], Tensor]
    layers: Callable[[], Sequence[Layer]]


BASIS = ("lanczos/basis", "lanczos/captured")  # of a run of Lanczos, as long as other parts need it
SMALL_BASIS = 256_000_000  # bytes of it that a file may hold


def compute_parts(
    operator: Products,
    wanted: SpectrumSettings,
    findings: Findings,
    *,
    probes: ActivationProbes | None = None,
    save: Callable[[Findings], None] = lambda findings: None,
    during: Callable[[str], AbstractContextManager[PartProgress]] = lambda part: nullcontext(lambda count, error: None),
    known: Callable[[str], None] = lambda part: None,
) -> Findings:
    """Compute every part that the findings lack, the effective dimension last.

    Args:
        operator: The Hessian.
        wanted: The parts, and how exact they are to be.
        findings: The parts that an earlier run has finished.
        probes: Samples of the traces with respect to activations, where these are asked for.
        save: Called with the findings after each part.
        during: Returns, for the time of a part, a function that is called with its progress.
        known: Called with the name of each part that is there already.

    Returns:
        All findings.

    Raises:
        BadInput: The network or its loss is random.
    """
    parts = Parts(operator, wanted, findings, probes)
    for name, (settings, make) in parts.asked().items():
        done = parts.findings.about.get("parts", {})
        if satisfies(name, done.get(name, {}), settings, parts.findings.arrays) and not parts.lost_basis(name):
            known(name)
            continue
        if not parts.findings.about.get("deterministic"):
            check_deterministic(operator)
        settings = merged_settings(done.get(name, {}), settings)
        with during(name) as progress:
            arrays = make(progress, settings)
        parts.about |= {"deterministic": True, "parts": {**done, name: settings}}
        parts.findings = parts.findings.with_arrays(arrays, **parts.about)
        if name == "density":
            parts.findings = parts.findings.without(*BASIS)
        save(parts.findings)
    result = parts.findings.with_arrays(dimension(parts.findings, operator.size, wanted.damping))
    save(result)
    return result


class Parts:
    """The functions that compute the parts of a spectrum.

    Attributes:
        about: The names of layers, parameters and activations.
    """

    def __init__(
        self, operator: Products, wanted: SpectrumSettings, findings: Findings, probes: ActivationProbes | None
    ) -> None:
        self.operator, self.wanted, self.findings, self.probes = operator, wanted, findings, probes
        self.layers = layer_blocks(operator)
        self.pairs: Pairs | None = None
        self.about: dict[str, Any] = {
            "layers": [name for name, _, _ in self.layers],
            "parameters": [[n, list(s)] for n, s in zip(operator.names, operator.shapes, strict=True)],
        }

    def asked(self) -> dict[str, tuple[dict[str, Any], Part]]:
        """Return the settings of each part that is asked for and the function that computes it, in this order."""
        w = self.wanted
        search = {"tolerance": w.tolerance, "most": w.max_products, "seed": w.seed}
        probing = {"error": w.trace_error, "most": w.max_trace_products, "seed": w.seed}
        parts: dict[str, tuple[dict[str, Any], Part]] = {
            "eigenvalues": ({"top": w.top, "bottom": w.bottom or 0, **search}, self.eigenvalues),
            "trace": (probing, self.trace),
            "density": ({"probes": w.probes, "steps": w.steps, "seed": w.seed}, self.density),
        }
        if w.layers:
            parts["layers"] = (search, self.blocks)
        if w.activations is not None:
            settings = {"patterns": list(w.activations), "at": w.activation_site, "error": w.activation_error}
            parts["activations"] = ({**settings, "most": w.max_activation_probes, "seed": w.seed}, self.activations)
        return parts

    def lost_basis(self, name: str) -> bool:
        """Return whether the file holds the eigenvalues, but neither the trace nor the basis from which it is computed.

        A basis above SMALL_BASIS is not saved. The eigenvalues are then computed again, with the same bits, so that a
        run that was killed in between gives the same trace.
        """
        arrays = self.findings.arrays
        there = "lanczos/alphas" in arrays and BASIS[0] not in arrays
        return name == "eigenvalues" and there and "trace" not in self.findings.about.get("parts", {})

    def eigenvalues(self, progress: PartProgress, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the extreme eigenvalues and their vectors, with the basis of Lanczos where it is small."""
        self.pairs = found = lanczos(self.operator, **lanczos_keywords(settings), progress=progress)
        top = len(found.values) - min(settings["bottom"], len(found.values))
        result = {
            "eigenvalues": found.values[:top],
            "residuals": found.residuals[:top],
            "converged": found.converged[:top],
            "bounds": bounds_of(found, semidefinite=self.operator.semidefinite),
            "smallest": found.values[top:][::-1],
            "smallest_residuals": found.residuals[top:][::-1],
            "smallest_converged": found.converged[top:][::-1],
            "eigenvectors": found.vectors.cpu().numpy(),
            "eigenvalue_products": found.products,
            "lanczos/alphas": found.alphas,
            "lanczos/betas": found.betas,
        }
        if found.basis.nbytes <= SMALL_BASIS:  # until trace and density, which need it, are there
            result |= dict(zip(BASIS, (found.basis.stacked().cpu().numpy(), found.captured.cpu().numpy()), strict=True))
        if settings["bottom"]:
            result |= {"min_eig": found.values[-1], "min_eig_residual": found.residuals[-1]}
        return result

    def trace(self, progress: PartProgress, settings: Mapping[str, Any]) -> dict[str, Any]:
        # Where a finished spectrum is improved, the vectors are all that is left of the basis.
        """Estimate the trace, of all parameters and of each layer's block, with the basis of the eigenvalues."""
        found = hutchinson(
            self.operator,
            tolerance=settings["error"],
            max_products=settings["most"],
            seed=settings["seed"] + 1,
            known=self.pairs or SavedBasis.of(self.findings, self.operator),
            blocks=[size for _, _, size in self.layers],
            progress=progress,
        )
        return {
            "trace": found.value,
            "trace_se": found.error,
            "trace_products": found.products,
            "layers/size": [size for _, _, size in self.layers],
            "layers/trace": found.blocks,
            "layers/trace_se": found.block_errors,
        }

    def density(self, progress: PartProgress, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Estimate the density, whose first quadrature rule is the one of the eigenvalues."""
        steps = min(settings["steps"], self.operator.size)
        a = self.findings.arrays
        rule = quadrature_rule(a["lanczos/alphas"], a["lanczos/betas"]) if "lanczos/alphas" in a else None
        found = density(self.operator, **{**settings, "steps": steps}, first=rule, progress=progress)
        return {f"density/{name}": getattr(found, name) for name in DENSITY_ARRAYS}

    def blocks(self, progress: PartProgress, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the largest eigenvalue of each layer's block."""
        values, residuals, converged, done = [], [], [], 0
        for _, names, _ in self.layers:
            block = self.operator.block(names)
            found = lanczos(
                block,
                top=1,
                **lanczos_keywords(settings),
                progress=lambda n, r: progress(done + n, r),  # noqa: B023
            )
            values.append(found.values[0])
            residuals.append(found.residuals[0])
            converged.append(found.converged[0])
            done += found.products
        fields = ("layers/max_eig", "layers/max_eig_residual", "layers/max_eig_converged")
        return dict(zip(fields, (values, residuals, converged), strict=True))

    def activations(self, progress: PartProgress, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Estimate the trace of the matrix with respect to the activations of each layer."""
        assert self.probes is not None
        seen = self.probes.layers()
        found = traces(
            self.probes.probe,
            seen,
            tolerance=settings["error"],
            max_probes=settings["most"],
            seed=settings["seed"],
            progress=progress,
        )
        self.about["activations"] = [[name, kind, list(shape)] for name, kind, shape in seen]
        names = ("activations/trace", "activations/trace_se", "activations/probes")
        return dict(zip(names, (found.values, found.errors, found.probes), strict=True))


def bounds_of(found: Pairs, *, semidefinite: bool) -> tuple[float, float]:
    """Return bounds of all eigenvalues, see `hessian.lanczos.Pairs`.

    Args:
        found: The eigenvalues that were computed.
        semidefinite: No eigenvalue is negative, so that 0 is a lower bound, or a value that rounding made negative.
    """
    low, high = found.bounds
    return (max(low, min(0.0, float(found.values.min()))) if semidefinite else low), high


def dimension(findings: Findings, size: int, z: float) -> dict[str, Any]:
    """Return the effective dimension from the eigenvalues, with bounds for those that were not computed."""
    a = findings.arrays
    highest = float(a["bounds"][1])
    every = np.concatenate([a["eigenvalues"], a.get("smallest", np.zeros(0))])
    known = every if len(every) >= size else a["eigenvalues"]
    found = effective_dimension(known, z, size=size, highest=highest, spectrum=findings.density())
    return {
        "effective_dimension": [found.known, found.low, found.high],
        "effective_dimension_estimate": [found.value, found.error],
        "z": z,
    }


@dataclass(frozen=True)
class SavedBasis:
    """A saved basis, or eigenvectors, with the part of the trace in their span: a `hessian.lanczos.CapturedBasis`."""

    basis: Basis
    captured: Tensor

    @classmethod
    def of(cls, findings: Findings, operator: Operator) -> "SavedBasis":
        """Return the basis in a file; otherwise the eigenvectors of the file as a basis."""
        a = findings.arrays
        if BASIS[0] in a:
            vectors, captured = (torch.from_numpy(a[name]).to(operator.device) for name in BASIS)
            return cls(Basis.of(vectors, operator.device), captured)
        vectors = torch.from_numpy(a["eigenvectors"]).to(operator.device, operator.dtype)
        values = torch.from_numpy(findings.eigenpairs().values)
        basis = Basis(operator.size, operator.dtype, operator.device)
        for vector in vectors:
            basis.add(vector)
        return cls(basis, values.to(operator.device) @ vectors.double() ** 2)


def lanczos_keywords(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords of `lanczos` for recorded settings, in which `max_products` has the name 'most'."""
    return {"max_products" if name == "most" else name: value for name, value in settings.items()}


def layer_blocks(operator: Products) -> list[tuple[str, list[str], int]]:
    """Return for each module its name, the names of its parameters and their size, in the order of the vector."""
    result: list[tuple[str, list[str], int]] = []
    for name, shape in zip(operator.names, operator.shapes, strict=True):
        owner = name.rpartition(".")[0] or name
        if result and result[-1][0] == owner:
            result[-1] = (owner, [*result[-1][1], name], result[-1][2] + shape.numel())
        else:
            result.append((owner, [name], shape.numel()))
    return result
