"""Memory of plot_trajectory.py against the number of checkpoints.

    python benchmarks/trajectory.py

A perceptron of two million parameters, 10 and 60 checkpoints on a random walk, each in a process of its own. What is
counted is the peak above a process that has imported the same modules; the time is that of the whole command. This
script starts itself with `--run`.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from baselines import result
from memory import peak

SIZE = 2_000_000
NET = """
from torch import nn
def make():
    hidden = [nn.Linear(784, 1400), nn.ReLU(), nn.Linear(1400, 630), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(630, 10))
"""


def run(command: list[str], out: str) -> None:
    import torch

    from lossatlas.commands import plot_trajectory
    from lossatlas.figures import style

    with style() as plt:
        plt.subplots()
    torch.zeros(1)
    idle, began = peak(), time.monotonic()
    code = plot_trajectory.main(command)
    Path(out).write_text(json.dumps({"idle": idle, "peak": peak(), "code": code, "seconds": time.monotonic() - began}))


def main() -> None:
    if "--run" in sys.argv:
        run(sys.argv[3:], sys.argv[2])
        return
    import torch

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "net.py").write_text(NET)
        scope: dict = {}
        exec(NET, scope)
        net = scope["make"]()
        size = sum(p.numel() for p in net.parameters())
        assert abs(size - SIZE) < 0.02 * SIZE, size
        torch.manual_seed(0)
        for number in (10, 60):
            checkpoints = place / str(number)
            checkpoints.mkdir()
            for k in range(number):
                with torch.no_grad():
                    for p in net.parameters():
                        p += 0.01 * torch.randn_like(p)
                torch.save({"state_dict": net.state_dict()}, checkpoints / f"model_{k}.t7")
            out = place / f"{number}.json"
            command = ["--model", f"{place}/net.py:make", "--model_folder", str(checkpoints)]
            subprocess.run(
                [sys.executable, __file__, "--run", str(out), *command], check=True, stdout=subprocess.DEVNULL
            )
            found[number] = json.loads(out.read_text())
            assert found[number]["code"] == 0
    more = {number: each["peak"] - each["idle"] for number, each in found.items()}
    model = 4 * size / 1e6
    ratio = more[60] / more[10]
    result(
        f"memory for 60 checkpoints of {size:,} parameters against that for 10",
        "<= 1.2x",
        f"{ratio:.2f}x: {more[60]:.0f} MB against {more[10]:.0f} MB, {more[60] / model:.1f} times the parameters "
        f"({found[60]['seconds']:.0f} s against {found[10]['seconds']:.0f} s)",
        ratio <= 1.2,
    )


if __name__ == "__main__":
    main()
