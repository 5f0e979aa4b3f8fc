"""Files of findings (spectrum, sharpness, learning coefficient), with request, plan and metadata as surfaces have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io.hdf5 import check_seal, checksum, get_text, opened, read_json, read_plan, seal, set_text, write
from lossatlas.landscape.chain_statistics import LearningCoefficientEstimate, estimate_coefficient
from lossatlas.landscape.plan import ExecutionPlan
from lossatlas.landscape.spectrum import Dimension, Spectrum, TraceEstimate
from lossatlas.programs import program

FindingsKind = Literal["spectrum", "sharpness", "learning_coefficient", "learning_coefficients"]
FORMATS: dict[FindingsKind, str] = {
    "spectrum": "hessian spectrum 1",
    "sharpness": "sharpness 1",
    "learning_coefficient": "learning coefficient 1",
    "learning_coefficients": "learning coefficients 1",
}
WRITERS: dict[FindingsKind, str] = {  # commands
    "spectrum": "hessian_spectrum",
    "sharpness": "sharpness",
    "learning_coefficient": "learning_coefficient",
    "learning_coefficients": "learning_coefficient",
}
FILE_OPTIONS: dict[FindingsKind, str] = {
    "spectrum": "spectrum_file",
    "sharpness": "sharpness_file",
    "learning_coefficient": "coefficient_file",
    "learning_coefficients": "coefficient_file",
}
DENSITY_ARRAYS = ("grid", "density", "density_se", "cumulative", "cumulative_se", "nodes", "weights", "sigma")
SEALED = ("format", "request", "plan", "about")  # attributes with a checksum of their own


class Eigenpairs(NamedTuple):
    """Eigenvalues of a spectrum: the largest ones from the top, then the smallest ones, the smallest of all last.

    Attributes:
        values: (k,) eigenvalues.
        residuals: (k,) norms of H v - lambda v of the eigenvectors v of unit length.
        resolved: (k,) mask of the eigenvalues that are resolved; empty in files of earlier versions.
    """

    values: np.ndarray
    residuals: np.ndarray
    resolved: np.ndarray


class PathCheckpoint(NamedTuple):
    """A checkpoint in a file of the local learning coefficients of a run.

    Attributes:
        key: The beginning of the digest of its weights, under which its arrays are stored.
        name: The name of its file.
        epoch: Its epoch or step; None where it is not known.
    """

    key: str
    name: str
    epoch: float | None


@dataclass(frozen=True)
class Findings:
    """The contents of a file of findings.

    Attributes:
        arrays: Arrays by name.
        request: The configuration that decides the results.
        plan: The execution plan, which decides the last digits.
        about: Metadata.
        kind: A key of FORMATS.
    """

    arrays: Mapping[str, np.ndarray]
    request: Mapping[str, Any]
    plan: ExecutionPlan = field(default_factory=ExecutionPlan)
    about: Mapping[str, Any] = field(default_factory=dict)
    kind: FindingsKind = "spectrum"

    @property
    def sha256(self) -> str:
        """SHA-256 over the arrays."""
        return checksum(self.arrays)

    def eigenpairs(self) -> Eigenpairs:
        """Return the eigenvalues, in the order of the eigenvectors; empty arrays where they are not computed yet."""
        return Eigenpairs(
            self._joined("eigenvalues", "smallest"),
            self._joined("residuals", "smallest_residuals"),
            self._joined("converged", "smallest_converged").astype(bool),
        )

    def _joined(self, largest: str, smallest: str) -> np.ndarray:
        """Return the arrays of the largest and of the smallest eigenvalues in one."""
        if largest not in self.arrays:
            return np.zeros(0)
        return np.concatenate([self.arrays[largest], self.arrays.get(smallest, np.zeros(0, bool))[::-1]])

    def vector(self, number: int) -> dict[str, np.ndarray]:
        """Return an eigenvector by parameter name.

        Args:
            number: The position of its eigenvalue in `eigenpairs`.

        Returns:
            float32 arrays in the shapes of the parameters.
        """
        flat, result = self.arrays["eigenvectors"][number].astype(np.float32), dict[str, np.ndarray]()
        for name, shape in self.about["parameters"]:
            count = int(np.prod(shape))
            result[name], flat = flat[:count].reshape(shape), flat[count:]
        return result

    def trace(self) -> TraceEstimate | None:
        """Return the trace, with the traces of the layers' diagonal blocks; None where it is not computed yet."""
        a = self.arrays
        if "trace" not in a:
            return None
        blocks = a["layers/trace"], a["layers/trace_se"]
        return TraceEstimate(float(a["trace"]), float(a["trace_se"]), int(a["trace_products"]), *blocks)

    def density(self) -> Spectrum | None:
        """Return the density of the eigenvalues; None where it is not computed yet."""
        if "density/grid" not in self.arrays:
            return None
        curves: dict[str, Any] = {name: self.arrays[f"density/{name}"] for name in DENSITY_ARRAYS}
        return Spectrum(**{**curves, "sigma": float(curves["sigma"])}, products=0)

    def learning_coefficient(self) -> LearningCoefficientEstimate:
        """Return the local learning coefficient from the finished chains.

        Raises:
            BadInput: No chain is finished.
        """
        if "differences" not in self.arrays:
            raise BadInput("no chain is finished yet")
        beta, noise = float(self.request["inverse_temperature"]), float(self.arrays["noise"])
        first_order = self.arrays.get("first_order")  # earlier versions did not record it
        return estimate_coefficient(self.arrays["differences"], self.arrays["slopes"], beta, noise, first_order)

    def path_checkpoints(self) -> list[PathCheckpoint]:
        """Return the checkpoints of a file of the local learning coefficients of a run, in their order."""
        return [PathCheckpoint(*each) for each in self.about["checkpoints"]]

    def of_checkpoint(self, checkpoint: PathCheckpoint) -> "Findings":
        """Return what the file of a run holds of one checkpoint, as the file of a single network has it."""
        start = f"{checkpoint.key}/"
        own = {name.removeprefix(start): array for name, array in self.arrays.items() if name.startswith(start)}
        return replace(self, arrays=own, kind="learning_coefficient")

    def dimension(self) -> Dimension | None:
        """Return the effective dimension; None where it is not computed yet."""
        a = self.arrays
        if "effective_dimension" not in a:
            return None
        return Dimension(*map(float, [*a["effective_dimension"], *a.get("effective_dimension_estimate", ())]))

    def with_arrays(self, arrays: Mapping[str, Any], **about: Any) -> "Findings":
        """Add arrays and metadata."""
        new = {name: np.asarray(array) for name, array in arrays.items()}
        return replace(self, arrays={**self.arrays, **new}, about={**self.about, **about})

    def without(self, *names: str) -> "Findings":
        """Remove arrays."""
        return replace(self, arrays={name: array for name, array in self.arrays.items() if name not in names})


def write_findings(path: str | Path, findings: Findings) -> None:
    """Write a file of findings atomically.

    Raises:
        CannotWrite: The file cannot be written.
    """

    def fill(f: h5py.File) -> None:
        for name, array in findings.arrays.items():
            f.create_dataset(name, data=array)
        set_text(f, "format", FORMATS[findings.kind])
        set_text(f, "sha256", findings.sha256)
        for name in ("request", "plan", "about"):
            set_text(f, name, json.dumps(dict(getattr(findings, name))))
        seal(f, SEALED)

    write(path, fill)


def is_findings(path: str | Path) -> bool:
    """Test whether an HDF5 file is a file of findings.

    Raises:
        BadInput: The file cannot be read.
    """
    with opened(path) as f:
        return get_text(f, "format") in FORMATS.values()


def read_findings(path: str | Path, kind: FindingsKind | Literal[""] = "spectrum") -> Findings:
    """Read a file of findings.

    Args:
        path: The file.
        kind: A key of FORMATS, '' for any.

    Raises:
        BadInput: The file is of another kind, or damaged.
    """
    with opened(path) as f:
        found = {form: name for name, form in FORMATS.items()}.get(get_text(f, "format") or "")
        if found is None or kind not in ("", found):
            raise BadInput(f"{path} is no {kind or 'spectrum'} file of {program(WRITERS[kind or 'spectrum'])}")
        check_seal(f, SEALED)
        arrays: dict[str, np.ndarray] = {}
        f.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        if checksum(arrays) != get_text(f, "sha256"):
            raise BadInput(f"{path} is damaged: its data do not have the checksum that it records")
        return Findings(arrays, read_json(f, "request"), read_plan(f), read_json(f, "about"), found)
