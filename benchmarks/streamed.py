"""Samples that are read when they are needed, against samples in memory: digits, time, memory.

    python benchmarks/streamed.py

6,000 JPEG images of 64 x 64 pixels, decoded as they are read, and a small convolutional network; a line of 17 points.
Each way runs in a process of its own, one after the other: in memory; read with room for all of them; with room for
none, so that each pass over the data decodes all of it; and with a tolerance, which decodes what it draws. This script
starts itself with `--way`.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from baselines import result
from memory import peak
from torch import nn
from torch.utils.data import Dataset

COUNT, SIZE = 6_000, 64
WAYS = ("memory", "kept", "flowing", "tolerance")


class Photos(Dataset):
    """Coded images in memory, as if they lay on a disk."""

    def __init__(self) -> None:
        from PIL import Image

        self.coded, self.decoded = [], 0
        generator = np.random.default_rng(0)
        for _ in range(COUNT):
            pixels = np.kron(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
            out = io.BytesIO()
            Image.fromarray(pixels).save(out, "jpeg")
            self.coded.append(out.getvalue())

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, k: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        self.decoded += 1
        pixels = np.asarray(Image.open(io.BytesIO(self.coded[k])))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255, k % 10


def network() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def run(way: str) -> None:
    import lossatlas
    from lossatlas.data import as_dataset
    from lossatlas.evaluation import sample_storage

    if way == "flowing":
        sample_storage.budget = lambda: 0
    photos, net = Photos(), network()
    lossatlas.surface(
        net, (torch.zeros(64, 3, SIZE, SIZE), torch.zeros(64, dtype=torch.long)), x="-1:1:3", progress=False
    )
    idle, started = peak(), time.perf_counter()
    found = lossatlas.surface(
        net,
        as_dataset(photos, stream=way != "memory"),
        x="-1:1:17",
        batch_size=64,
        tolerance=0.02 if way == "tolerance" else None,
        progress=False,
    )
    seconds = time.perf_counter() - started
    print(
        json.dumps({"seconds": seconds, "peak": peak() - idle, "decoded": photos.decoded, "loss": found.loss.tolist()})
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", choices=WAYS)
    if way := parser.parse_args().way:
        run(way)
        return
    found = {}
    for way in WAYS:
        out = subprocess.run(
            [sys.executable, __file__, "--way", way], capture_output=True, text=True, check=True
        ).stdout
        found[way] = json.loads(out.splitlines()[-1])
    held = found["memory"]
    for way, what in (("kept", "read once and kept"), ("flowing", "read again in each pass, nothing kept")):
        one = found[way]
        equal = one["loss"] == held["loss"]
        result(
            f"{COUNT:,} images, {what}, against in memory: digits, time, memory at the peak, images decoded",
            "the same bits",
            f"{'the same bits' if equal else 'OTHER DIGITS'}; {one['seconds'] / held['seconds']:.2f}× "
            f"({one['seconds']:.1f} : {held['seconds']:.1f} s); {one['peak']:.0f} : {held['peak']:.0f} MB; "
            f"{one['decoded']:,} : {held['decoded']:,}",
            equal,
        )
    one = found["tolerance"]
    result(
        f"{COUNT:,} images, tolerance 0.02, read when they are drawn, against all of them in memory",
        "",
        f"{one['decoded']:,} images decoded; {held['seconds'] / one['seconds']:.1f}× faster; "
        f"{one['peak']:.0f} : {held['peak']:.0f} MB at the peak",
        None,
    )


if __name__ == "__main__":
    main()
