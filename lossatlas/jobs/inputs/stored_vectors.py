"""Read the vectors that an axis names: an eigenvector of a spectrum file, or a direction of a direction file."""

from pathlib import Path
from typing import TYPE_CHECKING

from lossatlas import config
from lossatlas.errors import BadInput, counted
from lossatlas.io import read_directions, read_findings
from lossatlas.io.spectrum_files import is_findings
from lossatlas.programs import program

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.parameter_space import Point


def from_file(axis: config.AxisConfig, net: "nn.Module") -> "Point":
    """Return a vector of a file.

    Args:
        axis: The file, and the number of the vector in it: an eigenvector of a spectrum file counted from 1, or 1 for
            the x, 2 for the y and 3 for the z direction of a direction file.
        net: The network.

    Returns:
        The vector by parameter name, zero for parameters that a spectrum leaves out.

    Raises:
        BadInput: There is no such vector, or it does not fit the network.
    """
    from lossatlas.parameter_space import as_point

    name = f"vector {axis.number} of {axis.file}"
    if is_findings(axis.file) and read_findings(axis.file, "").kind == "sharpness":
        worst = Path(axis.file).with_suffix("").name + "_worst.h5"
        raise BadInput(f"{axis.file} is of {program('sharpness')}, which wrote its direction beside it: give {worst}:1")
    if is_findings(axis.file):
        return eigenvector_from_file(axis, net, name)
    saved = read_directions(axis.file)
    if axis.number > len(saved.axes):
        count = counted(len(saved.axes), "direction", "directions")
        raise BadInput(f"{axis.file} holds {count}, and number {axis.number} is asked for")
    return as_point(saved.axes[axis.number - 1], net, "weights", name)


def eigenvector_from_file(axis: config.AxisConfig, net: "nn.Module", name: str) -> "Point":
    """Return an eigenvector of a spectrum file.

    Args:
        axis: The file and the number of the eigenvector, see `from_file`.
        net: The network.
        name: The name of the eigenvector in messages.

    Raises:
        BadInput: As `from_file`.
    """
    import torch

    findings = read_findings(axis.file)
    if axis.number > (count := len(findings.arrays["eigenvectors"])):
        raise BadInput(f"{axis.file} holds {count} eigenvectors, and number {axis.number} is asked for")
    pieces = {parameter: torch.from_numpy(piece) for parameter, piece in findings.vector(axis.number - 1).items()}
    own = {parameter: tuple(value.shape) for parameter, value in net.named_parameters()}
    for parameter, piece in pieces.items():
        if own.get(parameter) != tuple(piece.shape):
            actual = own.get(parameter, "no such parameter")
            raise BadInput(f"{name} has shape {tuple(piece.shape)} for '{parameter}', the network {actual}")
    return {n: pieces[n] if n in pieces else torch.zeros(shape) for n, shape in own.items()}
