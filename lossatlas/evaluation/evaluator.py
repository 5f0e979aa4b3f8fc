"""Statistics of a network's loss at the points of a plane.

    evaluator = Evaluator(net, Affine(origin, dx, dy), {"train": data}, LOSSES["crossentropy"])
    rows = evaluator([(0.0, 0.0), (0.1, 0.2)])       # (points, splits, statistics), float64

Data, origin and directions stay on the device; a point costs one step over the parameters and the forward passes,
without a synchronization per batch. What the network returns is turned into float64 before the loss is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from lossatlas.data.dataset import Dataset
from lossatlas.data.losses import Batch, Loss, Losses
from lossatlas.evaluation.folding import Folded, NotFoldable
from lossatlas.evaluation.graphs import Graphs
from lossatlas.evaluation.lanes import Lanes, copied, replicas
from lossatlas.evaluation.places import AffinePlace, AnyPlace
from lossatlas.evaluation.precision import PRECISIONS, Lowered, in_float64, set_numerics
from lossatlas.landscape.statistics import CLAMPED, LEAST_SE, PENALTY, STATISTICS
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.space.planes import Affine, Plane

SHUFFLE = 0  # seed of the one order in which samples are drawn when not all of them are used
SAMPLES_PER_LOSS = 1024  # where several points go into one call: the loss takes many small steps
MOST_GRAPHS = 512  # batches that are captured as CUDA graphs; with more, launches do not matter
Inputs = tuple[Tensor, Tensor, Tensor]  # samples, targets, and the shuffled order of their numbers


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
        data: Mapping[str, Dataset],
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
        self, net: nn.Module, plane: Plane, data: Mapping[str, Dataset], folded: bool, channels_last: bool
    ) -> None:
        """Put network and data in place, and compute two samples."""
        dtype, forward = PRECISIONS[self.precision]
        self.channels_last = channels_last
        self.net = own_copy(net, self.device, dtype)
        self.data = {split: placed(d, self.device, forward, channels_last) for split, d in data.items()}
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
        inputs, targets, _ = next(iter(self.data.values()))
        sample = inputs[:2].clone()
        with torch.inference_mode():
            self.refresh()
            self.metrics = tuple(self.loss(self.model, (sample, targets[:2])).metrics)
        self.overwrites = is_changed(sample, inputs[:2])

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
                self.cover(split, 0, len(self.data[split][1]), False)
            else:
                self.refine(split, row)
            sums[CLAMPED] = clamped
            result.append(sums.clone())
        return torch.stack(result).cpu().numpy()

    def refine(self, split: str, before: np.ndarray) -> None:
        """Add samples in the shuffled order until the standard error is small enough."""
        sums, population = self.sums[split], len(self.data[split][1])
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
        population = len(self.data[split][1])
        ranges = [(first, min(last, population)) for first, last in spans(start, stop, self.batch_size)]
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
        if self.graphs is None or len(self.data[split][1]) > MOST_GRAPHS * self.batch_size:
            self.add(split, start, stop, shuffled)
        else:
            self.graphs.run(self.sums[split], split, start, stop, shuffled)

    def add(self, split: str, start: int, stop: int, shuffled: bool) -> None:
        self.include(split, *self.losses(self.model, split, start, stop, shuffled))

    def losses(
        self, model: nn.Module, split: str, start: int, stop: int, shuffled: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The sums of one batch, and the loss's term of the parameters."""
        found = self.loss(model, self.batch(split, start, stop, shuffled))
        return self.totals(found), found.penalty

    def include(self, split: str, row: Tensor, penalty: Tensor | None) -> None:
        self.sums[split] += row
        if penalty is not None:
            self.sums[split][PENALTY] = penalty.double()

    def batch(self, split: str, start: int, stop: int, shuffled: bool) -> Batch:
        inputs, targets, order = self.data[split]
        if not shuffled:
            part = inputs[start:stop]
            return part.clone() if self.overwrites else part, targets[start:stop]
        index = order[start:stop]
        if inputs.dim() != 4 or not self.channels_last:
            return inputs[index], targets[index]
        return inputs.permute(0, 2, 3, 1)[index].permute(0, 3, 1, 2), targets[index]  # stays channels-last

    def totals(self, losses: Losses) -> Tensor:
        """(statistics,): sums over the samples of one batch, in float64."""
        loss = losses.per_sample.double()
        square = loss * loss
        powers = torch.stack([torch.ones_like(loss), loss, square, square * loss, square * square])
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

        def totals(own: dict[str, Tensor], inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            def model(x: Tensor) -> Tensor:  # in small batches, whose activations stay in the cache
                return torch.cat([functional_call(self.net, own, (part,)) for part in x.split(self.batch_size)])

            losses = self.loss(model, (inputs, targets))
            row = self.totals(losses)
            return row, row[0] * 0 if losses.penalty is None else losses.penalty.double()

        result = []
        for split, (_, all_targets, _) in self.data.items():
            sums = torch.zeros(len(points), len(self.columns), dtype=torch.float64, device=self.device)
            for start, stop in spans(0, len(all_targets), max(self.batch_size, SAMPLES_PER_LOSS)):
                inputs, targets = self.batch(split, start, stop, False)
                rows, penalty = vmap(totals, in_dims=(0, None, None))(tensors, inputs, targets)
                sums += rows
            sums[:, PENALTY], sums[:, CLAMPED] = penalty, clamped
            result.append(sums)
        return torch.stack(result, dim=1).cpu().numpy()


def is_changed(sample: Tensor, original: Tensor) -> bool:
    """Whether something has written into this copy of a tensor since it was made (outside of inference mode).

    Writes that change nothing are counted by torch; writes through `.data` are not, but change something.
    """
    return sample._version > 0 or not torch.equal(sample, original)


def spans(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Ranges of `size` samples from start on; the last one may end behind `stop`."""
    for first in range(start, stop, size):
        yield first, first + size


def choose_path(net: nn.Module, inputs: Tensor) -> tuple[bool, str]:
    """Whether to evaluate a network with BatchNorm folded, and why not; checked on a few inputs (B, ...)."""
    try:
        folded = Folded(copied(net).eval())
        with torch.inference_mode():
            expected, found = net.eval()(sample_of(inputs)), folded.net(sample_of(inputs))
    except NotFoldable as reason:
        return False, str(reason)
    except RuntimeError as reason:  # an addition that broadcasts the output which it would overwrite
        return False, str(reason).splitlines()[0][:120]
    error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    return (True, "") if error <= 1e-3 else (False, f"folding would change its output by {error:.1e}")


def sample_of(inputs: Tensor) -> Tensor:
    """A copy that a network may overwrite, contiguous, as every network takes it."""
    return inputs.clone(memory_format=torch.contiguous_format)


def own_copy(net: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A network whose modules can be changed without touching the caller's, in eval mode.

    Tensors that need not be converted stay shared: they are replaced in the copy, or only read.
    """
    own = [*net.parameters(), *net.buffers()]
    if all(t.device == device and t.dtype in (dtype, torch.int64) for t in own):
        return copied(net, {id(t): t for t in own}).eval()
    return copied(net).to(device, dtype).eval().requires_grad_(False)


def placed(data: Dataset, device: torch.device, dtype: torch.dtype, channels_last: bool = True) -> Inputs:
    """Samples on the device, images in channels-last order, which is the faster one on CPU and GPU alike."""
    inputs = data.inputs.to(device)
    if inputs.is_floating_point():
        inputs = inputs.to(dtype)
    if inputs.dim() == 4:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        inputs = inputs.contiguous(memory_format=layout)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SHUFFLE))
    return inputs, data.targets.to(device), order.to(device)
