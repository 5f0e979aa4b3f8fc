"""Project the checkpoints of a training run onto a plane, by default that of their two principal components.

    python plot_trajectory.py --model resnet20 --dataset fashion_mnist_mini --prefix model_ --suffix .t7 \\
        --model_folder trained_nets/MY_RUN --start_epoch 0 --max_epoch 30 --save_epoch 1

Then compute the surface under the trajectory along the directions that this command writes, and draw both:

    python plot_surface.py ... --model_file trained_nets/MY_RUN/model_30.t7 --dir_file DIRECTIONS.h5 --x=... --y=... \\
        --plot --proj_file PROJECTION.h5
"""

import guard

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import options
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.record import Directions, read_directions, write_directions, write_projection
from lossatlas.record.trajectories import EXPLAINED
from lossatlas.writing import set_aside

if TYPE_CHECKING:
    from torch import nn

    from lossatlas.space import Point


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--model", default="resnet56", help="name in the zoo, or FILE.py:FUNCTION (default: %(default)s)")
    p.add_argument("--model_args", nargs="+", default=[], metavar="KEY=VALUE", help="arguments of that function")
    p.add_argument(
        "--dataset", default="cifar10", help="whose shape and classes the network has (default: %(default)s)"
    )
    p.add_argument("--model_folder", required=True, help="folder of the checkpoints")
    p.add_argument("--prefix", default="model_", help="beginning of a checkpoint's name (default: %(default)s)")
    p.add_argument("--suffix", default=".t7", help="end of a checkpoint's name (default: %(default)s)")
    p.add_argument("--start_epoch", type=options.natural, default=0)
    p.add_argument("--max_epoch", type=options.natural, default=300, help="the last one, and the origin of the plane")
    p.add_argument("--save_epoch", type=options.positive, default=1, help="every so many epochs")
    p.add_argument("--dir_type", choices=("weights", "states"), default="weights")
    p.add_argument("--ignore", choices=("", "biasbn"), default="", help="biasbn: leave out biases and BatchNorm")
    options.add_selection(p, "project")
    p.add_argument("--dir_file", help="project onto the plane in this file instead")
    p.add_argument("--force", action="store_true", help="replace the directions of other checkpoints")
    p.add_argument("--show", action="store_true", help="open a window too")
    return p


def checkpoints(args: argparse.Namespace) -> tuple[list[int], list[Path]]:
    """The epochs in question and their files. Raises BadInput when one is missing."""
    if args.start_epoch >= args.max_epoch:
        raise BadUsage(f"--start_epoch {args.start_epoch} has to be below --max_epoch {args.max_epoch}")
    epochs = list(range(args.start_epoch, args.max_epoch + 1, args.save_epoch))
    if epochs[-1] != args.max_epoch:
        epochs.append(args.max_epoch)
    files = [Path(args.model_folder) / f"{args.prefix}{epoch}{args.suffix}" for epoch in epochs]
    if missing := [file for file in files if not file.exists()]:
        raise BadInput(
            f"no checkpoint {missing[0]} ({len(missing)} of {len(files)} are missing): "
            "set --start_epoch, --max_epoch and --save_epoch to what is there"
        )
    return epochs, files


def read_path(files: Sequence[Path], net: "nn.Module", dir_type: str) -> "Iterator[Point]":
    """The network at each checkpoint."""
    from lossatlas.space import tensors
    from models import load_into, read_state

    for file in files:
        load_into(net, read_state(file), str(file))
        yield {name: value.clone() for name, value in tensors(net, dir_type).items()}


def principal_directions(
    rows: np.ndarray, net: "nn.Module", origin: "Point", args: argparse.Namespace, about: dict[str, str]
) -> Directions:
    from lossatlas.computing.trajectories import principal_plane
    from lossatlas.space import as_arrays, lengths

    found, plane = principal_plane(rows, origin)
    x, y = (as_arrays(point, net, args.dir_type) for point in plane)
    extra = {
        EXPLAINED: found.explained_variance_ratio,
        "singular_values_": found.singular_values,
        "explained_variance_": found.explained_variance,
        "tensors": np.array([name.encode() for name in origin]),
        "lengths": lengths(origin, plane),
    }
    names = {"x": "1st principal component", "y": "2nd principal component"}
    return Directions(x, y, {**about, **names, "ignore": args.ignore}, extra)


def report(found: np.ndarray, rows: np.ndarray, epochs: Sequence[int], known: dict[str, np.ndarray]) -> None:
    """Say how much of the path the plane shows, and where it is."""
    distances = known["distance"]
    if EXPLAINED in known:
        ratio = 100 * known[EXPLAINED]
        say(f"the plane explains {ratio[0]:.2f} % + {ratio[1]:.2f} % of the variance")
    say(
        f"farthest from the plane: epoch {epochs[int(distances.argmax())]}, by {distances.max():.4g} "
        f"(the path begins {np.linalg.norm(rows[0]):.4g} away from its end)"
    )
    say(
        f"x from {found[:, 0].min():.4g} to {found[:, 0].max():.4g}, "
        f"y from {found[:, 1].min():.4g} to {found[:, 1].max():.4g}"
    )


def run(args: argparse.Namespace) -> None:
    from dataloader import SOURCES
    from lossatlas.computing.trajectories import coordinates, differences
    from lossatlas.space import Selection, as_point
    from models import build, read_state
    from models.checkpoint import digest

    model = options.model_choice(args)
    if isinstance(model, str) and args.dataset not in SOURCES:
        raise BadUsage(f"unknown data set '{args.dataset}': choose from {', '.join(SOURCES)}")
    epochs, files = checkpoints(args)
    if isinstance(model, str):
        source = SOURCES[args.dataset]
        net = build(model, (3, 32, 32) if len(source.mean) == 3 else (1, 28, 28), source.classes)
    else:
        net = build(model).eval()
    selection = Selection(args.only, args.without)
    (last,) = read_path(files[-1:], net, args.dir_type)
    rows = differences(read_path(files, net, args.dir_type), len(files), last, net, args.ignore, selection)
    origin = digest(read_state(files[-1]))
    if args.dir_file:
        dir_file = Path(args.dir_file)
        directions = read_directions(dir_file)
        if directions.y is None:
            raise BadInput(f"{dir_file} holds one direction, a plane needs two")
    else:
        ignore = f"_ignore={args.ignore}" if args.ignore else ""
        chosen = "".join(f"_{options.plain(part)}" for part in str(selection).split(", ") if part)
        folder = Path(args.model_folder) / f"PCA_{args.dir_type}{ignore}{chosen}_save_epoch={args.save_epoch}"
        dir_file = folder / "directions.h5"
        about = {
            "model": str(model),
            "checkpoint": origin,
            "dir_type": args.dir_type,
            "of": f"{len(files)} checkpoints, {files[0].name} to {files[-1].name}"
            + (f", {selection}" if selection else ""),
        }
        directions = principal_directions(rows, net, last, args, about)
        options.make_folder(folder)
        if dir_file.exists() and not args.force and read_directions(dir_file).sha256 != directions.sha256:
            raise BadInput(
                f"{dir_file} holds other directions ({read_directions(dir_file).about.get('of', 'unknown')}), "
                "on which surfaces may rest: use them with --dir_file, or replace them with --force"
            )
        if args.force and dir_file.exists() and read_directions(dir_file).sha256 != directions.sha256:
            say(f"note: the directions that were there are now in {set_aside(dir_file)}")
        write_directions(dir_file, directions)
    assert directions.y is not None
    plane = [as_point(axis, net, args.dir_type, f"a direction in {dir_file}") for axis in (directions.x, directions.y)]
    found, distances = coordinates(rows, plane, str(dir_file))
    proj_file = dir_file.with_name(f"{dir_file.name}_proj_cos.h5")
    known = {"epochs": np.array(epochs), "distance": distances}
    if EXPLAINED in directions.extra and not args.dir_file:  # of another plane it says nothing of these checkpoints
        known[EXPLAINED] = directions.extra[EXPLAINED]
    write_projection(proj_file, found, directions.sha256, origin, **known)
    report(found, rows, epochs, known)
    say(f"wrote {dir_file} and {proj_file}" if not args.dir_file else f"wrote {proj_file}")
    import plot_2D

    plot_2D.draw_path(proj_file, dir_file, show=args.show)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    guard.run(main)
