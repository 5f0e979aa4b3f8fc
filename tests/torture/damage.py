"""Files of our own that were damaged: refused or right."""

import pickle
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import read_directions, read_findings, read_surface
from torture.place import Outcome, Place


def damage(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Cuts, flipped bits, zeroed blocks, missing and misshaped data sets: refused or right, and no hang."""
    rng = random.Random(seed)
    folder = place.folder
    surface, spectrum = folder / "good.h5", folder / "good_spectrum.h5"
    if not surface.exists():
        for script, file in (("plot_surface.py", surface), ("hessian_spectrum.py", spectrum)):
            result = place.run(place.command(script, file))
            assert result.code == 0, result.errors
    directions = folder / "good_directions.h5"
    readers: list[tuple[Path, Callable[[Path], Any]]] = [
        (surface, lambda p: essence(read_surface(p))),
        (directions, lambda p: essence(read_directions(p))),
        (spectrum, lambda p: essence(read_findings(p))),
    ]
    known = {path: read(path) for path, read in readers}
    for k in range(count):
        path, read = readers[k % len(readers)]
        victim = folder / f"damaged_{k}.h5"
        content = bytearray(path.read_bytes())
        kind = rng.choice(["cut", "flip", "flip", "flip", "zero", "zero", "structure"])
        if kind == "cut":
            content = content[: rng.randrange(len(content))]
        elif kind == "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        elif kind == "zero":
            at, length = rng.randrange(len(content)), rng.choice([16, 64, 256, 1024])
            content[at : at + length] = bytes(len(content[at : at + length]))
        victim.write_bytes(content)
        if kind == "structure":
            kind = restructured(victim, rng)
        began = time.monotonic()
        try:
            found = read(victim)
            good, what = found == known[path], "read as it was"
        except (BadInput, BadUsage) as error:
            good, what = len(str(error).splitlines()) == 1, str(error)[-70:]
        except Exception as error:
            good, what = False, f"{type(error).__name__}: {error}"
        took = time.monotonic() - began
        victim.unlink()
        yield good and took < 60, f"{path.name}, {kind} (seed {seed}, {k}): {what} in {took:.1f} s"


def restructured(path: Path, rng: random.Random) -> str:
    """A data set or an attribute that is gone, or has another shape; what was done."""
    with h5py.File(path, "r+") as f:
        names: list[str] = []
        f.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        if rng.random() < 0.3:
            name = rng.choice(list(f.attrs))
            del f.attrs[name]
            return f"attribute {name} gone"
        name = rng.choice([n for n in names if n != "dir_file"])
        value = f[name][()]
        del f[name]
        if rng.random() < 0.5:
            return f"{name} gone"
        f[name] = np.ravel(value)[:-1] if np.ndim(value) else np.array([value, value])
        return f"{name} misshaped"


def essence(found: Any) -> bytes:
    """Everything that is read from a file, comparable."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.shape, str(value.dtype), value.tobytes()
        if isinstance(value, dict):
            return sorted((str(key), plain(item)) for key, item in value.items())
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        return plain(vars(value)) if hasattr(value, "__dataclass_fields__") else repr(value)

    return pickle.dumps(plain(found))
