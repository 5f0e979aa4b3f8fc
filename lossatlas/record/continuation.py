"""Which file a request may go on with."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lossatlas.errors import BadInput, say
from lossatlas.landscape.surface import Surface
from lossatlas.record.surfaces import added_by_others, read_surface

LAST = "loss_of_first_samples"  # what is different is said by its name, where it has one
NOT_COMPUTED = "not computed in a dry run"


def resume(path: Path, fresh: Surface, dir_file: Path) -> Surface:
    """The surface to go on with: `fresh`, or what an earlier run left under this name.

    Raises BadInput, naming the field and both values, when the file is of something else.
    """
    if not path.exists():
        return fresh
    found = read_surface(path)
    cure = "give another --surf_file, or --force to start over"
    if not found.grid.matches(fresh.grid):
        raise BadInput(f"{path} has the grid {found.grid}, this run asks for {fresh.grid}: {cure}")
    if not found.request:
        return adopt(path, found, fresh, dir_file)
    compare(path, found.request, fresh.request, cure)
    if others := added_by_others(path):
        raise BadInput(f"{path} holds {', '.join(others)}, which this program did not write and would lose: {cure}")
    compare(path, {"device": found.plan["device"]}, {"device": fresh.plan["device"]}, cure)
    for split, arrays in found.statistics.items():
        if (found.done & (arrays["n"] < found.populations[split]) & np.isnan(arrays["weight4_loss4"])).any():
            raise BadInput(f"{path} was begun with --tolerance by an earlier version, whose standard errors could be far too "
                           f"small: {cure}")  # fmt: skip
    for name in fresh.values:
        if name not in found.values:
            raise BadInput(f"{path} lacks {name}: an earlier version made it, which did not say whether an eigenvalue is the "
                           f"extreme one: {cure}")  # fmt: skip
    return found


def compare(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any], cure: str) -> None:
    """Raise BadInput at the first field in which what a file records differs from what is asked for."""
    for name in sorted({**asked, **found}, key=lambda name: name == LAST):
        if asked.get(name) != NOT_COMPUTED and not equal(found.get(name), asked.get(name)):
            raise BadInput(f"{path} was made with {name} = {found.get(name)}, now it is {asked.get(name)}: {cure}")


def equal(a: Any, b: Any) -> bool:
    """Equal, numbers that are computed up to what another machine may compute."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def adopt(path: Path, found: Surface, fresh: Surface, dir_file: Path) -> Surface:
    """Go on with a file of the original release: its cells are kept, marked as of unknown provenance."""
    if not fresh.populations:
        raise BadInput(f"{path} was written by another program, and its eigenvalues may be of another Hessian (that release "
                       "sums over batches and leaves out parameters with one axis): give another --surf_file")  # fmt: skip
    if Path(found.about.get("dir_file", "")).name != dir_file.name:
        raise BadInput(f"{path} was made with the directions {found.about.get('dir_file')}, now they are {dir_file}: "
                       "give another --surf_file")  # fmt: skip
    wanted = sorted(set(fresh.fields) & {f"{split}_{name}" for split in fresh.populations for name in ("loss", "acc")})
    if missing := [name for name in wanted if name not in found.values]:
        raise BadInput(f"{path} was written by another program and lacks {missing[0]}: give another --surf_file")
    if others := found.about.get("others"):
        raise BadInput(f"{path} was written by another program and holds {', '.join(others)}, which would be lost: "
                       "give another --surf_file")  # fmt: skip
    done = np.logical_and.reduce([~np.isnan(found.values[name]) for name in wanted])
    say(f"note: {path} does not record checkpoint, data and loss; its {int(done.sum())} cells are kept as they are, marked as "
        "of unknown provenance")  # fmt: skip
    # Fields that this run does not compute are carried along.
    return replace(fresh, done=done, values=found.values, foreign=done, about={**fresh.about, **found.about})
