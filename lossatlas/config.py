"""Options of the commands, each defined once, and the frozen configurations that jobs are made of.

The first part holds groups of options as users write them: a command inherits those it takes. The second part holds what
`commands.options` makes of them, with user functions resolved and files found.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from lossatlas.choices import COLOURS, CURVES, LOOKS, MEMORIES, NORMS, PRECISIONS, SCHEMES
from lossatlas.errors import BadUsage, named
from lossatlas.landscape import Grid
from lossatlas.option_fields import (
    above_zero,
    changed,
    finite,
    is_whole,
    loss_name,
    natural,
    number_of_ranks,
    option,
    pattern,
    positive,
    threads,
)
from lossatlas.user_code import UserFunction

if TYPE_CHECKING:
    from lossatlas.parameter_space import Selection

ModelChoice = str | UserFunction  # in the zoo, or of a user
MOST_MARGIN = 100.0  # around a path, as a share of its extent
SEED = 123  # of the random directions, as in the original release
BN_SAMPLES = 1000  # training samples for the statistics of BatchNorm at every point


# Groups of options ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelOptions:
    """A network of the zoo or of the user."""

    HEADING: ClassVar[str] = "network"

    model: str = option(
        "resnet56",
        "name of a network in the zoo, or FILE.py:FUNCTION or PACKAGE.MODULE:FUNCTION that makes your own network, see "
        "docs/your-own.md, or hf:FOLDER for a causal language model in a local folder of Hugging Face, see "
        "docs/language-models.md",
    )
    model_args: tuple[str, ...] = option(
        (), "arguments of the function that makes the network", many="+", metavar="KEY=VALUE"
    )


@dataclass(frozen=True)
class NetworkOptions(ModelOptions):
    """The network at the centre."""

    HEADING: ClassVar[str] = "network"

    model_folder: str = option("", "folder of the checkpoints")
    model_file: str | None = option(
        None,
        "checkpoint at the centre: .safetensors, a file of torch.save or Lightning, or a folder with one; FILE:WORD chooses "
        "one of several sets of weights, as in last.ckpt:state_dict_ema; not needed where your own function gives a trained "
        "network",
    )


@dataclass(frozen=True)
class TwoNetworksOptions(NetworkOptions):
    """The network at the centre, and a second one."""

    HEADING: ClassVar[str] = "network"

    model_file2: str | None = option(None, "checkpoint at x = 1: the x direction points to it")
    align: bool = option(
        False,
        "permute the hidden units of the other networks so that they match those of the network at the centre; the functions "
        "that the networks compute stay the same (weight matching of Git Re-Basin)",
    )


@dataclass(frozen=True)
class NetworksOptions(TwoNetworksOptions):
    """The network at the centre, and up to two others."""

    HEADING: ClassVar[str] = "network"

    model_file3: str | None = option(None, "checkpoint at y = 1: the y direction points to it")


@dataclass(frozen=True)
class DatasetOptions:
    """A data set, and the loss."""

    HEADING: ClassVar[str] = "data"

    dataset: str = option(
        "cifar10",
        "mnist, fashion_mnist, fashion_mnist_mini (bundled), cifar10, cifar100, imagefolder or npz, or FILE.py:FUNCTION that "
        "gives your own data; text:FILE.jsonl, text:FILE.txt or choices:FILE.jsonl for the texts or the questions of a language "
        "model",
    )
    dataset_args: tuple[str, ...] = option(
        (), "arguments of the function that gives the data", many="+", metavar="KEY=VALUE"
    )
    datapath: str | None = option(None, "folder of the data set (for npz: the file)")
    download: bool = option(False, "download the data set if it is missing")
    classes: int | None = option(
        None, "number of classes of your own data (default: the checkpoint's)", kind=positive, metavar="N"
    )
    limit: int | None = option(None, "use the first N samples in file order", kind=positive, metavar="N")
    raw_data: bool = option(False, "do not normalize the inputs")
    loss_name: str = option(
        "crossentropy",
        "crossentropy, mse, next_token (of causal language models, the default for hf:FOLDER), multiple_choice (of the questions "
        "of choices:FILE), or FILE.py:FUNCTION for your own loss",
        kind=loss_name,
        short="-l",
        metavar="LOSS",
    )


@dataclass(frozen=True)
class DataOptions(DatasetOptions):
    """The data set, the part of it that is used, and how it is read."""

    HEADING: ClassVar[str] = "data"

    image_size: int = option(224, "height and width of the images of an image folder", kind=positive, metavar="N")
    stream: str = option(
        "auto",
        "read the samples of an image folder, or of your own data set, when they are needed: always, never, or auto: if they "
        "do not fit into memory, or if a tolerance needs only some of them",
        choices=("auto", "always", "never"),
    )
    split: str = option("train", "which samples", choices=("train", "test", "both"))
    data_split: int = option(
        1, "use one K-th of the training data, chosen at random as in the original release", kind=positive, metavar="K"
    )
    split_idx: int = option(
        0, "accepted as in the original release, where it only changes the file name", kind=natural, metavar="N"
    )
    trainloader: str | None = option(
        None, "training data as tensors: .npz or .pt with inputs and targets", metavar="FILE"
    )
    testloader: str | None = option(None, "test data as tensors, as for --trainloader", metavar="FILE")


@dataclass(frozen=True)
class OneSplitDataOptions(DataOptions):
    """The data of commands that take a single split."""

    split: str = changed(DataOptions, "split", choices=("train", "test"))


@dataclass(frozen=True)
class GridOptions:
    """The coordinates of the grid points."""

    HEADING: ClassVar[str] = "grid"

    x: str = option("-1:1:51", "first and last coordinate along x, and the number of points", metavar="MIN:MAX:NUM")
    y: str | None = option(None, "the same along y; leave it out for a line", metavar="MIN:MAX:NUM")


@dataclass(frozen=True)
class SelectionOptions:
    """The parameters that a command applies to, by name."""

    HEADING: ClassVar[str] = "parameters"

    only: tuple[str, ...] = option(
        (),
        "take only parameters whose names match one of these regular expressions, such as lora_ or layer3; the others stay as "
        "they are",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )
    without: tuple[str, ...] = option(
        (),
        "leave out parameters whose names match one of these regular expressions",
        name="except",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )


IGNORE = (
    "biasbn: zero for biases and BatchNorm parameters; otherwise, as in the original code, the direction of these parameters "
    "is the parameters themselves"
)
DIRECTION = (
    "the {} direction: random, gradient, eigenvector:K (the K-th largest of the Hessian), or FILE.h5:K (the K-th vector of a "
    "spectrum or direction file); gradient and eigenvectors have unit length unless a norm is given"
)


@dataclass(frozen=True)
class DirectionOptions(SelectionOptions):
    """Two directions, and how they are normalized."""

    HEADING: ClassVar[str] = "directions"

    dir_type: str | None = option(
        None,
        "move the parameters (weights), or the BatchNorm statistics as well (states) (default: weights, and states between "
        "networks with different statistics)",
        choices=("weights", "states"),
    )
    xnorm: str = option("", "normalization of the x direction (default: none)", choices=("", *NORMS))
    xignore: str = option("", IGNORE, choices=("", "biasbn"))
    ynorm: str = option("", "normalization of the y direction (default: none)", choices=("", *NORMS))
    yignore: str = option("", "as --xignore, for the y direction", choices=("", "biasbn"))
    xdirection: str = option("random", DIRECTION.format("x"), metavar="DIRECTION")
    ydirection: str = option("random", "the y direction, as --xdirection", metavar="DIRECTION")
    orthogonalize: bool = option(False, "make the y direction orthogonal to the x direction")
    curvature: bool = option(
        False,
        "print and store the second derivatives of the loss along the axes (always done for gradients, eigenvectors and "
        "directions from files)",
    )
    same_dir: bool = option(False, "use the x direction for y as well")
    seed: int = option(SEED, "seed of the random directions", kind=natural)
    idx: int = option(0, "number of a repeat: other random directions, other file names", kind=natural, metavar="N")
    dir_file: str | None = option(None, "direction file to use; if it does not exist, it is written", metavar="FILE.h5")


@dataclass(frozen=True)
class SchemeOptions:
    """Points that do not form a plane."""

    HEADING: ClassVar[str] = "lines and curves"

    repeat: int | None = option(
        None,
        "losses along N random directions, those of --idx 0 to N-1, in one file, which plot_1D.py draws with the confidence "
        "interval of their mean",
        kind=positive,
        metavar="N",
    )
    per_layer: bool = option(
        False, "one line for each layer, along the block of that layer in the x direction; plot_layers.py draws them"
    )
    scheme: str | None = option(
        None,
        "interpolate between the network and two random networks, scaled to its size: the two schemes of the Julia notebook "
        "'Visualizing the loss landscape'",
        choices=SCHEMES,
    )
    curve: str | None = option(
        None,
        "from the network to --model_file2 along a curve of low loss that train_curve.py has found; x is the position on it",
        choices=CURVES,
    )
    control_points: tuple[str, ...] = option(
        (), "the control points of the curve, in order", old=("bend",), many="+", metavar="FILE"
    )


@dataclass(frozen=True)
class BatchNormOptions:
    """Statistics of BatchNorm away from the centre."""

    HEADING: ClassVar[str] = "BatchNorm"

    bn: str = option(
        "keep",
        "keep the running statistics of the checkpoint, or estimate them again at every point (recalibrate); with the kept "
        "ones, barriers between networks are partly an artefact",
        choices=("keep", "recalibrate"),
    )
    bn_samples: int | None = option(
        None,
        f"number of training samples for --bn recalibrate, the same at every point (default: {BN_SAMPLES})",
        kind=positive,
        metavar="N",
    )


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
        "start this number of ranks on this machine, instead of mpirun and --mpi; gpus: one for each CUDA device, with --cuda",
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
        "samples per batch (default: the fastest in a short measurement; with a number nothing is measured, and the same "
        "command gives the same last digits)",
        kind=natural,
        metavar="N",
    )
    precision: str | None = option(
        None,
        "precision of the forward pass (default: that of the network's parameters); the effect of a lower one on the loss is "
        "measured, printed and stored",
        choices=PRECISIONS,
    )


@dataclass(frozen=True)
class EvaluationOptions(BatchOptions):
    """Evaluation of losses, with a tolerance."""

    HEADING: ClassVar[str] = "run"

    memory: str | None = option(
        None,
        "'low': the network itself is moved, with its weights at the origin and the directions in temporary files (in TMPDIR, "
        "which has to be on a disk), so that a rank takes little more memory than inference does; 'fast': everything in memory "
        "(default: low from 100 million parameters on)",
        choices=MEMORIES,
    )
    tolerance: str | None = option(
        None,
        "use only as many samples, in random order, as are needed for a standard error below max(REL x loss, ABS) at each "
        "grid point, as in 0.02,0.05; neighbouring points serve as control variates; a later run with a smaller tolerance, or "
        "without one, adds samples",
        metavar="REL[,ABS]",
    )
    adaptive: str | None = option(
        None,
        "interpolate grid points whose loss is predicted by their neighbours to within max(REL x loss, ABS); the prediction is "
        "checked at points that are computed, and interpolated points are marked",
        metavar="REL[,ABS]",
    )


@dataclass(frozen=True)
class ProductOptions(BatchOptions):
    """Evaluation of Hessian-vector products."""

    batch_size: int = changed(
        BatchOptions,
        "batch_size",
        help="samples per batch (default: 256 on CUDA; 32 to 128 on the CPU, one batch for each thread)",
    )
    precision: str | None = changed(
        BatchOptions, "precision", help="default: float32, or that of a float64 network", choices=("float32", "float64")
    )


@dataclass(frozen=True)
class HessianOptions:
    """The parameters that the Hessian belongs to."""

    HEADING: ClassVar[str] = "Hessian"

    parameters: tuple[str, ...] = option(
        (),
        "parameters with respect to which the Hessian is taken, as regular expressions (default: those of --only and "
        "--except, otherwise all)",
        kind=pattern,
        many="+",
        metavar="PATTERN",
    )
    matrices_only: bool = option(False, "leave out biases and BatchNorm parameters, as the original release does")
    compile: bool = option(
        False,
        "let torch.compile fuse the operations: each product takes a quarter less time, and the start half a minute or more",
    )


@dataclass(frozen=True)
class LanczosOptions:
    """When an eigenvalue is resolved, and how many products may be spent on it."""

    HEADING: ClassVar[str] = "Hessian"

    tolerance: float = option(
        1e-2,
        "an eigenvalue is resolved when its residual is below REL x |eigenvalue|, or below the rounding error (2e-6 of the "
        "largest eigenvalue in float32), and no eigenvalue farther from zero is missed",
        kind=above_zero,
        metavar="REL",
    )
    max_products: int = option(
        300,
        "largest number of Hessian-vector products of a Lanczos run",
        kind=positive,
        old=("most",),
        metavar="N",
    )


@dataclass(frozen=True)
class SpectrumSettings(LanczosOptions):
    """The parts of a spectrum to compute, and their accuracy.

    activations: patterns of layers, empty for all layers, None for no traces with respect to activations.
    """

    HEADING: ClassVar[str] = "spectrum"

    tolerance: float = changed(LanczosOptions, "tolerance", default=1e-3)
    top: int = option(10, "number of largest eigenvalues", kind=positive, metavar="K")
    bottom: int = option(1, "number of smallest eigenvalues; these take the most products", kind=natural, metavar="K")
    trace_error: float = option(0.02, "relative standard error of the trace", kind=above_zero, metavar="REL")
    max_trace_products: int = option(
        500, "largest number of products for the trace", kind=positive, old=("trace_most",), metavar="N"
    )
    probes: int = option(
        1,
        "number of random vectors for the spectral density; the first needs no further products, several give an error band",
        kind=positive,
        metavar="N",
    )
    steps: int = option(80, "products for each further random vector", kind=positive, metavar="N")
    damping: float = option(
        5e-4,
        "regularization z in the effective dimension, the sum of v / (v + z) over the eigenvalues v; to match a weight decay, "
        "give the weight decay",
        kind=above_zero,
        old=("z",),
        metavar="Z",
    )
    layers: bool = option(False, "compute the largest eigenvalue of each layer's diagonal block as well")
    activations: tuple[str, ...] | None = option(
        None,
        "compute the trace of the Hessian with respect to the activations of layers whose name or type matches one of these "
        "regular expressions (without a pattern: of every layer)",
        kind=pattern,
        many="*",
        metavar="PATTERN",
    )
    activation_site: str = option(
        "output",
        "with --activations: the outputs of the layers, or their inputs",
        choices=("output", "input"),
        old=("at",),
    )
    activation_error: float = option(
        0.1, "relative standard error of each trace with respect to activations", kind=above_zero, metavar="REL"
    )
    max_activation_probes: int = option(
        30,
        "largest number of random vectors for these traces; each costs about one gradient per layer",
        kind=positive,
        old=("activation_most",),
        metavar="N",
    )
    seed: int = option(0, "seed of the random vectors", kind=natural)

    def __post_init__(self) -> None:
        if self.top + self.bottom > self.max_products:
            raise BadUsage(
                f"{self.top} largest and {self.bottom} smallest eigenvalues are more than {self.max_products} products can "
                f"give: raise {named('max_products')}"
            )


@dataclass(frozen=True)
class ResultOptions:
    """A file of results that is written part by part."""

    HEADING: ClassVar[str] = "output"

    force: bool = option(False, "start over even if the file exists; the old file is kept under another name")
    dry_run: bool = option(False, "print what would be computed and stop")


@dataclass(frozen=True)
class OutputConfig:
    """The surface file, and the treatment of an existing one."""

    HEADING: ClassVar[str] = "output"

    surf_file: str | None = option(None, "surface file to write, or to continue", metavar="FILE.h5")
    self_contained: bool = option(False, "copy the directions into the finished surface file")
    force: bool = option(False, "start over even if the surface file exists; the old file is kept under another name")
    verbose: bool = option(False, "print the resolved configuration")
    dry_run: bool = option(False, "print the resolved configuration and stop")


@dataclass(frozen=True)
class LookOptions:
    """The look of figures."""

    HEADING: ClassVar[str] = "figures"

    look: str | None = option(
        None,
        "colours, ground and line widths: white (paper, the default), for slides and dark pages (dark), or thin lines that stay "
        "readable in greyscale (print)",
        choices=LOOKS,
    )
    cmap: str | None = option(
        None,
        "colour map of matplotlib for fields, and for the colours of lines in figures of lines alone (default: that of the look)",
        metavar="NAME",
    )


@dataclass(frozen=True)
class ContourOptions:
    """The levels and colours of contours."""

    HEADING: ClassVar[str] = "figures"

    vmin: float | None = option(None, "lowest contour (default: from the data)", kind=finite)
    vmax: float | None = option(None, "highest contour (default: from the data)", kind=finite)
    vlevel: float | None = option(None, "distance between contours (default: from the data)", kind=finite)
    colours: str | None = option(
        None,
        "colours in proportion to the height (value), or 40 % value and 60 % rank among the cells (blended); ticks of the colour "
        "bar are exact in both (default: blended where 70 % of the cells lie in a fifth of the range)",
        choices=COLOURS,
    )


@dataclass(frozen=True)
class ShowOptions(LookOptions):
    """Looks and windows."""

    HEADING: ClassVar[str] = "figures"

    show: bool = option(False, "open the figures in windows as well")


@dataclass(frozen=True)
class DisplayOptions(ShowOptions):
    """Scale, looks and windows."""

    HEADING: ClassVar[str] = "figures"

    log: bool = option(False, "use a logarithmic scale even where a linear one would be chosen")


@dataclass(frozen=True)
class CameraOptions:
    """The view of a surface in 3-D."""

    HEADING: ClassVar[str] = "figures"

    elev: float | None = option(
        None, "elevation of the camera in degrees (default: 32, rendered: 42)", kind=finite, metavar="DEGREES"
    )
    azim: float | None = option(
        None, "azimuth of the camera in degrees (default: -60, rendered: -62)", kind=finite, metavar="DEGREES"
    )
    layout: str = option(
        "grid", "3-D surfaces side by side (grid), or in one plot (overlay)", choices=("grid", "overlay")
    )


@dataclass(frozen=True)
class FigureOptions:
    """Files of figures."""

    HEADING: ClassVar[str] = "figures"

    format: str = option("pdf,png", "file formats, of pdf, png and svg, with commas between them", metavar="LIST")
    dpi: int | None = option(None, "resolution of pictures (default: 200)", kind=positive)
    columns: int | None = option(
        None,
        "width of the figure in columns of a paper: 1 (3.4 inches) or 2 (7 inches) (default: any width)",
        kind=natural,
        choices=(1, 2),
    )
    title: str = option("", "title of the figure", metavar="TEXT")


@dataclass(frozen=True)
class DrawOptions(ShowOptions):
    """Figures of a result when it is complete."""

    HEADING: ClassVar[str] = "figures"

    plot: bool = option(False, "draw the figures when the result is complete")


@dataclass(frozen=True)
class PlotConfig(DrawOptions, ContourOptions, DisplayOptions):
    """The figures of a finished surface."""

    HEADING: ClassVar[str] = "figures"

    loss_max: float | None = option(None, "top of the loss axis of curves", kind=finite)
    proj_file: str | None = option(
        None, "trajectory to draw on the contours (file with proj_xcoord and proj_ycoord)", metavar="FILE.h5"
    )


@dataclass(frozen=True)
class PlaneOptions(NetworksOptions, DirectionOptions):
    """Networks, and directions from one of them."""


@dataclass(frozen=True)
class GridCommandOptions(PlaneOptions, DataOptions, GridOptions, BatchOptions, OutputConfig, PlotConfig):
    """Options that all commands on a grid share."""


# Configurations of jobs -----------------------------------------------------------------------------------------------


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
    stream: str = "auto"

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

    norm: str
    ignore: str
    kind: str = "random"
    number: int = 1
    file: str = ""

    @classmethod
    def parse(cls, option: str, text: str, norm: str, ignore: str) -> "AxisConfig":
        """Read 'random', 'gradient', 'eigenvector[:K]' or 'FILE.h5[:K]'. Raises BadUsage."""
        name, colon, last = text.rpartition(":")
        name, number = (name, last) if colon and is_whole(last) else (text, "1")
        if int(number) < 1 or (name in ("random", "gradient") and name != text):
            raise BadUsage(f"{option} {text}: eigenvectors and vectors of files are numbered from 1, others not at all")
        if name in ("random", "gradient", "eigenvector"):
            return cls(norm, ignore, name, int(number))
        if not name.endswith(".h5"):
            raise BadUsage(f"{option} {text}: give random, gradient, eigenvector, eigenvector:K, FILE.h5 or FILE.h5:K")
        return cls(norm, ignore, "file", int(number), name)


@dataclass(frozen=True, kw_only=True)
class DirectionConfig:
    """The directions of a line or a plane.

    Attributes:
        dir_type: 'weights' moves the parameters, 'states' the BatchNorm statistics as well.
        x, y: The directions of the axes; y is None for a line.
        same_dir: Use the x direction for y as well.
        seed, idx: The seed of random directions, and the number of the repeat.
        dir_file: The direction file; None for the default name.
        orthogonalize: Remove from y its part along x.
        curvature: Compute the second derivatives along the axes.
        only, without: Regular expressions of the names of parameters that move, and of those that do not.
        scheme, curve, repeat, per_layer: See `SchemeOptions`.
        control_points: The control points of the curve.
        dir_type_given: The user has chosen `dir_type`.
    """

    dir_type: str
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
    scheme: str = ""
    curve: str = ""
    control_points: tuple[str, ...] = ()
    repeat: int = 0
    per_layer: bool = False
    dir_type_given: bool = True

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
        precision: Of the computation; None for that of the network.
    """

    cuda: bool
    threads: int
    batch_size: int
    precision: str | None

    @property
    def device(self) -> str:
        return "cuda" if self.cuda else "cpu"


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The configuration of a command that computes a quantity over a grid.

    Attributes:
        networks, directions, data, loss, run, output, figures: Its parts.
        x, y: The axes as MIN:MAX:NUM; y is None for a line.
        command: The line that started it.
        path: Checkpoints, of which the k-th is the cell x = k.
        recalibrated: Training samples for the BatchNorm statistics of every point; 0 where they are kept.
        resolved: All options of the command by name, for the record.
    """

    networks: NetworkConfig
    directions: DirectionConfig
    data: DataConfig
    loss: str | UserFunction
    x: str
    y: str | None
    run: RunConfig
    output: OutputConfig
    figures: PlotConfig
    command: str
    path: tuple[str, ...] = ()
    recalibrated: int = 0
    resolved: Mapping[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return Grid.parse(self.x, self.y)


@dataclass(frozen=True)
class HessianConfig:
    """The parameters of a Hessian, and the residual of a resolved eigenvalue: see `HessianOptions` and `LanczosOptions`.

    parameters, without: patterns of names, see `lossatlas.hessian.Hessian`.
    """

    parameters: tuple[str, ...]
    without: tuple[str, ...]
    matrices_only: bool
    tolerance: float
    max_products: int
    compiled: bool
