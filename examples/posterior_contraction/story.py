"""What data teach a model, against its effective dimension (Maddox, Benton and Wilson 2020, section 4).

    bash examples/posterior_contraction/run.sh

With the prior N(0, 1) of every parameter, posterior contraction is the trace of the prior's covariance minus that of
the posterior's. For a linear model it equals the effective dimension of the Hessian of the negative log likelihood at z
= 1, which is checked: explicit matrices against products. A small network gets the Laplace approximation at the maximum
of its posterior, with the Gauss-Newton matrix, which is the posterior of a linear model again: that of its slopes at
the samples. The effective dimension of the network's own Hessian, which has negative eigenvalues too, is drawn beside
it.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

import lossatlas
from lossatlas import figures
from lossatlas.figures.palette import current_look

NOISE = 0.1  # standard deviation of the targets


@dataclass(frozen=True)
class Learned:
    """After `samples`: the contraction from explicit matrices, the effective dimension from products, and its error."""

    samples: int
    contraction: float
    dimension: float
    error: float


def truth(x: Tensor) -> Tensor:
    return torch.sin(3 * x) + 0.3 * torch.cos(9 * x)


def sampled(count: int) -> tuple[Tensor, Tensor]:
    """Always the first of one fixed sequence: more data contain fewer."""
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(2000, 1, generator=generator) - 1
    y = truth(x) + NOISE * torch.randn(2000, 1, generator=generator)
    return x[:count], y[:count]


def features(x: Tensor, count: int) -> Tensor:
    """Random waves, (n, count)."""
    generator = torch.Generator().manual_seed(2)
    rates, phases = (
        6 * torch.randn(1, count, generator=generator),
        2 * torch.pi * torch.rand(count, generator=generator),
    )
    return (2 / count) ** 0.5 * torch.cos(x * rates + phases)


def linear(features: Tensor, y: Tensor) -> Learned:
    """Both numbers of a linear model with these features (n, size), whose posterior is known."""
    samples, size = features.shape
    precision = features.double().T @ features.double() / NOISE**2 + torch.eye(size, dtype=torch.float64)
    contraction = size - float(torch.linalg.inv(precision).trace())
    # The mean squared error is 2 NOISE^2 / n times the negative log likelihood of n samples.
    found = lossatlas.spectrum(
        nn.Linear(size, 1, bias=False).double(), (features.double(), y.double()), loss="mse", top=size, bottom=0,
        max_products=10 * size, damping=2 * NOISE**2 / samples, precision="float64", trace_error=0.1,
        max_trace_products=20, progress=False,
    )  # fmt: skip
    dimension = found.dimension
    assert dimension is not None
    result = Learned(samples, contraction, dimension.value, dimension.error)
    assert abs(result.contraction - result.dimension) <= 1e-6 * result.contraction, result
    return result


def make_net(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


class Laplace:
    """The network at the maximum of its posterior for so many samples, and the Gaussian approximation there."""

    def __init__(self, samples: int, width: int, steps: int) -> None:
        self.x, self.y = sampled(samples)
        self.net = make_net(width).double()
        self.samples = samples
        x, y = self.x.double(), self.y.double()
        optimizer = torch.optim.LBFGS(self.net.parameters(), max_iter=steps, history_size=50, tolerance_change=1e-12,
                                      line_search_fn="strong_wolfe")  # fmt: skip

        def closure() -> Tensor:
            optimizer.zero_grad()
            error = ((self.net(x) - y) ** 2).sum() / (2 * NOISE**2)
            loss = error + sum((p**2).sum() for p in self.net.parameters()) / 2
            loss.backward()
            return loss

        optimizer.step(closure)
        self.names = [name for name, _ in self.net.named_parameters()]
        self.shapes = [p.shape for p in self.net.parameters()]
        self.flat = torch.cat([p.detach().flatten() for p in self.net.parameters()])
        self.slopes = self.slopes_at(x)
        precision = self.slopes.T @ self.slopes / NOISE**2 + torch.eye(len(self.flat), dtype=torch.float64)
        self.covariance = torch.linalg.inv(precision)

    def at(self, flat: Tensor, x: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self.shapes])
        values = {n: part.view(shape) for n, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        return functional_call(self.net, values, (x,))

    def slopes_at(self, x: Tensor) -> Tensor:
        """The derivatives of the outputs with respect to the parameters, (n, size)."""
        return jacrev(lambda flat: self.at(flat, x.double())[:, 0])(self.flat).detach()

    def own_dimension(self) -> tuple[float, float]:
        """The effective dimension of the network's own Hessian, and its standard error."""
        found = lossatlas.spectrum(
            self.net, (self.x.double(), self.y.double()), loss="mse", top=10, bottom=1,
            damping=2 * NOISE**2 / self.samples, precision="float64", probes=10, trace_error=0.1,
            max_trace_products=50, progress=False,
        )  # fmt: skip
        dimension = found.dimension
        assert dimension is not None
        return dimension.value, dimension.error

    def band(self, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the function, linearized in the parameters."""
        slope = self.slopes_at(x)
        variance = ((slope @ self.covariance) * slope).sum(1)
        return self.at(self.flat, x.double())[:, 0].detach().numpy(), variance.clamp(min=0).sqrt().detach().numpy()


def compared(ax: Any, found: list[Learned], title: str) -> None:
    counts = [f.samples for f in found]
    ax.plot(
        counts,
        [f.contraction for f in found],
        color=current_look().accent,
        label="posterior contraction, from explicit matrices",
    )
    errors = [2 * f.error for f in found]
    ax.errorbar(
        counts,
        [f.dimension for f in found],
        yerr=errors,
        color=current_look().main,
        fmt="o",
        markersize=4,
        label="effective dimension, from Hessian products",
    )
    ax.set(title=title, xscale="log", xlabel="samples")
    ax.set_ylim(bottom=0)


def bands(ax: Any, networks: list[Laplace], x: Tensor) -> None:
    look = current_look()
    for laplace, color, line in zip((networks[0], networks[-1]), (look.accent, look.main), ("-.", "-"), strict=True):
        mean, deviation = laplace.band(x)
        ax.fill_between(x[:, 0], mean - 2 * deviation, mean + 2 * deviation, color=color, alpha=0.3, linewidth=0)
        ax.plot(x[:, 0], mean, line, color=color, label=f"{laplace.samples} samples")
    ax.plot(x[:, 0], truth(x)[:, 0], "--", color=look.ink, linewidth=0.8, label="truth")
    ax.set(
        title="prediction of the network\n(shaded: \u00b1 2 standard deviations)",
        xlabel="x",
        ylabel="y",
        xlim=(-1.5, 1.5),
        ylim=(-2.5, 2.5),
    )
    ax.legend(frameon=False, loc="upper left", fontsize="small")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("."), help="folder for the figure")
    p.add_argument("--small", action="store_true", help="fewer and smaller models, to see that all of it works")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    counts, size, width, steps = ((5, 20), 10, 4, 50) if args.small else ((5, 10, 20, 50, 100, 200, 500), 60, 12, 1000)
    simple = [linear(features(x, size), y) for x, y in map(sampled, counts)]
    for found in simple:
        print(f"linear, {found.samples} samples: contraction {found.contraction:.6f}, dimension {found.dimension:.6f}")
    networks = [Laplace(count, width, steps) for count in counts]
    deep = [linear(laplace.slopes, laplace.y) for laplace in networks]
    own = [laplace.own_dimension() for laplace in networks]
    for found, (value, error) in zip(deep, own, strict=True):
        print(f"network, {found.samples} samples: contraction {found.contraction:.4f}, dimension "
              f"{found.dimension:.4f}; of its own Hessian {value:.1f} +- {error:.1f}")  # fmt: skip
    with figures.style() as plt:
        fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.7), layout="constrained")
        compared(axes[0], simple, f"linear model,\n{size} parameters")
        axes[1].errorbar(
            counts,
            [value for value, _ in own],
            yerr=[2 * error for _, error in own],
            color=current_look().muted,
            fmt="s",
            markersize=4,
            markerfacecolor="none",
            label="effective dimension of the network's own Hessian (\u00b1 2 standard errors)",
        )
        compared(axes[1], deep, f"network, {len(networks[0].flat)} parameters\n(Laplace approximation)")
        axes[0].set_ylabel("number of directions")
        bands(axes[2], networks, torch.linspace(-1.5, 1.5, 200)[:, None])
        fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False)
        figures.save(fig, str(args.out / "posterior_contraction"))


if __name__ == "__main__":
    main()
