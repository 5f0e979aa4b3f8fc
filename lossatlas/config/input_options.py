"""Options of the network, and of the data and the loss."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lossatlas.choices import StreamMode
from lossatlas.config.option_fields import changed, loss_name, natural, option, positive


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
        "checkpoint at the centre: .safetensors, a file of torch.save or Lightning, or a folder with one; FILE:WORD "
        "chooses one of several sets of weights, as in last.ckpt:state_dict_ema; not needed where your own function "
        "gives a trained network",
    )


@dataclass(frozen=True)
class TwoNetworksOptions(NetworkOptions):
    """The network at the centre, and a second one."""

    HEADING: ClassVar[str] = "network"

    model_file2: str | None = option(None, "checkpoint at x = 1: the x direction points to it")
    align: bool = option(
        False,
        "permute the hidden units of the other networks so that they match those of the network at the centre; the "
        "functions that the networks compute stay the same (weight matching of Git Re-Basin)",
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
        "mnist, fashion_mnist, fashion_mnist_mini (bundled), cifar10, cifar100, imagefolder or npz, or "
        "FILE.py:FUNCTION that gives your own data; text:FILE.jsonl, text:FILE.txt or choices:FILE.jsonl for the texts "
        "or the questions of a language model",
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
        "crossentropy, mse, next_token (of causal language models, the default for hf:FOLDER), multiple_choice (of the "
        "questions of choices:FILE), or FILE.py:FUNCTION for your own loss",
        kind=loss_name,
        short="-l",
        metavar="LOSS",
    )


@dataclass(frozen=True)
class DataOptions(DatasetOptions):
    """The data set, the part of it that is used, and how it is read."""

    HEADING: ClassVar[str] = "data"

    image_size: int = option(224, "height and width of the images of an image folder", kind=positive, metavar="N")
    stream: StreamMode = option(
        "auto",
        "read the samples of an image folder, or of your own data set, when they are needed: always, never, or auto: "
        "if they do not fit into memory, or if a tolerance needs only some of them",
    )
    split: Literal["train", "test", "both"] = option("train", "which samples")
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

    split: Literal["train", "test"] = changed(DataOptions, "split")
