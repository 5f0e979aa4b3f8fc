"""Configurations of jobs: what `commands` and the Python functions make of options, with files found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lossatlas.choices import (
    DIRECTION_WORDS,
    CurveOrNone,
    DirectionKind,
    DirType,
    Ignore,
    LossName,
    Memory,
    NormOrNone,
    Precision,
    SchemeOrNone,
    StreamMode,
    is_word,
)
from lossatlas.config.figure_options import PlotConfig
from lossatlas.config.option_fields import is_whole
from lossatlas.config.output_options import OutputConfig
from lossatlas.errors import BadUsage, named
from lossatlas.landscape import Grid
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:
    from lossatlas.parameter_space import Selection
    from lossatlas.parameter_space.local_planes import LocalChart

ModelChoice = str | UserFunction  # in the zoo, or of a user
LossChoice = LossName | UserFunction


@dataclass(frozen=True)
class DataConfig:
    """The samples of a job, see `datasets.registry.load`.

    Attributes:
        dataset: A name, or a user's function.
        datapath: The folder of the data set; None for the usual places.
        raw: Leave the inputs unnormalized.
        data_split: Keep one of this many parts of the training data.
        limit: The first samples; None for all.
        splits: 'train', 'test', or both.
        files: Files of tensors that replace the training and the test data.
        download: Fetch the data set where it is missing.
        image_size: Pixels of an image folder's images along each side.
        classes: The number of classes; None for that of the checkpoint.
        split_idx: Enters file names alone, as in the release of 2018.
        stream: 'always', 'never', or 'auto': read samples when they are needed.
    """

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
    stream: StreamMode = "auto"

    @property
    def streamed(self) -> bool | None:
        """True where samples are read when they are needed; None where that depends on the memory."""
        return {"auto": None, "always": True, "never": False}[self.stream]

    @property
    def split(self) -> str:
        return "both" if len(self.splits) > 1 else self.splits[0]


@dataclass(frozen=True)
class AxisConfig:
    """The direction of one axis.

    Attributes:
        norm: The normalization, one of NORMS or '' for none.
        ignore: 'biasbn' leaves biases and normalization layers where they are; '' does not.
        kind: 'random', 'gradient', 'eigenvector' or 'file'.
        number: The number of the eigenvector, or of the vector in the file, from 1.
        file: The spectrum or direction file.
    """

    norm: NormOrNone
    ignore: Ignore
    kind: DirectionKind = "random"
    number: int = 1
    file: str = ""

    @classmethod
    def parse(cls, option: str, text: str, norm: NormOrNone, ignore: Ignore) -> "AxisConfig":
        """Read the direction of one axis.

        Args:
            option: Name of the option, for messages.
            text: 'random', 'gradient', 'eigenvector[:K]' or 'FILE.h5[:K]', with K from 1.
            norm: Normalization, one of NORMS or '' for none.
            ignore: 'biasbn' leaves biases and normalization layers where they are; '' does not.

        Raises:
            BadUsage: The text has none of these forms.
        """
        name, colon, last = text.rpartition(":")
        name, number = (name, last) if colon and is_whole(last) else (text, "1")
        if int(number) < 1 or (name in ("random", "gradient") and name != text):
            raise BadUsage(f"{option} {text}: eigenvectors and vectors of files are numbered from 1, others not at all")
        if is_word(name, DIRECTION_WORDS):
            return cls(norm, ignore, name, int(number))
        if not name.endswith(".h5"):
            raise BadUsage(f"{option} {text}: give random, gradient, eigenvector, eigenvector:K, FILE.h5 or FILE.h5:K")
        return cls(norm, ignore, "file", int(number), name)


@dataclass(frozen=True, kw_only=True)
class DirectionConfig:
    """The directions of a line, a plane or a volume.

    Attributes:
        dir_type: 'weights' moves the parameters, 'states' the BatchNorm statistics as well.
        x, y, z: The directions of the axes; y is None for a line, z for a line or a plane.
        same_dir: Use the x direction for y as well.
        seed, idx: The seed of random directions, and the number of the repeat.
        dir_file: The direction file; None for the default name.
        orthogonalize: Remove from y its part along x, and from z those along x and y.
        curvature: Compute the second derivatives along the axes.
        only, without: Regular expressions of the names of parameters that move, and of those that do not.
        scheme, curve, repeat, per_layer: See `SchemeOptions`.
        control_points: The control points of the curve.
        dir_type_given: The user has chosen `dir_type`.
        store_directions: A direction file holds vectors also where their seeds would do.
    """

    dir_type: DirType
    x: AxisConfig
    y: AxisConfig | None
    same_dir: bool
    seed: int
    idx: int
    dir_file: str | None
    orthogonalize: bool = False
    curvature: bool = False
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    scheme: SchemeOrNone = ""
    curve: CurveOrNone = ""
    control_points: tuple[str, ...] = ()
    repeat: int = 0
    per_layer: bool = False
    dir_type_given: bool = True
    store_directions: bool = False
    z: AxisConfig | None = None

    @property
    def axes(self) -> tuple[AxisConfig, ...]:
        """The directions of the axes that there are."""
        return tuple(axis for axis in (self.x, self.y, self.z) if axis is not None)

    @property
    def selection(self) -> "Selection":
        """The tensors that move."""
        from lossatlas.parameter_space import Selection

        return Selection(self.only, self.without)


@dataclass(frozen=True)
class NetworkConfig:
    """The network at the centre, and those at coordinate 1 of the axes.

    Attributes:
        model: A name in the zoo, or a user's function.
        file: The checkpoint at the centre; '' where the user's function returns a trained network.
        file2, file3: The checkpoints at x = 1 and y = 1.
        align: Permute the hidden units of those to match the network at the centre.
    """

    model: ModelChoice
    file: str
    file2: str | None
    file3: str | None
    align: bool = False


@dataclass(frozen=True)
class RunConfig:
    """The device, threads, batch size and precision of each rank.

    Attributes:
        cuda: Compute on CUDA, one device for each rank of a node.
        threads: CPU threads; 0 for the rank's share of the cores.
        batch_size: Samples of a batch; 0 for a measured or usual number.
        precision: Of the computation; None for the network's own.
        memory: 'low', 'fast', or None to choose by the size of the network.
    """

    cuda: bool
    threads: int
    batch_size: int
    precision: Precision | None
    memory: Memory | None = "fast"

    @property
    def device(self) -> str:
        return "cuda" if self.cuda else "cpu"


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The configuration of a command that computes a quantity over a grid.

    Attributes:
        networks, directions, data, loss, run, output, figures: Its parts.
        x, y, z: The axes as MIN:MAX:NUM; y is None for a line, z for a line or a plane.
        command: The line that started it.
        path: Checkpoints, of which the k-th is the cell x = k.
        chart: The chart along these checkpoints that is the plane instead.
        cells: The grid itself; None for that of the axes.
        recalibrated: Training samples for the BatchNorm statistics of every point; 0 where they are kept.
        resolved: All options of the command by name, for the record.
    """

    networks: NetworkConfig
    directions: DirectionConfig
    data: DataConfig
    loss: LossChoice
    x: str
    y: str | None
    run: RunConfig
    output: OutputConfig
    figures: PlotConfig
    command: str
    path: tuple[str, ...] = ()
    chart: "LocalChart | None" = None
    cells: Grid | None = None
    recalibrated: int = 0
    resolved: Mapping[str, Any] = field(default_factory=dict)
    z: str | None = None

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.x, self.y, self.z) if self.cells is None else self.cells

    @property
    def memory(self) -> Memory | None:
        """'low', 'fast', or None to choose by the size of the network, which lines and planes along directions can do.

        Raises:
            BadUsage: 'low' is asked for something else.
        """
        choice = self.directions
        others = {
            "repeat": choice.repeat,
            "per_layer": choice.per_layer,
            "scheme": choice.scheme,
            "curve": choice.curve,
        }
        others["bn"] = bool(self.recalibrated)
        asked = memory_of(self.run.memory, [name for name, chosen in others.items() if chosen])
        return "fast" if self.path else asked


def memory_of(asked: Memory | None, others: Sequence[str]) -> Memory | None:
    """Return how much memory an evaluation may take, which only lines and planes along directions can choose.

    Args:
        asked: 'low', 'fast', or None to choose by the size of the network.
        others: The fields that ask for other points or other networks.

    Raises:
        BadUsage: 'low' is asked for something else.
    """
    if not others:
        return asked
    if asked == "low":
        raise BadUsage(
            f"{named('memory', 'low')} is for lines, planes and volumes along directions: leave out {named(others[0])}"
        )
    return "fast"


@dataclass(frozen=True)
class HessianConfig:
    """Parameters of a Hessian, and the residual of a resolved eigenvalue: see `HessianOptions` and `LanczosOptions`.

    Attributes:
        parameters: Patterns of names, see `lossatlas.hessian.Hessian`.
        without: Patterns of the names that are left out.
        matrices_only: Vectors, such as biases, are left out.
        tolerance: The residual of a resolved eigenvalue.
        max_products: The largest number of products with the Hessian.
        compiled: Products are compiled.
    """

    parameters: tuple[str, ...]
    without: tuple[str, ...]
    matrices_only: bool
    tolerance: float
    max_products: int
    compiled: bool
