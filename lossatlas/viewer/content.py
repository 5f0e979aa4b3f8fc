"""Content of the interactive page: surfaces as numbers and texts, with contour lines that are ready to be drawn."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lossatlas.errors import BadUsage, named
from lossatlas.figures.colour_scale import (
    DECADES,
    LARGEST_DRAWN,
    LOG_FROM,
    has_deep_basin,
    linear_levels,
    log_levels,
    shifted_log_levels,
)
from lossatlas.figures.plotted_fields import eigen_ratio, field_title, has_eigenvalues, is_accuracy, loss_names
from lossatlas.io.trajectory_files import CHECKPOINT_FIELDS, Projection
from lossatlas.landscape.interpolant import Interpolant, clip_for_drawing, cross_validate
from lossatlas.landscape.recorded_options import recorded_option
from lossatlas.landscape.surface import Surface
from lossatlas.viewer.axis_names import axis_names, full_axis_names
from lossatlas.viewer.axis_words import axes_in_words, norm_in_words
from lossatlas.viewer.volumes import check_volume_alone, is_single, planes_of

MAPS = ("viridis", "cividis", "magma", "coolwarm")  # the user chooses one of them
OVERLAY_MAPS = ("Blues", "Oranges", "Greens", "Purples")  # of surfaces in one box
SAME = 1e-9  # values are equal if they differ by less, relative to the largest
LONGEST = 300  # letters of a text in the caption
FINE = 240  # points along an axis on which contour lines are found, at most
FINE_OF_VOLUME = 80  # the same in each plane of a volume, which has many
NOT_SHOWN = ("_residual", "_bound")  # ends of fields that describe another field
TOP_OF_MEDIAN = 100.0  # the usual top of a scale, as a multiple of the median of the finite cells


@dataclass(frozen=True)
class Shown:
    """A surface on the page.

    Attributes:
        surface: A curve, a plane, or a volume, which shows one of its planes at a time.
        label: Its name.
        directions: Metadata of its direction file.
        trajectory: Path of a training run on it.
        flatness: Measures of flatness: name and number in words.

    Example:
        >>> import lossatlas
        >>> Shown(lossatlas.read("docs/surfaces/resnet56_cifar10.h5"), "ResNet-56").label
        'ResNet-56'
    """

    surface: Surface
    label: str
    directions: Mapping[str, Any] | None = None
    trajectory: Projection | None = None
    flatness: Mapping[str, str] | None = None


def content_of(shown: Sequence[Shown], vmax: float | None = None) -> dict[str, Any]:
    """Collect the data that the page's script reads.

    Args:
        shown: Surfaces of the page.
        vmax: Top of the scale of the field that is shown first; by default see `usual_top`.

    Returns:
        A dictionary for JSON: the colour maps, the fields that all surfaces have, and the surfaces.

    Raises:
        BadUsage: The values of a field are too large to be drawn, vmax does not lie above the lowest one, or a volume
            is not alone.
    """
    check_volume_alone([each.surface for each in shown], with_path=any(each.trajectory is not None for each in shown))
    fields = [fields_of(each.surface) for each in shown]
    common = [name for name in fields[0] if all(name in own for own in fields) and not name.endswith("_se")]
    losses = {name for each in shown for name in loss_names(each.surface)}
    levels = {
        name: levels_of([own[name] for own in fields], linear=is_accuracy(name), vmax=None if k else vmax)
        for k, name in enumerate(common)
    }
    return {
        "maps": {name: _map_colours(name) for name in (*MAPS, *OVERLAY_MAPS)},
        "fields": [
            {
                "name": name,
                "title": _plain_title(name),
                **levels[name],
                "better": -1 if is_accuracy(name) else 1,
                "race": name in losses,
            }
            for name in common
        ],
        "surfaces": [_surface_content(each, own, levels) for each, own in zip(shown, fields, strict=True)],
    }


def fields_of(surface: Surface) -> dict[str, np.ndarray]:
    """List the fields that mean something to a reader, the losses first.

    Args:
        surface: A curve, a plane or a volume.

    Returns:
        Values of the grid's shape by name; (1, nx) of a curve.
    """
    found = {name: values for name, values in surface.fields.items() if not name.endswith(NOT_SHOWN)}
    if has_eigenvalues(surface):
        found["eigen_ratio"] = eigen_ratio(surface)
    first = [name for name in ("train_loss", "test_loss") if name in found]
    return {name: np.atleast_2d(found[name]) for name in (*first, *(name for name in found if name not in first))}


def _plain_title(name: str) -> str:
    return "|smallest / largest eigenvalue|" if name == "eigen_ratio" else field_title(name)


def usual_top(values: np.ndarray) -> float:
    """Choose the top of the scale of a field: its largest value, but at most 100 times its median.

    A few cells that diverged would otherwise leave one colour and one height to all others.

    Args:
        values: Finite values, any shape but empty.

    Returns:
        The top; the largest value where the median is not positive.

    Example:
        >>> import numpy as np
        >>> usual_top(np.array([1.0, 2.0, 3.0])), usual_top(np.array([1.0, 2.0, 1e9]))
        (3.0, 200.0)
    """
    high, median = float(values.max()), float(np.median(values))
    return min(high, TOP_OF_MEDIAN * median) if median > 0 else high


def levels_of(fields: Sequence[np.ndarray], *, linear: bool = False, vmax: float | None = None) -> dict[str, Any]:
    """Choose range, top, first scale and contour levels of a field that several surfaces share.

    The rules are those of `lossatlas.figures.choose_colour_scale`, with levels for each scale that the user can choose.

    Args:
        fields: Values of each surface.
        linear: Begin with a linear scale.
        vmax: Top of the scale; by default `usual_top`.

    Returns:
        "range": [low, high], or None where nothing is finite; "top": the value above which the page cuts the field off;
        "scale": "linear", "log" or "soft", which is the logarithm of value + `LOG_SHIFT`; "levels": a list for each
        scale.

    Raises:
        BadUsage: The values are too large to be drawn, or vmax does not lie above the lowest one.
    """
    values = np.concatenate([field[np.isfinite(field)] for field in fields])
    if values.size == 0:
        return {"range": None, "scale": "linear", "levels": {"linear": []}}
    low, high = float(values.min()), float(values.max())
    if not max(abs(low), abs(high)) < LARGEST_DRAWN:
        raise BadUsage(f"the range {low:g} to {high:g} is wider than numbers go")
    if vmax is not None and not low < vmax < np.inf:
        raise BadUsage(f"{named('vmax', vmax)}: the top has to lie above the lowest value, {low:.6g}")
    if high - low <= max(SAME * max(abs(low), abs(high)), 1e-290):  # one value: a scale around it, and no contours
        half = 0.5 * abs(low) or 0.5
        return {"range": [low - half, high + half], "top": high + half, "scale": "linear", "levels": {"linear": []}}
    top = min(high, vmax) if vmax is not None else usual_top(values)
    scale = "linear"
    if low > 0 and top / low > LOG_FROM and not linear:
        scale = "soft" if has_deep_basin(low, top) else "log"
    return {"range": [low, high], "top": top, "scale": scale, "levels": _levels_up_to(low, top, high)}


def _levels_up_to(low: float, top: float, high: float) -> dict[str, list[float]]:
    """Choose contour levels of each scale up to the top; beyond it, the levels of the whole range."""

    def both(choose: Callable[[float, float], np.ndarray]) -> list[float]:
        own = choose(low, top).tolist()
        return own + [level for level in choose(low, high).tolist() if level > top] if top < high else own

    levels = {"linear": both(linear_levels)}
    if low > 0:
        levels["log"] = both(lambda bottom, end: log_levels(max(bottom, end / 10**DECADES), end))
        levels["soft"] = both(shifted_log_levels)
    return levels


@dataclass(frozen=True)
class Detail:
    """The detail in which cells are stored.

    Attributes:
        singles: Fields that are stored in single precision.
        fine: Points along an axis on which contour lines are found, at most.
    """

    singles: frozenset[str]
    fine: int = FINE


def _surface_content(shown: Shown, fields: Mapping[str, np.ndarray], levels: Mapping[str, Any]) -> dict[str, Any]:
    """Collect one surface: axes, cells, fields with their contours, and texts."""
    surface = shown.surface
    x, y, z = surface.grid.x, surface.grid.y, surface.grid.z
    errors = frozenset(name for name in fields if name.endswith("_se"))
    if z is None:
        cells = _cells_content(surface, fields, levels, Detail(errors))
    else:
        detail = Detail(errors | {name for name, values in fields.items() if is_single(values)}, FINE_OF_VOLUME)
        planes = [(plane, {name: values[k] for name, values in fields.items()}) for k, plane in planes_of(surface)]
        cells = {"planes": [_cells_content(plane, own, levels, detail) for plane, own in planes]}
    return {
        "label": _shortened(shown.label),
        "checkpoints": is_path(surface),
        "chart": surface.is_chart,
        "axes": axis_names(shown.directions, shown.trajectory),
        "full_axes": [_shortened(name) for name in full_axis_names(shown.trajectory)],
        "coordinates": _shortened(axes_in_words(surface, shown.directions, shown.trajectory)),
        "caption": caption(shown),
        "x": np.asarray(x, float).tolist(),
        "y": None if y is None else np.asarray(y, float).tolist(),
        "z": None if z is None else np.asarray(z, float).tolist(),
        **cells,
        "trajectory": _path_content(shown.trajectory),
        "flatness": dict(shown.flatness or {}),
    }


def _cells_content(
    surface: Surface, fields: Mapping[str, np.ndarray], levels: Mapping[str, Any], detail: Detail
) -> dict[str, Any]:
    """Collect the cells of a curve or a plane, and its fields with their contours."""
    parts = surface.complete_part()
    rows, columns = (np.zeros(1, int), parts[0]) if surface.grid.y is None else parts
    return {
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "done": _encoded(np.atleast_2d(surface.known), np.uint8),
        "interpolated": _encoded(np.atleast_2d(surface.interpolated), np.uint8),
        "cells": [int(surface.known.sum()), int(surface.known.size)],
        "fields": {
            name: _field_content(surface, name, values, (rows, columns), levels.get(name), detail=detail)
            for name, values in fields.items()
        },
    }


def is_path(surface: Surface) -> bool:
    """Return whether the points of a line are checkpoints, and x is their number."""
    return "path" in surface.request


def _field_content(
    surface: Surface,
    name: str,
    values: np.ndarray,
    part: tuple[np.ndarray, np.ndarray],
    levels: Any,
    *,
    detail: Detail,
) -> dict[str, Any]:
    """Collect the values of a field, how to interpolate them, and the contours of its complete part."""
    rows, columns = part
    x = np.asarray(surface.grid.x, float)
    y = np.zeros(1) if surface.grid.y is None else np.asarray(surface.grid.y, float)
    known = values[np.ix_(rows, columns)]
    log, error = (False, np.nan) if name.endswith("_se") else cross_validate(x[columns], y[rows], known)
    if surface.grid.y is None:
        finite = known[np.isfinite(known)]
        log = bool(finite.size and (finite > 0).all())
    content: dict[str, Any] = {
        "values": _encoded(values, np.float32 if name in detail.singles else np.float64),
        "single": name in detail.singles,
        "log": log,
        "error": None if np.isnan(error) else error,
    }
    if surface.grid.y is not None and levels is not None and len(rows) > 1 and len(columns) > 1:
        wanted = sorted({level for each in levels["levels"].values() for level in each})
        ends = ((x[0], x[-1]), (y[0], y[-1]))  # of the whole plane: an unfinished part may end before it does
        drawn = Interpolant.for_drawing(x[columns], y[rows], known, log=log)
        content["contours"] = contours(drawn, known, wanted, ends, detail.fine)
    return content


def _path_content(trajectory: Projection | None) -> dict[str, Any] | None:
    if trajectory is None:
        return None
    arrays = {name: getattr(trajectory, name) for name in ("x", "y", *CHECKPOINT_FIELDS)}
    return {
        **{name: None if array is None else _json_numbers(array) for name, array in arrays.items()},
        "field": trajectory.field,
        "counted": trajectory.counted,
    }


def _json_numbers(array: np.ndarray) -> list[float | str | None]:
    """Convert numbers for JSON, which has no infinities: they are texts that JavaScript reads as numbers."""
    names = {np.inf: "Infinity", -np.inf: "-Infinity"}
    return [None if np.isnan(value) else names.get(value, float(value)) for value in array.tolist()]


def _encoded(array: np.ndarray, kind: DTypeLike) -> str:
    """Encode an array as little-endian numbers of a kind, in base 64."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def _map_colours(name: str) -> str:
    """Return 256 colours of a map, as bytes; of the maps for overlaid surfaces the darker part, reversed."""
    from matplotlib import colormaps

    wanted = np.linspace(0.95, 0.35, 256) if name in OVERLAY_MAPS else np.linspace(0, 1, 256)
    return _encoded((colormaps[name](wanted)[:, :3] * 255).round(), np.uint8)


def contours(
    surface: Interpolant,
    known: np.ndarray,
    levels: Sequence[float],
    ends: Sequence[tuple[float, float]],
    most: int = FINE,
) -> list[dict[str, Any]]:
    """Find the contour lines of a surface.

    Args:
        surface: Interpolant of the complete part.
        known: (ny, nx) values at its cells.
        levels: Values of the lines.
        ends: First and last coordinate of each axis of the whole plane.
        most: Points along an axis on which the lines are found, at most.

    Returns:
        For each level with a line: "level", "runs" with the number of points of each line, and "points" as shares of
        the axes in 16 bits, where 65535 is the whole axis.
    """
    from contourpy import contour_generator

    axes = []
    for axis in (surface.x, surface.y):
        times = max(1, min(6, most // max(1, len(axis) - 1)))
        fine = [np.linspace(a, b, times, endpoint=False) for a, b in pairwise(axis)]
        axes.append(np.concatenate([*fine, axis[-1:]]))
    values = clip_for_drawing(surface.at(*np.meshgrid(*axes))[0], known)
    lines = contour_generator(x=axes[0], y=axes[1], z=np.ma.masked_invalid(values))
    found = []
    for level in levels:
        runs = [run for run in lines.lines(level) if len(run) > 1]
        if not runs:
            continue
        begin, width = np.array([[low, high - low] for low, high in ends]).T
        shares = np.clip(np.concatenate([(run - begin) / width for run in runs]), 0, 1)
        found.append(
            {
                "level": float(level),
                "runs": [len(run) for run in runs],
                "points": _encoded((shares * 65535).round(), np.uint16),
            }
        )
    return found


def caption(shown: Shown) -> list[list[str]]:
    """List facts that a reader has to know; those that are not recorded are left out.

    Args:
        shown: A surface of the page.

    Returns:
        Pairs of a name and a text.
    """
    surface = shown.surface
    request, about = surface.request, surface.about
    kind, source = request.get("dir_type", ""), (shown.directions or {}).get("of", "")
    tolerance = about.get("tolerance")
    items = {
        "model": request.get("model", ""),
        "data": request.get("dataset", ""),
        "loss": request.get("loss", ""),
        "samples": _samples_in_words(surface),
        "directions": " ".join(str(part) for part in (kind, source) if part),
        "normalization": _normalization_of_directions(shown.directions or {}) or _normalization_asked_for(about),
        "axes": _axes_in_words(shown.trajectory),
        "seed": about.get("seed", ""),
        "precision": surface.plan.get("precision", ""),
        "standard error": _largest_errors_of_losses(surface),
        "tolerance": tolerance if tolerance not in (None, "none", [0, 0], [0.0, 0.0]) else "",
        "cells": _cells_in_words(surface),
        "computed": str(about.get("finished", about.get("started", "")))[:10],
    }
    return [[name, _shortened(str(value))] for name, value in items.items() if value not in ("", None)]


def _samples_in_words(surface: Surface) -> str:
    counts = {split: f"{n:,}" if isinstance(n, int) else str(n) for split, n in surface.populations.items()}
    return "; ".join(f"{count} {'training' if split == 'train' else split}" for split, count in counts.items())


def _normalization_asked_for(about: Mapping[str, Any]) -> str:
    """Describe normalization and ignored parameters of the directions, as the options of the command say."""
    x, y, z, ignored = (recorded_option(about, name) for name in ("xnorm", "ynorm", "znorm", "xignore"))
    if x == y and z in ("", x):
        return norm_in_words(x, ignored)
    axes = [(axis, norm) for axis, norm in (("x", x), ("y", y), ("z", z)) if norm]
    return "; ".join(f"{axis}: {norm_in_words(norm, ignored)}" for axis, norm in axes)


def _normalization_of_directions(about: Mapping[str, Any]) -> str:
    """Describe the normalization of the directions, as the metadata of their file say; '' where they do not."""
    words = {}
    for letter in "xyz":
        if found := re.search(r"norm=(\w+)[^,]*, ignore=(\w+)", str(about.get(letter, ""))):
            words[letter] = norm_in_words(found[1], found[2])
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{letter}: {norm}" for letter, norm in words.items())


def _axes_in_words(trajectory: Projection | None) -> str:
    """Return the full names of the axes of the plane of a path; '' where they are x and y."""
    names = full_axis_names(trajectory)
    return (
        "" if names == ["x", "y"] else "; ".join(f"{letter}: {name}" for letter, name in zip("xy", names, strict=True))
    )


def _cells_in_words(surface: Surface) -> str:
    known, size, interpolated = int(surface.known.sum()), surface.known.size, int(surface.interpolated.sum())
    some = f"{known} of {size}" if known < size else str(size)
    return some + (f", {interpolated} of them interpolated" if interpolated else "")


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _largest_errors_of_losses(surface: Surface) -> str:
    """Write the largest standard errors of the losses; 0 where all samples were used."""
    zero = surface.about.get("zero", [])  # fields that a slim file leaves out because they are zero
    exact = "0, all samples are used"
    texts = [exact for name in zero if str(name).endswith("_loss_se")] if isinstance(zero, list) else []
    for name in (f"{loss}_se" for loss in loss_names(surface)):
        values = surface.fields.get(name)
        if values is not None and np.isfinite(values).any():
            largest = float(np.nanmax(np.where(np.isfinite(values), values, np.nan)))
            texts.append(exact if largest == 0 else f"up to {largest:.2g}")
    return "; ".join(dict.fromkeys(texts))
