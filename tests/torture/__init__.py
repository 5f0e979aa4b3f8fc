"""Accidents of a job in a batch queue, done to the commands: each section is a promise, and yields whether it held.

benchmarks/torture.py counts them in full, the tests in small numbers.
"""

from collections.abc import Callable, Iterator

from torture.checkpoints import checkpoints
from torture.damage import damage
from torture.disks import disks, small_disk
from torture.hostile import hostile
from torture.interruptions import kills, signals, ways
from torture.place import Outcome, Place
from torture.ranks import hosts, jobs, ranks

__all__ = ["SECTIONS", "Place"]

SECTIONS: dict[str, tuple[Callable[..., Iterator[Outcome]], int]] = {
    "kills": (kills, 200),
    "signals": (signals, 50),
    "ways": (ways, 273),
    "disks": (disks, 80),
    "small_disk": (small_disk, 1),
    "damage": (damage, 750),
    "checkpoints": (checkpoints, 40),
    "hostile": (hostile, 429),
    "jobs": (jobs, 20),
    "ranks": (ranks, 7),
    "hosts": (hosts, 1),
}
