"""Direction files: `xdirection/0`, `xdirection/1`, ... and `ydirection/...`, as the original release writes them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io.hdf5 import check_seal, get_text, opened, read_json, seal, set_text, text, write

SEALED = ("about", "sealed")  # attributes with a checksum, which covers `extra` too

OURS_ALONE = {"tensors", "lengths", "about", "sealed", "seal"}  # what other programs' files do not have


@dataclass(frozen=True)
class Directions:
    """One or two directions as lists of arrays, in the order of the network's parameters or states.

    extra: what else the file holds by name, such as the variance that principal components explain.
    """

    x: Sequence[np.ndarray]
    y: Sequence[np.ndarray] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Over the values of both directions."""
        digest = hashlib.sha256()
        for axis in (self.x, self.y or ()):
            digest.update(b"direction")
            for array in axis:
                digest.update(repr((array.shape, str(array.dtype))).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def write_directions(path: str | Path, directions: Directions, *, new: bool = False) -> None:
    """Write a direction file atomically. Raises CannotWrite.

    new: there was none; raises BadInput where another run has written other directions there in the meantime.
    """
    written = write(path, lambda f: fill_directions(f, directions), new=new)
    if not written and read_directions(path).sha256 != directions.sha256:
        raise BadInput(f"another run has just written other directions to {path}: give another --dir_file")


def fill_directions(group: h5py.Group, directions: Directions) -> None:
    for name, arrays in (("xdirection", directions.x), ("ydirection", directions.y)):
        for k, array in enumerate(arrays or ()):
            group.create_dataset(f"{name}/{k}", data=array)
    for name, array in directions.extra.items():
        group.create_dataset(name, data=array)
    set_text(group, "about", json.dumps(dict(directions.about)))
    set_text(group, "sha256", directions.sha256)
    set_text(group, "sealed", json.dumps(sorted(directions.extra)))
    seal(group, SEALED, directions.extra)


def read_directions(path: str | Path) -> Directions:
    """Read a direction file. Raises BadInput when it is none, or when its checksum does not fit."""
    with opened(path) as f:
        link = f.get("directions", getlink=True)
        if isinstance(link, h5py.ExternalLink):
            there = Path(path).resolve().parent / link.filename
            if not there.is_file():
                raise BadInput(f"{path} leads to the directions in {link.filename}, which are not there")
            return read_directions(there)
        root = f if link is None else f["directions"]
        if "xdirection" not in root:
            raise BadInput(f"{path} holds no 'xdirection': it is no direction file")
        axes: list[list[np.ndarray] | None] = []
        for name in ("xdirection", "ydirection"):
            if name not in root:
                axes.append(None)
                continue
            try:
                axes.append([np.asarray(root[name][str(k)][()]) for k in range(len(root[name]))])
            except (KeyError, AttributeError, TypeError):
                raise BadInput(f"{path}: '{name}' does not hold the datasets 0 to {len(root[name]) - 1}") from None
        extra = {name: item[()] for name, item in root.items() if isinstance(item, h5py.Dataset)}
        own = json.loads(get_text(root, "sealed") or "[]")
        check_seal(root, SEALED, {name: extra[name] for name in own})
        directions = Directions(axes[0] or [], axes[1], read_json(root, "about"), extra)
        if "sha256" not in root.attrs and (OURS_ALONE & {*root, *root.attrs}):
            raise BadInput(f"{path} is damaged: its attribute 'sha256' is gone")
        if get_text(root, "sha256") not in (None, directions.sha256):
            raise BadInput(f"{path} is damaged: its directions do not have the checksum that it records")
    return directions


def direction_link(path: str | Path) -> str | None:
    """The direction file that a surface file names, or None."""
    with opened(path) as f:
        return text(f["dir_file"][()]) if "dir_file" in f else None


def embeds_directions(path: str | Path) -> bool:
    """Whether a surface file holds its directions itself."""
    with opened(path) as f:
        return isinstance(f.get("directions", getlink=True), h5py.HardLink)
