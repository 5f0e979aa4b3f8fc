"""Cost of a point of a surface, against bare loops, the original's way and loss-landscapes; and where the time goes.

    python benchmarks/point.py

ResNet-56 with trained weights, 1,024 images of 3 x 32 x 32 (bundled ones, padded, three equal channels), one rank with
all cores. `loss-landscapes` 3.0.6 is used where it is installed.
"""

import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import baselines
import numpy as np
import torch
import torch.nn.functional as F
from baselines import bare_loop, folded, in_turn, original_way, plain, ratio, result
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader

from lossatlas.data import LOSSES, Dataset
from lossatlas.datasets.registry import load
from lossatlas.evaluation import Evaluator, tune
from lossatlas.models import build, read_state
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

IMAGES, ROUNDS, POINT = 1024, 9, (0.01, 0.02)
MEAN, STD = 0.2860, 0.3530


def trained_state() -> dict[str, Tensor]:
    """The bundled network, its stem widened to three equal channels."""
    state = dict(read_state(ROOT / "trained_nets" / "resnet56_fashion_mnist.safetensors"))
    return {**state, "conv1.weight": state["conv1.weight"].repeat(1, 3, 1, 1) / 3}


def images() -> tuple[np.ndarray, np.ndarray]:
    """Bytes (N, 32, 32, 3) and labels."""
    raw = load("fashion_mnist_mini", limit=IMAGES, raw=True)
    padded = F.pad((raw.inputs * 255).round().byte(), (2, 2, 2, 2)).repeat(1, 3, 1, 1)
    return padded.permute(0, 2, 3, 1).contiguous().numpy(), raw.targets.numpy()


def main() -> None:
    pictures, labels = images()
    inputs = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(255).sub(MEAN).div(STD)
    data = Dataset(
        "images", "train", (inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)), 10
    )
    state = trained_state()
    net = build("resnet56", (3, 32, 32))
    net.load_state_dict(state)
    at = {name: value.clone() for name, value in tensors(net).items()}
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))

    def ours(**options: object) -> Evaluator:
        evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], folded=True, **options)
        tune(evaluator, 10_000)
        print(
            f"{options or 'default'}: batch size {evaluator.batch_size}, {evaluator.parallel_batches} batches side by "
            "side"
        )
        return evaluator

    exact, low = ours(), ours(precision="bfloat16")
    at_origin = AffinePlane(plane.point(*POINT), plane.dx, plane.dy)
    moved = {**state, **at_origin.origin}
    eager, fast = plain(moved, channels_last=True), folded(plain(moved, channels_last=True))
    compiled = torch.compile(folded(plain(moved, channels_last=True)), dynamic=False)
    old = plain(state, channels_last=False)
    loader = DataLoader(baselines.Images(pictures, labels, [MEAN] * 3, [STD] * 3), batch_size=128, num_workers=2)
    weights, directions = list(at.values()), [list(plane.dx.values()), list(plane.dy.values())]
    size = exact.batch_size
    ways = {
        "this tool": lambda: exact([POINT])[0, 0, 2] / IMAGES,
        "this tool, bfloat16": lambda: low([POINT])[0, 0, 2] / IMAGES,
        "bare folded loop": lambda: bare_loop(fast, data.inputs, data.targets, size),
        "bare compiled folded loop": lambda: bare_loop(compiled, data.inputs, data.targets, size),
        "eager channels-last loop": lambda: bare_loop(eager, data.inputs, data.targets, size),
        "the original's way": lambda: original_way(old, weights, directions, loader, POINT),
    }
    for name, way in ways.items():
        print(f"{name}: loss {way():.7f}")
    seconds = in_turn(ways, ROUNDS)
    print(f"ResNet-56, {IMAGES} images of 3x32x32, {torch.get_num_threads()} threads, {ROUNDS} rounds in turn:")
    for name, times in seconds.items():
        print(f"  {name}: {np.median(times):.3f} s a point (median), {times.min():.3f} s (least)")
    bare, point = seconds["bare folded loop"], seconds["this tool"]
    honest = ratio(seconds["eager channels-last loop"], bare)
    result("baseline: the bare folded loop against an eager one", "≥ 1.2×", f"{honest:.2f}×", honest >= 1.2)
    old_share = ratio(bare, seconds["the original's way"])
    result(
        "baseline: the original's way, speed against the bare folded loop",
        "≥ 0.30×",
        f"{old_share:.2f}×",
        old_share >= 0.30,
    )
    value = ratio(point, bare)
    result("a point against the bare folded channels-last loop", "≤ 1.05", f"{value:.2f}", value <= 1.05)
    value = ratio(point, seconds["bare compiled folded loop"])
    result("a point against the same loop with torch.compile (its compile time left out)", "", f"{value:.2f}", None)
    value = ratio(seconds["the original's way"], point)
    result("a point against the original's way, float32", "≥ 2.5×", f"{value:.2f}×", value >= 2.5)
    value = ratio(seconds["the original's way"], seconds["this tool, bfloat16"])
    has_bf16 = "avx512_bf16" in Path("/proc/cpuinfo").read_text()
    result(
        "the same, bfloat16 (a CPU with AVX-512 BF16)",
        "≥ 4×",
        f"{value:.2f}×" if has_bf16 else "no such CPU",
        value >= 4 if has_bf16 else None,
    )
    against_loss_landscapes(state, data, exact)
    where_the_time_goes(exact)
    if honest < 1.2 or old_share < 0.30:
        raise SystemExit(
            "a baseline is lame on this run: its rows say so, and what is compared with it flatters this tool"
        )


def against_loss_landscapes(state: dict[str, Tensor], data: Dataset, evaluator: Evaluator) -> None:
    figure = "a point against loss-landscapes 3.0.6 on the same 512 images"
    try:
        from loss_landscapes import random_plane
        from loss_landscapes.metrics import Loss
    except ImportError:
        result(figure, "≥ 3×", "not installed (pip install loss-landscapes==3.0.6)", None)
        return
    warnings.simplefilter("ignore")
    small, steps = data.take(slice(512)), 3
    net = plain(state, channels_last=False).requires_grad_(True)
    metric = Loss(nn.CrossEntropyLoss(), small.inputs.contiguous(), small.targets)
    full = evaluator.data["train"]
    evaluator.data["train"] = (full[0][:512], full[1][:512], full[2])
    grid = [(0.01 * i, 0.01 * j) for i in range(steps) for j in range(steps)]
    seconds = in_turn(
        {
            "theirs": lambda: random_plane(net, metric, 10, steps, "filter", deepcopy_model=True),
            "ours": lambda: evaluator(grid),
        },
        3,
    )
    evaluator.data["train"] = full
    value = ratio(seconds["theirs"], seconds["ours"])
    result(figure, "≥ 3×", f"{value:.2f}×", value >= 3)


def where_the_time_goes(evaluator: Evaluator) -> None:
    evaluator([POINT])
    with profile(activities=[ProfilerActivity.CPU]) as watched:
        evaluator([POINT])
    rows = {event.key: event.self_cpu_time_total for event in watched.key_averages()}
    total = sum(rows.values())
    print("where the time of one point goes, in percent:")
    for name, spent in sorted(rows.items(), key=lambda row: -row[1])[:8]:
        print(f"  {100 * spent / total:5.1f}  {name}")
    with profile(activities=[ProfilerActivity.CPU]) as watched, torch.inference_mode():
        evaluator.buffers.move(*POINT)
        evaluator.update_derived()
    own = sum(event.self_cpu_time_total for event in watched.key_averages())
    print(f"  {100 * own / total:5.1f}  of it: forming the point and folding BatchNorm")


if __name__ == "__main__":
    main()
