"""Disks that are full at any write."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py

from torture.place import LINE, ROOT, Outcome, Place

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
