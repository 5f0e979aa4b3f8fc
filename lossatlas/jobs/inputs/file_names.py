"""Names of output files when none is given: the original release's names, extended by what it leaves out."""

import hashlib
import os
import re
from pathlib import Path

from lossatlas.config import (
    DIRECTION_SEED,
    AxisConfig,
    DirectionConfig,
    GridConfig,
    LossChoice,
    ModelChoice,
    NetworkConfig,
)
from lossatlas.user_code import UserFunction

LONGEST_NAME = 200  # bytes; file systems allow 255, and figures append to the name


def base_name(model: ModelChoice, file: str) -> str:
    """Return the beginning of the names of output files: the checkpoint, or the function that gives the network."""
    return file.rstrip("/") or (model.base_name if isinstance(model, UserFunction) else model)


def checkpoint_name(model: ModelChoice, file: str) -> str:
    """Return `base_name`, and the arguments of a function that gives the network, since others give another one."""
    if file or not isinstance(model, UserFunction):
        return base_name(model, file)
    own = [f"{key}={plain(str(value))}" for key, value in model.arguments.items() if key != model.short_argument]
    return "_".join([base_name(model, file), *own])


def direction_name(nets: NetworkConfig, choice: DirectionConfig) -> Path:
    """Name the direction file when no name is given, as the original release does."""
    name = checkpoint_name(nets.model, nets.file)
    if nets.file2:
        name = joined_names(name, nets.file2)
    name += f"_{choice.dir_type}"
    name += named_axis("x", choice.x)
    if choice.y is not None:
        if nets.file3:
            name = joined_names(name, nets.file3)
        else:
            name += named_axis("y", choice.y)
            name += "_same_dir" if choice.same_dir else ""
        if choice.z is not None:
            name += named_axis("z", choice.z) or "_z"
        name += "_orthogonal" if choice.orthogonalize else ""
    for word, patterns in (("only", choice.only), ("except", choice.without)):
        name += f"_{word}={'+'.join(map(plain, patterns))}" if patterns else ""
    name += "_aligned" if nets.align else ""
    name += f"_{choice.scheme}" if choice.scheme else ""
    name += f"_{choice.curve}_{Path(choice.control_points[0]).stem}" if choice.curve else ""
    if choice.idx:
        name += f"_idx={choice.idx}"
    if choice.seed != DIRECTION_SEED:
        name += f"_seed={choice.seed}"
    return shortened_name(Path(name + ".h5"))


def plain(pattern: str) -> str:
    """Write a regular expression as a part of a file name."""
    return re.sub(r"[^\w.=+-]", "_", pattern)


def named_axis(letter: str, axis: AxisConfig) -> str:
    """Name the direction of an axis, its ignored parameters and its normalization as a part of a file name."""
    what = {
        "random": "",
        "file": f"_{letter}={Path(axis.file).stem}:{axis.number}",
        "eigenvector": f"_{letter}=eigenvector{axis.number}",
    }.get(axis.kind, f"_{letter}={axis.kind}")
    ignore = f"_{letter}ignore={axis.ignore}" if axis.ignore else ""
    return what + ignore + (f"_{letter}norm={axis.norm}" if axis.norm else "")


def joined_names(first: str, second: str) -> str:
    """Return `first` and the difference of `second` from it: its name, with its folder when that is another one.

    For files in folders side by side this is the original's name, which lies beside the folders.
    """
    a, b = Path(first), Path(second)
    if a.parent != b.parent and a.parent.parent == b.parent.parent and a.parent.name and b.parent.name:
        return f"{a.parent}_{a.name}_{b.parent.name}_{b.name}"
    return f"{first}_{b.name}" if a.parent == b.parent else f"{first}_{b.parent.name}_{b.name}"


def surface_name(dir_file: Path, task: GridConfig) -> Path:
    """Name the surface file when no name is given: the original's name, with what it leaves out."""
    name, data = dir_file.name, task.data
    ranges = [[float(part) for part in text.split(":")] for text in (task.x, task.y, task.z) if text]
    name += "_" + "x".join(f"[{low},{high},{int(number)}]" for low, high, number in ranges)
    name += f"_repeat={task.directions.repeat}" if task.directions.repeat else ""
    name += "_per_layer" if task.directions.per_layer else ""
    name += "_rawdata" if data.raw else ""
    name += f"_datasplit={data.data_split}_splitidx={data.split_idx}" if data.data_split > 1 else ""
    name += f"_loss={loss_word(task.loss)}" if task.loss != "crossentropy" else ""
    name += f"_limit={data.limit}" if data.limit else ""
    name += "" if data.splits == ("train",) else f"_split={'+'.join(data.splits)}"
    name += "" if task.run.precision in (None, "float32") else f"_precision={task.run.precision}"
    name += f"_bn={task.recalibrated}" if task.recalibrated else ""
    return shortened_name(dir_file.with_name(name + ".h5"))


def loss_word(loss: LossChoice) -> str:
    return loss.name if isinstance(loss, UserFunction) else loss


def shortened_name(path: Path) -> Path:
    """Replace the end of a name by a hash where it is so long that names of figures beside it would not be valid."""
    name = os.fsencode(path.name)
    if len(name) <= LONGEST_NAME:
        return path
    kept = name[: LONGEST_NAME - 20].decode(errors="ignore")
    return path.with_name(f"{kept}_{hashlib.sha256(name).hexdigest()[:12]}.h5")


def writable_folder(path: Path) -> bool:
    return os.access(path.resolve().parent, os.W_OK)
