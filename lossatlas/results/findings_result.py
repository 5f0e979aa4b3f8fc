"""What all results of findings have: the arrays, and a way to save them."""

from dataclasses import dataclass
from pathlib import Path

from lossatlas.io import Findings
from lossatlas.results import exports


@dataclass(frozen=True, repr=False)
class FindingsResult:
    """A result that consists of the arrays of its file.

    Attributes:
        findings: Arrays by name, as the file holds them.
    """

    findings: Findings

    def save(self, file: str | Path) -> None:
        """Write the result to a file, in the format that its ending says.

        Args:
            file: A name that ends in .h5 or .hdf5 (of a spectrum, the commands take its vectors as directions), or in
                .npz (arrays that `numpy.load` reads).

        Raises:
            BadUsage: The ending is another one.
            CannotWrite: The file cannot be written.
        """
        exports.save_findings(file, self.findings)
