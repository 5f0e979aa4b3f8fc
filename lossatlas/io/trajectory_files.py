"""Files of training trajectories, projected on a plane."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io.hdf5 import check_seal, get_text, opened, read_array, seal, set_text, write

EXPLAINED = "explained_variance_ratio_"
SEALED = ("directions", "checkpoint")  # attributes with a checksum, which covers the arrays too
OWN_PLANE = "own_plane_"  # begins the names of arrays of a chart
CHECKPOINT_FIELDS = ("epochs", "loss", "distance")  # of each checkpoint, where the file holds them


@dataclass(frozen=True)
class OwnPlaneLosses:
    """Losses of cells of a chart at their projections onto the planes of their nearest checkpoints.

    Attributes:
        x: (nx,), lengths of the path of their columns.
        y: (ny,), their distances from the path.
        loss: (ny, nx), losses in their own planes.
        difference: (ny, nx), the loss of each cell of the chart minus the one in its own plane.
    """

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    difference: np.ndarray

    @property
    def ratio(self) -> np.ndarray:
        """(ny, nx), the loss of each cell divided by the one in its own plane; NaN where one is not positive."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = 1 + self.difference / self.loss
        return np.where(np.isfinite(ratio) & (ratio > 0), ratio, np.nan)


@dataclass(frozen=True)
class Projection:
    """Checkpoints of a training run on a plane.

    Attributes:
        x: (n,), coordinates along the x direction, in units of its length.
        y: (n,), coordinates along the y direction.
        epochs: (n,), None where they are not known.
        loss: (n,), mean losses of the checkpoints themselves, which lie off the plane, or None.
        distance: (n,), distances of the checkpoints from the plane, in units of the parameters, or None.
        explained: Fractions of the variance that the axes explain.
        drops: Epochs after which the learning rate was less than half of the one before.
        run: Name of the run.
        axes: Names of the axes.
        field: Name of the surface's field that `loss` belongs to.
        losses_of: Identifies loss and data, see `loss_key`.
        plane: SHA-256 of the directions of the plane; '' where it is not known.
        counted: What `epochs` are numbers of, "epoch" or "step".
        own_planes: On a chart of local planes, losses of its cells in their own planes.
    """

    x: np.ndarray
    y: np.ndarray
    epochs: np.ndarray | None = None
    loss: np.ndarray | None = None
    distance: np.ndarray | None = None
    explained: tuple[float, ...] = ()
    drops: tuple[float, ...] = ()
    run: str = ""
    axes: tuple[str, ...] = ()
    field: str = "train_loss"
    losses_of: str = ""
    plane: str = ""
    counted: str = "epoch"
    own_planes: OwnPlaneLosses | None = None

    def at(self, k: int) -> str:
        """Describe the k-th checkpoint, from 0 on, by its epoch or step, or by its number."""
        return f"checkpoint {k + 1}" if self.epochs is None else f"{self.counted} {self.epochs[k]:g}"

    @property
    def axis(self) -> str:
        """Name of the axis of a figure over the checkpoints."""
        return "checkpoint" if self.epochs is None else self.counted

    def of(self, field: str) -> "Projection":
        """Drop the losses if they belong to another field than the one that is drawn."""
        return self if field == self.field else replace(self, loss=None)

    def dropped(self) -> np.ndarray:
        """Return the numbers of the checkpoints at which the learning rate had just dropped."""
        return np.flatnonzero(np.isin(self.epochs, self.drops)) if self.epochs is not None else np.zeros(0, int)


def write_projection(path: str | Path, projected: Projection, plane: str, origin: str) -> None:
    """Write a projected trajectory atomically.

    Args:
        path: The file.
        projected: The trajectory.
        plane: SHA-256 of the directions.
        origin: SHA-256 of the checkpoint that the coordinates are relative to.

    Raises:
        CannotWrite: The file cannot be written.
    """
    arrays = {name: getattr(projected, name) for name in CHECKPOINT_FIELDS}
    arrays |= {EXPLAINED: np.array(projected.explained), "drops": np.array(projected.drops)}
    texts = {"run": projected.run, "axes": "\n".join(projected.axes), "losses_of": projected.losses_of}
    texts["counted"] = projected.counted if projected.counted != "epoch" else ""  # files without it count epochs
    texts["field"] = projected.field if projected.loss is not None else ""
    arrays |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
    if projected.own_planes is not None:
        arrays |= {f"{OWN_PLANE}{name}": array for name, array in vars(projected.own_planes).items()}

    def fill(f: h5py.File) -> None:
        set_text(f, "directions", plane)
        set_text(f, "checkpoint", origin)
        f["proj_xcoord"], f["proj_ycoord"] = projected.x, projected.y
        for name, array in arrays.items():
            if array is not None and array.size:
                f[name] = array
        seal(f, SEALED, {name: f[name][()] for name in f})

    write(path, fill)


def read_projection(path: str | Path, dir_file: str | Path | None = None) -> Projection:
    """Read a projected trajectory.

    Args:
        path: The file, of this program or of the original one.
        dir_file: A direction file, read for the explained variance where the file itself does not hold it.

    Raises:
        BadInput: A file is no trajectory, or damaged.
    """
    with opened(path) as f:
        if "proj_xcoord" not in f or "proj_ycoord" not in f:
            raise BadInput(f"{path} holds no 'proj_xcoord' and 'proj_ycoord': it is no projected trajectory")
        check_seal(f, SEALED, {name: f[name][()] for name in f})
        x, y = (read_array(f, name, 1) for name in ("proj_xcoord", "proj_ycoord"))
        if len(x) != len(y):
            raise BadInput(f"{path} holds {len(x)} and {len(y)} coordinates: they do not fit")
        explained = tuple(read_array(f, EXPLAINED, 1).tolist()) if EXPLAINED in f else ()
        more = {
            name: np.asarray(f[name][()], float) for name in CHECKPOINT_FIELDS if name in f
        }  # a loss may be infinite
        drops = tuple(read_array(f, "drops", 1).tolist()) if "drops" in f else ()
        words = ("run", "axes", "field", "losses_of", "counted")
        run, axes, field, losses_of, counted = (text_of(f, name) for name in words)
        own_planes = own_plane_losses_in(f)
    for name, values in more.items():
        if values.shape != x.shape:
            raise BadInput(f"{path} holds {len(x)} checkpoints, and '{name}' has shape {values.shape}")
    if dir_file:
        with opened(dir_file) as f:
            if EXPLAINED in f:
                explained = tuple(read_array(f, EXPLAINED, 1).tolist())
    named = tuple(axes.split("\n")) if axes else ()
    texts = {"run": run, "axes": named, "field": field or "train_loss", "losses_of": losses_of}
    texts["counted"] = counted or "epoch"
    return Projection(
        x=x,
        y=y,
        explained=explained,
        drops=drops,
        own_planes=own_planes,
        **texts,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def own_plane_losses_in(f: h5py.File) -> OwnPlaneLosses | None:
    """Read the losses of a chart's cells in their own planes; None where there are none."""
    names = [field.name for field in fields(OwnPlaneLosses)]
    if not all(f"{OWN_PLANE}{name}" in f for name in names):
        return None
    return OwnPlaneLosses(*(np.asarray(f[f"{OWN_PLANE}{name}"][()], float) for name in names))


def text_of(f: h5py.File, name: str) -> str:
    """Read a text from a data set of bytes, '' where there is none."""
    return np.asarray(f[name][()], np.uint8).tobytes().decode(errors="replace") if name in f else ""


def loss_key(request: Mapping[str, Any]) -> str:
    """Hash the entries of a surface's request that decide the loss at a point; '' where they are not recorded."""
    parts = {name: value for name, value in request.items() if name in ("loss", "loss_code") or name.endswith("_data")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() if len(parts) > 1 else ""


def projection_plane(path: str | Path) -> dict[str, str]:
    """Read the SHA-256 of directions and origin of a trajectory's coordinates, as far as the file records them."""
    with opened(path) as f:
        found = {name: get_text(f, name) for name in ("directions", "checkpoint")}
    return {name: value for name, value in found.items() if value is not None}
