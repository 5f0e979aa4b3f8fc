"""Make or describe the directions of a surface: random ones, towards other networks, from a file, or from curvature.

    python net_plotter.py --model resnet20 --model_file MODEL --xnorm filter --ynorm filter --dir_file OUT.h5  makes two
    python net_plotter.py OUT.h5                                      prints how far the directions move each tensor

Gradients of the loss and top eigenvectors of its Hessian are computed too. A direction file that exists is kept where
it holds the directions that the options ask for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from lossatlas import config
from lossatlas.commands import job_choices, options
from lossatlas.config.option_fields import changed, natural, option, resolved_options
from lossatlas.errors import exit_code, printable, say
from lossatlas.io import read_directions, write_directions
from lossatlas.jobs.inputs import file_names
from lossatlas.jobs.inputs.named_directions import direction_request, find_directions, moved_lines
from lossatlas.jobs.inputs.named_inputs import check_user_functions, load_inputs
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.output_files import check_folder, output_path
from lossatlas.mpi.rank_resources import device_of


def describe_direction_file(path: Path) -> list[str]:
    """Describe a direction file in lines of text.

    Returns:
        Lines of the lengths, the angle, the record and the moves of each tensor.

    Raises:
        BadInput: As `read_directions`.
    """
    saved = read_directions(path)
    axes = [arrays for arrays in (saved.x, saved.y) if arrays is not None]
    flat = [np.concatenate([np.ravel(array).astype(np.float64) for array in arrays]) for arrays in axes]
    norms = [float(np.linalg.norm(vector)) for vector in flat]
    lines = [
        f"{letter}: {len(arrays)} tensors, {vector.size:,} numbers, length {norm:.6g}"
        for letter, arrays, vector, norm in zip("xy", axes, flat, norms, strict=False)
    ]
    if len(flat) == 2:
        lines.append(f"cosine between them: {float(flat[0] @ flat[1]) / max(norms[0] * norms[1], 1e-300):.4g}")
    lines += [f"{key}: {value}" for key, value in saved.about.items() if key != "config"]
    if "tensors" in saved.extra:
        names = [name.decode() for name in saved.extra["tensors"]]
        return [*lines, *moved_lines(names, saved.extra["lengths"])]
    lines.append("the file does not say which tensors these are; lengths in its order:")
    columns = [" ".join(f"{np.linalg.norm(arrays[k]):.4g}" for arrays in axes) for k in range(len(axes[0]))]
    return [
        *lines,
        *(f"{k} {'x'.join(map(str, axes[0][k].shape)) or 'a number'}: {row}" for k, row in enumerate(columns)),
    ]


@dataclass(frozen=True)
class DirectionFileOptions(config.PlaneOptions, config.OneSplitDataOptions):
    """The directions to make, and the file to write them to or to describe."""

    HEADING: ClassVar[str] = "run"

    file: str | None = option(
        None,
        "direction file, or surface file, to describe; without it, directions are computed",
        metavar="FILE",
        positional=True,
    )
    axes: Literal[1, 2, 3] = option(2, "number of directions", kind=natural)
    cuda: bool = changed(config.DeviceOptions, "cuda", help="compute gradient and eigenvectors on a CUDA device")


def parser() -> options.Parser[DirectionFileOptions]:
    return options.Parser(__doc__, DirectionFileOptions)


def run(args: DirectionFileOptions) -> None:
    """Describe the file that is named, or make directions."""
    if args.file:
        for line in describe_direction_file(Path(args.file)):
            print(printable(line))
    else:
        make(args)


def make(args: DirectionFileOptions) -> None:
    """Find or make the directions that the options ask for, write them, and print them."""
    nets, choice, chosen, loss = (
        job_choices.networks(args),
        job_choices.direction_choice(args, args.axes),
        job_choices.data_choice(args),
        job_choices.loss_choice(args),
    )
    check_user_functions(nets.model, chosen.dataset, loss)
    dir_file = output_path(choice.dir_file, file_names.direction_name(nets, choice), None)
    check_folder("direction", dir_file)
    loaded = load_inputs(nets, choice.dir_type, chosen, loss)
    curvature = OriginCurvature.of(loaded, choice.selection, device_of(args.cuda))
    request = direction_request(loaded, nets, choice, curvature)
    found = find_directions(dir_file, request, loaded.record, choice)
    assert found is not None
    directions, new = found
    if new:
        write_directions(dir_file, replace(directions, about={**directions.about, "config": resolved_options(args)}))
    if choice.curvature:
        curvature.along(directions)
    for line in describe_direction_file(dir_file):
        say(line)
    say(f"wrote {dir_file}" if new else f"{dir_file} holds them already")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
