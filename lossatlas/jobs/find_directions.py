"""Which directions a surface is computed along: random ones, towards other networks, from a file, or from curvature.

    python net_plotter.py --model resnet20 --model_file MODEL --xnorm filter --ynorm filter --dir_file OUT.h5      makes two
    python net_plotter.py OUT.h5                                                   what it moves, by how much, and what not

The gradient of the loss and the top eigenvectors of its Hessian are computed here. A direction file that exists is kept when
it is what is asked for.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, say
from lossatlas.io import Directions, read_directions, read_findings
from lossatlas.io.progress import StatusLine
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES, compare
from lossatlas.io.spectrum_files import is_findings
from lossatlas.jobs.inputs import LoadedInputs, loss_of

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.hessian import Hessian
    from lossatlas.parameter_space import Layout, Point, Selection

RESOLVED = 1e-3  # relative residual of an eigenvector
MOST = 300  # products to find one
NOT_MOVED = "not moved"
EARLIER = "of an earlier version, in which filters of ConvTranspose and Conv1D were slices of their input channels"


class OriginCurvature:
    """Gradient, top eigenvectors and second derivatives of the mean loss at a network, when they are asked for.

    selection: what gradient and eigenvectors are with respect to.
    """

    def __init__(self, loaded: LoadedInputs, selection: "Selection", device: str) -> None:
        self.net, self.data, self.loss = loaded.net, loaded.first, loaded.loss
        self.selection, self.device = selection.within_net(loaded.net), device
        self.known: Hessian | None = None
        self.found: list[Tensor] = []

    @property
    def what(self) -> str:
        """What the loss is that of, for the record."""
        return f"{self.loss} on {self.data.digest}"

    @property
    def hessian(self) -> "Hessian":
        from lossatlas.hessian import Hessian, check_deterministic

        if self.known is None:
            self.known = Hessian(
                self.net,
                self.data,
                loss_of(self.loss),
                device=self.device,
                parameters=self.selection.only,  # the loss may cut gradients of what does not move
                without=self.selection.without,
            )
            check_deterministic(self.known)
        return self.known

    def gradient(self) -> "Point":
        loss, gradient = self.hessian.gradient()
        point = self.selection.within(self.point(gradient, self.hessian.names))
        gradient = self.hessian.flatten([point[name] for name in self.hessian.names])
        length = float(gradient.norm())
        say(f"gradient of the mean {self.data.split} loss: length {length:.6g} at a loss of {loss:.6g}")
        if length == 0:
            raise BadInput("the gradient is zero here: there is no direction along it")
        return point

    def eigenvector(self, number: int) -> "Point":
        """The one with the number-th largest eigenvalue, its largest component positive."""
        from lossatlas.hessian import lanczos

        names = self.selection.of(self.hessian.names)
        if len(self.found) < number:
            line = StatusLine()
            operator = self.hessian.block(names) if self.selection else self.hessian
            pairs = lanczos(
                operator,
                top=number,
                tolerance=RESOLVED,
                max_products=MOST,
                progress=lambda n, r: line.show(f"eigenvector {number}: {n} products, residual {r:.2g}"),
            )
            line.end(
                f"eigenvector {number}: {pairs.products} products, eigenvalue {pairs.values[-1]:.6g}, "
                f"residual {pairs.residuals[-1]:.2g}"
            )
            if not pairs.converged[-1]:
                say(f"note: after {pairs.products} products eigenvector {number} is not resolved")
            if len(pairs.values) < number:
                raise BadInput(
                    f"eigenvector:{number} asks for more than the {len(pairs.values)} that {pairs.products} products give"
                )
            self.found = [v * v[v.abs().argmax()].sign() for v in pairs.vectors]
        return self.point(self.found[number - 1], names)

    def point(self, vector: "Tensor", names: Sequence[str]) -> "Point":
        """A vector over these parameters by name; the others are zero."""
        import torch

        result, offset = {}, 0
        for name, shape in zip(self.hessian.names, self.hessian.shapes, strict=True):
            if name in names:
                result[name] = vector[offset : offset + shape.numel()].view(shape).cpu().clone()
                offset += shape.numel()
            else:
                result[name] = torch.zeros(shape, dtype=vector.dtype)
        return result

    def along(self, directions: Directions) -> dict[str, Any]:
        """Second derivatives of the mean loss at the origin along the axes, and their mixed one."""
        from lossatlas.parameter_space import as_point

        vectors = {
            letter: as_point(arrays, self.net, "weights", f"the {letter} direction")
            for letter, arrays in (("x", directions.x), ("y", directions.y))
            if arrays is not None
        }
        flat = {
            letter: self.hessian.flatten([point[name] for name in self.hessian.names]).to(self.hessian.device)
            for letter, point in vectors.items()
        }
        products = {letter: self.hessian(vector).double() for letter, vector in flat.items()}
        result = {a + b: float(flat[a].double() @ products[b]) for a in flat for b in flat if a <= b}
        for letter, vector in flat.items():
            value, length = result[letter * 2], float(vector.double().norm())
            say(
                f"second derivative of the {self.data.split} loss along {letter}: {value:.6g}, per unit length "
                f"{value / max(length, 1e-300) ** 2:.6g} (the direction has the length {length:.6g})"
            )
        return {"second_derivatives": result, "samples": len(self.data), "split": self.data.split}


def print_eigenvalue(axis: config.AxisConfig, checkpoint: str) -> None:
    """Which eigenvector of a spectrum file it is, and whether it is one of this checkpoint (its digest)."""
    findings = read_findings(axis.file)
    a, k = findings.arrays, axis.number - 1
    values = np.concatenate([a["eigenvalues"], a["smallest"][::-1]])
    flags = [a.get(name, np.zeros(0, bool)) for name in ("converged", "smallest_converged")]
    resolved = np.concatenate([flags[0], flags[1][::-1]])
    which = f"number {axis.number} of the largest" if k < len(a["eigenvalues"]) else "one of the smallest"
    say(
        f"vector {axis.number} of {axis.file}: eigenvalue {values[k]:.6g}, {which}"
        + (", not resolved" if k >= len(resolved) or not resolved[k] else "")
    )
    if findings.request.get("checkpoint") != checkpoint:
        say(
            f"note: {axis.file} is the spectrum of another checkpoint, or of the same network with other BatchNorm statistics"
        )


def vector_hash(vector: "Point") -> str:
    """Of the vector alone: what else its file holds, or will hold, does not matter."""
    digest = hashlib.sha256()
    for name, value in vector.items():
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.numpy()).data)
    return digest.hexdigest()


def from_file(axis: config.AxisConfig, net: "nn.Module") -> "Point":
    """A vector of a spectrum file, or the x or y direction of a direction file. Raises BadInput where it does not fit."""
    import torch

    from lossatlas.parameter_space import as_point

    what = f"vector {axis.number} of {axis.file}"
    if is_findings(axis.file) and read_findings(axis.file, "").kind == "sharpness":
        worst = Path(axis.file).with_suffix("").name + "_worst.h5"
        raise BadInput(f"{axis.file} is of sharpness.py, which wrote its direction beside it: give {worst}:1")
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
    letter: str,
    axis: config.AxisConfig,
    target: str | None,
    choice: config.DirectionConfig,
    curvature: OriginCurvature | None,
    layout: "Layout",
) -> str:
    """Describe a direction for the direction file's record; equal text means an equal direction."""
    scaled = f"norm={axis.norm or 'none'}{layout.rule(axis.norm)}, ignore={axis.ignore or 'none'}"
    if choice.scheme:
        scaled = f"norm=filter{layout.rule('filter')}, a network that the scheme goes to"
    if target:
        result = f"towards {target}"
    elif letter == "y" and choice.same_dir:
        result = "the x direction"
    elif axis.kind == "random":
        result = f"random, {scaled}, seed={choice.seed}, idx={choice.idx}"
    elif axis.kind == "file":
        assert curvature is not None
        result = f"a vector with the sha256 {vector_hash(from_file(axis, curvature.net))}, {scaled}"
    else:
        assert curvature is not None
        number = f" {axis.number}" if axis.kind == "eigenvector" else ""
        result = f"{axis.kind}{number} of {curvature.what}, {scaled}"
    selected = f", {choice.selection}" if choice.selection else ""
    return result + selected + ", orthogonal to x" * (letter == "y" and choice.orthogonal)


def find_directions(
    dir_file: Path,
    loaded: LoadedInputs,
    nets: config.NetworkConfig,
    choice: config.DirectionConfig,
    curvature: OriginCurvature,
    planned: bool = False,
) -> tuple[Directions, bool] | None:
    """The directions in the file when it fits, otherwise new ones; and whether they are still to be written.

    planned: nothing is to be computed from the curvature; None where it would be.
    """
    from lossatlas.parameter_space import Layout, as_arrays, as_point, orthogonal

    curvature.selection.of(loaded.origin)
    net, record, towards, layout = loaded.net, loaded.record, loaded.towards, Layout.of(loaded.net)
    about: dict[str, Any] = {
        name: value for name, value in record.items() if name != LOSS_OF_SOME_SAMPLES
    }  # data and loss do not count
    for letter, axis, file in (("x", choice.x, nets.file2), ("y", choice.y, nets.file3)):
        if axis is not None:
            about[letter] = description(letter, axis, towards[file] if file else None, choice, curvature, layout)
    found = read_directions(dir_file) if dir_file.exists() else None
    if found is not None:
        check_record(dir_file, found, about, choice)
        for letter, arrays in (("x", found.x), ("y", found.y)):
            if arrays is not None:
                as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        if choice.y is None or found.y is not None:
            return found, False
        check_second(dir_file, found, about, choice)
    made = [axis for axis, file in ((choice.x, nets.file2), (choice.y, nets.file3)) if axis is not None and not file]
    if planned and any(axis.kind in ("gradient", "eigenvector") for axis in made):
        return None
    vectors: list[Point] = []
    for k, (axis, target) in enumerate(zip((choice.x, choice.y), loaded.targets, strict=True)):
        if axis is not None:
            vectors.append(
                vectors[0] if k and choice.same_dir else new_direction(loaded, axis, target, choice, k, curvature)
            )
    if choice.orthogonal:
        first = (
            vectors[0] if found is None else as_point(found.x, net, choice.dir_type, f"the x direction in {dir_file}")
        )
        vectors[1] = orthogonal(vectors[1], first)
    arrays_of = [as_arrays(vector, net, choice.dir_type) for vector in vectors]
    if found is not None:  # a file of one direction gets the second
        arrays_of[0] = list(found.x)
    made_now = Directions(arrays_of[0], arrays_of[1] if len(arrays_of) > 1 else None, about)
    return replace(made_now, extra=moved_by(loaded, made_now)), True


def moved_by(loaded: LoadedInputs, directions: Directions) -> dict[str, np.ndarray]:
    """What a direction file says of its tensors: their names, how long each is, and how far each direction moves it."""
    from lossatlas.parameter_space import as_point, lengths

    vectors = [
        as_point(arrays, loaded.net, loaded.dir_type, f"the {letter} direction")
        for letter, arrays in (("x", directions.x), ("y", directions.y))
        if arrays is not None
    ]
    names = np.array([name.encode() for name in loaded.origin])
    return {"tensors": names, "lengths": lengths(loaded.origin, vectors)}


def moved_lines(names: Sequence[str], found: np.ndarray) -> list[str]:
    """A line for each tensor: how long it is, and how far the directions move it, also relative to that."""
    letters, width = "xy"[: found.shape[1] - 1], max(len("tensor"), *map(len, names))
    lines = [f"{'tensor':<{width}} {'length':>11}" + "".join(f"  {letter + ' moves it by':>22}" for letter in letters)]
    for name, (length, *moves) in zip(names, found, strict=True):
        cells = [
            f"{move:.4g} ({move / length:.3g} of it)" if move and length else f"{move:.4g}" if move else NOT_MOVED
            for move in moves
        ]
        lines.append(f"{name:<{width}} {length:>11.4g}" + "".join(f"  {cell:>22}" for cell in cells))
    return lines


def check_record(dir_file: Path, found: Directions, about: dict[str, Any], choice: config.DirectionConfig) -> None:
    """Compare what a direction file records with what is asked for, on the axes that are used.

    A file that the user names is used as it is, and differences are said; but where --seed or --idx ask for directions
    that it does not hold, or where the name was not the user's choice, that is an error.
    """
    if not found.about:
        say(f"note: {dir_file} records no provenance; it is used as it is")
        return
    asked = {name: value for name, value in about.items() if name != "y" or found.y is not None}
    if earlier := axes_of_earlier_rule(found, asked):
        say(
            f"note: {dir_file} holds directions {EARLIER}; they are used as they are (another --dir_file gets new ones)"
        )
        asked |= {letter: found.about[letter] for letter in earlier}
    recorded = {name: found.about.get(name) for name in asked}
    if choice.dir_file is None or choice.idx or choice.seed != config.SEED:
        compare(dir_file, recorded, asked, "give another --dir_file, or remove this one")
    for name, value in asked.items():
        if recorded[name] in (None, value):
            continue
        if str(value).removesuffix(", aligned") == str(recorded[name]).removesuffix(", aligned"):
            compare(dir_file, recorded, asked, "give another --dir_file, or the same --align")
        if name in ("x", "y") and not str(recorded[name]).startswith(
            ("random", "towards")
        ):  # such as principal components
            say(f"{dir_file}: the {name} direction is the {recorded[name]}")
        else:
            say(f"note: {dir_file} was made with {name} = {recorded[name]}, not {value}; it is used as it is")


def check_second(dir_file: Path, found: Directions, about: dict[str, Any], choice: config.DirectionConfig) -> None:
    """Raise BadInput where a file of one direction may not get a second one."""
    if choice.dir_file is not None:
        raise BadInput(f"{dir_file} holds one direction, and --y needs a second: give another --dir_file")
    if axes_of_earlier_rule(found, about):
        raise BadInput(
            f"{dir_file} holds one direction, {EARLIER}: a second one beside it would be normalized differently: "
            "give another --dir_file, or remove this one"
        )


def axes_of_earlier_rule(found: Directions, about: dict[str, Any]) -> list[str]:
    """Axes whose recorded direction is the one asked for, except that its filters were slices along the first axis."""
    from lossatlas.parameter_space.layout import RULE

    return [
        letter
        for letter in ("x", "y")
        if RULE in str(about.get(letter)) and found.about.get(letter) == str(about[letter]).replace(RULE, "", 1)
    ]


def new_direction(
    loaded: LoadedInputs,
    axis: config.AxisConfig,
    target: "Point | None",
    choice: config.DirectionConfig,
    k: int,
    curvature: OriginCurvature,
) -> "Point":
    from lossatlas.parameter_space import Layout, other_network, random_direction, scale_to, target_direction
    from lossatlas.parameter_space.directions import seed_of

    origin, selection = loaded.origin, curvature.selection
    if target is not None:
        return target_direction(origin, target, selection)
    layout = Layout.of(loaded.net)
    if choice.scheme:
        return other_network(origin, seed_of(choice.seed, choice.idx, k), layout, selection)
    if axis.kind == "random":
        return random_direction(origin, axis.norm, axis.ignore, seed_of(choice.seed, choice.idx, k), layout, selection)
    if axis.kind == "file":
        if is_findings(axis.file):
            print_eigenvalue(axis, loaded.record["checkpoint"])
        made, norm = from_file(axis, loaded.net), axis.norm
    else:
        made = curvature.gradient() if axis.kind == "gradient" else curvature.eigenvector(axis.number)
        norm = axis.norm or "unit"
    return scale_to(made, origin, norm, axis.ignore, layout, selection)
