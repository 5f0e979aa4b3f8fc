"""What a run is told: small frozen configurations, which commands read from options."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossatlas.errors import BadUsage
from lossatlas.landscape import Grid
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:
    from lossatlas.parameter_space import Selection

PRECISIONS = ("float32", "float64", "tf32", "bfloat16", "float16")
NORMS = ("filter", "layer", "weight", "dfilter", "dlayer", "unit")
LOSS_NAMES = ("crossentropy", "mse")
SCHEMES, CURVES = ("linear2x", "barycentric"), ("bezier", "polygonal")
Model = str | UserFunction  # in the zoo, or of a user
SEED = 123  # of the random directions, as in the original release
MOST_DIGITS, MOST_THREADS = 15, 1024  # of a whole number; of a rank


def is_whole(text: str) -> bool:
    """Whether it is a whole number of 0 or more that an array can be as large as."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


@dataclass(frozen=True)
class DataConfig:
    """Which samples: see dataloader.load. `files` are tensors given by name instead of a data set."""

    dataset: str | UserFunction
    datapath: str | None
    raw: bool
    data_split: int
    limit: int | None
    splits: tuple[str, ...]
    files: tuple[str | None, str | None]
    download: bool
    image_size: int
    classes: int | None
    split_idx: int
    stream: str = "auto"

    @property
    def streamed(self) -> bool | None:
        """Whether samples are read when they are needed; None where that depends on the memory."""
        return {"auto": None, "always": True, "never": False}[self.stream]

    @property
    def split(self) -> str:
        return "both" if len(self.splits) > 1 else self.splits[0]


@dataclass(frozen=True)
class AxisConfig:
    """What a direction is, and how it is normalized.

    kind: random, gradient, eigenvector or file. number: which eigenvector, or which vector of the file.
    """

    norm: str
    ignore: str
    kind: str = "random"
    number: int = 1
    file: str = ""

    @classmethod
    def parse(cls, option: str, text: str, norm: str, ignore: str) -> "AxisConfig":
        """From 'random', 'gradient', 'eigenvector[:K]' or 'FILE.h5[:K]'. Raises BadUsage."""
        name, colon, last = text.rpartition(":")
        name, number = (name, last) if colon and is_whole(last) else (text, "1")
        if int(number) < 1 or (name in ("random", "gradient") and name != text):
            raise BadUsage(f"{option} {text}: eigenvectors and vectors of files are numbered from 1, others not at all")
        if name in ("random", "gradient", "eigenvector"):
            return cls(norm, ignore, name, int(number))
        if not name.endswith(".h5"):
            raise BadUsage(f"{option} {text}: give random, gradient, eigenvector, eigenvector:K, FILE.h5 or FILE.h5:K")
        return cls(norm, ignore, "file", int(number), name)


@dataclass(frozen=True)
class DirectionConfig:
    """Which directions: a file, targets, or random ones. y is None for a curve. scheme, curve, repeat, per_layer: see
    add_schemes.
    """

    dir_type: str
    x: AxisConfig
    y: AxisConfig | None
    same_dir: bool
    seed: int
    idx: int
    dir_file: str | None
    orthogonal: bool = False
    curvature: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    scheme: str = ""
    curve: str = ""
    bends: tuple[str, ...] = ()
    repeat: int = 0
    per_layer: bool = False
    dir_type_given: bool = True

    @property
    def selection(self) -> "Selection":
        """Which tensors are moved."""
        from lossatlas.parameter_space import Selection

        return Selection(self.only, self.without)


@dataclass(frozen=True)
class NetworkConfig:
    """The network in the middle, and those that directions point to. file: '' where its factory gives a trained one.

    align: those get the order of hidden units that fits best to the one in the middle.
    """

    model: Model
    file: str
    file2: str | None
    file3: str | None
    align: bool = False


@dataclass(frozen=True)
class RunConfig:
    """How the ranks compute. threads, batch_size: 0 where the program chooses; precision: None for that of the network."""

    cuda: bool
    threads: int
    batch_size: int
    precision: str | None

    @property
    def device(self) -> str:
        return "cuda" if self.cuda else "cpu"


@dataclass(frozen=True)
class OutputConfig:
    """Where a surface goes, and what happens to one that is there."""

    surf_file: str | None
    self_contained: bool
    force: bool
    verbose: bool
    dry_run: bool


@dataclass(frozen=True)
class PlotConfig:
    """Whether and how the finished file is drawn."""

    plot: bool
    show: bool
    log: bool
    vmin: float | None
    vmax: float | None
    vlevel: float | None
    loss_max: float | None
    proj_file: str | None


@dataclass(frozen=True)
class GridConfig:
    """Everything that a command which fills a grid is told. command: the line that started it."""

    networks: NetworkConfig
    directions: DirectionConfig
    data: DataConfig
    loss: str | UserFunction
    x: str
    y: str | None
    run: RunConfig
    output: OutputConfig
    looks: PlotConfig
    command: str
    path: tuple[str, ...] = ()  # checkpoints, of which the k-th is the cell x = k
    recalibrated: int = 0  # training samples for the statistics of BatchNorm at every point; 0 where they are kept

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.x, self.y)


@dataclass(frozen=True)
class HessianConfig:
    """Which Hessian, and when an eigenvalue of it is resolved: see add_curvature.

    parameters, without: patterns of names, see `lossatlas.hessian.Hessian`.
    """

    parameters: tuple[str, ...]
    without: tuple[str, ...]
    matrices_only: bool
    tolerance: float
    most: int
    compiled: bool
