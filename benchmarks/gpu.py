"""Cost of a point on a CUDA device, against bare loops in each precision and layout, and against the device's limit.

    python benchmarks/gpu.py [--images 10000]

ResNet-56 with the bundled trained weights, random images of 3 x 32 x 32 (what is in them does not change the time).
From the time of a point it is said how long 51 x 51 points on 50,000 images would take; that is an extrapolation.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from baselines import bare_loop, folded, in_turn, plain, ratio, result
from point import POINT, trained_state

from lossatlas.data import LOSSES, Dataset
from lossatlas.evaluation import Evaluator, tune
from lossatlas.models import build
from lossatlas.parameter_space import AffinePlane, random_direction, tensors

WORK = 2 * 125.5e6  # floating-point operations of an image in ResNet-56: 125.5 million multiplications and additions


def limit(dtype: torch.dtype, tf32: bool) -> float:
    """Operations a second of a large matrix product on this device."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(2):
        a @ b
    begin.record()
    for _ in range(5):
        a @ b
    end.record()
    torch.cuda.synchronize()
    return 5 * 2 * 8192**3 / (begin.elapsed_time(end) / 1e3)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=10_000)
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    torch.manual_seed(0)
    inputs, labels = torch.randn(args.images, 3, 32, 32), torch.randint(0, 10, (args.images,))
    data = Dataset("images", "train", (inputs, labels), 10)
    state = trained_state()
    net = build("resnet56", (3, 32, 32))
    net.load_state_dict(state)
    at = {name: value.clone() for name, value in tensors(net).items()}
    plane = AffinePlane(at, *(random_direction(at, "filter", "biasbn", seed) for seed in (1, 2)))
    print(torch.cuda.get_device_name(0), "torch", torch.__version__, flush=True)
    for precision, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        evaluator = Evaluator(
            net, plane, {"train": data}, LOSSES["crossentropy"], folded=True, precision=precision, device="cuda"
        )
        tune(evaluator, 10_000, stacked=False)
        chosen = evaluator.batch_size
        ways = {"this tool": lambda: evaluator([POINT])}  # noqa: B023
        for last in (True, False):
            bare = folded(plain({**state, **plane.point(*POINT)}, channels_last=last)).to("cuda", dtype)
            layout = torch.channels_last if last else torch.contiguous_format
            bare = bare.to(memory_format=layout)
            own, targets = inputs.to("cuda", dtype).contiguous(memory_format=layout), labels.to("cuda")
            for size in (512, 2048, 8192):
                ways[f"bare {'channels-last' if last else 'contiguous'} loop, batches of {size}"] = (
                    lambda bare=bare, own=own, targets=targets, size=size: bare_loop(bare, own, targets, size)
                )
        for size in (512, 2048, 8192):

            def other(size: int = size) -> np.ndarray:
                evaluator.batch_size = size  # noqa: B023
                return evaluator([POINT])  # noqa: B023

            ways[f"this tool, batches of {size}"] = other

        def tuned() -> np.ndarray:
            evaluator.batch_size = chosen  # noqa: B023
            return evaluator([POINT])  # noqa: B023

        ways["this tool"] = tuned
        torch.backends.cudnn.benchmark = False
        for way in ways.values():
            way()
        seconds = in_turn(ways, args.rounds)
        rates = {name: args.images / np.median(times) for name, times in seconds.items()}
        print(f"{precision}, {args.images} images, {args.rounds} rounds in turn, images a second:")
        for name, rate in rates.items():
            print(f"  {name}: {rate:,.0f}", flush=True)
        best = min((name for name in ways if name.startswith("bare")), key=lambda name: np.median(seconds[name]))
        value = ratio(seconds["this tool"], seconds[best])
        result(
            f"gpu: a point in {precision} (batches of {chosen}) against the {best}",
            "≤ 1.05",
            f"{value:.2f}",
            value <= 1.05,
        )
        share = rates["this tool"] * WORK / limit(dtype, precision == "tf32")
        result(f"gpu: {precision}, share of the device's own matrix product", "", f"{share:.1%}", None)
        minutes = 51 * 51 * 50_000 / rates["this tool"] / 60
        result(
            f"gpu: 51 x 51 points of ResNet-56 on 50,000 images, {precision}, extrapolated from a point",
            "≤ 2 min" if precision == "float32" else "",
            f"{minutes:.1f} min",
            minutes <= 2 if precision == "float32" else None,
        )


if __name__ == "__main__":
    main()
