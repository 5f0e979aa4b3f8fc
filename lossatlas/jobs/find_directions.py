"""The directions of a command: those of a direction file that fit, otherwise new ones, and their record."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, named, say
from lossatlas.io import Directions, read_directions, read_findings
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES, compare
from lossatlas.io.spectrum_files import is_findings
from lossatlas.jobs.inputs import LoadedInputs
from lossatlas.jobs.make_directions import AxisRequest, make_directions
from lossatlas.jobs.origin_curvature import OriginCurvature
from lossatlas.programs import program

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.parameter_space import Layout, Point

NOT_MOVED = "not moved"
EARLIER = "of an earlier version, in which filters of ConvTranspose and Conv1D were slices of their input channels"


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
        raise BadInput(f"{axis.file} is of {program('sharpness')}, which wrote its direction beside it: give {worst}:1")
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


def axis_of(
    axis: config.AxisConfig, target: "Point | None", digest: str, choice: config.DirectionConfig, net: "nn.Module"
) -> AxisRequest:
    """Return the direction that the options of an axis ask for. Raises BadInput where a file does not fit."""
    if target is not None or digest:
        return AxisRequest("network", vector=target, digest=digest)
    if axis.kind == "file":
        vector = from_file(axis, net)
        return AxisRequest("vector", axis.norm, axis.ignore, vector=vector, digest=vector_hash(vector))
    return AxisRequest(axis.kind, axis.norm, axis.ignore, axis.number, scheme=bool(choice.scheme))


def description(
    letter: str, axis: AxisRequest, choice: config.DirectionConfig, layout: "Layout", curvature: OriginCurvature | None
) -> str:
    """Describe the direction of an axis for the record of a direction file; equal text means an equal direction."""
    same = letter == "y" and choice.same_dir and axis.kind != "network"
    result = "the x direction" if same else axis.describe(choice.seed, choice.idx, layout, curvature)
    selected = f", {choice.selection}" if choice.selection else ""
    return result + selected + ", orthogonal to x" * (letter == "y" and choice.orthogonal)


def find_directions(
    dir_file: Path,
    loaded: LoadedInputs,
    nets: config.NetworkConfig,
    choice: config.DirectionConfig,
    curvature: OriginCurvature,
    *,
    planned: bool = False,
) -> tuple[Directions, bool] | None:
    """Return the directions in a file where they fit, otherwise new ones; and whether they are still to be written.

    Args:
        dir_file: The direction file, which need not be there.
        loaded: Networks and data.
        nets: Which networks the axes lead to.
        choice: Which directions.
        curvature: Gradient and eigenvectors at the origin.
        planned: Compute nothing from the curvature; return None where that would be needed.

    Raises:
        BadInput: The file holds other directions, or does not fit the network.
    """
    from lossatlas.parameter_space import Layout, as_arrays, as_point

    curvature.selection.of(loaded.origin)
    net, layout = loaded.net, Layout.of(loaded.net)
    axes = {
        letter: axis_of(axis, target, loaded.towards[file] if file else "", choice, net)
        for letter, axis, target, file in zip(
            "xy", (choice.x, choice.y), loaded.targets, (nets.file2, nets.file3), strict=True
        )
        if axis is not None
    }
    about = {name: value for name, value in loaded.record.items() if name != LOSS_OF_SOME_SAMPLES}
    about |= {letter: description(letter, axis, choice, layout, curvature) for letter, axis in axes.items()}
    found = read_directions(dir_file) if dir_file.exists() else None
    if found is not None:
        check_record(dir_file, found, about, choice)
        for letter, arrays in (("x", found.x), ("y", found.y)):
            if arrays is not None:
                as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        if choice.y is None or found.y is not None:
            return found, False
        check_second(dir_file, found, about, choice)
    if planned and any(axis.kind in ("gradient", "eigenvector") for axis in axes.values()):
        return None
    for axis in (choice.x, choice.y):
        if axis is not None and axis.kind == "file" and is_findings(axis.file):
            print_eigenvalue(axis, loaded.record["checkpoint"])
    first = None if found is None else as_point(found.x, net, choice.dir_type, f"the x direction in {dir_file}")
    vectors = make_directions(
        list(axes.values()),
        loaded.origin,
        layout,
        curvature.selection,
        curvature,
        seed=choice.seed,
        idx=choice.idx,
        same=choice.same_dir,
        orthogonal_to=first,
        orthogonalize=choice.orthogonal,
    )
    arrays_of = [as_arrays(vector, net, choice.dir_type) for vector in vectors]
    if found is not None:  # a file of one direction gets the second
        arrays_of[0] = list(found.x)
    made = Directions(arrays_of[0], arrays_of[1] if len(arrays_of) > 1 else None, about)
    return replace(made, extra=moved_by(loaded, made)), True


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
        compare(dir_file, recorded, asked, f"give another {named('dir_file')}, or remove this one")
    for name, value in asked.items():
        if recorded[name] in (None, value):
            continue
        if str(value).removesuffix(", aligned") == str(recorded[name]).removesuffix(", aligned"):
            compare(dir_file, recorded, asked, f"give another {named('dir_file')}, or the same {named('align')}")
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
            f"give another {named('dir_file')}, or remove this one"
        )


def axes_of_earlier_rule(found: Directions, about: dict[str, Any]) -> list[str]:
    """Axes whose recorded direction is the one asked for, except that its filters were slices along the first axis."""
    from lossatlas.parameter_space.layout import RULE

    return [
        letter
        for letter in ("x", "y")
        if RULE in str(about.get(letter)) and found.about.get(letter) == str(about[letter]).replace(RULE, "", 1)
    ]
