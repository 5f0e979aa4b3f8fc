"""Find the directions of a command: in a direction file where they fit, otherwise new ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput, counted, named, say
from lossatlas.io import Directions, read_directions, read_findings
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES, SETTINGS, compare_request
from lossatlas.io.spectrum_files import is_findings
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.make_directions import AxisRequest, DirectionRequest, Origin, vector_hash
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.stored_vectors import from_file

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.parameter_space import Point

NOT_MOVED = "not moved"
EARLIER = "of an earlier version, in which filters of ConvTranspose and Conv1D were slices of their input channels"


def print_eigenvalue(axis: config.AxisConfig, checkpoint: str) -> None:
    """Print the eigenvalue of an eigenvector in a spectrum file; a note if it is of another checkpoint (a digest)."""
    findings = read_findings(axis.file)
    (values, _, resolved), k = findings.eigenpairs(), axis.number - 1
    is_largest = k < len(findings.arrays["eigenvalues"])
    position = f"number {axis.number} of the largest" if is_largest else "one of the smallest"
    say(
        f"vector {axis.number} of {axis.file}: eigenvalue {values[k]:.6g}, {position}"
        + (", not resolved" if k >= len(resolved) or not resolved[k] else "")
    )
    if findings.request.get("checkpoint") != checkpoint:
        say(
            f"note: {axis.file} is the spectrum of another checkpoint, or of the same network with other BatchNorm "
            "statistics"
        )


def axis_request(
    axis: config.AxisConfig, target: "Point | None", digest: str, choice: config.DirectionConfig, net: "nn.Module"
) -> AxisRequest:
    """Return the request for an axis.

    Args:
        axis: The options of the axis.
        target: The network that the axis leads to; None for none.
        digest: The digest of that network; '' for none.
        choice: The options of both axes.
        net: The network at the origin.

    Raises:
        BadInput: The file of the direction does not fit the network.
    """
    if target is not None or digest:
        return AxisRequest("network", vector=target, digest=digest)
    if axis.kind == "file":
        vector = from_file(axis, net)
        return AxisRequest("vector", axis.norm, axis.ignore, vector=vector, digest=vector_hash(vector))
    return AxisRequest(axis.kind, axis.norm, axis.ignore, axis.number, scheme=bool(choice.scheme))


def direction_request(
    loaded: LoadedInputs, nets: config.NetworkConfig, choice: config.DirectionConfig, curvature: OriginCurvature
) -> DirectionRequest:
    """Return the request for the directions that the options of a command ask for.

    Args:
        loaded: Networks and data.
        nets: The networks that the axes lead to.
        choice: The options of the directions.
        curvature: Gradient and eigenvectors at the origin.

    Raises:
        BadUsage: No parameter moves.
        BadInput: See `axis_request`.
    """
    scratch = None if loaded.kept is None else loaded.kept.scratch
    origin = Origin.checked(loaded.net, loaded.dir_type, loaded.origin, choice.selection, scratch)
    ends = [*zip(loaded.targets, (nets.file2, nets.file3), strict=True), (None, None)]
    axes = [
        axis_request(axis, target, loaded.towards[file] if file else "", choice, loaded.net)
        for axis, (target, file) in zip(choice.axes, ends, strict=False)
    ]
    return DirectionRequest(
        origin=origin,
        axes=axes,
        curvature=curvature,
        seed=choice.seed,
        idx=choice.idx,
        same=choice.same_dir,
        store=choice.store_directions,
        orthogonalize=choice.orthogonalize,
    )


def find_directions(
    dir_file: Path,
    request: DirectionRequest,
    record: Mapping[str, Any],
    choice: config.DirectionConfig,
    *,
    planned: bool = False,
) -> tuple[Directions, bool] | None:
    """Return the directions of a file where they fit, otherwise new ones.

    Args:
        dir_file: The direction file, which need not exist.
        request: The directions that are asked for.
        record: The fields that identify the network, see `LoadedInputs.record`.
        choice: The options of the directions.
        planned: Compute nothing from the curvature; return None where that would be needed.

    Returns:
        The directions, and whether they are new and not yet written.

    Raises:
        BadInput: The file holds other directions, or does not fit the network.
    """
    about = {name: value for name, value in record.items() if name not in {LOSS_OF_SOME_SAMPLES, *SETTINGS}}
    asked = {**about, **request.describe()}
    saved = read_directions(dir_file) if dir_file.exists() else None
    first = None  # the x direction of the file, which gets a second one
    if saved is not None:
        first = checked_directions(dir_file, saved, asked, choice, request.origin.net)[0]
        if len(choice.axes) <= len(saved.axes):
            return saved, False
        check_second(dir_file, saved, asked, choice)
    if planned and request.needs_curvature:
        return None
    for axis in choice.axes:
        if axis.kind == "file" and is_findings(axis.file):
            print_eigenvalue(axis, record["checkpoint"])
    vectors = request.make(orthogonal_to=first)
    if saved is None or first is None:
        return request.stored(vectors, about), True
    return replace(request.stored([first, *vectors[1:]], about), x=list(saved.x)), True


def checked_directions(
    dir_file: Path, saved: Directions, about: dict[str, Any], choice: config.DirectionConfig, net: "nn.Module"
) -> "list[Point]":
    """Return the directions of a file by tensor name, compared with the network and the options.

    Args:
        dir_file: The file, for messages.
        saved: The directions in it.
        about: Metadata that this run would record.
        choice: The directions that are asked for.
        net: The network.

    Returns:
        The directions of the axes that the file has.

    Raises:
        BadInput: The file was made for another network or with other options.
    """
    from lossatlas.parameter_space import as_point

    check_record(dir_file, saved, about, choice)
    return [
        as_point(arrays, net, choice.dir_type, f"the {letter} direction in {dir_file}")
        for letter, arrays in zip("xyz", saved.axes, strict=False)
    ]


def moved_lines(names: Sequence[str], lengths: np.ndarray) -> list[str]:
    """Return a table of the moves of each tensor, absolute and relative to its norm, see `Origin.moved_by`."""
    letters, width = "xyz"[: lengths.shape[1] - 1], max(len("tensor"), *map(len, names))
    lines = [f"{'tensor':<{width}} {'length':>11}" + "".join(f"  {letter + ' moves it by':>22}" for letter in letters)]
    for name, (length, *moves) in zip(names, lengths, strict=True):
        cells = [
            f"{move:.4g} ({move / length:.3g} of it)" if move and length else f"{move:.4g}" if move else NOT_MOVED
            for move in moves
        ]
        lines.append(f"{name:<{width}} {length:>11.4g}" + "".join(f"  {cell:>22}" for cell in cells))
    return lines


def check_record(dir_file: Path, saved: Directions, about: dict[str, Any], choice: config.DirectionConfig) -> None:
    """Compare the record of a direction file with the options, on the axes that are used.

    A file that the user names is used as it is, and differences are printed. They are errors where the options `seed`
    or `idx` ask for other directions, and where the user has not named the file.

    Args:
        dir_file: The file, for messages.
        saved: The directions in it.
        about: The record that new directions would have.
        choice: The options.

    Raises:
        BadInput: The file holds other directions.
    """
    if not saved.about:
        say(f"note: {dir_file} records no provenance; it is used as it is")
        return
    missing = "xyz"[len(saved.axes) :]
    asked = {name: value for name, value in about.items() if name not in missing}
    if earlier := axes_of_earlier_rule(saved, asked):
        say(
            f"note: {dir_file} holds directions {EARLIER}; they are used as they are (another "
            f"{named('dir_file')} gets new ones)"
        )
        asked |= {letter: saved.about[letter] for letter in earlier}
    recorded = {name: saved.about.get(name) for name in asked}
    if choice.dir_file is None or choice.idx or choice.seed != config.DIRECTION_SEED:
        compare_request(dir_file, recorded, asked, f"give another {named('dir_file')}, or remove this one")
    for name, value in asked.items():
        if recorded[name] in (None, value):
            continue
        if str(value).removesuffix(", aligned") == str(recorded[name]).removesuffix(", aligned"):
            compare_request(
                dir_file, recorded, asked, f"give another {named('dir_file')}, or the same {named('align')}"
            )
        if name in ("x", "y", "z") and not str(recorded[name]).startswith(
            ("random", "towards")
        ):  # such as principal components
            say(f"{dir_file}: the {name} direction is the {recorded[name]}")
        else:
            say(f"note: {dir_file} was made with {name} = {recorded[name]}, not {value}; it is used as it is")


def check_second(dir_file: Path, saved: Directions, about: dict[str, Any], choice: config.DirectionConfig) -> None:
    """Check that a file of one direction may get a second one, for a plane.

    Args:
        dir_file: The file, for messages.
        saved: The direction in it.
        about: Metadata that this run would record.
        choice: The directions that are asked for.

    Raises:
        BadInput: The user named the file, a volume is asked for, or an earlier version normalized its direction by
            another rule.
    """
    if choice.dir_file is not None or choice.z is not None:
        held = counted(len(saved.axes), "direction", "directions")
        letter = "xyz"[len(saved.axes)]
        raise BadInput(f"{dir_file} holds {held}, and {named(letter)} needs one more: give another {named('dir_file')}")
    if axes_of_earlier_rule(saved, about):
        raise BadInput(
            f"{dir_file} holds one direction, {EARLIER}: a second one beside it would be normalized differently: "
            f"give another {named('dir_file')}, or remove this one"
        )


def axes_of_earlier_rule(saved: Directions, about: dict[str, Any]) -> list[str]:
    """Return the axes whose recorded direction differs from the new one only in the definition of its filters."""
    from lossatlas.parameter_space.layout import RULE

    return [
        letter
        for letter in ("x", "y", "z")
        if RULE in str(about.get(letter)) and saved.about.get(letter) == str(about[letter]).replace(RULE, "", 1)
    ]
