"""The execution plan: everything that decides the last digits of a job, made once by rank 0 and stored in the file."""

import math
from typing import Any, Literal, TypedDict, get_args

from lossatlas.choices import EvaluationPrecision, Memory

ExecutionPath = Literal["folded", "unfolded", "in place"]
PlannedPath = Literal["", ExecutionPath, "not folded"]  # not folded: of a spectrum
PATHS: tuple[ExecutionPath, ...] = get_args(ExecutionPath)  # from the fastest to the one that is right for any network


class HalvedBatch(TypedDict):
    """A batch size that was halved because a batch did not fit into memory.

    Attributes:
        batch_size: The batch size from then on.
        from_cell: The first cell that was computed with it.
        by: The computer that reported it.
    """

    batch_size: int
    from_cell: int
    by: str


class ExecutionPlan(TypedDict, total=False):
    """The fields of a plan, as the file stores them; each kind of job has its own.

    Attributes:
        device: 'cpu' or 'cuda'.
        precision: A name of `evaluation.precision.PRECISION_TYPES`, or the network's own.
        path: 'folded', 'unfolded' or 'in place'; of a map of eigenvalues '' until it is chosen; of a spectrum
            'folded' or 'not folded'.
        batch_size: Samples of a batch; 0 until it is chosen.
        points_per_call: Points that one call evaluates; 0 until it is chosen.
        lanes: Batches that are evaluated side by side; 0 until it is chosen.
        recalibrated: Training samples for the BatchNorm statistics of every point.
        recalibrated_batch: Samples of a batch of these.
        corrected: A draft in a low precision is corrected by a few samples in float32.
        fewest: The smallest number of samples of a cell with a tolerance.
        halved: Batch sizes that were halved for lack of memory.
        compiled: torch.compile fuses the products with the Hessian.
        most: The largest number of products for a cell.
        seed: Of the first vector of Lanczos.
        ranks: Over how many ranks the samples are distributed.
        memory: 'low' where the network is moved in place so that it takes little memory.
    """

    device: str
    precision: EvaluationPrecision
    path: PlannedPath
    batch_size: int
    points_per_call: int
    lanes: int
    recalibrated: int
    recalibrated_batch: int
    corrected: bool
    fewest: int
    halved: list[HalvedBatch]
    compiled: bool
    most: int
    seed: int
    ranks: int
    memory: Memory


def nearly_equal(a: Any, b: Any) -> bool:
    """Return whether two values are equal, floats within a relative 1e-5, the difference between machines."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
