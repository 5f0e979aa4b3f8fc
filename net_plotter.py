"""Which directions a surface is computed along: those in a file, towards other networks, random ones, or from curvature.

The gradient of the loss and the top eigenvectors of its Hessian are computed here; see net_plotter for the others.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from factories import Factory
from lossatlas.errors import BadInput, say
from lossatlas.record import Directions, read_directions, read_findings
from lossatlas.record.continuation import compare
from lossatlas.record.progress import Line
from lossatlas.record.spectra import is_findings

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData
    from lossatlas.hessian import Hessian

RESOLVED = 1e-3  # relative residual of an eigenvector
MOST = 300  # products to find one


class Curvature:
    """Gradient, top eigenvectors and second derivatives of the mean loss at a network, when they are asked for."""

    def __init__(self, net: "nn.Module", data: "AnyData", loss: "str | Factory", device: str) -> None:
        self.net, self.data, self.loss, self.device = net, data, loss, device
        self.known: Hessian | None = None
        self.found: list[Tensor] = []

    @property
    def what(self) -> str:
        """What the loss is that of, for the record."""
        return f"{self.loss} on {self.data.digest}"

    @property
    def hessian(self) -> "Hessian":
        from lossatlas.data import as_loss
        from lossatlas.hessian import Hessian, check_deterministic

        if self.known is None:
            loss = as_loss(self.loss.function if isinstance(self.loss, Factory) else self.loss)
            self.known = Hessian(self.net, self.data, loss, device=self.device)
            check_deterministic(self.known)
        return self.known

    def gradient(self) -> "dict[str, Tensor]":
        loss, gradient = self.hessian.gradient()
        length = float(gradient.norm())
        say(f"gradient of the mean {self.data.split} loss: length {length:.6g} at a loss of {loss:.6g}")
        if length == 0:
            raise BadInput("the gradient is zero here: there is no direction along it")
        return self.point(gradient)

    def eigenvector(self, number: int) -> "dict[str, Tensor]":
        """The one with the number-th largest eigenvalue, its largest component positive."""
        from lossatlas.hessian import lanczos

        if len(self.found) < number:
            line = Line()
            pairs = lanczos(self.hessian, top=number, tolerance=RESOLVED, most=MOST,
                            progress=lambda n, r: line.show(f"eigenvector {number}: {n} products, residual {r:.2g}"))  # fmt: skip
            line.end(f"eigenvector {number}: {pairs.products} products, eigenvalue {pairs.values[-1]:.6g}, "
                     f"residual {pairs.residuals[-1]:.2g}")  # fmt: skip
            if not pairs.converged[-1]:
                say(f"note: after {pairs.products} products eigenvector {number} is not resolved")
            if len(pairs.values) < number:
                raise BadInput(
                    f"eigenvector:{number} asks for more than the {len(pairs.values)} that {pairs.products} products give"
                )
            self.found = [v * v[v.abs().argmax()].sign() for v in pairs.vectors]
        return self.point(self.found[number - 1])

    def point(self, vector: "Tensor") -> "dict[str, Tensor]":
        pieces = self.hessian.unflatten(vector.cpu())
        return {name: piece.clone() for name, piece in zip(self.hessian.names, pieces, strict=True)}

    def along(self, directions: Directions) -> dict[str, Any]:
        """Second derivatives of the mean loss at the origin along the axes, and their mixed one."""
        from lossatlas.space import as_point

        vectors = {letter: as_point(arrays, self.net, "weights", f"the {letter} direction")
                   for letter, arrays in (("x", directions.x), ("y", directions.y)) if arrays is not None}  # fmt: skip
        flat = {letter: self.hessian.flatten([point[name] for name in self.hessian.names]).to(self.hessian.device)
                for letter, point in vectors.items()}  # fmt: skip
        products = {letter: self.hessian(vector).double() for letter, vector in flat.items()}
        result = {a + b: float(flat[a].double() @ products[b]) for a in flat for b in flat if a <= b}
        for letter, vector in flat.items():
            value, length = result[letter * 2], float(vector.double().norm())
            say(f"second derivative of the {self.data.split} loss along {letter}: {value:.6g}, per unit length "
                f"{value / max(length, 1e-300) ** 2:.6g} (the direction has the length {length:.6g})")  # fmt: skip
        return {"second_derivatives": result, "samples": len(self.data), "split": self.data.split}


def say_eigenvalue(axis: options.Axis, checkpoint: str) -> None:
    """Which eigenvector of a spectrum file it is, and whether it is one of this checkpoint (its digest)."""
    findings = read_findings(axis.file)
    a, k = findings.arrays, axis.number - 1
    values = np.concatenate([a["eigenvalues"], a["smallest"][::-1]])
    flags = [a.get(name, np.zeros(0, bool)) for name in ("converged", "smallest_converged")]
    resolved = np.concatenate([flags[0], flags[1][::-1]])
    which = f"number {axis.number} of the largest" if k < len(a["eigenvalues"]) else "one of the smallest"
    say(f"vector {axis.number} of {axis.file}: eigenvalue {values[k]:.6g}, {which}"
        + (", not resolved" if k >= len(resolved) or not resolved[k] else ""))  # fmt: skip
    if findings.request.get("checkpoint") != checkpoint:
        say(
            f"note: {axis.file} is the spectrum of another checkpoint, or of the same network with other BatchNorm statistics"
        )


def vector_hash(vector: "dict[str, Tensor]") -> str:
    """Of the vector alone: what else its file holds, or will hold, does not matter."""
    digest = hashlib.sha256()
    for name, value in vector.items():
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.numpy()).data)
    return digest.hexdigest()


def from_file(axis: options.Axis, net: "nn.Module") -> "dict[str, Tensor]":
    """A vector of a spectrum file, or the x or y direction of a direction file. Raises BadInput where it does not fit."""
    import torch

    from lossatlas.space import as_point

    what = f"vector {axis.number} of {axis.file}"
    if not is_findings(axis.file):
        saved = read_directions(axis.file)
        arrays = [saved.x, saved.y][axis.number - 1] if axis.number <= 2 else None
        if arrays is None:
            raise BadInput(
                f"{axis.file} holds {1 + (saved.y is not None)} direction(s), and number {axis.number} is asked for"
            )
        return as_point(arrays, net, "weights", what)
    findings = read_findings(axis.file)
    vectors = findings.arrays["eigenvectors"]
    if axis.number > len(vectors):
        raise BadInput(f"{axis.file} holds {len(vectors)} eigenvectors, and number {axis.number} is asked for")
    pieces, flat = {}, torch.from_numpy(vectors[axis.number - 1].astype(np.float32))
    for name, shape in findings.about["parameters"]:
        count = int(np.prod(shape))
        pieces[name], flat = flat[:count].view(shape), flat[count:]
    own = {name: tuple(value.shape) for name, value in net.named_parameters()}
    for name, piece in pieces.items():
        if own.get(name) != tuple(piece.shape):
            there = own.get(name, "no such parameter")
            raise BadInput(f"{what} has shape {tuple(piece.shape)} for '{name}', the network {there}")
    return {name: pieces[name] if name in pieces else torch.zeros(shape) for name, shape in own.items()}


def description(
    letter: str, axis: options.Axis, target: str | None, choice: options.DirectionChoice, curvature: Curvature
) -> str:
    """What a direction file records about a direction; equal text means an equal direction."""
    scaled = f"norm={axis.norm or 'none'}, ignore={axis.ignore or 'none'}"
    if target:
        result = f"towards {target}"
    elif letter == "y" and choice.same_dir:
        result = "the x direction"
    elif axis.kind == "random":
        result = f"random, {scaled}, seed={choice.seed}, idx={choice.idx}"
    elif axis.kind == "file":
        result = f"a vector with the sha256 {vector_hash(from_file(axis, curvature.net))}, {scaled}"
    else:
        number = f" {axis.number}" if axis.kind == "eigenvector" else ""
        result = f"{axis.kind}{number} of {curvature.what}, {scaled}"
    return result + ", orthogonal to x" * (letter == "y" and choice.orthogonal)


def find_directions(
    dir_file: Path,
    record: dict[str, Any],
    nets: options.Networks,
    choice: options.DirectionChoice,
    net: "nn.Module",
    origin: "dict[str, Tensor]",
    targets: "Sequence[dict[str, Tensor] | None]",
    towards: dict[str, str],
    curvature: Curvature,
    planned: bool = False,
) -> tuple[Directions, bool] | None:
    """The directions in the file when it fits, otherwise new ones; and whether they are still to be written.

    planned: nothing is to be computed from the curvature; None where it would be.
    """
    from lossatlas.space import as_arrays, as_point, orthogonal

    about: dict[str, Any] = dict(record)
    for letter, axis, file in (("x", choice.x, nets.file2), ("y", choice.y, nets.file3)):
        if axis is not None:
            about[letter] = description(letter, axis, towards[file] if file else None, choice, curvature)
    found = read_directions(dir_file) if dir_file.exists() else None
    if found is not None:
        check_record(dir_file, found, about, choice)
        for letter, arrays in (("x", found.x), ("y", found.y)):
            if arrays is not None:
                as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        if choice.y is None or found.y is not None:
            return found, False
        if choice.dir_file is not None:
            raise BadInput(f"{dir_file} holds one direction, and --y needs a second: give another --dir_file")
    made = [axis for axis, file in ((choice.x, nets.file2), (choice.y, nets.file3)) if axis is not None and not file]
    if planned and any(axis.kind in ("gradient", "eigenvector") for axis in made):
        return None
    vectors: list[dict[str, Tensor]] = []
    for k, (axis, target) in enumerate(zip((choice.x, choice.y), targets, strict=True)):
        if axis is not None:
            vectors.append(vectors[0] if k and choice.same_dir
                           else new_direction(origin, axis, target, choice, k, curvature, record["checkpoint"]))  # fmt: skip
    if choice.orthogonal:
        first = (
            vectors[0] if found is None else as_point(found.x, net, choice.dir_type, f"the x direction in {dir_file}")
        )
        vectors[1] = orthogonal(vectors[1], first)
    arrays_of = [as_arrays(vector, net, choice.dir_type) for vector in vectors]
    if found is not None:  # a file of one direction gets the second
        arrays_of[0] = list(found.x)
    return Directions(arrays_of[0], arrays_of[1] if len(arrays_of) > 1 else None, about), True


def check_record(dir_file: Path, found: Directions, about: dict[str, Any], choice: options.DirectionChoice) -> None:
    """Compare what a direction file records with what is asked for, on the axes that are used.

    A file that the user names is used as it is, and differences are said; but where --seed or --idx ask for directions
    that it does not hold, or where the name was not the user's choice, that is an error.
    """
    if not found.about:
        say(f"note: {dir_file} records no provenance; it is used as it is")
        return
    asked = {name: value for name, value in about.items() if name != "y" or found.y is not None}
    recorded = {name: found.about.get(name) for name in asked}
    if choice.dir_file is None or choice.idx or choice.seed != options.SEED:
        compare(dir_file, recorded, asked, "give another --dir_file, or remove this one")
    for name, value in asked.items():
        if recorded[name] in (None, value):
            continue
        if name in ("x", "y") and not str(recorded[name]).startswith(
            ("random", "towards")
        ):  # such as principal components
            say(f"{dir_file}: the {name} direction is the {recorded[name]}")
        else:
            say(f"note: {dir_file} was made with {name} = {recorded[name]}, not {value}; it is used as it is")


def new_direction(
    origin: "dict[str, Tensor]",
    axis: options.Axis,
    target: "dict[str, Tensor] | None",
    choice: options.DirectionChoice,
    k: int,
    curvature: Curvature,
    checkpoint: str,
) -> "dict[str, Tensor]":
    from lossatlas.space import random_direction, scale_to, target_direction
    from lossatlas.space.directions import norm_parameters, seed_of

    if target is not None:
        return target_direction(origin, target)
    norms = norm_parameters(curvature.net)
    if axis.kind == "file":
        if is_findings(axis.file):
            say_eigenvalue(axis, checkpoint)
        return scale_to(from_file(axis, curvature.net), origin, axis.norm, axis.ignore, norms)
    if axis.kind != "random":
        made = curvature.gradient() if axis.kind == "gradient" else curvature.eigenvector(axis.number)
        return scale_to(made, origin, axis.norm or "unit", axis.ignore, norms)
    return random_direction(origin, axis.norm, axis.ignore, seed_of(choice.seed, choice.idx, k), norms)
