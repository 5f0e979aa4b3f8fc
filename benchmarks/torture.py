"""What may happen to a job in a batch queue, done to the commands many times over: each promise, and how often it held.

    python benchmarks/torture.py                            everything in full: two hours on two cores
    python benchmarks/torture.py kills ways --count 5       some of it
    python benchmarks/torture.py ways --environment VENV    with the python and the mpirun of another environment

The tests do the same in small numbers (tests/test_torture.py). A case that fails is printed with its seed.
"""

import argparse
import contextlib
import io
import itertools
import os
import pickle
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import h5py
import numpy as np

from lossatlas.errors import BadInput, BadUsage
from lossatlas.record import read_directions, read_findings, read_surface

VICTIM = '''
"""A small network that may do anything, at a stage and on a rank that the environment names."""
import ctypes, os, signal, sys, time

me = next((os.environ[name] for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK") if name in os.environ), "0")
calls = 0


def strike(stage):
    if (stage, me) != (os.environ.get("STAGE"), os.environ.get("RANK")):
        return
    way = os.environ["WAY"]
    if way == "raise":
        raise ValueError("broken here")
    if way == "base":
        raise type("Odd", (BaseException,), {})("odd")
    if way == "interrupt":
        raise KeyboardInterrupt
    if way.startswith("exit"):
        sys.exit(int(way[4:]))
    if way.startswith("_exit"):
        os._exit(int(way[5:]))
    if way == "posix":
        import posix
        posix._exit(0)
    if way == "libc":
        ctypes.CDLL(None).exit(0)
    if way == "execv":
        os.execv("/bin/true", ["true"])
    if way == "segv":
        ctypes.string_at(0)
    os.kill(os.getpid(), getattr(signal, "SIG" + way.upper()))


strike("import")
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(784, 10)

    def forward(self, inputs):
        global calls
        calls += 1
        strike("first")
        if calls > 60:
            strike("later")
        if "COUNTED" in os.environ:  # where in the plane this is, and when
            with open(f"{os.environ['COUNTED']}.{os.getpid()}", "a") as f:
                print(time.time(), *self.layer.weight.detach()[:2, 0].tolist(), file=f)
        time.sleep(float(os.environ.get("SLEEP", "0.002")))
        return self.layer(inputs.flatten(1))


def make():
    strike("factory")
    torch.manual_seed(0)
    return Net()
'''
LINE = ["--dataset", "fashion_mnist_mini", "--limit", "100", "--threads", "1", "--batch_size", "10"]
FULL_COUNT = 50  # from so many kills on, a quiet machine is supposed
LATEST = 2.0  # seconds: one between two snapshots, a block of cells, a write
SIDE = 7  # cells on each axis of a surface


@dataclass(frozen=True)
class Place:
    """Where it happens, and with which python and launcher; mpirun is '' where there is none."""

    folder: Path
    python: str
    mpirun: str

    @classmethod
    def at(cls, folder: Path, environment: str = "") -> "Place":
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "victim.py").write_text(VICTIM)
        python = f"{environment}/bin/python" if environment else sys.executable
        mpirun = Path(python).parent / "mpirun"
        return cls(folder, python, str(mpirun) if mpirun.exists() else shutil.which("mpirun") or "")

    def environment(self, **more: str) -> dict[str, str]:
        """Open MPI refuses to run as root, or more ranks than cores, unless it is told so."""
        own = {
            "OMP_NUM_THREADS": "1",
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        }
        return {**os.environ, **own, **more}

    def command(self, script: str, out: Path, *more: str, ranks: int = 0) -> list[str]:
        what = {
            "plot_surface.py": [f"--x=-1:1:{SIDE}", f"--y=-1:1:{SIDE}", "--surf_file", str(out)],
            "plot_hessian_eigen.py": ["--x=-1:1:15", "--most", "6", "--surf_file", str(out)],
            "hessian_spectrum.py": [*"--top 2 --bottom 1 --trace_most 20 --spectrum_file".split(), str(out)],
        }[script]
        if script != "hessian_spectrum.py":
            what += ["--dir_file", str(out.with_name(out.stem + "_directions.h5"))]
        launcher = [self.mpirun, "-n", str(ranks)] if ranks else []
        own = ["--model", f"{self.folder / 'victim.py'}:make", *LINE, *what, *(["--mpi"] if ranks else []), *more]
        return [*launcher, self.python, str(ROOT / script), *own]

    def start(self, command: Sequence[str], **environment: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], timeout: float = 300, **environment: str) -> "Ended":
        began = time.monotonic()
        process = self.start(command, **environment)
        return ended(process, timeout, began)


@dataclass(frozen=True)
class Ended:
    code: int | None  # None: it did not end
    out: str
    errors: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        return [line for line in self.errors.splitlines() if line.startswith("error:")]


def ended(process: "subprocess.Popen[str]", timeout: float, began: float) -> Ended:
    try:
        out, errors = process.communicate(timeout=timeout)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        code, out, errors = None, "", ""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return Ended(code, out, errors, time.monotonic() - began)


def processes(word: str) -> list[int]:
    """Of all programs in whose command line this is, without launchers."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if word.encode() in b"\0".join(words) and b"python" in words[0]:
                found.append(int(folder.name))
    return found


def rank_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        for word in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0"):
            name, _, value = word.partition(b"=")
            if name in (b"PMI_RANK", b"OMPI_COMM_WORLD_RANK"):
                return value.decode()
    return "0"


def end_all(word: str) -> bool:
    """Whether nobody was left; whoever is, is ended."""
    deadline = time.monotonic() + 10
    while (left := processes(word)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return not left


def numbers(path: Path) -> dict[str, bytes]:
    """Every number in a file that has to be the same after kills, bit for bit."""
    found: dict[str, bytes] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name != "dir_file" and not name.startswith("provenance/"):
            found[name] = item[()].tobytes()

    with h5py.File(path) as f:
        f.visititems(keep)
    return found


Outcome = tuple[bool, str]


def kills(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """kill -9 of rank 0, a worker, everyone: nothing acknowledged is lost or computed again, the end has the same bits."""
    rng = random.Random(seed)
    scripts = ("plot_surface.py", "plot_surface.py", "plot_hessian_eigen.py", "hessian_spectrum.py")
    ranks = 2 if place.mpirun else 0
    wanted, seconds, again = {}, {}, Again(place.folder)
    for script in sorted(set(scripts)):
        file = place.folder / f"whole_{script[:-3]}.h5"
        whole = place.run(place.command(script, file, ranks=ranks), SLEEP="0.02", **again.counted(script))
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
            process = place.start(place.command(script, file, ranks=ranks), SLEEP="0.02", **again.counted(script))
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
            result = ended(process, 60, began)
            left = not end_all(str(file))
            done += 1
            label = f"{script} {k}: {victim} after {wait:.2f} s"
            shown = [int(n) for n in re.findall(r"^(\d+)/\d+ cells saved", result.out, re.MULTILINE)]
            yield finding(file, script, acknowledged, shown, f"{label}{', somebody is left' * left}", not left)
            if file.exists() and script != "hessian_spectrum.py":
                acknowledged = int(read_surface(file).done.sum())
            again.killed(script, killed, file)
            said.append(label)
        last = place.run(place.command(script, file, ranks=ranks), SLEEP="0.01", **again.counted(script))
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
            self.batches = min(len(times) for times in found.values() if len(times) > 1)
            self.trial = {where for where, times in found.items() if len(times) != self.batches}

    def killed(self, script: str, when: float, file: Path) -> None:
        if script == "plot_surface.py":
            held = 0
            if file.exists():
                done = read_surface(file).done
                held = int(done.sum() - done[SIDE // 2, SIDE // 2])  # the middle is where it is tried out
            self.kills.append((when, held, self.seen()))

    def judged(self, script: str, label: str, full: bool) -> Iterator[Outcome]:
        """Exactly what no file held is computed after a kill; in a full run also how old it was."""
        if script != "plot_surface.py":
            return
        later = set(self.seen())
        for when, held, seen in reversed(self.kills):
            whole = {where: max(times) for where, times in seen.items() if len(times) == self.batches}
            ages = [when - whole[where] for where in later & set(whole)]
            exact = len(later) == SIDE * SIDE - 1 - held
            young = max(ages, default=0.0) < LATEST or not full
            yield (
                exact and young,
                f"{label}: {len(later)} cells computed after a kill with {held} of {SIDE * SIDE - 1} held; "
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
    """What asks a job to end: exit code 4 within a block and 5 seconds, from the first second on."""
    rng = random.Random(seed)
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
        result = ended(process, 60, began)
        took = time.monotonic() - sent
        nobody = end_all(str(file))
        complete = result.code == 0 and "complete" in result.out
        log = Path(f"{file}.log").read_text() if Path(f"{file}.log").exists() else ""
        good = nobody and took < 6 and (complete or (result.code == 4 and f"stopped by {name}" in result.errors))
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
    """Every way out of a rank at every stage: all are gone within 10 seconds, exit code not 0, the cause last and in the log."""
    cases = [
        (script, stage, way, rank)
        for script in ("plot_surface.py", "hessian_spectrum.py")
        for stage, way, rank in itertools.product(STAGES, WAYS, "012")
        if script == "plot_surface.py" or stage != "first"
    ]
    random.Random(seed).shuffle(cases)
    for k, (script, stage, way, rank) in enumerate(cases[:count]):
        file = place.folder / f"way_{k}.h5"
        result = place.run(place.command(script, file, ranks=3), timeout=100, STAGE=stage, WAY=way, RANK=rank)
        nobody = end_all(str(file))
        log = Path(f"{file}.log").read_text() if Path(f"{file}.log").exists() else ""
        good = nobody and result.code not in (0, None) and "complete" not in result.out
        if way not in ("kill", "segv", "abrt", "libc"):  # of which the launcher alone hears
            good = good and bool(result.lines) and result.lines[-1].removeprefix("error: ")[:60] in log
        label = f"{script} {stage} {way} on rank {rank}"
        yield good, f"{label}: code {result.code} after {result.seconds:.1f} s {result.lines[-1:]}"


FULL = '''
import builtins, errno, os, sys
sys.path.insert(0, {root!r})
number, count = {number}, 0
real_fsync, real_open = os.fsync, builtins.open
class Full:
    """A file whose disk is full at the chosen write."""
    def __init__(self, file): self.file = file
    def __enter__(self): self.file.__enter__(); return self
    def __exit__(self, *error): return self.file.__exit__(*error)
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, content):
        global count
        count += 1
        if count == number:
            self.file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)
def opened(file, mode="r", *rest, **more):
    found = real_open(file, mode, *rest, **more)
    return Full(found) if str(file).endswith(".part") else found
builtins.open = opened
sys.argv = {argv!r}
import runpy
runpy.run_path({script!r}, run_name="__main__")
'''


def disks(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """A write fails, of every kind of output, one after the other: the file before is as it was, one line, code 5."""
    del seed
    place.run([*place.command("plot_surface.py", place.folder / "drawn.h5")])
    state = place.folder / "net.safetensors"
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(place.folder)!r}]\nfrom models import save_state\n"
        f"from victim import make\nsave_state({str(state)!r}, make())"
    )
    subprocess.run([place.python, "-c", code], check=True, env=place.environment())
    drawn, spectrum = str(place.folder / "drawn.h5"), str(place.folder / "full_spectrum.h5")
    train = ["--model", "mlp", *LINE[:4], "--epochs", "1", "--batch_size", "50"]
    kinds: dict[str, list[str]] = {
        "surface": place.command("plot_surface.py", place.folder / "full.h5", "--force")[1:],
        "eigenvalues": place.command("plot_hessian_eigen.py", place.folder / "full_eigen.h5", "--force")[1:],
        "spectrum": place.command("hessian_spectrum.py", Path(spectrum), "--npz", f"{spectrum}.npz")[1:],
        "curve": [str(ROOT / "plot_2D.py"), "--surf_file", drawn],
        "vtp": [str(ROOT / "h52vtp.py"), "--surf_file", drawn],
        "npz": [str(ROOT / "h5_util.py"), drawn, "--export", f"{drawn}.npz"],
        "checkpoint": [str(ROOT / "train.py"), *train, "--out", str(place.folder / "trained.safetensors")],
        "torch checkpoint": [str(ROOT / "train.py"), *train, "--out", str(place.folder / "trained.pt")],
        "training": [str(ROOT / "train.py"), *train, "--save", str(place.folder / "training"), "--resume"],
    }
    done = 0
    for number in itertools.count(1):
        active = False
        for kind, argv in kinds.items():
            if done >= count:
                return
            program = FULL.format(root=str(ROOT), number=number, argv=argv, script=argv[0])
            before = {p: p.read_bytes() for p in place.folder.rglob("*") if p.is_file() and p.suffix != ".log"}
            result = place.run([place.python, "-c", program])
            after = {p: p.read_bytes() for p in place.folder.rglob("*") if p.is_file() and p.suffix != ".log"}
            if result.code == 0:  # it writes less often
                continue
            active = True
            done += 1
            parts = [p.name for p in after if p.name.endswith(".part") or p.name.endswith(".lock")]
            lost = [p.name for p, content in before.items() if content not in after.values()]
            broken = [p.name for p in set(after) - set(before) if not readable(p)]
            good = result.code == 5 and len(result.lines) == 1 and not parts and "Traceback" not in result.errors
            if kind not in ("surface", "eigenvalues"):  # which add cells to their file
                good = good and not [name for name in lost if not name.startswith("full")]
            yield (
                good and not broken,
                f"{kind}, write {number}: code {result.code} {result.lines} {parts} {lost} {broken}",
            )
        if not active:
            return


def readable(path: Path) -> bool:
    """Whether a file that was written is whole."""
    content = path.read_bytes()
    if path.suffix == ".h5":
        try:
            with h5py.File(path) as f:
                f.visititems(lambda name, item: item[()] if isinstance(item, h5py.Dataset) else None)
        except OSError:
            return False
    return len(content) > 0


def small_disk(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """A file system of 200 kB that is nearly full: a surface that does not fit, and what was there."""
    del count, seed
    disk = place.folder / "small"
    disk.mkdir(exist_ok=True)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)], capture_output=True, check=False
    ).returncode:
        return  # only root may
    try:
        first = place.run(place.command("plot_surface.py", disk / "s.h5", "--x=-1:1:3", "--y=-1:1:3"))
        yield first.code == 0, f"a small surface on a small disk: code {first.code} {first.lines}"
        before = (disk / "s.h5").read_bytes()
        (disk / "ballast").write_bytes(b"x" * 60_000)
        second = place.run(place.command("plot_surface.py", disk / "t.h5", "--x=-1:1:40", "--y=-1:1:40"))
        good = second.code == 5 and len(second.lines) == 1 and (disk / "s.h5").read_bytes() == before
        yield good and not list(disk.glob(".*part")), f"one that does not fit: code {second.code} {second.lines}"
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def damage(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Cuts, flipped bits, zeroed blocks, missing and misshaped data sets: refused or right, within 5 seconds."""
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
        began = time.process_time(), time.monotonic()
        try:
            found = read(victim)
            good, what = found == known[path], "read as it was"
        except (BadInput, BadUsage) as error:
            good, what = len(str(error).splitlines()) == 1, str(error)[-70:]
        except Exception as error:
            good, what = False, f"{type(error).__name__}: {error}"
        took = time.monotonic() - began[1]
        victim.unlink()
        yield good and took < 20, f"{path.name}, {kind} (seed {seed}, {k}): {what} in {took:.1f} s"


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


def checkpoints(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Checkpoints of every wrong kind: one line that names what is wrong, code 3, nothing written."""
    import torch
    from safetensors.torch import save_file

    from models import build

    del seed
    good = build("mlp", (1, 28, 28)).state_dict()
    name = next(iter(good))
    whole = io.BytesIO()
    torch.save(good, whole)
    folder = place.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()

    def instead(value: Any) -> dict[str, Any]:
        return {**good, name: value}

    weight = good[name]
    warnings.filterwarnings("ignore", category=UserWarning, module="torch")  # about kinds that go out of use
    warnings.filterwarnings("ignore", message=".*(CSR|quantize).*")
    cases: dict[str, Any] = {
        "missing": {key: value for key, value in good.items() if key != name},
        "further": {**good, "more": torch.zeros(2)},
        "shape": instead(weight.T.contiguous()),
        "scalar": instead(torch.tensor(1.0)),
        "empty": instead(torch.zeros(0)),
        "nan": instead(torch.full_like(weight, torch.nan)),
        "inf": instead(torch.full_like(weight, torch.inf)),
        "complex": instead(weight.to(torch.complex64)),
        "sparse": instead(weight.to_sparse()),
        "csr": instead(weight.to_sparse_csr()),
        "quantized": instead(torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)),
        "nested": instead(torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])),
        "float8": instead(weight.to(torch.float8_e4m3fn)),
        "float8 e5m2": instead(weight.to(torch.float8_e5m2)),
        "meta": instead(weight.to("meta")),
        "expanded": instead(torch.zeros(1).expand(1 << 20, 1 << 14)),
        "text": instead("a text"),
        "none": instead(None),
        "number": instead(1.0),
        "list": [1, 2],
        "nothing": {},
        "another architecture": build("resnet20", (1, 28, 28)).state_dict(),
        "numbers as names": dict(enumerate(good.values())),
        "whole network": build("mlp", (1, 28, 28)),
        "a tensor": weight,
    }
    files: list[Path] = []
    for case, content in cases.items():
        files.append(folder / f"{case}.pt")
        torch.save(content, files[-1])
    raw = whole.getvalue()
    for k, end in enumerate([0, 1, 10, len(raw) // 2, len(raw) - 100]):
        files.append(folder / f"cut {k}.pt")
        files[-1].write_bytes(raw[:end])
    save_file(good, folder / "whole.safetensors")
    raw = (folder / "whole.safetensors").read_bytes()
    (folder / "whole.safetensors").unlink()
    for k, content in enumerate(
        [raw[:100], raw[: len(raw) // 2], b"\xff" * 100, struct.pack("<Q", 1 << 60) + b"{}", b""]
    ):
        files.append(folder / f"cut {k}.safetensors")
        files[-1].write_bytes(content)
    save_file(instead(torch.full_like(weight, torch.nan)), folder / "nan.safetensors")
    save_file(instead(weight.to(torch.float8_e4m3fn)), folder / "float8.safetensors")
    (folder / "folder.pt").mkdir()
    bomb(folder / "bomb.pt", "archive/data/0")
    names = ["nan.safetensors", "float8.safetensors", "folder.pt", "bomb.pt", "absent.pt"]
    files += [folder / name for name in names]
    out = place.folder / "out"
    for file in files[:count]:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        argv = [
            "--model",
            "mlp",
            *LINE,
            "--x=-1:1:3",
            "--surf_file",
            str(out / "s.h5"),
            "--dir_file",
            str(out / "d.h5"),
        ]
        result = place.run([place.python, str(ROOT / "plot_surface.py"), *argv, "--model_file", str(file)])
        left = [path.name for path in out.iterdir() if path.suffix != ".log"]
        held = result.code == 3 and len(result.lines) == 1 and not left and "Traceback" not in result.errors
        yield held, f"{file.name}: code {result.code} {result.lines} {left}"


def bomb(path: Path, name: str, size: int = 1 << 31) -> None:
    """A zip archive of 2 MB that unpacks to 2 GB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as f,
    ):
        for _ in range(size >> 20):
            f.write(bytes(1 << 20))


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def payloads(canary: Path) -> dict[str, bytes]:
    """Contents of files that run something, crash or fill the memory where they are read with trust."""
    import builtins
    import gzip

    touch = f"open({str(canary)!r}, 'w')"
    traps = {
        "system": Trap(os.system, f"touch {canary}"),
        "popen": Trap(subprocess.Popen, ["touch", str(canary)]),
        "eval": Trap(eval, touch),
        "exec": Trap(exec, touch),
        "open": Trap(open, str(canary), "w"),
        "getattr": Trap(getattr, "text", "format"),
        "import": Trap(__import__, "os"),
        "h5py": Trap(h5py.File, str(canary), "w"),
        "load": Trap(np.load, str(canary)),
        "compile": Trap(compile, touch, "x", "exec"),
        "exit": Trap(sys.exit, 0),
        "os exit": Trap(os._exit, 0),
        "abort": Trap(os.abort),
        "bytearray": Trap(bytearray, 1 << 40),
        "memoryview": Trap(memoryview, b"x"),
        "type": Trap(builtins.type, "x", (), {}),
    }
    found = {f"{name} {protocol}": pickle.dumps(trap, protocol) for name, trap in traps.items() for protocol in (2,)}
    found["nested trap"] = pickle.dumps({b"data": Trap(os.system, f"touch {canary}"), b"labels": [1]}, 4)
    array = b"\x80\x02}q\x00(C\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    end = b"C\x06labels]K\x01au."
    for name, kind in (
        ("O8", b"X\x02\x00\x00\x00O8"),
        ("flags", b"X\x02\x00\x00\x00u1"),
        ("void", b"X\x03\x00\x00\x00V64"),
    ):
        state = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
        found[f"dtype {name}"] = (
            array
            + b"(K\x01K\x01K\x08\x86cnumpy\ndtype\n"
            + kind
            + b"\x89\x88\x87R"
            + state
            + b"\x89C\x08AAAAAAAAtb"
            + end
        )
    found["endless codec"] = pickle.dumps(Trap(__import__("_codecs").encode, "x" * 100, "unicode_escape"), 2)
    found["deep"] = b"\x80\x02" + b"(" * 100_000 + b"."
    found["huge long"] = b"\x80\x02\x8b\xff\xff\xff\x7f."
    found["huge bytes"] = b"\x80\x05\x8e" + struct.pack("<Q", 1 << 50) + b"."
    found["gzip bomb"] = gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">III", 60000, 2000, 2000) + bytes(1 << 24))
    found["idx overflow"] = bytes([0, 0, 8, 3]) + struct.pack(">III", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    found["random"] = random.Random(1).randbytes(5000)
    found["hdf5 head"] = b"\x89HDF\r\n\x1a\n" + bytes(500)
    found["zip head"] = b"PK\x03\x04" + bytes(200)
    return found


READ = """
import os, resource, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from lossatlas.errors import exit_code
what, file = sys.argv[1:]
def read():
    if what == "cifar10":
        from dataset_files import read_cifar10
        read_cifar10(Path(file).parent, "test")
    elif what == "cifar100":
        from dataset_files import read_cifar100
        read_cifar100(Path(file).parent, "train")
    elif what == "idx":
        from dataset_files import read_idx
        read_idx(Path(file).parent, "train")
    elif what == "npz":
        from dataset_files import read_npz
        read_npz(Path(file), "train")
    elif what in ("tensors.npz", "tensors.pt"):
        from dataloader import load_file
        load_file(file, "train")
    elif what in ("checkpoint.pt", "checkpoint.t7", "checkpoint.safetensors"):
        from models import read_state
        read_state(file)
    else:
        from lossatlas import record
        getattr(record, what)(file)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = exit_code(read)
print("MEMORY", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
sys.exit(code)
"""
INPUTS = {
    "cifar10": "test_batch",
    "cifar100": "train",
    "idx": "train-images-idx3-ubyte",
    "npz": "data.npz",
    "tensors.npz": "tensors.npz",
    "tensors.pt": "tensors.pt",
    "checkpoint.pt": "net.pt",
    "checkpoint.t7": "net.t7",
    "checkpoint.safetensors": "net.safetensors",
    "read_surface": "s.h5",
    "read_directions": "d.h5",
    "read_findings": "f.h5",
    "read_projection": "p.h5",
}


def hostile(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Hostile files in every input: nothing is executed, nothing crashes, and memory stays where it was."""
    canary = place.folder / "canary"
    contents = payloads(canary)
    folder = place.folder / "hostile"
    cases = list(itertools.product(contents, INPUTS))
    random.Random(seed).shuffle(cases)
    for payload, what in cases[:count]:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        file = folder / (INPUTS[what] + (".gz" if payload == "gzip bomb" and what == "idx" else ""))
        file.write_bytes(contents[payload])
        result = place.run([place.python, "-c", READ.format(root=str(ROOT)), what, str(file)], timeout=60)
        memory = int(next(iter(re.findall(r"MEMORY (\d+)", result.out)), "0")) / 1024
        good = result.code == 3 and len(result.lines) == 1 and "Traceback" not in result.errors and not canary.exists()
        canary.unlink(missing_ok=True)
        yield good and memory < 700, f"{payload} as {what}: code {result.code}, {memory:.0f} MB more {result.lines}"


def jobs(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Two jobs with different directions on one output: one of them stops within 5 seconds and says who writes."""
    rng = random.Random(seed)
    for k in range(count):
        file = place.folder / f"shared_{k}.h5"
        running = []
        for number in (1, 2):
            command = place.command("plot_surface.py", file, "--seed", str(number), "--dir_file", f"{file}.{number}.h5")
            running.append((time.monotonic(), place.start(command, SLEEP="0.01")))
            time.sleep(rng.choice([0, 0, 0.05, rng.uniform(0, 3)]))
        results = [ended(process, 120, began) for began, process in running]
        right = [number for number, result in zip((1, 2), results, strict=True) if result.code == 0]
        refused = [result for result in results if result.code == 5]
        good = len(right) == 1 and len(refused) == 1 and "is being written by process" in refused[0].errors
        if good:
            used = read_directions(f"{file}.{right[0]}.h5").sha256
            good = read_surface(file).request["directions"] == used and read_surface(file).done.all()
        yield bool(good), f"{k}: codes {[r.code for r in results]}, {[f'{r.seconds:.1f} s' for r in refused]}"


def ranks(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """The same values on 0, 1, 2, 3, 4 and 7 ranks, and on more ranks than cells."""
    del seed
    expected = None
    for number in (0, 1, 2, 3, 4, 7)[: count or None]:
        file = place.folder / f"on_{number}.h5"
        result = place.run(place.command("plot_surface.py", file, ranks=number))
        expected = expected or numbers(file)
        yield result.code == 0 and numbers(file) == expected, f"{number} ranks: code {result.code}"
    if count >= 7:
        few = {}
        for number in (0, 7):
            file = place.folder / f"few_{number}.h5"
            result = place.run(place.command("plot_surface.py", file, "--x=-1:1:3", "--y=0:0:1", ranks=number))
            few[number] = numbers(file) if file.exists() else {"": result.errors.encode()}
        yield few[0] == few[7], "7 ranks for 3 cells"


HOSTS = """#!/bin/sh
# Stands for ssh: host, then the command, in that host's network and under its name.
while [ "${1#-}" != "$1" ]; do shift; done
host=$1; shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; exec $*"
"""


def hosts(place: Place, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Ranks on two hosts, which are network namespaces with addresses and names of their own: the same values."""
    del count, seed
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if (
        not ip
        or os.geteuid()
        or "hydra"
        not in subprocess.run([place.mpirun, "--version"], capture_output=True, text=True, check=False).stdout.lower()
    ):
        return
    alone = place.folder / "on_one_host.h5"
    assert place.run(place.command("plot_surface.py", alone)).code == 0
    script = place.folder / "reach"
    script.write_text(HOSTS)
    script.chmod(0o755)
    steps = [
        "netns add first",
        "netns add second",
        "link add end1 type veth peer name end2",
        "link set end1 netns first",
        "link set end2 netns second",
        "-n first addr add 10.99.0.1/24 dev end1",
        "-n second addr add 10.99.0.2/24 dev end2",
        "-n first link set end1 up",
        "-n second link set end2 up",
        "-n first link set lo up",
        "-n second link set lo up",
    ]
    try:
        for step in steps:
            if subprocess.run([ip, *step.split()], capture_output=True, check=False).returncode:
                return
        names = Path("/etc/netns")
        for name in ("first", "second"):
            (names / name).mkdir(parents=True, exist_ok=True)
            (names / name / "hosts").write_text("127.0.0.1 localhost\n10.99.0.1 first\n10.99.0.2 second\n")
        file = place.folder / "on_two_hosts.h5"
        own = place.command("plot_surface.py", file, "--mpi", ranks=2)[3:]
        launcher = [
            place.mpirun,
            "-launcher",
            "ssh",
            "-launcher-exec",
            str(script),
            "-hosts",
            "first,second",
            "-n",
            "2",
        ]
        command = [ip, "netns", "exec", "first", "unshare", "--uts", "sh", "-c"]
        inner = " ".join(f"'{part}'" for part in [*launcher, "-ppn", "1", *own])
        result = place.run([*command, f"hostname first; exec {inner}"], timeout=120)
        good = result.code == 0 and numbers(file) == numbers(alone)
        said = str(read_surface(file).about.get("computed_by", "")) if file.exists() else ""
        yield good and "second" in said, f"two hosts: code {result.code} {result.lines} {said}"
    finally:
        for name in ("first", "second"):
            subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)


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


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="default: all")
    p.add_argument("--count", type=int, help="how many cases of each (default: the full number)")
    p.add_argument("--environment", default="", help="a virtual environment with its own python and mpirun")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--verbose", action="store_true", help="print what held, too")
    args = p.parse_args()
    for number in (signal.SIGINT, signal.SIGHUP):  # which nohup and a shell's & have ignored, by what is started too
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    failed = 0
    for name in args.sections or SECTIONS:
        function, full = SECTIONS[name]
        with tempfile.TemporaryDirectory(prefix=f"torture_{name}_") as folder:
            place, began, held, all_of_them = Place.at(Path(folder), args.environment), time.monotonic(), 0, 0
            for good, what in function(place, args.count or full, args.seed):
                held, all_of_them = held + good, all_of_them + 1
                if not good or args.verbose:
                    print(f"{'held  ' if good else 'FAILED'} {name}: {what}", flush=True)
        failed += all_of_them - held
        print(f"{name}: {held} of {all_of_them} held ({time.monotonic() - began:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
