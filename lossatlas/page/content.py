"""What the page is given: surfaces as plain numbers and texts, with contour lines that are ready to be drawn."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from lossatlas.figures.style import (
    DECADES,
    LOG_FROM,
    SOFT,
    eigen_ratio,
    has_eigenvalues,
    log_levels,
    soft_levels,
    title_of,
)
from lossatlas.landscape.interpolant import Interpolant, fitting
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
FINE = 240  # points along an axis on which contour lines are found, at most
HELPERS = ("_residual", "_bound")


@dataclass(frozen=True)
class Trajectory:
    """Checkpoints of a training on the plane of a surface; arrays of one length, None for what is not known.

    loss: of the checkpoints themselves. distance: from the plane.
    """

    x: np.ndarray
    y: np.ndarray
    epochs: np.ndarray | None = None
    loss: np.ndarray | None = None
    distance: np.ndarray | None = None


@dataclass(frozen=True)
class Shown:
    """A surface, its name, and what else is known of it."""

    surface: Surface
    label: str
    directions: Mapping[str, Any] | None = None  # what the direction file says
    trajectory: Trajectory | None = None
    flatness: Mapping[str, float] | None = None


def content_of(shown: Sequence[Shown]) -> dict[str, Any]:
    """Everything that the page's script reads, as JSON allows it."""
    fields = [fields_of(each.surface) for each in shown]
    common = [name for name in fields[0] if all(name in own for own in fields) and not name.endswith("_se")]
    levels = {name: levels_of([own[name] for own in fields]) for name in common}
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


def levels_of(fields: Sequence[np.ndarray]) -> dict[str, Any]:
    """Range, the scale to begin with, and contour levels of a field that several surfaces share."""
    from matplotlib.ticker import MaxNLocator

    values = np.concatenate([field[np.isfinite(field)] for field in fields])
    if values.size == 0:
        return {"range": None, "scale": "linear", "levels": {"linear": []}}
    low, high = float(values.min()), float(values.max())
    steps = np.asarray(MaxNLocator(12).tick_values(low, high))
    levels = {"linear": steps[(steps >= low) & (steps <= high)].tolist()}
    scale = "linear"
    if low > 0 and high > low:
        levels["log"] = log_levels(max(low, high / 10**DECADES), high).tolist()
        levels["soft"] = soft_levels(low, high).tolist()
        if high / low > LOG_FROM:
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
        log, error = (False, np.nan) if name.endswith("_se") else fitting(x[columns], y[rows], known)
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
            found[name]["contours"] = contours(Interpolant.of(x[columns], y[rows], known, log), wanted)
    return {
        "label": shown.label,
        "caption": caption(shown),
        "x": x.tolist(),
        "y": None if grid.y is None else y.tolist(),
        "rows": rows.tolist(),
        "columns": columns.tolist(),
        "done": encoded(np.atleast_2d(surface.done), np.uint8),
        "cells": [int(surface.done.sum()), int(surface.done.size)],
        "fields": found,
        "trajectory": path_of(shown.trajectory),
        "flatness": {name: float(value) for name, value in (shown.flatness or {}).items()},
    }


def path_of(trajectory: Trajectory | None) -> dict[str, Any] | None:
    if trajectory is None:
        return None
    arrays = {name: getattr(trajectory, name) for name in ("x", "y", "epochs", "loss", "distance")}
    return {name: None if array is None else plain(array) for name, array in arrays.items()}


def plain(array: np.ndarray) -> list[float | None]:
    """JSON has no infinities."""
    return [float(value) if np.isfinite(value) else None for value in array]


def encoded(array: np.ndarray, kind: Any) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(kind).newbyteorder("<")).tobytes()).decode()


def colours(name: str) -> str:
    """256 colours of a map, as bytes."""
    from matplotlib import colormaps

    wanted = np.linspace(0.95, 0.35, 256) if name in MAPS[4:] else np.linspace(0, 1, 256)
    return encoded((colormaps[name](wanted)[:, :3] * 255).round(), np.uint8)


def contours(surface: Interpolant, levels: Sequence[float]) -> list[dict[str, Any]]:
    """Lines of each level: lengths of the runs, and their points as shares of the axes, 65535 being the whole of one."""
    from contourpy import contour_generator

    axes = []
    for axis in (surface.x, surface.y):
        times = max(1, min(6, FINE // max(1, len(axis) - 1)))
        fine = [np.linspace(a, b, times, endpoint=False) for a, b in pairwise(axis)]
        axes.append(np.concatenate([*fine, axis[-1:]]))
    values = surface.at(*np.meshgrid(*axes))[0]
    lines = contour_generator(x=axes[0], y=axes[1], z=np.ma.masked_invalid(values))
    found = []
    for level in levels:
        runs = [run for run in lines.lines(level) if len(run) > 1]
        if not runs:
            continue
        ends = np.array([[axis[0], axis[-1] - axis[0]] for axis in axes])
        shares = np.concatenate([(run - ends[:, 0]) / ends[:, 1] for run in runs])
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
    samples = "; ".join(f"{count:,} of {split}" for split, count in surface.populations.items())
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
        "cells": f"{surface.done.sum()} of {surface.done.size}" if not surface.done.all() else str(surface.done.size),
        "computed": str(about.get("finished", about.get("started", "")))[:10],
    }
    return [[name, str(value)] for name, value in items.items() if value not in ("", None)]


def standard_errors(surface: Surface) -> str:
    """Of the losses: none where all samples were used."""
    texts = []
    for name, values in surface.fields.items():
        if name.endswith("_loss_se") and np.isfinite(values).any():
            largest = float(np.nanmax(np.where(np.isfinite(values), values, np.nan)))
            texts.append("0, all samples are used" if largest == 0 else f"up to {largest:.2g}")
    return "; ".join(dict.fromkeys(texts))
