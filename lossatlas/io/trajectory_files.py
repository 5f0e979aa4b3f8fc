"""Trajectories of training, projected on a plane."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io.hdf5 import check_seal, get_text, opened, read_array, seal, set_text, write

EXPLAINED = "explained_variance_ratio_"
SEALED = ("directions", "checkpoint")  # attributes with a checksum, which covers the arrays too
KNOWN = ("epochs", "loss", "distance")  # of each checkpoint, where the file holds it


@dataclass(frozen=True)
class Projection:
    """Checkpoints of a training run on a plane; arrays of one length, None for what is not known.

    loss: of the checkpoints themselves. distance: from the plane. explained: the shares of variance that the axes explain.
    drops: epochs after which the learning rate was less than half of what it was before. run: the name of the run.
    axes: what they are. field: which loss it is. losses_of: what tells it from that of other data, see `loss_key`.
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

    def of(self, field: str) -> "Projection":
        """The same where a field is drawn: without losses that are of another one."""
        return self if field == self.field else replace(self, loss=None)

    def dropped(self) -> np.ndarray:
        """Numbers of the checkpoints at which the learning rate had just dropped."""
        return np.flatnonzero(np.isin(self.epochs, self.drops)) if self.epochs is not None else np.zeros(0, int)


def write_projection(path: str | Path, projected: Projection, plane: str, origin: str) -> None:
    """Write a trajectory projected on the directions with the hash `plane`, atomically. Raises CannotWrite.

    origin: the hash of the checkpoint that the coordinates are relative to.
    """
    arrays = {name: getattr(projected, name) for name in KNOWN}
    arrays |= {EXPLAINED: np.array(projected.explained), "drops": np.array(projected.drops)}
    texts = {"run": projected.run, "axes": "\n".join(projected.axes), "losses_of": projected.losses_of}
    texts["field"] = projected.field if projected.loss is not None else ""
    arrays |= {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}

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
    """A projected trajectory. dir_file: says how much of the variance the axes explain where the file itself does not.

    Raises BadInput.
    """
    with opened(path) as f:
        if "proj_xcoord" not in f or "proj_ycoord" not in f:
            raise BadInput(f"{path} holds no 'proj_xcoord' and 'proj_ycoord': it is no projected trajectory")
        check_seal(f, SEALED, {name: f[name][()] for name in f})
        x, y = (read_array(f, name, 1) for name in ("proj_xcoord", "proj_ycoord"))
        if len(x) != len(y):
            raise BadInput(f"{path} holds {len(x)} and {len(y)} coordinates: they do not fit")
        explained = tuple(read_array(f, EXPLAINED, 1).tolist()) if EXPLAINED in f else ()
        more = {name: np.asarray(f[name][()], float) for name in KNOWN if name in f}  # a loss may be infinite
        drops = tuple(read_array(f, "drops", 1).tolist()) if "drops" in f else ()
        run, axes, field, losses_of = (text_of(f, name) for name in ("run", "axes", "field", "losses_of"))
    for name, values in more.items():
        if values.shape != x.shape:
            raise BadInput(f"{path} holds {len(x)} checkpoints, and '{name}' has shape {values.shape}")
    if dir_file:
        with opened(dir_file) as f:
            if EXPLAINED in f:
                explained = tuple(read_array(f, EXPLAINED, 1).tolist())
    named = tuple(axes.split("\n")) if axes else ()
    texts = {"run": run, "axes": named, "field": field or "train_loss", "losses_of": losses_of}
    return Projection(x, y, explained=explained, drops=drops, **texts, **more)  # type: ignore[arg-type]


def text_of(f: h5py.File, name: str) -> str:
    """Of a data set of bytes; empty where there is none."""
    return np.asarray(f[name][()], np.uint8).tobytes().decode(errors="replace") if name in f else ""


def loss_key(request: Mapping[str, Any]) -> str:
    """What of a surface's request decides the loss of a network at one point, as a hash; empty where it is not recorded."""
    parts = {name: value for name, value in request.items() if name in ("loss", "loss_code") or name.endswith("_data")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest() if len(parts) > 1 else ""


def projection_plane(path: str | Path) -> dict[str, str]:
    """The hashes of the directions and of the origin of a trajectory's coordinates, as far as the file says."""
    with opened(path) as f:
        found = {name: get_text(f, name) for name in ("directions", "checkpoint")}
    return {name: value for name, value in found.items() if value is not None}
