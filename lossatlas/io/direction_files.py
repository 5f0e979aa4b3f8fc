"""Direction files: `xdirection/0`, `xdirection/1`, ... and `ydirection/...`, as the original release writes them.

Those of a volume hold `zdirection/...` too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput, named
from lossatlas.io.hdf5 import check_seal, get_text, opened, read_json, seal, set_text, text, write
from lossatlas.io.seeded_directions import SeededDirection, fill_seeded, read_seeded

SEEDED = "seeded_"  # precedes the name of a direction that is stored as its seed
SEALED = ("about", "sealed")  # attributes with a checksum, which covers `extra` too

OURS_ALONE = {"tensors", "lengths", "about", "sealed", "seal"}  # names that files of other programs do not have


@dataclass(frozen=True, repr=False)
class Directions:
    """One, two or three directions as lists of arrays, in the order of the network's parameters or states.

    Attributes:
        x: The x direction.
        y: The y direction, None for a line.
        about: Metadata.
        extra: Further arrays of the file by name, such as the variance that principal components explain.
        z: The z direction, None for a line or a plane.
    """

    x: Sequence[np.ndarray]
    y: Sequence[np.ndarray] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    z: Sequence[np.ndarray] | None = None

    def __repr__(self) -> str:
        words = ", ".join(f"{letter}: {self.about[letter]}" for letter in "xyz" if letter in self.about)
        return f"<Directions of {len(self.axes)} axes, {len(self.x)} tensors each{f'; {words}' * bool(words)}>"

    @property
    def axes(self) -> tuple[Sequence[np.ndarray], ...]:
        """The directions of the axes that there are."""
        return tuple(axis for axis in (self.x, self.y, self.z) if axis is not None)

    def first(self, count: int) -> "Directions":
        """Return the first `count` directions, one for each axis of a grid, with their descriptions."""
        return replace(self, y=self.y if count > 1 else None, z=self.z if count > 2 else None)

    @property
    def stored_bytes(self) -> int:
        """The bytes of the vectors in a file; 0 for directions that are stored by their seed."""
        axes = [axis for axis in self.axes if not isinstance(axis, SeededDirection)]
        return sum(array.nbytes for axis in axes for array in axis)

    @property
    def sha256(self) -> str:
        """SHA-256 over shapes, types and values of the directions."""
        digest = hashlib.sha256()
        for axis in (self.x, self.y or (), *([] if self.z is None else [self.z])):
            digest.update(b"direction")
            for array in axis:
                digest.update(repr((array.shape, str(array.dtype))).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def write_directions(path: str | Path, directions: Directions, *, new: bool = False) -> None:
    """Write a direction file atomically.

    Args:
        path: The file.
        directions: The directions.
        new: Keep a file that another run has written in the meantime.

    Raises:
        CannotWrite: The file cannot be written.
        BadInput: With `new`, another run has written other directions.
    """
    written = write(path, lambda f: fill_directions(f, directions), new=new, size=directions.stored_bytes)
    if not written and read_directions(path).sha256 != directions.sha256:
        raise BadInput(f"another run has just written other directions to {path}: give another {named('dir_file')}")


def fill_directions(group: h5py.Group, directions: Directions) -> None:
    """Write directions into an open file or group."""
    for letter, arrays in zip("xyz", directions.axes, strict=False):
        name = f"{letter}direction"
        if isinstance(arrays, SeededDirection):
            fill_seeded(group.create_group(SEEDED + name), arrays)
            continue
        for k, array in enumerate(arrays):
            group.create_dataset(f"{name}/{k}", data=array)
    for name, array in directions.extra.items():
        group.create_dataset(name, data=array)
    set_text(group, "about", json.dumps(dict(directions.about)))
    set_text(group, "sha256", directions.sha256)
    set_text(group, "sealed", json.dumps(sorted(directions.extra)))
    seal(group, SEALED, directions.extra)


def read_directions(path: str | Path) -> Directions:
    """Read a direction file, or the directions of a surface file.

    Raises:
        BadInput: The file holds no directions, or is damaged.
    """
    with opened(path) as f:
        link = f.get("directions", getlink=True)
        if isinstance(link, h5py.ExternalLink):
            there = Path(path).resolve().parent / link.filename
            if not there.is_file():
                raise BadInput(f"{path} leads to the directions in {link.filename}, which are not there")
            return read_directions(there)
        root = f if link is None else f["directions"]
        if "xdirection" not in root and f"{SEEDED}xdirection" not in root:
            raise BadInput(f"{path} holds no 'xdirection': it is no direction file")
        x, y, z = (read_axis(root, f"{letter}direction", path) for letter in "xyz")
        extra = {name: item[()] for name, item in root.items() if isinstance(item, h5py.Dataset)}
        own = json.loads(get_text(root, "sealed") or "[]")
        check_seal(root, SEALED, {name: extra[name] for name in own})
        directions = Directions(x or [], y, read_json(root, "about"), extra, z)
        if "sha256" not in root.attrs and (OURS_ALONE & {*root, *root.attrs}):
            raise BadInput(f"{path} is damaged: its attribute 'sha256' is gone")
        seeded = any(isinstance(axis, SeededDirection) for axis in (x, y, z))  # it checks itself when it is drawn
        if not seeded and get_text(root, "sha256") not in (None, directions.sha256):
            raise BadInput(f"{path} is damaged: its directions do not have the checksum that it records")
    return directions


def read_axis(root: h5py.Group, name: str, path: str | Path) -> Sequence[np.ndarray] | None:
    """Read the arrays of one direction, None where there is none."""
    if SEEDED + name in root:
        return read_seeded(root[SEEDED + name])
    if name not in root:
        return None
    try:
        return [np.asarray(root[name][str(k)][()]) for k in range(len(root[name]))]
    except (KeyError, AttributeError, TypeError):
        raise BadInput(f"{path}: '{name}' does not hold the datasets 0 to {len(root[name]) - 1}") from None


def direction_link(path: str | Path) -> str | None:
    """Read the name of the direction file from a surface file, None where it names none."""
    with opened(path) as f:
        return text(f["dir_file"][()]) if "dir_file" in f else None


def embeds_directions(path: str | Path) -> bool:
    """Test whether a surface file holds its directions itself."""
    with opened(path) as f:
        return isinstance(f.get("directions", getlink=True), h5py.HardLink)
