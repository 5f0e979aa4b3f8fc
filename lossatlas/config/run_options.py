"""Options of a run: ranks, devices, batches, precision and tolerances."""

from dataclasses import dataclass
from typing import ClassVar

from lossatlas.choices import Memory, Precision, ProductPrecision
from lossatlas.config.option_fields import changed, natural, number_of_ranks, option, positive, threads


@dataclass(frozen=True)
class DeviceOptions:
    """CPU or CUDA."""

    HEADING: ClassVar[str] = "run"

    cuda: bool = option(False, "compute on a CUDA device", short="-c")
    threads: int = option(0, "number of CPU threads (default: all cores)", kind=threads, metavar="N")


@dataclass(frozen=True)
class RanksOptions(DeviceOptions):
    """The ranks, and the device of each."""

    HEADING: ClassVar[str] = "run"

    mpi: bool = option(False, "distribute the work over the ranks of mpirun", short="-m")
    ranks: int | str | None = option(
        None,
        "start this number of ranks on this machine, instead of mpirun and --mpi; gpus: one for each CUDA device, with "
        "--cuda",
        kind=number_of_ranks,
        metavar="N",
    )
    cuda: bool = changed(DeviceOptions, "cuda", help="compute on CUDA, one device for each rank of a node")
    ngpu: int = option(
        1, "accepted, without effect: each rank uses one device; start more ranks instead", kind=positive, metavar="N"
    )
    threads: int = changed(
        DeviceOptions, "threads", help="number of CPU threads of each rank (default: its share of the cores)"
    )


@dataclass(frozen=True)
class BatchOptions(RanksOptions):
    """Batches, and their precision."""

    HEADING: ClassVar[str] = "run"

    batch_size: int = option(
        0,
        "samples per batch (default: the fastest in a short measurement; with a number nothing is measured, and the "
        "same command gives the same last digits)",
        kind=natural,
        metavar="N",
    )
    precision: Precision | None = option(
        None,
        "precision of the forward pass (default: that of the network's parameters); the effect of a lower one on the "
        "loss is measured, printed and stored",
    )


@dataclass(frozen=True)
class EvaluationOptions(BatchOptions):
    """Evaluation of losses, with a tolerance."""

    HEADING: ClassVar[str] = "run"

    memory: Memory | None = option(
        None,
        "low: the network itself is moved, with its weights at the origin and the directions in temporary files (in "
        "TMPDIR, which has to be on a disk), so that a rank takes little more memory than inference does; fast: "
        "everything in memory (default: low from 100 million parameters on, for lines, planes and volumes along "
        "directions)",
    )
    tolerance: str | None = option(
        None,
        "use only as many samples, in random order, as are needed for a standard error below max(REL x loss, ABS) at "
        "each grid point, as in 0.02,0.05; neighbouring points serve as control variates; a later run with a smaller "
        "tolerance, or without one, adds samples",
        metavar="REL[,ABS]",
    )
    adaptive: str | None = option(
        None,
        "interpolate grid points whose loss is predicted by their neighbours to within max(REL x loss, ABS); the "
        "prediction is checked at points that are computed, and interpolated points are marked",
        metavar="REL[,ABS]",
    )


@dataclass(frozen=True)
class ModelGroupOptions:
    """Networks that are spread over several ranks."""

    HEADING: ClassVar[str] = "run"

    ranks_per_model: int = option(
        1,
        "groups of N ranks share one network: the function that --model names is called on each rank of a group, finds "
        "the group as all processes of torch.distributed, and returns a module with DTensor parameters (tensor "
        "parallelism, fully_shard)",
        kind=positive,
        metavar="N",
    )


@dataclass(frozen=True)
class ProductOptions(BatchOptions):
    """Evaluation of Hessian-vector products."""

    batch_size: int = changed(
        BatchOptions,
        "batch_size",
        help="samples per batch (default: 256 on CUDA; 32 to 128 on the CPU, one batch for each thread)",
    )
    precision: ProductPrecision | None = changed(
        BatchOptions, "precision", help="default: float32, or that of a float64 network"
    )
