"""Statistics of a network's loss at the points of a plane.

    evaluator = Evaluator(net, Affine(origin, dx, dy), {"train": data}, LOSSES["crossentropy"])
    rows = evaluator([(0.0, 0.0), (0.1, 0.2)])       # (points, splits, statistics), float64

Data, origin and directions stay on the device; a point costs one step over the parameters and the forward passes,
without a synchronization per batch. What the network returns is turned into float64 before the loss is computed.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lossatlas.data.dataset import AnyData
from lossatlas.data.losses import Batch, Loss, Losses, output_of
from lossatlas.evaluation.folding import Folded, NotFoldable
from lossatlas.evaluation.graphs import Graphs
from lossatlas.evaluation.lanes import Lanes, copied, replicas
from lossatlas.evaluation.places import AffinePlace, AnyPlace
from lossatlas.evaluation.precision import PRECISIONS, Lowered, in_float64, set_numerics
from lossatlas.evaluation.resident import Resident, is_changed, sample_of
from lossatlas.landscape.statistics import CLAMPED, LEAST_SE, PENALTY, STATISTICS
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.space.planes import Affine, Plane

SAMPLES_PER_LOSS = 1024  # where several points go into one call: the loss takes many small steps
MOST_GRAPHS = 512  # batches that are captured as CUDA graphs; with more, launches do not matter


class Evaluator:
    """Evaluates a copy of `net` (the network itself is not touched) at points of a plane, in eval mode.

    Calling it with points (a, b) gives float64 (points, splits, statistics), the columns being `columns`: see
    surface.STATISTICS. batch_size and lanes may be changed at any time.

    precision: see PRECISIONS. folded: BatchNorm is folded into the layers in front of it, see `choose_path`; the loss
    then must not look at the model's own parameters. points_per_call: how many points of an affine plane go through
    the network at once, which pays for small networks. lanes: how many batches are computed side by side on the CPU, by
    one thread each, instead of one batch by all threads. tolerance: use as many samples, in a fixed shuffled order, as
    make the standard error small enough.
    """

    def __init__(
        self,
        net: nn.Module,
        plane: Plane,
        data: Mapping[str, AnyData],
        loss: Loss,
        *,
        batch_size: int = 64,
        device: str | torch.device = "cpu",
        precision: str = "float32",
        folded: bool = False,
        points_per_call: int = 1,
        lanes: int = 1,
        tolerance: Tolerance | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.loss, self.batch_size, self.points_per_call, self.lanes = loss, batch_size, points_per_call, lanes
        self.tolerance = tolerance or Tolerance()
        self.precision = precision
        set_numerics(self.device, precision == "tf32")
        try:
            self.arrange(net, plane, data, folded, channels_last=True)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # a network that needs contiguous images or parameters, as `view` does
            self.arrange(net, plane, data, folded, channels_last=False)
        self.sums = {split: torch.zeros(len(self.columns), dtype=torch.float64, device=self.device)
                     for split in self.data}  # fmt: skip

    def arrange(
        self, net: nn.Module, plane: Plane, data: Mapping[str, AnyData], folded: bool, channels_last: bool
    ) -> None:
        """Put network and data in place, and compute two samples."""
        dtype, forward = PRECISIONS[self.precision]
        self.channels_last = channels_last
        self.net = own_copy(net, self.device, dtype)
        self.data = {split: Resident(d, self.device, forward, channels_last) for split, d in data.items()}
        self.place = (
            AffinePlace(self.net, plane, channels_last) if isinstance(plane, Affine) else AnyPlace(self.net, plane)
        )
        self.folded = Folded(self.net) if folded else None  # after `place`, so that both see the same tensors
        self.model: nn.Module = self.net if self.folded is None else self.folded.net
        self.lowered = None if forward == dtype else Lowered(self.model, forward)
        for model in {self.net, self.model}:
            model.register_forward_hook(in_float64)
        self.side: Lanes[nn.Module] | None = None
        self.graphs = Graphs(self.add) if self.device.type == "cuda" else None
        first = next(iter(self.data.values()))
        sample = first.few()
        with torch.inference_mode():
            self.refresh()
            self.metrics = tuple(self.loss(self.model, sample).metrics)
        if is_changed(sample, first.few()):
            for samples in self.data.values():
                samples.overwritten = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (*STATISTICS, *self.metrics)

    @torch.inference_mode()
    def __call__(self, points: Sequence[tuple[float, float]], before: np.ndarray | None = None) -> np.ndarray:
        """before: the statistics these points already have (NaN for none), to which samples are added."""
        set_numerics(self.device, self.precision == "tf32")
        if self.points_per_call > 1:
            chunks = range(0, len(points), self.points_per_call)
            return np.concatenate([self.at_once(points[k : k + self.points_per_call]) for k in chunks])
        nothing = np.full((len(points), len(self.data), len(self.columns)), np.nan)
        return np.stack([self.at(a, b, rows) for (a, b), rows in zip(points, nothing if before is None else before,
                                                                    strict=True)])  # fmt: skip

    def at(self, a: float, b: float, before: np.ndarray) -> np.ndarray:
        """One point: (splits, statistics)."""
        clamped = self.place.move(a, b)
        self.refresh()
        result = []
        for (split, sums), row in zip(self.sums.items(), before, strict=True):
            if np.isnan(row[0]) and self.tolerance.exact:
                sums.zero_()
                self.cover(split, 0, len(self.data[split]), False)
            else:
                self.refine(split, row)
            sums[CLAMPED] = clamped
            result.append(sums.clone())
        return torch.stack(result).cpu().numpy()

    def refine(self, split: str, before: np.ndarray) -> None:
        """Add samples in the shuffled order until the standard error is small enough."""
        sums, population = self.sums[split], len(self.data[split])
        sums.copy_(torch.from_numpy(np.nan_to_num(before, nan=0.0) if np.isnan(before[0]) else before))
        used = 0 if np.isnan(before[0]) else int(before[0])
        while (wanted := self.tolerance.samples(sums.cpu().numpy(), population)) > used:
            used = self.cover(split, used, wanted, True)
        sums[LEAST_SE] = self.tolerance.least_se(sums.cpu().numpy(), population)

    def forget_graphs(self) -> None:
        """Free what CUDA graphs hold, after the batch size has changed."""
        if self.graphs is not None:
            self.graphs = Graphs(self.add)

    def refresh(self) -> None:
        """Let what is derived from the point in the plane follow it."""
        if self.folded is not None:
            self.folded.update()
        if self.lowered is not None:
            self.lowered.update()

    def cover(self, split: str, start: int, stop: int, shuffled: bool) -> int:
        """Add whole batches of samples from start on to the sums of a split, at least up to stop; returns where it ends."""
        ranges = list(self.data[split].spans(start, stop, self.batch_size))
        if self.lanes > 1:
            for row, penalty in self.beside().map(partial(self.in_lane, split, shuffled), ranges):
                self.include(split, row, penalty)
        else:
            for first, last in ranges:
                self.sweep(split, first, last, shuffled)
        return ranges[-1][1]

    def beside(self) -> Lanes[nn.Module]:
        if self.side is None or self.side.count != self.lanes:
            stateless = self.folded is not None
            self.side = Lanes(
                [self.model] * self.lanes if stateless else [self.model, *replicas(self.model, self.lanes - 1)]
            )
        return self.side

    @torch.inference_mode()
    def in_lane(
        self, split: str, shuffled: bool, model: nn.Module, span: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:
        return self.losses(model, split, *span, shuffled)

    def sweep(self, split: str, start: int, stop: int, shuffled: bool) -> None:
        """Add one batch, the samples from start to stop, to the sums of a split."""
        if self.graphs is None or len(self.data[split]) > MOST_GRAPHS * self.batch_size:
            self.add(split, start, stop, shuffled)
        else:
            self.graphs.run(self.sums[split], split, start, stop, shuffled)

    def add(self, split: str, start: int, stop: int, shuffled: bool) -> None:
        self.include(split, *self.losses(self.model, split, start, stop, shuffled))

    def losses(
        self, model: nn.Module, split: str, start: int, stop: int, shuffled: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The sums of one batch, and the loss's term of the parameters."""
        found = self.loss(model, self.data[split].batch(start, stop, shuffled))
        return self.totals(found), found.penalty

    def include(self, split: str, row: Tensor, penalty: Tensor | None) -> None:
        self.sums[split] += row
        if penalty is not None:
            self.sums[split][PENALTY] = penalty.double()

    def totals(self, losses: Losses) -> Tensor:
        """(statistics,): sums over the samples of one batch, in float64."""
        loss = losses.per_sample.double()
        square = loss * loss
        powers = torch.stack([torch.ones_like(loss), loss, square, square * loss, square * square])
        if not losses.spread:
            powers[2:] = torch.nan
        if losses.weights is None:
            by_weight = [powers.sum(1)] * 3
        else:
            weights = losses.weights.double()
            by_weight = [(powers * w).sum(1) for w in (weights, weights**2, weights**4)]
        zeros = torch.zeros_like(by_weight[0][:3])
        metrics = [(value if losses.weights is None else losses.weights.double() * value).double().sum().reshape(1)
                   for value in (losses.metrics[name] for name in self.metrics)]  # fmt: skip
        count = zeros[:1] + len(loss)
        return torch.cat([count, by_weight[0][:3], by_weight[1][:3], by_weight[2], zeros, *metrics])

    def at_once(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Several points of an affine plane in one call: (points, splits, statistics)."""
        if not isinstance(self.place, AffinePlace):
            raise TypeError("several points in one call need an affine plane")
        tensors, clamped = self.place.stack(np.array(points))

        def totals(own: dict[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
            def model(*arguments: Any, **named: Any) -> Any:
                if named or len(arguments) > 1 or not isinstance(arguments[0], Tensor):
                    return functional_call(self.net, own, arguments, named)
                # In small batches, whose activations stay in the cache.
                return torch.cat([functional_call(self.net, own, (x,)) for x in arguments[0].split(self.batch_size)])

            losses = self.loss(model, batch)
            row = self.totals(losses)
            return row, row[0] * 0 if losses.penalty is None else losses.penalty.double()

        result = []
        for samples in self.data.values():
            sums = torch.zeros(len(points), len(self.columns), dtype=torch.float64, device=self.device)
            for start, stop in samples.spans(0, len(samples), max(self.batch_size, SAMPLES_PER_LOSS)):
                rows, penalty = vmap(totals, in_dims=(0, None))(tensors, samples.batch(start, stop))
                sums += rows
            sums[:, PENALTY], sums[:, CLAMPED] = penalty, clamped
            result.append(sums)
        return torch.stack(result, dim=1).cpu().numpy()


def choose_path(net: nn.Module, loss: Loss, batch: Batch) -> tuple[bool, str]:
    """Whether to evaluate a network with BatchNorm folded, and why not; checked on what the loss asks of it for a batch."""
    asked = Asked(net.eval())
    try:
        with torch.inference_mode():
            loss(asked, sample_of(batch))
        folded = Folded(copied(net).eval())
        with torch.inference_mode():
            for arguments, named, expected in asked.calls:
                found = output_of(folded.net(*sample_of(arguments), **sample_of(named)))
                error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
                if not error <= 1e-3:
                    return False, f"folding would change its output by {error:.1e}"
    except NotFoldable as reason:
        return False, str(reason)
    except (
        Exception
    ) as reason:  # an addition that broadcasts the output which it would overwrite, a branch that was traced
        return False, (str(reason).splitlines() or [type(reason).__name__])[0][:120]
    return True, ""


class Asked:
    """Stands for a network, and remembers what a loss asks of it: nothing but outputs, or it cannot be folded."""

    def __init__(self, net: nn.Module) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
        self.net = net

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        kept = sample_of(arguments), sample_of(named)
        output = self.net(*arguments, **named)
        self.calls.append((*kept, output_of(output)))
        return output

    def __getattr__(self, name: str) -> Any:
        raise NotFoldable(f"the loss looks at '{name}' of the network")


def own_copy(net: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network whose modules can be changed without touching the caller's, in eval mode.

    Tensors that need not be converted stay shared: they are replaced in the copy, or only read.
    """
    own = [*net.parameters(), *net.buffers()]
    if all(t.device == device and t.dtype in (dtype, torch.int64) for t in own):
        return copied(net, {id(t): t for t in own}).eval()
    return copied(net).to(device, dtype).eval().requires_grad_(False)
