"""Trajectories of training, projected on a plane."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.record.files import check_seal, get_text, opened, read_array, seal, set_text, write

SEALED = ("directions", "checkpoint")  # attributes with a checksum, which covers the arrays too


def write_projection(path: str | Path, coordinates: np.ndarray, plane: str, origin: str, **more: np.ndarray) -> None:
    """Write a trajectory projected on the directions with the hash `plane`, atomically. Raises CannotWrite.

    coordinates: (checkpoints, 2). origin: the hash of the checkpoint that they are relative to.
    """

    def fill(f: h5py.File) -> None:
        set_text(f, "directions", plane)
        set_text(f, "checkpoint", origin)
        f["proj_xcoord"], f["proj_ycoord"] = coordinates[:, 0], coordinates[:, 1]
        for name, array in more.items():
            f[name] = array
        seal(f, SEALED, {name: f[name][()] for name in f})

    write(path, fill)


def read_projection(
    path: str | Path, dir_file: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """A projected trajectory: x and y, and the shares of variance that the direction file says its axes explain."""
    with opened(path) as f:
        if "proj_xcoord" not in f or "proj_ycoord" not in f:
            raise BadInput(f"{path} holds no 'proj_xcoord' and 'proj_ycoord': it is no projected trajectory")
        check_seal(f, SEALED, {name: f[name][()] for name in f})
        x, y = (read_array(f, name, 1) for name in ("proj_xcoord", "proj_ycoord"))
        if len(x) != len(y):
            raise BadInput(f"{path} holds {len(x)} and {len(y)} coordinates: they do not fit")
    explained: Sequence[float] = ()
    if dir_file:
        with opened(dir_file) as f:
            if "explained_variance_ratio_" in f:
                explained = read_array(f, "explained_variance_ratio_", 1).tolist()
    return x, y, explained


def read_trajectory(path: str | Path) -> dict[str, np.ndarray]:
    """Everything that is known of each checkpoint of a projected trajectory: x, y, and of epochs, loss and distance what
    the file holds. Raises BadInput."""
    x, y, _ = read_projection(path)
    found = {"x": x, "y": y}
    with opened(path) as f:
        for name in ("epochs", "loss", "distance"):
            if name in f:
                found[name] = np.asarray(f[name][()], float)  # a loss may be infinite
                if found[name].shape != x.shape:
                    raise BadInput(f"{path} holds {len(x)} checkpoints, and '{name}' has shape {found[name].shape}")
    return found


def projection_plane(path: str | Path) -> dict[str, str]:
    """The hashes of the directions and of the origin of a trajectory's coordinates, as far as the file says."""
    with opened(path) as f:
        found = {name: get_text(f, name) for name in ("directions", "checkpoint")}
    return {name: value for name, value in found.items() if value is not None}
