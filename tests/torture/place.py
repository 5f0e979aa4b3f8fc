"""Where a command is tortured: a network that may do anything, how a command starts and ends, and who is left of it."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

ROOT = Path(__file__).resolve().parent.parent.parent

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

    def run(self, command: Sequence[str], timeout: float = 600, **environment: str) -> "Ended":
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
    deadline = time.monotonic() + 100
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
