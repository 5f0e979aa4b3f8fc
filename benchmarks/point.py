"""What one point of a surface costs, against the bare forward passes and against the original's way.

    python benchmarks/point.py [--images 1024] [--rounds 5]

Prints ratios of two things measured in turn in one run, and fails when a baseline is lame.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from baselines import Images, PlainResNet, bare_loop, folded, original_way, pairs
from torch.utils.data import DataLoader

from dataloader import Dataset
from evaluation import Evaluator
from losses import LOSSES
from models import build
from net_plotter import Affine, random_direction, tensors


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=1024)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch_size", type=int, default=64)
    args = p.parse_args()
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (args.images, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, args.images)
    inputs = ((torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - 0.48) / 0.25).contiguous()
    resident, targets = inputs.contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)

    net = build("resnet56").eval().requires_grad_(False)
    at = tensors(net)
    plane = Affine(at, random_direction(at, "filter", "biasbn", 1), random_direction(at, "filter", "biasbn", 2))
    data = Dataset("random", "train", inputs, targets, 10)
    evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"], batch_size=args.batch_size, folded=True)

    eager = PlainResNet().eval().to(memory_format=torch.channels_last)
    bare = folded(PlainResNet().eval()).to(memory_format=torch.channels_last)
    loader = DataLoader(Images(images, labels), batch_size=128, num_workers=2)
    old = PlainResNet().eval()
    weights = [p.data.clone() for p in old.parameters()]
    direction = [torch.randn_like(w) for w in weights]

    def point() -> None:
        evaluator([(0.01, 0.02)])

    def bare_point() -> None:
        bare_loop(bare, resident, targets, args.batch_size)

    ours, least = pairs(point, bare_point, args.rounds)
    eager_time, least_again = pairs(
        lambda: bare_loop(eager, resident, targets, args.batch_size), bare_point, args.rounds
    )
    old_time, ours_again = pairs(lambda: original_way(old, weights, direction, loader, 0.01), point, args.rounds)
    flops = 2 * 125.5e6 * args.images
    print(f"ResNet-56, {args.images} images of 32x32, batch {args.batch_size}, {torch.get_num_threads()} threads")
    print(f"one point {ours:.3f} s = {flops / ours / 1e9:.0f} GFLOP/s; bare folded loop {least:.3f} s: "
          f"ratio {ours / least:.3f} (bar <= 1.05)")  # fmt: skip
    print(f"the original's way {old_time:.3f} s: {old_time / ours_again:.2f} times slower (bar >= 2.5)")
    print(f"baselines: eager / bare folded {eager_time / least_again:.2f} (has to be >= 1.1), "
          f"bare folded / original's way {least / old_time:.2f}")  # fmt: skip
    if eager_time / least_again < 1.1:
        print("the bare folded loop is lame")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
