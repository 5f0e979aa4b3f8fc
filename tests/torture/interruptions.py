"""Kills, signals, and every other way out of a rank."""

import contextlib
import itertools
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io import read_findings, read_surface
from lossatlas.jobs.sweep.reference_check import far_points
from lossatlas.landscape import Grid
from torture.place import SIDE, Outcome, Place, end_all, ended, numbers, processes, rank_of

FULL_COUNT = 50  # from so many cases on, a quiet machine is supposed
PATIENCE = 300.0  # seconds after which a process hangs
LATEST = 2.0  # seconds: one between two snapshots, a block of cells, a write


SCRIPTS = ("plot_surface.py", "plot_surface.py", "plot_hessian_eigen.py", "hessian_spectrum.py")


def kills(
    place: Place, count: int, seed: int = 0, scripts: Sequence[str] = SCRIPTS, sleep: float = 0.02
) -> Iterator[Outcome]:
    """kill -9 of rank 0, a worker, everyone: nothing acknowledged is lost or computed again, the end has the same bits.

    sleep: seconds that a batch takes.
    """
    rng = random.Random(seed)
    ranks = 2 if place.mpirun else 0
    wanted, seconds, again = {}, {}, Again(place.folder)
    for script in sorted(set(scripts)):
        file = place.folder / f"whole_{script[:-3]}.h5"
        whole = place.run(place.command(script, file, ranks=ranks), SLEEP=str(sleep), **again.counted(script))
        assert whole.code == 0, whole.errors
        wanted[script], seconds[script] = numbers(file), whole.seconds
        again.learn(script)
    done = 0
    for k in itertools.count():
        script, file = scripts[k % len(scripts)], place.folder / f"killed_{k}.h5"
        said: list[str] = []
        acknowledged = 0
        again.begin()
        while done < count and rng.random() < 0.8:
            victim = rng.choice(["rank 0", "a worker", "everyone"])
            wait = rng.uniform(0.5, seconds[script])
            process = place.start(place.command(script, file, ranks=ranks), SLEEP=str(sleep), **again.counted(script))
            began = time.monotonic()
            time.sleep(wait)
            pids = processes(str(file))
            killed = time.time()
            chosen = [pid for pid in pids if victim == "everyone" or (rank_of(pid) == "0") == (victim == "rank 0")]
            if victim == "everyone":
                process.kill()
            for pid in chosen[: None if victim == "everyone" else 1]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            result = ended(process, PATIENCE, began)
            left = not end_all(str(file))
            done += 1
            label = f"{script} {k}: {victim} after {wait:.2f} s"
            shown = [int(n) for n in re.findall(r"^(\d+)/\d+ cells saved", result.out, re.MULTILINE)]
            yield finding(file, script, acknowledged, shown, f"{label}{', somebody is left' * left}", not left)
            if file.exists() and script != "hessian_spectrum.py":
                acknowledged = int(read_surface(file).done.sum())
            again.killed(script, killed, file)
            said.append(label)
        last = place.run(place.command(script, file, ranks=ranks), SLEEP=str(sleep / 2), **again.counted(script))
        resumed = script == "hessian_spectrum.py" or f"{acknowledged} of" in last.out
        parts = [path.name for path in place.folder.glob(f".{file.name}*")]
        good = last.code == 0 and numbers(file) == wanted[script] and resumed and not parts
        if said:
            yield (
                good,
                f"{script} {k}: the same bits after {len(said)} kills {parts}{'' if good else last.errors[-300:]}",
            )
            yield from again.judged(script, f"{script} {k}", full=count >= FULL_COUNT)
        if done >= count:
            return


def tried_at() -> set[tuple[int, int]]:
    """Cells (row, column) at which a network is also tried out: the middle, and where it is compared with itself."""
    axis = np.linspace(-1, 1, SIDE)
    points = [(0.0, 0.0), *far_points(Grid(axis, axis))]
    return {(int(np.abs(axis - b).argmin()), int(np.abs(axis - a).argmin())) for a, b in points}


class Again:
    """What is computed again after kills of a surface: cells by where the victim's weights are, and when."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run, self.batches = folder, 0, 0
        self.trial: set[tuple[str, ...]] = set()  # where a network is also tried out: those of no use for counting
        self.begin()

    def begin(self) -> None:
        """A new chain of kills."""
        self.kills: list[tuple[float, int, dict[tuple[str, ...], list[float]]]] = []

    def counted(self, script: str) -> dict[str, str]:
        """What the next run has to be given."""
        self.run += 1
        return {"COUNTED": str(self.folder / f"counted_{self.run}")} if script == "plot_surface.py" else {}

    def seen(self) -> dict[tuple[str, ...], list[float]]:
        """When the last run computed a batch, by place."""
        found: dict[tuple[str, ...], list[float]] = {}
        for path in self.folder.glob(f"counted_{self.run}.*"):
            for line in path.read_text().splitlines():
                when, *where = line.split()
                if len(where) == 2 and tuple(where) not in self.trial:
                    found.setdefault(tuple(where), []).append(float(when))
        return found

    def learn(self, script: str) -> None:
        """From a run that nobody disturbed."""
        if script == "plot_surface.py":
            found = self.seen()
            self.batches = Counter(map(len, found.values())).most_common(1)[0][0]
            self.trial = {where for where, times in found.items() if len(times) != self.batches}

    def killed(self, script: str, when: float, file: Path) -> None:
        if script == "plot_surface.py":
            held = 0
            if file.exists():
                done = read_surface(file).done
                held = int(done.sum() - sum(done[cell] for cell in tried_at()))
            self.kills.append((when, held, self.seen()))

    def judged(self, script: str, label: str, full: bool) -> Iterator[Outcome]:
        """Exactly what no file held is computed after a kill; in a full run also how old it was."""
        if script != "plot_surface.py":
            return
        later = set(self.seen())
        for when, held, seen in reversed(self.kills):
            whole = {where: max(times) for where, times in seen.items() if len(times) == self.batches}
            ages = [when - whole[where] for where in later & set(whole)]
            cells = SIDE * SIDE - len(tried_at())
            exact = len(later) == cells - held
            young = max(ages, default=0.0) < LATEST or not full
            yield (
                exact and young,
                f"{label}: {len(later)} cells computed after a kill with {held} of {cells} held; "
                f"{len(ages)} whole ones again, the oldest ended {max(ages, default=0.0):.2f} s before",
            )
            later |= set(seen)


def finding(path: Path, script: str, before: int, shown: list[int], label: str, good: bool) -> Outcome:
    """Whether a file that a killed run has left can be read, and holds all that was acknowledged."""
    if not path.exists():
        return good and not shown and before == 0, f"{label}: no file yet"
    try:
        if script == "hessian_spectrum.py":
            return good, f"{label}: {len(read_findings(path).arrays)} arrays"
        there = int(read_surface(path).done.sum())
    except BadInput as error:
        return False, f"{label}: {error}"
    return good and there >= max([before, *shown]), f"{label}: {there} cells, {max([before, *shown])} acknowledged"


def signals(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """What asks a job to end: exit code 4, from the first second on; in a full run within a block and 5 seconds."""
    rng = random.Random(seed)
    longest = 6 if count >= FULL_COUNT else PATIENCE
    names = ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGXCPU"]
    for k in range(count):
        name, script = names[k % len(names)], ("plot_surface.py", "hessian_spectrum.py")[k // 5 % 2]
        ranks = 2 if place.mpirun and k % 3 else 0
        file = place.folder / f"signal_{k}.h5"
        process = place.start(place.command(script, file, ranks=ranks), SLEEP="0.03")
        began, wait = time.monotonic(), 1.0 if k < 6 else rng.uniform(1, 8)
        time.sleep(wait)
        number = getattr(signal, name)
        everyone = rng.random() < 0.5
        pids = sorted(processes(str(file)), key=rank_of)
        for pid in pids if everyone else pids[:1]:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        if k % 4 == 3:
            time.sleep(0.05)
            for pid in pids[:1]:  # a second one changes nothing
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        sent = time.monotonic()
        result = ended(process, PATIENCE, began)
        took = time.monotonic() - sent
        nobody = end_all(str(file))
        complete = result.code == 0 and "complete" in result.out
        log = Path(f"{file}.log").read_text() if Path(f"{file}.log").exists() else ""
        good = nobody and took < longest and (complete or (result.code == 4 and f"stopped by {name}" in result.errors))
        if result.code == 4 and log and "started" in log:
            good = good and f"stopped by {name}" in log
        yield (
            good,
            f"{name} to {script} on {ranks} after {wait:.1f} s: code {result.code} in {took:.1f} s {result.lines}",
        )


STAGES = ("import", "factory", "first", "later")
WAYS = (
    "raise",
    "exit0",
    "exit3",
    "_exit0",
    "posix",
    "libc",
    "execv",
    "base",
    "interrupt",
    "kill",
    "segv",
    "abrt",
    "term",
)


def ways(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Every way out of a rank at every stage: all are gone, exit code not 0, the cause last and in the log."""
    cases = [
        (script, stage, way, rank)
        for script in ("plot_surface.py", "hessian_spectrum.py")
        for stage, way, rank in itertools.product(STAGES, WAYS, "012")
        if script == "plot_surface.py" or stage != "first"
    ]
    random.Random(seed).shuffle(cases)
    for k, (script, stage, way, rank) in enumerate(cases[:count]):
        file = place.folder / f"way_{k}.h5"
        result = place.run(place.command(script, file, ranks=3), timeout=PATIENCE, STAGE=stage, WAY=way, RANK=rank)
        nobody = end_all(str(file))
        log = Path(f"{file}.log").read_text() if Path(f"{file}.log").exists() else ""
        good = nobody and result.code not in (0, None) and "complete" not in result.out
        if way not in ("kill", "segv", "abrt", "libc"):  # of which the launcher alone hears
            good = good and bool(result.lines) and result.lines[-1].removeprefix("error: ")[:60] in log
        label = f"{script} {stage} {way} on rank {rank}"
        yield good, f"{label}: code {result.code} after {result.seconds:.1f} s {result.lines[-1:]}"
