"""Memory of a rank, above a process that has imported the same modules, at its peak.

    python benchmarks/memory.py

Full Fashion-MNIST where the machine has it (otherwise the bundled images), one process and two ranks, a wide network
whose parameters count and a small one. This script starts itself with `--rank`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from baselines import result

MPIRUN = str(Path(sys.executable).parent / "mpirun")
BATCH = 64


def peak() -> float:
    """The largest resident size of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def rank(command: list[str], out: str) -> None:
    import torch

    from lossatlas.commands import plot_surface
    from lossatlas.evaluation import Evaluator  # noqa: F401
    from lossatlas.models import build

    before = torch.zeros(8, 3, 32, 32)  # a first convolution loads libraries
    torch.nn.functional.conv2d(before, torch.zeros(8, 3, 3, 3))
    build("resnet20")
    idle = peak()
    code = plot_surface.main(command)
    number = os.environ.get("PMI_RANK", "0")
    Path(f"{out}.{number}").write_text(json.dumps({"idle": idle, "peak": peak(), "code": code}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rank")
    args, command = parser.parse_known_args()
    if args.rank:
        rank(command, args.rank)
        return
    from lossatlas.datasets.registry import SOURCES, find
    from lossatlas.errors import BadInput
    from lossatlas.models import build, save_state

    try:
        find("fashion_mnist", SOURCES["fashion_mnist"], None)
        dataset = "fashion_mnist"
    except BadInput:
        dataset = "fashion_mnist_mini"
    from lossatlas.datasets.registry import load

    data = load(dataset)
    megabytes = (data.inputs.nbytes + data.targets.nbytes) / 2**20
    worst = 0.0
    for model, ranks in (("resnet20", 1), ("resnet20", 2), ("wrn56_4", 1), ("wrn56_4", 2)):
        with tempfile.TemporaryDirectory() as name:
            net = build(model, (1, 28, 28))
            save_state(Path(name) / "net.safetensors", net)
            parameters = sum(p.nbytes for p in net.parameters()) / 2**20
            widest = 16 * (4 if model == "wrn56_4" else 1)
            activations = 3 * BATCH * widest * 28 * 28 * 4 / 2**20  # input, output and shortcut of the widest layer
            run = [
                sys.executable,
                __file__,
                "--rank",
                f"{name}/memory",
                "--model",
                model,
                "--model_file",
                f"{name}/net.safetensors",
                "--dataset",
                dataset,
                *"--x=-1:1:2 --xnorm filter --xignore biasbn --batch_size".split(),
                str(BATCH),
                *"--tolerance 10,1000 --surf_file".split(),
                f"{name}/s.h5",
            ]
            if ranks > 1:
                run = [MPIRUN, "-n", str(ranks), *run, "--mpi", "--y=-1:1:2"]
            subprocess.run(run, check=True, capture_output=True)
            for number in range(ranks):
                seen = json.loads(Path(f"{name}/memory.{number}").read_text())
                allowed = megabytes + 6 * parameters + activations
                used = seen["peak"] - seen["idle"]
                worst = max(worst, used / allowed)
                print(
                    f"  {model}, rank {number} of {ranks}: {used:.0f} above {seen['idle']:.0f} MB; data "
                    f"{megabytes:.0f} MB, 6 x parameters {6 * parameters:.0f}, activations {activations:.0f}: "
                    f"{used / allowed:.2f}"
                )
    result(
        f"peak memory of a rank against data + 6 × parameters + activations ({dataset}, worst of 6 ranks)",
        "≤ 1.3×",
        f"{worst:.2f}×",
        worst <= 1.3,
    )


if __name__ == "__main__":
    main()
