"""Memory and time of a surface of a large language model, in little memory and in fast memory, with random decoders.

    python benchmarks/large_model.py                          memory of all sizes, two minutes to an hour
    python benchmarks/large_model.py --sizes 1.0B --dtypes bfloat16 --kinds plane towards
    python benchmarks/large_model.py --time 1.0B              a move to a point against a forward pass over 2,048 tokens

Each measurement runs in a process of its own. `peak` is the largest anonymous memory of that process (RssAnon: without
pages of files, which the system may drop) while `lossatlas.surface` runs; `bare` is the largest one of a forward pass
with its loss. The promise is peak <= 1.25 x weights + activations of one batch + 0.7 GB, where the activations are what
a bare pass takes beside the weights and the program.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

KINDS = ("line", "plane", "towards", "saved")
ALLOWED = 1.25, 0.7  # times the weights, and GB


def anonymous() -> float:
    """Return the anonymous memory of this process in GB."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1e6


@contextmanager
def watched() -> Iterator[list[float]]:
    """Record the largest anonymous memory within the block, as the one number of the list."""
    peak, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def measure(size: str, dtype: str, memory: str, kind: str, tokens: int) -> dict[str, float]:
    """Measure one surface in this process."""
    import decoder
    import torch
    import torch.nn.functional as F

    import lossatlas

    net = decoder.make(size, getattr(torch, dtype))
    weights = sum(p.numel() * p.element_size() for p in net.parameters()) / 1e9
    drawn = torch.randint(0, 32_000, (2, tokens + 1))
    data = drawn[:, :-1].clone(), drawn[:, 1:].clone()
    before = anonymous()
    with watched() as bare, torch.no_grad():
        F.cross_entropy(net(data[0][:1]).flatten(0, 1).double(), data[1][:1].flatten())
    more: dict[str, Any] = {"x": "-0.5:0.5:3", "memory": memory, "progress": False, "limit": 1}
    if kind == "plane":
        more["y"] = "-0.5:0.5:3"
    elif kind == "towards":
        more["towards"] = str(file_of(size, dtype, kind))
    elif kind == "saved":
        more["directions"] = [f"{file_of(size, dtype, kind)}:1"]
    began = time.perf_counter()
    with watched() as peak:
        lossatlas.surface(net, data, **more)
    seconds = time.perf_counter() - began
    return {"weights": weights, "before": before, "bare": bare[0], "peak": peak[0], "seconds": seconds}


def file_of(size: str, dtype: str, kind: str) -> Path:
    """Return the file that a kind of surface reads."""
    return Path(tempfile.gettempdir()) / f"large_model_{size}_{dtype}.{'safetensors' if kind == 'towards' else 'h5'}"


def prepare(size: str, dtype: str, kind: str) -> list[Path]:
    """Write the files that a kind of surface reads, in this process; return them."""
    import decoder
    import torch
    from safetensors.torch import save_file

    import lossatlas

    path = file_of(size, dtype, kind)
    net = decoder.make(size, getattr(torch, dtype), seed=1)
    if kind == "towards":
        save_file(dict(net.named_parameters()), path)
    elif kind == "saved":
        tokens = torch.randint(0, 32_000, (1, 9))
        data = tokens[:, :-1].clone(), tokens[:, 1:].clone()
        lossatlas.surface(net, data, x="0:1:2", memory="low", progress=False, file=path)
    else:
        return []
    return [path]


def move_against_pass(size: str, dtype: str, tokens: int) -> dict[str, float]:
    """Measure a move to a point of a plane, a forward pass, and both at the same time: the medians of five.

    What is computed at the same time has no meaning: it says what could be gained if the move to the next point began
    before the last pass at a point has ended.
    """
    import decoder
    import torch

    from lossatlas.evaluation.parameter_buffers import InPlaceBuffers
    from lossatlas.evaluation.reference import restored_from_disk
    from lossatlas.parameter_space import AffinePlane, Layout, random_direction

    net = decoder.make(size, getattr(torch, dtype))
    batch = torch.randint(0, 32_000, (1, tokens))
    with restored_from_disk(net) as kept, torch.no_grad():
        origin = kept.point(net, "weights")
        made = [random_direction(origin, "filter", "biasbn", k, Layout.of(net), scratch=kept.scratch) for k in (1, 2)]
        buffers = InPlaceBuffers(net, AffinePlane(origin, *made))
        moves, passes, both = [], [], []
        for k in range(5):
            began = time.perf_counter()
            buffers.move(0.1 * k, 0.2)
            moves.append(time.perf_counter() - began)
            began = time.perf_counter()
            net(batch)
            passes.append(time.perf_counter() - began)
            began = time.perf_counter()
            moving = threading.Thread(target=buffers.move, args=(0.1 * k, 0.3))
            moving.start()
            net(batch)
            moving.join()
            both.append(time.perf_counter() - began)
    return {"move": sorted(moves)[2], "pass": sorted(passes)[2], "both": sorted(both)[2]}


def in_own_process(*what: str) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *what], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(what)}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--sizes", nargs="*", default=["56M", "152M", "400M", "1.0B"])
    p.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"])
    p.add_argument("--memories", nargs="*", default=["fast", "low"])
    p.add_argument("--kinds", nargs="*", default=["plane"], choices=KINDS)
    p.add_argument("--tokens", type=int, default=2048)
    p.add_argument("--time", default="", metavar="SIZE", help="measure the time to a point instead")
    p.add_argument("--one", nargs="*", help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.one:
        name, *rest = args.one
        if name == "prepare":
            print(json.dumps({str(path): 1.0 for path in prepare(*rest)}))
        else:
            found = {"measure": measure, "time": move_against_pass}[name](*rest[:-1], int(rest[-1]))  # type: ignore[operator]
            print(json.dumps(found))
        return 0
    if args.time:
        for dtype in args.dtypes:
            found = in_own_process("time", args.time, dtype, str(args.tokens))
            ratio = found["move"] / found["pass"]
            print(f"{args.time} {dtype}: move {found['move']:.2f} s, pass {found['pass']:.2f} s, ratio {ratio:.2f}")
            gained = 1 - found["both"] / (found["move"] + found["pass"])
            print(f"  at the same time {found['both']:.2f} s: {100 * gained:.0f} % less than one after the other")
        return 0
    for size in args.sizes:
        for dtype in args.dtypes:
            for kind in args.kinds:
                files = in_own_process("prepare", size, dtype, kind) if kind in ("towards", "saved") else {}
                for memory in args.memories:
                    print(
                        line_of(
                            size,
                            dtype,
                            memory,
                            kind,
                            in_own_process("measure", size, dtype, memory, kind, str(args.tokens)),
                        ),
                        flush=True,
                    )
                for file in files:
                    Path(file).unlink()
    return 0


def line_of(size: str, dtype: str, memory: str, kind: str, found: dict[str, float]) -> str:
    """Describe a measurement in one line."""
    weights, peak, activations = found["weights"], found["peak"], found["bare"] - found["before"]
    allowed = ALLOWED[0] * weights + activations + ALLOWED[1]
    held = "held" if peak <= allowed else "exceeded"
    return (
        f"{size} {dtype} {kind} {memory}: weights {weights:.2f} GB, peak {peak:.2f} GB = {peak / weights:.2f} x weights"
        f"; activations {activations:.2f} GB, allowed {allowed:.2f} GB: {held}; {found['seconds']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
