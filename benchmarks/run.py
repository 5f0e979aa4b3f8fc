"""Run every benchmark in turn and write benchmarks/RESULTS.md: `make bench`.

    python benchmarks/run.py [--grid_losses FOLDER] [NAME ...]

NAME: point, own_network, many_points, busy, ranks, levels, adaptive, whole_surface, memory, streamed, startup,
precision, products, eigenpairs, eigen_map, page, trajectory. Rows of benchmarks that are not run are kept.
"""

import argparse
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import h5py
import mpi4py
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
NAMES = (
    "point",
    "own_network",
    "many_points",
    "busy",
    "ranks",
    "levels",
    "adaptive",
    "whole_surface",
    "memory",
    "streamed",
    "startup",
    "precision",
    "products",
    "eigenpairs",
    "eigen_map",
    "page",
    "trajectory",
)
OUT = HERE / "RESULTS.md"


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    extra = [name for name in ("avx512f", "avx512_bf16") if name in values.get("flags", "")]
    return f"{values.get('model name', platform.machine())}, {torch.get_num_threads()} cores ({', '.join(extra)})"


def kept_rows() -> dict[str, list[str]]:
    """The rows of an earlier run by benchmark."""
    rows: dict[str, list[str]] = {}
    for line in OUT.read_text().splitlines() if OUT.exists() else ():
        if line.startswith("| `"):
            rows.setdefault(line.split("`")[1].removesuffix(".py"), []).append(line)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--grid_losses", help="what grid_losses.py has saved")
    args = parser.parse_args()
    rows = kept_rows()
    for name in args.names:
        command = [sys.executable, str(HERE / f"{name}.py")]
        if name == "levels":
            if not args.grid_losses:
                continue
            command += ["--losses", args.grid_losses]
        run = subprocess.run(command, text=True, capture_output=True, check=False)
        print(f"== {name}\n{run.stdout}{run.stderr if run.returncode else ''}", flush=True)
        found = [line.removeprefix("RESULT | ") for line in run.stdout.splitlines() if line.startswith("RESULT | ")]
        rows[name] = [f"| `{name}.py` | {date.today()} | {line}" for line in found]
        if run.returncode:
            rows[name].append(
                f"| `{name}.py` | {date.today()} | the benchmark | ends with 0 | {run.returncode} | not reached |"
            )
    packages = (torch, np, h5py, mpi4py)
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{p.__name__} {p.__version__}" for p in packages)])
    head = f"""# Measured

Written by `make bench` (`python benchmarks/run.py`). Every row compares things that were measured in turn in one run;
the machine is shared with others, so ratios vary by a fifth from run to run.

Machine of the last run: {machine()}. {versions}.

| benchmark | date | figure | bar | measured | |
|---|---|---|---|---|---|
"""
    every = [*NAMES, *(name for name in rows if name not in NAMES)]  # others are run by hand: a torture, a GPU
    OUT.write_text(head + "\n".join(line for name in every for line in rows.get(name, [])) + "\n")


if __name__ == "__main__":
    main()
