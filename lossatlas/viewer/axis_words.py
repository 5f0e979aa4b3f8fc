"""The axes of a surface in words, as pages explain them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossatlas.choices import NORMS, NormOrNone, is_word
from lossatlas.figures.network_marks import NetworkMark, curve_kind, networks_of
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.landscape.surface import Surface
from lossatlas.viewer.axis_names import are_principal, full_axis_names

LONGEST = 28  # letters of a network's name
DIGEST = re.compile(r"[0-9a-f]{32,}")  # in place of a name
NAMELESS = ("one network", "a second one", "a third one")
CURVE = re.compile(r"a (\w+) curve towards ")  # as records describe the points of a curve
KINDS = {"bezier": "Bézier"}  # of curves, by their names in files
RANDOM, ANY = "a random direction", "a direction"
NEAR = 1e-6  # of the extent of a path or of a unit: coordinates that differ by less are equal


@dataclass(frozen=True)
class Axis:
    """The direction of an axis.

    Attributes:
        words: Its name.
        norm: Its normalization; '' for none, and where it is not known.
    """

    words: str = ANY
    norm: NormOrNone = ""

    @property
    def scaled(self) -> str:
        """Its normalization in brackets; '' for none."""
        return f" ({norm_in_words(self.norm)})" if self.norm else ""


def axes_in_words(
    surface: Surface, directions: Mapping[str, Any] | None = None, trajectory: Projection | None = None
) -> str:
    """Say what the coordinates of a surface are, and no more than its file says.

    Args:
        surface: A line, a plane or a volume.
        directions: Metadata of its directions, or None.
        trajectory: Path of a training run in the plane, or None.

    Returns:
        A sentence.

    Example:
        >>> import lossatlas
        >>> axes_in_words(lossatlas.read("docs/surfaces/resnet56_cifar10.h5"))
        'x, y: distance along two random directions (filter-normalized); (0, 0) is the network itself.'
    """
    request, networks = surface.request, networks_of(surface)
    if "path" in request:
        return "x: the number of a checkpoint, from 0 on."
    if surface.is_chart:
        return (
            "x: distance along the path of a training from its first checkpoint; y: distance across the path, in the "
            "plane of velocity and acceleration of the nearest checkpoints."
        )
    if scheme := request.get("scheme"):
        return f"x, y: how three networks are mixed (scheme '{scheme}'); (0, 0) is the first of them alone."
    if trajectory is not None or is_plane_of_run(surface, directions):
        return along_run(directions, trajectory) + third_axis(surface, directions or {})
    if curve := CURVE.match(str(request.get("directions", ""))):
        return f"x: position on a {KINDS.get(curve[1], curve[1])} curve {from_to(surface, networks)}."
    if len(networks) > 1 and surface.grid.y is None:
        return f"x: position on the straight line {from_to(surface, networks)}."
    if len(networks) > 2:
        return between(surface, networks) + third_axis(surface, directions or {})
    return along_directions(surface, directions or {})


def third_axis(surface: Surface, directions: Mapping[str, Any]) -> str:
    """Describe z, where a sentence about x and y comes first: in a volume, or on one of its planes; '' elsewhere."""
    fixed = surface.request.get("plane_of_volume")
    if fixed is not None:
        return f" This is the plane z = {rounded_coordinate(fixed)} of a volume."
    if surface.grid.z is None:
        return ""
    z = axis_of(surface.about, directions, "z")
    return f" That is the plane z = 0; z: distance along {z.words}{z.scaled}."


# Networks on a line or a plane ------------------------------------------------------------------------------------


def from_to(surface: Surface, networks: list[NetworkMark]) -> str:
    """Name the networks at the ends of a line or a curve."""
    if len(networks) < 2:
        return "from one network (0) to another one (1)"
    first, second = (f"{network_name(each, k)} ({rounded_coordinate(each.x)})" for k, each in enumerate(networks[:2]))
    permuted = ", whose units are permuted" if recorded_option(surface.about, "align") else ""
    return f"from {first} to {second}{permuted}"


def between(surface: Surface, networks: list[NetworkMark]) -> str:
    """Name the networks of a plane, by their coordinates."""
    places = [
        f"{network_name(each, k)} at ({rounded_coordinate(each.x)}, {rounded_coordinate(each.y)})"
        for k, each in enumerate(networks)
    ]
    if curve := curve_kind(surface):
        kind = KINDS.get(curve, curve)
        return f"x, y: distance along two directions in the plane of a {kind} curve from {places[0]} to {places[1]}."
    return f"x, y: distance along two directions between networks: {', '.join(places[:-1])} and {places[-1]}."


def network_name(network: NetworkMark, number: int) -> str:
    """Return the name of a network, or words for one that has none."""
    if DIGEST.fullmatch(network.name):
        return NAMELESS[min(number, len(NAMELESS) - 1)]
    return network.name if len(network.name) <= LONGEST else f"{network.name[: LONGEST - 1].rstrip()}…"


def rounded_coordinate(value: float) -> str:
    """Write a coordinate in three digits; 0 for what rounding has left of it."""
    return f"{0.0 if abs(value) < NEAR else value:.3g}"


# Training runs ----------------------------------------------------------------------------------------------------


def is_plane_of_run(surface: Surface, directions: Mapping[str, Any] | None) -> bool:
    """Return whether a plane is one of a training run, also where no path is shown."""
    axes = [str((directions or {}).get(letter, "")) for letter in "xy"]
    return are_principal(axes) or "trajectory" in str(surface.about.get("command", "")).partition(" --")[0]


def along_run(directions: Mapping[str, Any] | None, trajectory: Projection | None) -> str:
    """Describe the axes of the plane of training runs, whose origin is the last checkpoint of the first run."""
    axes = full_axis_names(trajectory)
    if axes == ["x", "y"]:
        axes = [str((directions or {}).get(letter, letter)) for letter in "xy"]
    origin = "; (0, 0) is the last checkpoint" if trajectory is None or ends_at_origin(trajectory) else ""
    if are_principal(axes):
        shares = [f"{100 * share:.0f} %" for share in (trajectory.explained[:2] if trajectory else ())]
        of_variance = f" ({' and '.join(shares)} of the variance)" if shares else ""
        return (
            "x, y: distance along the first two principal components of the checkpoints of a training"
            f"{of_variance}{origin}."
        )
    if axes == ["x", "y"]:
        return f"x, y: distance along two directions in the plane of a training{origin}."
    return f"x: {axes[0]}; y: {axes[1]}{origin}."


def ends_at_origin(trajectory: Projection) -> bool:
    """Return whether the last checkpoint of a path is the origin of the plane."""
    distances = np.hypot(trajectory.x, trajectory.y)
    return bool(distances[-1] <= NEAR * np.nanmax(distances))


# Directions around a network --------------------------------------------------------------------------------------


def along_directions(surface: Surface, directions: Mapping[str, Any]) -> str:
    """Describe the directions of a line, a plane or a volume around a network."""
    letters = "xyz"[: len(surface.grid.axes)]
    x, *more = (axis_of(surface.about, directions, letter) for letter in letters)
    is_recorded = bool(directions or surface.about.get("command") or "directions" in surface.request)
    fixed = surface.request.get("plane_of_volume")
    place = f"({', '.join('0' * len(letters))})" if more else "0"
    origin = f"; {place} is the network itself" if is_recorded and not fixed else ""
    plane = "" if fixed is None else third_axis(surface, directions)
    if more and x.words in (RANDOM, ANY) and all(each == x for each in more):
        count = "two" if len(more) == 1 else "three"
        directed = f"{count} {x.words.removeprefix('a ')}s{x.scaled}"
        return f"{', '.join(letters)}: distance along {directed}{origin}.{plane}"
    others = [f"; {letter}: along {each.words}{each.scaled}" for letter, each in zip(letters[1:], more, strict=True)]
    return f"x: distance along {x.words}{x.scaled}{''.join(others)}{origin}.{plane}"


def axis_of(about: Mapping[str, Any], directions: Mapping[str, Any], letter: str) -> Axis:
    """Return the direction of an axis as its metadata describe it, or else the options of the command."""
    if record := str(directions.get(letter, "")):
        found = re.search(r"norm=(\w+)", record)
        return Axis(direction_words(record), "" if found is None else known_norm(found[1]))
    norm = known_norm(recorded_option(about, f"{letter}norm"))
    if letter == "y" and recorded_option(about, "same_dir"):
        return Axis("the direction of x")
    if recorded_option(about, "model_file3" if letter == "y" else "model_file2"):
        return Axis("the direction to another network")
    if not about.get("command") or (recorded_option(about, "dir_file") and not norm):
        return Axis(norm=norm)  # a file that is named may hold directions of any kind
    return Axis(direction_words(recorded_option(about, f"{letter}direction") or "random"), norm)


def norm_in_words(norm: str, ignored: str = "") -> str:
    """Describe a normalization of directions and the parameters that they leave out.

    Args:
        norm: As a file or an option names it; '' where it is not known.
        ignored: The parameters that are left out, as a file or an option names them.

    Example:
        >>> norm_in_words("filter", "biasbn")
        'filter-normalized, without biases and BatchNorm'
    """
    if norm == "unit":
        norm = "of unit length"
    words = f"{norm}-normalized" if known_norm(norm) else norm
    if not words or ignored in ("", "none"):
        return words
    return f"{words}, {'without biases and BatchNorm' if ignored == 'biasbn' else f'{ignored} ignored'}"


def known_norm(word: str) -> NormOrNone:
    """Return the normalization that a file names; '' for 'none', and for a word that is not known."""
    return word if is_word(word, NORMS) else ""


def direction_words(record: str) -> str:
    """Name a direction by the text of its record or of an option, see `AxisRequest.describe` and `AxisConfig.parse`."""
    if found := re.match(r"eigenvector[: ]?(\d*)", record):
        return f"eigenvector {found[1] or 1} of the Hessian"
    kinds = {
        "random": RANDOM,
        "gradient": "the gradient",
        "towards ": "the direction to another network",
        "the x direction": "the direction of x",
        "a vector ": "a given direction",
    }
    return next((words for start, words in kinds.items() if record.startswith(start)), ANY)
