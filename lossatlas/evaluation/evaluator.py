"""Sums of a network's losses at the points of a plane.

Data (where they fit), origin and directions stay on the device. A point costs one step over the parameters and the
forward passes, without a synchronization per batch. Samples that do not fit into memory are read once for all points of
a call. Outputs of the network are converted to float64 before the loss is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.choices import EvaluationPrecision
from lossatlas.data.losses import Batch, Loss, output_of
from lossatlas.data.streamed import AnyData
from lossatlas.data.structures import Structure
from lossatlas.errors import first_line
from lossatlas.evaluation.batch_execution import (
    BatchExecution,
    ConcurrentBatches,
    PerSampleExecution,
    SequentialBatches,
)
from lossatlas.evaluation.cuda_graphs import MAX_GRAPHS, CapturedGraphs
from lossatlas.evaluation.folding import Folded, NotFoldable
from lossatlas.evaluation.loss_sums import LossSums
from lossatlas.evaluation.parallel_batches import evaluation_copy, frozen_copy
from lossatlas.evaluation.parameter_buffers import parameter_buffers
from lossatlas.evaluation.precision import (
    PRECISION_TYPES,
    LowPrecisionCopies,
    channels_come_last,
    dtypes_of,
    in_float64,
    set_numerics,
)
from lossatlas.evaluation.recalibration import BatchNormRecalibration
from lossatlas.evaluation.reference import evaluated_in_place
from lossatlas.evaluation.sample_storage import SampleSpan, StoredSamples, copy_samples, is_changed, place_samples
from lossatlas.evaluation.stacked_points import StackedPoints
from lossatlas.landscape.grid import Coordinates
from lossatlas.landscape.sample_count import SampleDraw
from lossatlas.landscape.statistics import CLAMPED, STATISTICS
from lossatlas.landscape.tolerance import Tolerance
from lossatlas.parameter_space.planes import Plane
from lossatlas.parameter_space.points import converted

MAX_FOLDING_ERROR = 1e-3  # of the outputs of a folded network, relative to their norm


class Evaluator:
    """Evaluator of a copy of a network, in evaluation mode, at points of a line, a plane or a volume.

    The network itself is not changed. `batch_size` and `parallel_batches` may be assigned at any time; both change the
    last digits of the sums.

    Args:
        net: The network.
        plane: A map from coordinates to parameters.
        data: The samples of each split by name.
        loss: A per-sample loss, see `data.losses`.
        batch_size: Samples in one forward pass.
        device: The device of the evaluation.
        precision: One of PRECISION_TYPES, or `precision.OWN_PRECISION` for the types that the parameters have.
        folded: Fold BatchNorm into the layers in front of it, see `choose_path`. The loss then must not read the
            model's own parameters.
        points_per_call: Points of an affine plane in one call, see `StackedPoints`; faster for small networks.
        parallel_batches: Batches evaluated at a time on the CPU, each by one thread; with 1, all threads share a batch.
        tolerance: The standard error for which `sampling.multilevel` draws samples. A call of the evaluator uses all
            samples.
        recalibrate: Training samples, and the number of them from which the statistics of BatchNorm are estimated at
            every point, see `BatchNormRecalibration`; None keeps the statistics of the plane.
        in_place: Move the network itself instead of a copy, one batch after the other. It is restored after every call,
            or at the end of `session`.

    Attributes:
        columns: Names of the sums: STATISTICS (`landscape.statistics`), then the metrics of the loss.
        metrics: Names of the metrics of the loss.
        data: The stored samples of each split.
        buffers: The tensors that are moved over the plane.
        recalibrator: Estimates the statistics of BatchNorm at a point, or None.
        full_precision: The same evaluator in float32, where low-precision losses are corrected by it, or None.
        graphs: CUDA graphs of the batches, or None.

    Example:
        >>> import torch
        >>> from lossatlas.data import LOSSES, as_dataset
        >>> from lossatlas.parameter_space import AffinePlane, random_direction, tensors
        >>> net = torch.nn.Linear(3, 2)
        >>> data = as_dataset((torch.randn(20, 3), torch.randint(2, (20,))))
        >>> origin = tensors(net)
        >>> directions = [random_direction(origin, "filter", "biasbn", seed) for seed in (1, 2)]
        >>> plane = AffinePlane(origin, *directions)
        >>> evaluator = Evaluator(net, plane, {"train": data}, LOSSES["crossentropy"])
        >>> evaluator([(0.0, 0.0), (0.1, 0.2)]).shape == (2, 1, len(evaluator.columns))
        True
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
        precision: EvaluationPrecision = "float32",
        folded: bool = False,
        points_per_call: int = 1,
        parallel_batches: int = 1,
        tolerance: Tolerance | None = None,
        recalibrate: tuple[AnyData, int] | None = None,
        in_place: bool = False,
    ) -> None:
        self.device, self.precision, self.in_place = torch.device(device), precision, in_place
        self.loss, self.tolerance, self.recalibration = loss, tolerance or Tolerance(), recalibrate
        self.batch_size, self.points_per_call, self.parallel_batches = batch_size, points_per_call, parallel_batches
        self.full_precision: Evaluator | None = None
        set_numerics(self.device, tf32=precision == "tf32")
        channels_last = channels_come_last(self.device, precision) and not in_place
        try:
            self.build(net, plane, data, folded=folded, channels_last=channels_last)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError:  # a network that needs contiguous images or parameters, as `view` does
            if not channels_last:
                raise
            self.build(net, plane, data, folded=folded, channels_last=False)
        self.sums = {
            split: torch.zeros(len(self.columns), dtype=torch.float64, device=self.device) for split in self.data
        }

    def build(
        self, net: nn.Module, plane: Plane, data: Mapping[str, AnyData], *, folded: bool, channels_last: bool
    ) -> None:
        """Store network and data on the device, and evaluate a few samples to learn the metrics of the loss.

        Args:
            net: The network at the origin of the plane.
            plane: The plane of the points.
            data: Samples by split.
            folded: Evaluate a copy whose BatchNorm is multiplied into the layers before it.
            channels_last: Store images and filters with the channels last.
        """
        dtype, forward = dtypes_of(self.precision, net)
        self.channels_last = channels_last
        self.net = net if self.in_place else converted_copy(net, self.device, dtype)
        self.data = {
            split: place_samples(samples, self.device, forward, channels_last=channels_last)
            for split, samples in data.items()
        }
        self.buffers = parameter_buffers(self.net, plane, in_place=self.in_place, channels_last=channels_last)
        self.recalibrator = self.recalibrator_on(data, forward)
        self.folded = Folded(self.net) if folded else None  # after the buffers, whose tensors it has to share
        self.model: nn.Module = self.net if self.folded is None else self.folded.net
        is_lowered = self.precision in PRECISION_TYPES and forward != PRECISION_TYPES[self.precision][0]
        self.lowered = LowPrecisionCopies(self.model, forward) if is_lowered else None
        if not self.in_place:
            for model in {self.net, self.model}:
                model.register_forward_hook(in_float64)
        first = next(iter(self.data.values()))
        sample = first.first_samples()
        with torch.no_grad(), self.session():
            self.update_derived()
            self.metrics = tuple(self.loss(self.model, sample).metrics)
        if is_changed(sample, first.first_samples()):
            for samples in self.data.values():
                samples.overwritten = True
        self.step = LossSums(self.loss, self.metrics)
        self.sequential = SequentialBatches(self.step, self.model)
        self.concurrent: ConcurrentBatches | None = None
        has_graphs = self.device.type == "cuda" and not self.in_place
        self.graphs = CapturedGraphs(self.step, self.model) if has_graphs else None

    def recalibrator_on(self, data: Mapping[str, AnyData], forward: torch.dtype) -> BatchNormRecalibration | None:
        """Return the estimator of the statistics of BatchNorm; training samples that are stored already are shared."""
        if self.recalibration is None:
            return None
        training, count = self.recalibration
        split = next((split for split, samples in data.items() if samples is training), None)
        if split is None:
            samples = place_samples(training, self.device, forward, channels_last=self.channels_last)
        else:
            samples = self.data[split]
        return BatchNormRecalibration(self.net, samples, count, self.loss)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the sums, in the order of the last axis of the result."""
        return (*STATISTICS, *self.metrics)

    def session(self) -> AbstractContextManager[nn.Module | None]:
        """Return a context manager for evaluations: a network that is moved in place is restored when it ends."""
        return evaluated_in_place(self.net) if self.in_place else nullcontext()

    def with_data(self, data: Mapping[str, AnyData], batch_size: int) -> "Evaluator":
        """Return an evaluator of the same network on other samples, without tolerance and recalibration.

        Both share the network, so that only one of them can be used at a time.

        Args:
            data: The samples of each split; a subset of the splits of this evaluator.
            batch_size: Samples in one forward pass.
        """
        other = copy(self)
        other.batch_size, other.tolerance, other.recalibrator = batch_size, Tolerance(), None
        other.data = {}
        for split, samples in data.items():
            own = self.data[split]
            other.data[split] = place_samples(samples, self.device, own.dtype, channels_last=self.channels_last)
            other.data[split].overwritten = own.overwritten
        other.sums = {split: torch.zeros_like(self.sums[split]) for split in data}
        if self.graphs is not None:
            other.graphs = CapturedGraphs(self.step, self.model)
        return other

    @torch.no_grad()
    def __call__(self, points: Sequence[Coordinates]) -> np.ndarray:
        """Return the sums over all samples at some points.

        Args:
            points: Coordinates of each, (a, b), or (a, b, c) in a volume.

        Returns:
            (points, splits, columns) float64.
        """
        with self.session():
            return self.evaluate(points)

    def evaluate(self, points: Sequence[Coordinates]) -> np.ndarray:
        """Return the sums over all samples at some points, within a `session` of the caller."""
        set_numerics(self.device, tf32=self.precision == "tf32")
        if self.points_per_call > 1:
            chunks = range(0, len(points), self.points_per_call)
            return np.concatenate([self.evaluate_stacked(points[k : k + self.points_per_call]) for k in chunks])
        if self.streaming and self.recalibrator is None:
            return self.evaluate_streaming(points)
        return np.stack([self.evaluate_point(*at) for at in points])

    @property
    def streaming(self) -> bool:
        """True if samples of any split are read when they are needed."""
        return not all(samples.in_memory for samples in self.data.values())

    def evaluate_point(self, *at: float) -> np.ndarray:
        """Return the sums over all samples at one point: (splits, columns) float64."""
        clamped = self.move_to(*at)
        result = []
        for split, sums in self.sums.items():
            sums.zero_()
            self.accumulate(split, 0, len(self.data[split]))
            sums[CLAMPED] = clamped
            result.append(sums.clone())
        return torch.stack(result).cpu().numpy()

    @torch.no_grad()
    def move_to(self, *at: float) -> Tensor:
        """Move the network to a point, and update everything that depends on the point.

        Returns:
            The number of BatchNorm variances that were negative and were set to zero, on the device.
        """
        clamped = self.buffers.move(*at)
        if self.recalibrator is not None:
            self.recalibrator()
        self.update_derived()
        return clamped

    def evaluate_streaming(self, points: Sequence[Coordinates]) -> np.ndarray:
        """Return the sums at some points, reading each batch once: (points, splits, columns) float64."""
        shape = len(points), len(self.data), len(self.columns)
        result = torch.zeros(shape, dtype=torch.float64, device=self.device)
        for k, (split, samples) in enumerate(self.data.items()):
            # CUDA graphs need batches that stay at one address
            execution = self.execution(split) if self.parallel_batches > 1 else self.sequential
            spans = list(samples.spans(0, len(samples), self.batch_size))
            for group in batch_groups(samples, spans, self.parallel_batches):
                for sums, at in zip(result[:, k], points, strict=True):
                    clamped = self.move_to(*at)
                    execution.add(sums, group, group.loaded_spans)
                    sums[CLAMPED] = clamped
        return result.cpu().numpy()

    def evaluate_stacked(self, points: Sequence[Coordinates]) -> np.ndarray:
        """Return the sums at some points of an affine plane in one call: (points, splits, columns) float64.

        Raises:
            TypeError: The plane is not affine.
        """
        return StackedPoints(self.step, self.net, self.buffers, self.data)(points, self.batch_size).cpu().numpy()

    def clear_cache(self) -> None:
        """Free cached batches and graphs, after the batch size has changed."""
        for samples in self.data.values():
            samples.clear_cache()
        if self.graphs is not None:
            self.graphs = CapturedGraphs(self.step, self.model)

    def update_derived(self) -> None:
        """Update the tensors that are computed from the point: folded weights and low-precision copies."""
        if self.folded is not None:
            self.folded.update()
        if self.lowered is not None:
            self.lowered.update()

    def accumulate(self, split: str, start: int, stop: int) -> None:
        """Add whole batches of a split to its sums, from sample `start` at least up to `stop`."""
        samples = self.data[split]
        self.execution(split).add(self.sums[split], samples, list(samples.spans(start, stop, self.batch_size)))

    @torch.no_grad()
    def draw_samples(self, split: str, start: int, stop: int) -> SampleDraw:
        """Evaluate samples of a split at the current point (see `move_to`), in the shuffled order.

        Args:
            split: The name of the split.
            start: Position of the first sample in the shuffled order.
            stop: Position after the last sample. Batches are whole, so that more samples may follow.

        Returns:
            Losses, weights and metrics of the samples.
        """
        set_numerics(self.device, tf32=self.precision == "tf32")
        spans = list(self.data[split].spans(start, stop, self.batch_size))
        execution: PerSampleExecution = self.concurrent_execution() if self.parallel_batches > 1 else self.sequential
        parts = list(execution.per_sample(self.data[split], spans))
        loss, weight, *metrics = torch.cat([part for part, _ in parts], dim=1).cpu().numpy()
        penalty = parts[-1][1]
        named = dict(zip(self.metrics, metrics, strict=True))
        return SampleDraw(loss, weight, named, 0.0 if penalty is None else float(penalty))

    def concurrent_execution(self) -> ConcurrentBatches:
        """Return the parallel execution for the current number of parallel batches."""
        if self.concurrent is None or self.concurrent.count != self.parallel_batches:
            stateless = self.folded is not None
            self.concurrent = ConcurrentBatches(self.step, self.model, self.parallel_batches, stateless=stateless)
        return self.concurrent

    def execution(self, split: str) -> BatchExecution:
        """Return the execution for the batches of a split."""
        samples = self.data[split]
        if self.parallel_batches > 1:
            return self.concurrent_execution()
        if self.graphs is not None and samples.in_memory and len(samples) <= MAX_GRAPHS * self.batch_size:
            return self.graphs
        return self.sequential


class BatchGroup(StoredSamples):
    """A few batches that are in memory, for several points."""

    def __init__(self, samples: StoredSamples, spans: Sequence[SampleSpan], batches: Sequence[Structure]) -> None:
        super().__init__(samples.data, samples.device, samples.dtype, channels_last=samples.channels_last)
        self.loaded_spans, self.overwritten = spans, samples.overwritten
        self.loaded = dict(zip(spans, batches, strict=True))

    def load(self, start: int, stop: int, *, shuffled: bool) -> Structure:
        """Return the batch from start to stop."""
        return self.loaded[start, stop]


def batch_groups(samples: StoredSamples, spans: Sequence[SampleSpan], parallel_batches: int) -> Iterator[BatchGroup]:
    """Yield groups of batches, each large enough to occupy all threads."""
    size, batches = 2 * parallel_batches if parallel_batches > 1 else 1, samples.stream(spans)
    for k in range(0, len(spans), size):
        own = spans[k : k + size]
        yield BatchGroup(samples, own, [next(batches) for _ in own])


def choose_path(net: nn.Module, loss: Loss, batch: Batch) -> tuple[bool, str]:
    """Decide whether a network can be evaluated with BatchNorm folded.

    The folded network is compared on the calls that the loss makes for a batch, and the loss itself is evaluated with
    it, because it may differentiate.

    Args:
        net: The network.
        loss: The loss.
        batch: A few samples.

    Returns:
        True and '', or False and the reason.
    """
    recorder = CallRecorder(net)
    try:
        with torch.no_grad():
            loss(recorder, copy_samples(batch))
        folded = Folded(frozen_copy(net))
        with torch.no_grad():
            for arguments, named, expected in recorder.calls:
                found = output_of(folded.net(*copy_samples(arguments), **copy_samples(named)))
                error = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
                if not error <= MAX_FOLDING_ERROR:
                    return False, f"folding would change its output by {error:.1e}"
            loss(folded.net, copy_samples(batch))
    except NotFoldable as reason:
        return False, str(reason)
    except Exception as reason:  # such as an addition that broadcasts the output which it would overwrite
        return False, first_line(reason, 120)
    return True, ""


class CallRecorder:
    """Stand-in of a network in a loss, which records its calls.

    Raises:
        NotFoldable: The loss accesses anything else of the network.
    """

    def __init__(self, net: nn.Module) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
        self.net = net

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        copies = copy_samples(arguments), copy_samples(keywords)  # the network may write into its inputs
        output = self.net(*arguments, **keywords)
        self.calls.append((*copies, output_of(output)))
        return output

    def __getattr__(self, name: str) -> Any:
        raise NotFoldable(f"the loss accesses '{name}' of the network")


def converted_copy(net: nn.Module, device: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """Return a copy in evaluation mode, whose modules can be changed without changing the caller's.

    Tensors that need not be converted are shared: they are replaced in the copy, or only read.
    """
    own = [*net.parameters(), *net.buffers()]
    if all(converted(t, device, dtype) is t for t in own):
        return evaluation_copy(net, {id(t): t for t in own})
    return evaluation_copy(net)._apply(lambda t: converted(t, device, dtype)).requires_grad_(False)
