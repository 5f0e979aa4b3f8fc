"""What a tolerance makes of the time of whole commands, against all samples at every cell.

    python benchmarks/whole_surface.py [--only surface|demo] [--cells 51]        # twenty minutes on two cores

The surface: ResNet-56 with shortcuts on the demo's plane, all 60,000 training images of Fashion-MNIST, two ranks,
`--tolerance 0.02,0.05`, one command from its start to its end. The demo: its two surfaces by its own commands. All
samples at every cell would take hours: four cells are computed with fewer and with more images, and the difference is
extrapolated to the cells and images of the whole, so that what is done once does not count. Beside the times stands
what the samples that were drawn would take if the network were one large matrix product: on the same cores they hardly
take less.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from baselines import result

from lossatlas.io import read_surface

MPIRUN = str(Path(sys.executable).parent / "mpirun")
PLANE = "--xnorm filter --xignore biasbn --ynorm filter --yignore biasbn".split()
CORNERS, FEW, MORE = ["--x=-1:1:2", "--y=-1:1:2"], 500, 3500
IMAGES = 60_000
SIDE = 2048  # of the matrices


def compute(model: str, out: Path, *options: str) -> float:
    """Seconds of a whole command on two ranks."""
    command = [MPIRUN, "-n", "2", sys.executable, "plot_surface.py", "--mpi", "--model", model]
    command += ["--model_file", f"trained_nets/{model}_fashion_mnist.safetensors", *PLANE, *options]
    began = time.monotonic()
    subprocess.run(
        [*command, "--dir_file", f"{out}_directions.h5", "--surf_file", str(out)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.monotonic() - began


def seconds_per_image(model: str, folder: Path, dataset: str, few: int = FEW, more: int = MORE) -> float:
    """Of two ranks, all samples used: the difference of two runs over four cells."""
    times = [
        compute(model, folder / f"{model}_{count}.h5", "--dataset", dataset, "--limit", str(count), *CORNERS)
        for count in (few, more)
    ]
    return (times[1] - times[0]) / (4 * (more - few))


def product_seconds(model: str, samples: float) -> float:
    """Seconds that so many samples take on two threads at the speed of a large float32 matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from lossatlas.models import build

    net = build(model, (1, 28, 28)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 28, 28))
    torch.set_num_threads(2)
    a, best = torch.ones(SIDE, SIDE), float("inf")
    for _ in range(20):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return samples * counter.get_total_flops() / (2 * SIDE**3 / best)


def surface(folder: Path, cells: int) -> None:
    exact = seconds_per_image("resnet56", folder, "fashion_mnist") * IMAGES * cells**2
    out = folder / "s.h5"
    grid = [f"--x=-1:1:{cells}", f"--y=-1:1:{cells}"]
    seconds = compute("resnet56", out, "--dataset", "fashion_mnist", *grid, "--tolerance", "0.02,0.05")
    found = read_surface(out)
    used = float(found.statistics["train"]["n"].mean())
    print(f"  {used:.0f} of {IMAGES} samples a cell; all of them at every cell: {exact / 3600:.1f} h (extrapolated)")
    least = product_seconds("resnet56", used * cells**2)
    print(f"  these samples as one matrix product: {least / 60:.1f} min")
    what = f"ResNet-56, {cells}×{cells}, {IMAGES} images, --tolerance 0.02,0.05, two ranks"
    result(f"{what}: whole command", "≤ 10 min", f"{seconds / 60:.1f} min", seconds <= 600)
    result(
        f"{what}: all samples (extrapolated) : whole command",
        "≥ 100×",
        f"{exact / seconds:.0f}×",
        exact / seconds >= 100,
    )


def demo(folder: Path) -> None:
    computing, exact, least = 0.0, 0.0, 0.0
    for model in ("resnet56", "resnet56_noshort"):
        out = folder / f"demo_{model}.h5"
        each = seconds_per_image(model, folder, "fashion_mnist_mini", 100, 1500)
        exact += each * 441 * 500
        grid = ["--x=-1:1:21", "--y=-1:1:21", "--limit", "500", "--tolerance", "0.05,0.05"]
        compute(model, out, "--dataset", "fashion_mnist_mini", *grid)
        found = read_surface(out)
        computing += float(found.about["computing_seconds"])
        least += product_seconds(model, float(found.statistics["train"]["n"].sum()))
    print(f"  the samples that were drawn as one matrix product: {least:.0f} s")
    result(
        "two surfaces of ResNet-56, 2 × 441 cells × 500 images, --tolerance 0.05,0.05",
        "≤ 90 s",
        f"{computing:.0f} s",
        computing <= 90,
    )
    result(
        "all samples (extrapolated) : the computing of these two surfaces",
        "",
        f"{exact / computing:.1f}× ({exact:.0f} s)",
        None,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=("surface", "demo"))
    parser.add_argument("--cells", type=int, default=51, help="along each axis")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if args.only != "surface":
            demo(Path(name))
        if args.only != "demo":
            surface(Path(name), args.cells)


if __name__ == "__main__":
    main()
