"""What the page is given: surfaces as plain numbers and texts, with contour lines that are ready to be drawn."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures.style import (
    DECADES,
    LARGEST,
    LOG_FROM,
    SOFT,
    eigen_ratio,
    has_eigenvalues,
    is_share,
    log_levels,
    soft_levels,
    title_of,
)
from lossatlas.io.trajectory_files import KNOWN, Projection
from lossatlas.landscape.interpolant import Interpolant, clip_for_drawing, cross_validate
from lossatlas.landscape.surface import Surface

MAPS = (
    "viridis",
    "cividis",
    "magma",
    "coolwarm",
    "Blues",
    "Oranges",
    "Greens",
    "Purples",
)  # the last ones: overlaid models
SAME = 1e-9  # values that differ by less, relative to the largest, are one
LONGEST = 300  # letters of a text in the caption
FINE = 240  # points along an axis on which contour lines are found, at most
HELPERS = ("_residual", "_bound")


@dataclass(frozen=True)
class Shown:
    """A surface, its name, and what else is known of it."""

    surface: Surface
    label: str
    directions: Mapping[str, Any] | None = None  # what the direction file says
    trajectory: Projection | None = None
    flatness: Mapping[str, str] | None = None  # what it is, and the number in words


def content_of(shown: Sequence[Shown]) -> dict[str, Any]:
    """Everything that the page's script reads, as JSON allows it."""
    fields = [fields_of(each.surface) for each in shown]
    common = [name for name in fields[0] if all(name in own for own in fields) and not name.endswith("_se")]
    levels = {name: levels_of([own[name] for own in fields], is_share(name)) for name in common}
    return {
        "maps": {name: colours(name) for name in MAPS},
        "fields": [
            {"name": name, "title": plain_title(name), **levels[name], "better": -1 if name.endswith("_acc") else 1}
            for name in common
        ],
        "surfaces": [one(each, own, levels) for each, own in zip(shown, fields, strict=True)],
    }


def fields_of(surface: Surface) -> dict[str, np.ndarray]:
    """Every field (ny, nx) that means something to a reader, the loss first."""
    found = {name: values for name, values in surface.fields.items() if not name.endswith(HELPERS)}
    if has_eigenvalues(surface):
        found["eigen_ratio"] = eigen_ratio(surface)
    first = [name for name in ("train_loss", "test_loss") if name in found]
    return {name: np.atleast_2d(found[name]) for name in (*first, *(name for name in found if name not in first))}


def plain_title(name: str) -> str:
    return "|smallest / largest eigenvalue|" if name == "eigen_ratio" else title_of(name)


def levels_of(fields: Sequence[np.ndarray], linear: bool = False) -> dict[str, Any]:
    """Range, the scale to begin with, and contour levels of a field that several surfaces share."""
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate([field[np.isfinite(field)] for field in fields])
    if values.size == 0:
        return {"range": None, "scale": "linear", "levels": {"linear": []}}
    low, high = float(values.min()), float(values.max())
    if not max(abs(low), abs(high)) < LARGEST:
        raise BadUsage(f"the range {low:g} to {high:g} is wider than numbers go")
    if high - low <= max(SAME * max(abs(low), abs(high)), 1e-290):  # one value: a scale around it, and no contours
        half = 0.5 * abs(low) or 0.5
        return {"range": [low - half, high + half], "scale": "linear", "levels": {"linear": []}}
    steps = np.asarray(MaxNLocator(12).tick_values(low, high))
    levels = {"linear": steps[(steps >= low) & (steps <= high)].tolist()}
    scale = "linear"
    if low > 0 and high > low:
        levels["log"] = log_levels(max(low, high / 10**DECADES), high).tolist()
        levels["soft"] = soft_levels(low, high).tolist()
        if high / low > LOG_FROM and not linear:
            scale = "soft" if low < SOFT and high > 10 * SOFT else "log"
    return {"range": [low, high], "scale": scale, "levels": levels}


def one(shown: Shown, fields: Mapping[str, np.ndarray], levels: Mapping[str, Any]) -> dict[str, Any]:
    surface = shown.surface
    grid = surface.grid
    x, y = np.asarray(grid.x, float), np.zeros(1) if grid.y is None else np.asarray(grid.y, float)
    parts = surface.complete_part()
    rows, columns = (np.zeros(1, int), parts[0]) if grid.y is None else parts
    found = {}
    for name, values in fields.items():
        known = values[np.ix_(rows, columns)]
        log, error = (False, np.nan) if name.endswith("_se") else cross_validate(x[columns], y[rows], known)
        if grid.y is None:
            finite = known[np.isfinite(known)]
            log = bool(finite.size and (finite > 0).all())
        found[name] = {
            "values": encoded(values, np.float32 if name.endswith("_se") else np.float64),
            "log": log,
            "error": None if np.isnan(error) else error,
        }
        if grid.y is not None and name in levels and len(rows) > 1 and len(columns) > 1:
            wanted = sorted({level for each in levels[name]["levels"].values() for level in each})
            ends = ((x[0], x[-1]), (y[0], y[-1]))  # of the whole plane: an unfinished part may end before it does
            found[name]["contours"] = contours(Interpolant.of(x[columns], y[rows], known, log=log), known, wanted, ends)
    return {
        "label": shortened(shown.label),
        "caption": caption(shown),
        "x": x.tolist(),
        "y": None if grid.y is None else y.tolist(),
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "done": encoded(np.atleast_2d(surface.known), np.uint8),
        "interpolated": encoded(np.atleast_2d(surface.interpolated), np.uint8),
        "cells": [int(surface.known.sum()), int(surface.known.size)],
        "fields": found,
        "trajectory": path_of(shown.trajectory),
        "flatness": dict(shown.flatness or {}),
    }


def path_of(trajectory: Projection | None) -> dict[str, Any] | None:
    if trajectory is None:
        return None
    arrays = {name: getattr(trajectory, name) for name in ("x", "y", *KNOWN)}
    return {
        **{name: None if array is None else plain(array) for name, array in arrays.items()},
        "field": trajectory.field,
    }


def plain(array: np.ndarray) -> list[float | str | None]:
    """JSON has no infinities: they travel as texts that JavaScript reads as numbers."""
    names = {np.inf: "Infinity", -np.inf: "-Infinity"}
    return [None if np.isnan(value) else names.get(value, float(value)) for value in array.tolist()]


def encoded(array: np.ndarray, kind: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def colours(name: str) -> str:
    """256 colours of a map, as bytes."""
    from matplotlib import colormaps

    wanted = np.linspace(0.95, 0.35, 256) if name in MAPS[4:] else np.linspace(0, 1, 256)
    return encoded((colormaps[name](wanted)[:, :3] * 255).round(), np.uint8)


def contours(
    surface: Interpolant, known: np.ndarray, levels: Sequence[float], ends: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Lines of each level: lengths of the runs, and their points as shares of the axes, 65535 being the whole of one.

    known: the values at the cells. ends: of each axis of the whole plane.
    """
    from contourpy import contour_generator

    axes = []
    for axis in (surface.x, surface.y):
        times = max(1, min(6, FINE // max(1, len(axis) - 1)))
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
                "points": encoded((shares * 65535).round(), np.uint16),
            }
        )
    return found


def caption(shown: Shown) -> list[list[str]]:
    """What a reader has to know, in pairs of a name and a text; nothing is said of what is not recorded."""
    surface = shown.surface
    request, about, plan = surface.request, surface.about, surface.plan
    command, directions = str(about.get("command", "")), shown.directions or {}

    def option(name: str) -> str:
        found = re.search(rf"--{name}[= ](\S+)", command)
        return found.group(1) if found else ""

    axes = {"x": option("xnorm"), "y": option("ynorm")} if command else {}
    norms = "; ".join(f"{axis}: {norm}" for axis, norm in axes.items() if norm)
    if len(set(axes.values())) == 1 and norms:
        norms = next(iter(axes.values()))
    ignored = option("xignore")
    counts = {split: f"{n:,}" if isinstance(n, int) else str(n) for split, n in surface.populations.items()}
    samples = "; ".join(f"{count} {'training' if split == 'train' else split}" for split, count in counts.items())
    tolerance = about.get("tolerance")
    items = {
        "model": request.get("model", ""),
        "data": request.get("dataset", ""),
        "loss": request.get("loss", ""),
        "samples": samples,
        "directions": " ".join(str(part) for part in (request.get("dir_type", ""), directions.get("of", "")) if part),
        "normalization": norms + (f", {ignored} ignored" if norms and ignored else ""),
        "seed": about.get("seed", ""),
        "precision": plan.get("precision", ""),
        "standard error": standard_errors(surface),
        "tolerance": tolerance if tolerance not in (None, "none", [0, 0], [0.0, 0.0]) else "",
        "cells": cells_of(surface),
        "computed": str(about.get("finished", about.get("started", "")))[:10],
    }
    return [[name, shortened(str(value))] for name, value in items.items() if value not in ("", None)]


def cells_of(surface: Surface) -> str:
    """How many cells are known, and how many of them are interpolated."""
    known, size, left_out = int(surface.known.sum()), surface.known.size, int(surface.interpolated.sum())
    some = f"{known} of {size}" if known < size else str(size)
    return some + (f", {left_out} of them interpolated" if left_out else "")


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def standard_errors(surface: Surface) -> str:
    """Of the losses: none where all samples were used."""
    zero = surface.about.get("zero", [])  # what a slim file has left out
    texts = (
        ["0, all samples are used" for name in zero if str(name).endswith("_loss_se")] if isinstance(zero, list) else []
    )
    for name, values in surface.fields.items():
        if name.endswith("_loss_se") and np.isfinite(values).any():
            largest = float(np.nanmax(np.where(np.isfinite(values), values, np.nan)))
            texts.append("0, all samples are used" if largest == 0 else f"up to {largest:.2g}")
    return "; ".join(dict.fromkeys(texts))
