"""What a command that fills a grid has read on rank 0, and what of it travels to the other ranks.

setting = read_setting(task, name_of, log)      # on rank 0; raises BadUsage and BadInput, writes nothing
problem = Problem.of(setting)                   # travels to the other ranks
net, plane, data = problem.unpack()             # on every rank
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import options
from lossatlas.errors import BadInput, BadUsage, say
from lossatlas.landscape import Surface
from lossatlas.record import Directions, read_surface, write_directions
from lossatlas.record.continuation import NOT_COMPUTED
from lossatlas.record.directions import embeds_directions
from lossatlas.record.lock import Lock, holder
from lossatlas.record.progress import Log
from net_plotter import Curvature, find_directions, moved_by, moved_lines
from preparation import Brought, Trained, bring, check_factories, device_of, place, recorded
from scheduler import World

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData
    from lossatlas.space import Affine


@dataclass(frozen=True)
class Setting:
    """What rank 0 has read.

    used: the directions without those that the grid does not need. new: they are not in their file yet. record: what
    tells this from other work. curvature: where the second derivatives along the axes are wanted. lock: on the surface file,
    None in a dry run. first: there was no direction file.
    """

    surf_file: Path
    dir_file: Path
    directions: Directions
    used: Directions
    new: bool
    embed: bool
    brought: Brought
    record: dict[str, Any]
    curvature: Curvature | None
    lock: Lock | None
    first: bool

    def write_directions(self) -> None:
        if self.new:
            write_directions(self.dir_file, self.directions, new=self.first)
            say(f"new directions are in {self.dir_file}")


def read_setting(
    task: options.GridTask, name_of: Callable[[Path, options.GridTask], Path], log: Log, held: ExitStack
) -> Setting:
    """Read everything once and find the directions.

    name_of: the surface file's name when none is given. held: lets go of the lock on it in the end.
    """
    from lossatlas.space import as_point
    from lossatlas.space.directions import note_skewed

    nets, choice, chosen, output = task.networks, task.directions, task.data, task.output
    check_factories(nets.model, chosen.dataset, task.loss)
    dir_file = place(choice.dir_file, options.direction_name(nets, choice), output.surf_file)
    surf_file = place(output.surf_file, name_of(dir_file, task), None)
    if not output.dry_run:
        log.beside(surf_file)
    for what, path in (("surface", surf_file), ("direction", dir_file)):
        if not path.resolve().parent.is_dir():
            raise BadInput(f"no folder {path.parent} for the {what} file: make it first")
    lock = None if output.dry_run else held.enter_context(Lock(surf_file))
    if output.dry_run and (somebody := holder(surf_file)):
        say(f"note: {surf_file} is being written by {somebody}")
    if lock is not None and lock.before:
        log.line(lock.before)
    first = not dir_file.exists()
    brought = bring(nets, choice.dir_type, chosen, task.loss)
    device = "cpu" if output.dry_run else device_of(task.run.cuda)
    curvature = Curvature(brought, choice.selection, device)
    found = find_directions(dir_file, brought, nets, choice, curvature, planned=output.dry_run)
    directions, new = found or (Directions([]), True)
    if new and directions.y is not None:
        x, y = (as_point(axis, brought.net, choice.dir_type, "a direction") for axis in (directions.x, directions.y))
        note_skewed(x, y, "the surface is sheared (--orthogonalize takes out of y its part along x)")
    same = dir_file.resolve() == surf_file.resolve()
    if same and (new or not is_surface(surf_file)):
        raise BadUsage(f"--dir_file and --surf_file are the same file, {surf_file}: give two")
    used = Directions(directions.x, directions.y if task.y else None, directions.about)
    record = {
        **brought.record,
        "dataset": brought.first.name,
        **recorded("loss", task.loss),
        "split": chosen.split,
        "directions": used.sha256 if found else NOT_COMPUTED,
        **{f"{split}_data": data.digest for split, data in brought.data.items()},
    }
    embed = output.self_contained or same or (is_surface(surf_file) and embeds_directions(surf_file))
    wanted = curvature if choice.curvature and not output.dry_run else None
    return Setting(surf_file, dir_file, directions, used, new, embed, brought, record, wanted, lock, first)


@dataclass(frozen=True)
class Problem:
    """A network, its directions and its data, in the same form."""

    trained: Trained
    dir_type: str
    directions: tuple[Sequence[np.ndarray], Sequence[np.ndarray] | None]

    @classmethod
    def of(cls, setting: Setting) -> "Problem":
        brought, directions = setting.brought, (setting.used.x, setting.used.y)
        return cls(Trained.of(brought), brought.dir_type, directions)

    def unpack(self) -> "tuple[nn.Module, Affine, dict[str, AnyData]]":
        """All of it shares the arrays' memory."""
        from lossatlas.space import Affine, as_point, tensors

        net, data = self.trained.unpack()
        dx, dy = (None if d is None else as_point(d, net, self.dir_type, "the direction") for d in self.directions)
        assert dx is not None
        return net, Affine(tensors(net, self.dir_type), dx, dy), data


def tell(setting: Setting, surface: Surface, threads: int, world: World) -> None:
    """Print the resolved configuration; what is 0 or empty in the plan is still to be measured."""
    for name, value in {
        **surface.request,
        **surface.plan,
        "threads per rank": threads,
        "ranks": world.size,
        "direction file": setting.dir_file,
        "surface file": setting.surf_file,
    }.items():
        open_yet = name in surface.plan and value in (0, "") and value is not False and name != "seed"
        say(f"{name} = {'to be measured' if open_yet else value}")
    if setting.directions.x:
        found = moved_by(setting.brought, setting.used)
        for line in moved_lines([name.decode() for name in found["tensors"]], found["lengths"]):
            say(line)
    if surface.about.get("why_not_folded"):
        say(f"BatchNorm is not folded: {surface.about['why_not_folded']}")


def is_surface(path: Path) -> bool:
    """Whether a readable surface file is there."""
    if not path.exists():
        return False
    try:
        read_surface(path)
    except BadInput:
        return False
    return True
