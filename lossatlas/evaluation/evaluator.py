"""Statistics of a network's loss at the points of a plane.

    evaluator = Evaluator(net, Affine(origin, dx, dy), {"train": data}, LOSSES["crossentropy"])
    rows = evaluator([(0.0, 0.0), (0.1, 0.2)])       # (points, splits, statistics), float64

Data (where they fit), origin and directions stay on the device; a point costs one step over the parameters and the forward
passes, without a synchronization per batch. Samples that are read when they are needed are read once for all points of a
call. What the network returns is turned into float64 before the loss is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data.losses import Batch, Loss, output_of
from lossatlas.data.streamed import AnyData
from lossatlas.data.structures import Structure
from lossatlas.evaluation.batch_execution import (
    BatchExecution,
    ConcurrentBatches,
    PerSampleExecution,
    SequentialBatches,
)
from lossatlas.evaluation.cuda_graphs import MOST_GRAPHS, CapturedGraphs
from lossatlas.evaluation.folding import Folded, NotFoldable
from lossatlas.evaluation.loss_sums import LossSums
from lossatlas.evaluation.parallel_batches import evaluation_copy, frozen_copy
from lossatlas.evaluation.parameter_buffers import AffineBuffers, GeneralBuffers, InPlaceBuffers
from lossatlas.evaluation.precision import (
    PRECISIONS,
    Lowered,
    channels_come_last,
    dtypes_of,
    in_float64,
    set_numerics,
)
from lossatlas.evaluation.recalibration import Recalibrated
from lossatlas.evaluation.reference import borrowed
from lossatlas.evaluation.sample_storage import Span, StoredSamples, is_changed, place_samples, sample_of
from lossatlas.evaluation.stacked_points import StackedPoints
from lossatlas.landscape.control_variates import SampleDraw
from lossatlas.landscape.statistics import CLAMPED, STATISTICS
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.parameter_space.planes import AffinePlane, Plane
from lossatlas.parameter_space.points import converted


class Evaluator:
    """Evaluates a copy of `net` (the network itself is not touched) at points of a plane, in eval mode.

    Calling it with points (a, b) gives float64 (points, splits, statistics), the columns being `columns`: see
    `landscape.statistics`. batch_size and lanes may be changed at any time.

    precision: see PRECISIONS. folded: BatchNorm is folded into the layers in front of it, see `choose_path`; the loss
    then must not look at the model's own parameters. points_per_call: how many points of an affine plane go through
    the network at once, which pays for small networks. lanes: how many batches are computed side by side on the CPU, by
    one thread each, instead of one batch by all threads. tolerance: the standard error that `computing.levels`
    draws samples for; called with points, an evaluator takes all samples. recalibrate: training samples, of which so
    many give the statistics of BatchNorm at every point, see `Recalibrated`. in_place: move the network itself instead of a
    copy, one batch after the other; it is what it was after every call, and within `session` as long as that lasts it is
    where it was moved.
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
        recalibrate: tuple[AnyData, int] | None = None,
        in_place: bool = False,
    ) -> None:
        self.wanted, self.in_place = recalibrate, in_place
        self.device = torch.device(device)
        self.loss, self.batch_size, self.points_per_call, self.lanes = loss, batch_size, points_per_call, lanes
        self.tolerance = tolerance or Tolerance()
        self.precision = precision
        self.truth: Evaluator | None = None  # the same in float32, where a lower precision is corrected
        set_numerics(self.device, precision == "tf32")
        layout = channels_come_last(self.device, precision) and not in_place
        try:
            self.arrange(net, plane, data, folded, layout)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # a network that needs contiguous images or parameters, as `view` does
            if not layout:
                raise
            self.arrange(net, plane, data, folded, channels_last=False)
        self.sums = {
            split: torch.zeros(len(self.columns), dtype=torch.float64, device=self.device) for split in self.data
        }

    def arrange(
        self, net: nn.Module, plane: Plane, data: Mapping[str, AnyData], folded: bool, channels_last: bool
    ) -> None:
        """Put network and data in place, and compute two samples."""
        dtype, forward = dtypes_of(self.precision, net)
        self.channels_last = channels_last
        self.net = net if self.in_place else own_copy(net, self.device, dtype)
        self.data = {split: place_samples(d, self.device, forward, channels_last) for split, d in data.items()}
        self.place: AffineBuffers | GeneralBuffers | InPlaceBuffers
        if self.in_place:
            self.place = InPlaceBuffers(self.net, plane)
        elif isinstance(plane, AffinePlane):
            self.place = AffineBuffers(self.net, plane, channels_last)
        else:
            self.place = GeneralBuffers(self.net, plane)
        self.recalibrated: Recalibrated | None = None
        if self.wanted is not None:
            own, count = self.wanted
            split = next((split for split, d in data.items() if d is own), None)
            samples = place_samples(own, self.device, forward, channels_last) if split is None else self.data[split]
            self.recalibrated = Recalibrated(self.net, samples, count, self.loss)
        self.folded = Folded(self.net) if folded else None  # after `place`, so that both see the same tensors
        self.model: nn.Module = self.net if self.folded is None else self.folded.net
        low = self.precision in PRECISIONS and forward != PRECISIONS[self.precision][0]
        self.lowered = Lowered(self.model, forward) if low else None
        if not self.in_place:
            for model in {self.net, self.model}:
                model.register_forward_hook(in_float64)
        first = next(iter(self.data.values()))
        sample = first.few()
        with torch.no_grad(), self.session():
            self.refresh()
            self.metrics = tuple(self.loss(self.model, sample).metrics)
        self.step = LossSums(self.loss, self.metrics)
        self.single = SequentialBatches(self.step, self.model)
        self.side: tuple[int, ConcurrentBatches] | None = None
        captured = self.device.type == "cuda" and not self.in_place
        self.graphs = CapturedGraphs(self.step, self.model) if captured else None
        if is_changed(sample, first.few()):
            for samples in self.data.values():
                samples.overwritten = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (*STATISTICS, *self.metrics)

    def session(self) -> AbstractContextManager[Any]:
        """While the network is computed with: one that is moved in place is afterwards what it was before."""
        return borrowed(self.net) if self.in_place else nullcontext()

    def on(self, data: Mapping[str, AnyData], batch_size: int) -> "Evaluator":
        """The same network on other samples, all of which count; BatchNorm keeps its statistics. One of both at a time."""
        other = copy(self)
        other.batch_size, other.tolerance, other.recalibrated = batch_size, Tolerance(), None
        other.data = {}
        for split, d in data.items():
            own = self.data[split]
            other.data[split] = place_samples(d, self.device, own.dtype, self.channels_last)
            other.data[split].overwritten = own.overwritten
        other.sums = {split: torch.zeros_like(self.sums[split]) for split in data}
        if self.graphs is not None:
            other.graphs = CapturedGraphs(self.step, self.model)
        return other

    @torch.no_grad()
    def __call__(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Statistics over all samples at these points: (points, splits, statistics) float64."""
        with self.session():
            return self.rows(points)

    def rows(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        set_numerics(self.device, self.precision == "tf32")
        if self.points_per_call > 1:
            chunks = range(0, len(points), self.points_per_call)
            return np.concatenate([self.at_once(points[k : k + self.points_per_call]) for k in chunks])
        if self.flowing and self.recalibrated is None:
            return self.in_one_pass(points)
        return np.stack([self.at(a, b) for a, b in points])

    @property
    def flowing(self) -> bool:
        """Whether samples are read when they are needed."""
        return not all(samples.resident for samples in self.data.values())

    def at(self, a: float, b: float) -> np.ndarray:
        """One point: (splits, statistics)."""
        clamped = self.arrive(a, b)
        result = []
        for split, sums in self.sums.items():
            sums.zero_()
            self.cover(split, 0, len(self.data[split]))
            sums[CLAMPED] = clamped
            result.append(sums.clone())
        return torch.stack(result).cpu().numpy()

    @torch.no_grad()
    def arrive(self, a: float, b: float) -> Tensor:
        """Go to a point, with all that depends on it; returns how many BatchNorm variances were negative."""
        clamped = self.place.move(a, b)
        if self.recalibrated is not None:
            self.recalibrated()
        self.refresh()
        return clamped

    def in_one_pass(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Several points, (points, splits, statistics): each batch is read once, and taken through the network at each."""
        shape = len(points), len(self.data), len(self.columns)
        result = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for k, (split, samples) in enumerate(self.data.items()):
            way = self.way(split) if self.lanes > 1 else self.single  # graphs need batches that stay where they are
            for held in groups(samples, list(samples.spans(0, len(samples), self.batch_size)), self.lanes):
                for sums, (a, b) in zip(result[:, k], points, strict=True):
                    clamped = self.arrive(a, b)
                    way.add(sums, held, held.own)
                    sums[CLAMPED] = clamped
        return result.cpu().numpy()

    def at_once(self, points: Sequence[tuple[float, float]]) -> np.ndarray:
        """Several points of an affine plane in one call: (points, splits, statistics)."""
        return StackedPoints(self.step, self.net, self.place, self.data)(points, self.batch_size).cpu().numpy()

    def forget(self) -> None:
        """Free what is kept of batches, after the batch size has changed."""
        for samples in self.data.values():
            samples.forget()
        if self.graphs is not None:
            self.graphs = CapturedGraphs(self.step, self.model)

    def refresh(self) -> None:
        """Let what is derived from the point in the plane follow it."""
        if self.folded is not None:
            self.folded.update()
        if self.lowered is not None:
            self.lowered.update()

    def cover(self, split: str, start: int, stop: int) -> None:
        """Add whole batches of samples from start on to the sums of a split, at least up to stop."""
        samples = self.data[split]
        self.way(split).add(self.sums[split], samples, list(samples.spans(start, stop, self.batch_size)))

    @torch.no_grad()
    def draw(self, split: str, start: int, stop: int) -> SampleDraw:
        """The samples of a split from start to stop, in the shuffled order, where the network is: see `arrive`.

        They come in whole batches, which may end behind `stop`.
        """
        set_numerics(self.device, self.precision == "tf32")
        spans = list(self.data[split].spans(start, stop, self.batch_size))
        way: PerSampleExecution = self.beside() if self.lanes > 1 else self.single
        parts = list(way.each(self.data[split], spans))
        loss, weight, *metrics = torch.cat([part for part, _ in parts], dim=1).cpu().numpy()
        penalty = parts[-1][1]
        named = dict(zip(self.metrics, metrics, strict=True))
        return SampleDraw(loss, weight, named, 0.0 if penalty is None else float(penalty))

    def beside(self) -> ConcurrentBatches:
        if self.side is None or self.side[0] != self.lanes:
            stateless = self.folded is not None
            self.side = self.lanes, ConcurrentBatches(self.step, self.model, self.lanes, stateless)
        return self.side[1]

    def way(self, split: str) -> BatchExecution:
        """How the batches of a split go through the network."""
        samples = self.data[split]
        if self.lanes > 1:
            return self.beside()
        if self.graphs is not None and samples.resident and len(samples) <= MOST_GRAPHS * self.batch_size:
            return self.graphs
        return self.single


class Held(StoredSamples):
    """A few batches that are there already, for several points."""

    def __init__(self, samples: StoredSamples, own: Sequence[Span], batches: Sequence[Structure]) -> None:
        super().__init__(samples.data, samples.device, samples.dtype, samples.channels_last)
        self.own, self.there, self.overwritten = own, dict(zip(own, batches, strict=True)), samples.overwritten

    def found(self, start: int, stop: int, shuffled: bool) -> Structure:
        return self.there[start, stop]


def groups(samples: StoredSamples, spans: Sequence[Span], lanes: int) -> Iterator[Held]:
    """As many batches at a time as keep all lanes busy."""
    size, batches = 2 * lanes if lanes > 1 else 1, samples.stream(spans)
    for k in range(0, len(spans), size):
        own = spans[k : k + size]
        yield Held(samples, own, [next(batches) for _ in own])


def choose_path(net: nn.Module, loss: Loss, batch: Batch) -> tuple[bool, str]:
    """Whether to evaluate a network with BatchNorm folded, and why not; checked on what the loss asks of it for a batch, and
    on the loss itself, which may differentiate."""
    asked = Asked(net)
    try:
        with torch.no_grad():
            loss(asked, sample_of(batch))
        folded = Folded(frozen_copy(net))
        with torch.no_grad():
            for arguments, named, expected in asked.calls:
                found = output_of(folded.net(*sample_of(arguments), **sample_of(named)))
                error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
                if not error <= 1e-3:
                    return False, f"folding would change its output by {error:.1e}"
            loss(folded.net, sample_of(batch))
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


def own_copy(net: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """A network whose modules can be changed without touching the caller's, in evaluation mode.

    Tensors that need not be converted stay shared: they are replaced in the copy, or only read.
    """
    own = [*net.parameters(), *net.buffers()]
    if all(converted(t, device, dtype) is t for t in own):
        return evaluation_copy(net, {id(t): t for t in own})
    return evaluation_copy(net)._apply(lambda t: converted(t, device, dtype)).requires_grad_(False)
