"""The basins of small language models (Chen et al. 2025, arXiv 2505.17646): what holds of them at this size.

    bash examples/language_model/run.sh

Decoders of three widths learn the characters of Python's documentation. Around each, the accuracy of the next character
is computed along random directions: how far does it stay within 5 % (the basin), and does that grow with the width? Of
one width, the loss along random directions is compared with the loss along the worst ones: the gradient, the top
eigenvector of the Hessian, and an ascent as in SAM. The model is then fine-tuned on source code, gently and with a rate
that is too large, and attacked by ascent on the loss of what it knows; where do these end, in units of the basin? A
plane from the base model towards a low-rank adapter (LoRA) and towards full fine-tuning shows both tasks.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from torch import Tensor, nn
from training import Pairs, adapter, code, fine_tuned, pretrained, prose

import lossatlas
from lossatlas import figures
from lossatlas.data import LOSSES, Dataset
from lossatlas.figures.axis_ticks import set_log_ticks
from lossatlas.figures.palette import current_look, curve_colours
from lossatlas.hessian import Hessian
from lossatlas.hessian.sharpness_measures import rises_within

PERCENT = 5  # of the accuracy, which a basin may lose
MIDDLE = 1  # the width that is fine-tuned
ASCENT = 0.02  # radius of the ascent, in units of the length of the weights
REACH = 1.0  # of the lines along random directions, in the same unit
RISE = 0.5  # of the loss, up to which directions are compared


@dataclass(frozen=True)
class Size:
    """Widths of the models, steps of training, and points of the lines and the plane."""

    widths: tuple[int, ...] = (24, 48, 96)
    steps: int = 800
    tuning: int = 200
    windows: int = 256
    points: int = 41
    repeats: int = 8
    plane: int = 11


SMALL = Size((16, 32), 30, 10, 32, 5, 2, 3)


def length(tensors: dict[str, Tensor]) -> float:
    return float(torch.stack([value.detach().double().norm() for value in tensors.values()]).norm())


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in net.named_parameters()}


def part(data: Pairs, count: int) -> Pairs:
    chosen = torch.linspace(0, len(data[0]) - 1, min(count, len(data[0]))).long()
    return data[0][chosen], data[1][chosen]


def basin(net: nn.Module, data: Pairs, size: Size, norm: str = "filter") -> lossatlas.Landscape:
    """Lines along random directions, on which 1 is the length of the weights."""
    reach = REACH if norm == "filter" else REACH * length(weights(net))
    x = f"{-reach}:{reach}:{size.points}"
    return lossatlas.surface(net, data, x=x, norm=norm, repeat=size.repeats, progress=False)


def ascent(net: nn.Module, data: Pairs) -> dict[str, Tensor]:
    """The change of the weights of length ASCENT that raises the loss most, as far as an ascent finds it."""
    operator = Hessian(net, Dataset("text", "train", data), LOSSES["crossentropy"])
    (rise,) = rises_within(operator, [ASCENT * length(weights(net))], steps=20)
    pieces = rise.change.split([shape.numel() for shape in operator.shapes])
    named = zip(operator.names, pieces, operator.shapes, strict=True)
    return {name: piece.view(shape) for name, piece, shape in named}


def worst(net: nn.Module, data: Pairs, size: Size) -> dict[str, lossatlas.Landscape]:
    """Lines along directions that raise the loss quickly; 1 is the length of the weights times ASCENT * 10."""
    reach = 10 * ASCENT * length(weights(net))
    x = f"{-reach}:{reach}:{size.points}"
    chosen = {"gradient": "gradient", "top eigenvector": "eigenvector:1", "ascent (SAM)": ascent(net, data)}
    return {
        name: lossatlas.surface(net, data, x=x, directions=[each], norm="unit", progress=False)
        for name, each in chosen.items()
    }


@dataclass(frozen=True)
class Reach:
    """A distance in units of the length of the weights; the line may end before it."""

    value: float
    bound: bool

    def __str__(self) -> str:
        return f"{'more than ' * self.bound}{self.value:.2g}"


def reach_of(line: lossatlas.Landscape, unit: float) -> Reach:
    """The distance at which the loss has risen by RISE on the steeper side."""
    measure = line.flatness()[f"radius below +{RISE:g}, smallest"]
    return Reach(measure.value / unit, measure.bound)


@dataclass(frozen=True)
class Tuned:
    """A model after further training: its distance, and what it knows of both texts."""

    name: str
    distance: float
    prose: float
    code: float
    loss: float


def accuracy(net: nn.Module, data: Pairs) -> tuple[float, float]:
    """Percent of the characters that are guessed, and the loss."""
    with torch.no_grad():
        logits = net(data[0])
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), data[1].flatten())
    return 100 * float((logits.argmax(-1) == data[1]).double().mean()), float(loss)


def tuned(name: str, base: nn.Module, net: nn.Module, old: Pairs, new: Pairs) -> Tuned:
    before, after = weights(base), weights(net)
    distance = length({n: after[n] - before[n] for n in before}) / length(before)
    (known, loss), (learned, _) = accuracy(net, old), accuracy(net, new)
    return Tuned(name, distance, known, learned, loss)


def draw_basins(plt: Any, lines: dict[int, lossatlas.Landscape], out: Path) -> None:
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    for (width, line), colour in zip(lines.items(), curve_colours(), strict=False):
        values = line["train_acc"] / line["train_acc"][:, line["train_acc"].shape[1] // 2][:, None] * 100
        ax.plot(line.x, values.T, color=colour, linewidth=0.4, alpha=0.5)
        ax.plot(line.x, values.mean(0), color=colour, label=f"width {width}")
    ax.axhline(100 - PERCENT, color=current_look().muted, linewidth=0.8, linestyle=":")
    ax.set(xlabel="distance / length of the weights", ylabel="accuracy, % of the centre's")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    fig.savefig(out / "language_model_basins.png", dpi=200)


def draw_directions(plt: Any, lines: dict[str, lossatlas.Landscape], units: dict[str, float], out: Path) -> None:
    fig, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    for (name, line), colour in zip(lines.items(), curve_colours(), strict=False):
        losses = line.loss if line.loss.ndim == 1 else line.loss.mean(0)
        ax.plot(line.x / units[name], losses, color=colour, label=name)
    ax.set(xlabel="distance / length of the weights", ylabel="loss", yscale="log", xlim=(-5 * ASCENT, 5 * ASCENT))
    ax.set_xticks(np.linspace(-5 * ASCENT, 5 * ASCENT, 5))
    set_log_ticks(ax)
    ax.legend(frameon=False, fontsize="small")
    fig.savefig(out / "language_model_directions.png", dpi=200)


def draw_plane(plt: Any, plane: lossatlas.Landscape, out: Path) -> None:
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.55), layout="constrained")
    for ax, field, title in zip(axes, ("train_loss", "test_loss"), ("documentation", "code"), strict=True):
        plane.plot(ax, field=field)
        ax.set(title=f"loss on {title}", xlabel="low-rank adapter", ylabel="full fine-tuning")
    for bar in fig.axes[2:]:
        bar.set_ylabel("loss")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False, fontsize="small")
    fig.savefig(out / "language_model_plane.png", dpi=200)


Row = tuple[str, str, str]


def basin_claims(radii: dict[int, Any], far: dict[str, Reach]) -> list[Row]:
    """Claims about the size of basins and the worst directions, what was found, and whether it agrees."""
    found = list(radii.values())
    ends = [(each.value - each.confidence, each.value + each.confidence) for each in found]
    measured = not any(each.bound for each in found)  # a line may end within the basin
    grows = measured and all(low > high for (low, _), (_, high) in zip(ends[1:], ends, strict=False))
    random = far["random, filter-normalized"]
    sharpest = min((v for k, v in far.items() if not k.startswith("random")), key=lambda each: each.value)
    return [
        (
            "random changes leave a model nearly as it is up to some distance, and destroy it beyond",
            "; ".join(f"width {width}: within {PERCENT} % up to {radius}" for width, radius in radii.items()),
            "confirmed" if measured else "not confirmed: no end within the lines",
        ),
        (
            "larger models have larger basins",
            ", ".join(f"width {width}: {radius}" for width, radius in radii.items()),
            "confirmed" if grows else "not confirmed at these sizes",
        ),
        (
            "the worst directions are sharp",
            f"the loss rises by {RISE:g} within {sharpest} along the worst one, and within {random} along random ones",
            "confirmed" if not sharpest.bound and sharpest.value < random.value / 3 else "not confirmed",
        ),
    ]


def tuning_claims(radius: float, models: list[Tuned], known: float) -> list[Row]:
    """Claims about fine-tuning, of a model whose basin has this radius and which guesses `known` percent."""
    gentle, attack = models[0], models[-1]
    kept = "confirmed" if gentle.prose > (1 - PERCENT / 100) * known else "not confirmed: it forgets within the basin"
    destroyed = attack.distance < radius and attack.prose < known / 2
    return [
        (
            "fine-tuning that stays in the basin preserves what a model knows",
            f"{gentle.name}: distance {gentle.distance:.3f}, accuracy {known:.1f} % -> {gentle.prose:.1f} %",
            kept if gentle.distance < radius else "not tested: it left the basin",
        ),
        (
            "an attack moves along nearly worst directions, and destroys a model within its basin",
            f"distance {attack.distance:.3f}, accuracy {known:.1f} % -> {attack.prose:.1f} %",
            "confirmed" if destroyed else "not confirmed",
        ),
    ]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the figures")
    p.add_argument("--small", action="store_true", help="smaller models, to see that all of it works")
    args = p.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    args.out.mkdir(parents=True, exist_ok=True)
    size = SMALL if args.small else Size()
    (old_train, old_test), (new_train, new_test) = prose(), code()
    old, new = part(old_test, size.windows), part(new_test, size.windows)
    nets = {width: pretrained(width, old_train, size.steps) for width in size.widths}
    lines = {width: basin(net, old, size) for width, net in nets.items()}
    radii = {w: line.flatness("train_acc", PERCENT)[f"radius within -{PERCENT} %, mean"] for w, line in lines.items()}
    for width, net in nets.items():
        known, loss = accuracy(net, old)
        print(f"width {width}: accuracy {known:.1f} %, loss {loss:.3f}; radius of the basin {radii[width]}")
    width = size.widths[MIDDLE]
    net, unit = nets[width], length(weights(nets[width]))
    chosen = {"random, filter-normalized": lines[width], "random, Gaussian": basin(net, old, size, "unit")}
    chosen |= worst(net, old, size)
    units = {name: 1.0 if "filter" in name else unit for name in chosen}
    far = {name: reach_of(line, units[name]) for name, line in chosen.items()}
    for name, distance in far.items():
        print(f"{name}: the loss rises by {RISE:g} within {distance} of the length of the weights")
    gentle = fine_tuned(net, new_train, steps=size.tuning, rate=3e-4)
    others = {
        "fine-tuning on code, rate 3e-4": gentle,
        "fine-tuning on code, rate 1e-2": fine_tuned(net, new_train, steps=size.tuning, rate=1e-2),
        "ascent on the loss of the documentation": fine_tuned(net, old_train, steps=10, rate=1e-3, sign=-1.0),
    }
    models = [tuned(name, net, each, old, new) for name, each in others.items()]
    for each in models:
        print(f"{each.name}: distance {each.distance:.3f}, documentation {each.prose:.1f} %, code {each.code:.1f} %")
    folder = adapter(net, new_train, args.out / "adapter", size.tuning)
    grid = f"-0.25:1.25:{size.plane}"
    plane = lossatlas.surface(net, old, test=new, x=grid, y=grid, towards=[folder, gentle], progress=False)
    rows = basin_claims(radii, far) + tuning_claims(radii[width].value, models, accuracy(net, old)[0])
    table = ["| the paper reports | found here | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    (args.out / "language_model.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))
    with figures.style() as plt:
        draw_basins(plt, lines, args.out)
        draw_directions(plt, chosen, units, args.out)
        draw_plane(plt, plane, args.out)


if __name__ == "__main__":
    main()
