"""The program `lossatlas NAME ...`, and the scripts at the root of a clone, which run the same commands.

Signals and exits are guarded from the first moment on, before anything heavy is imported: see `process`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from lossatlas import process

# Short names of commands, and the modules of `lossatlas.commands` that hold them; those are names too.
COMMANDS = {
    "surface": "plot_surface",
    "eigen": "plot_hessian_eigen",
    "spectrum": "hessian_spectrum",
    "sharpness": "sharpness",
    "trajectory": "plot_trajectory",
    "directions": "net_plotter",
    "train": "train",
    "train-curve": "train_curve",
    "plot-1d": "plot_1D",
    "plot-2d": "plot_2D",
    "plot-layers": "plot_layers",
    "plot-spectrum": "plot_spectrum",
    "plot-sharpness": "plot_sharpness",
    "minima": "plot_minima",
    "flatness": "flatness",
    "view": "view_surface",
    "animate": "animate_surface",
    "vtk": "h52vtp",
    "info": "h5_util",
    "data": "dataloader",
    "ranks": "ranks",
}


def script(module: str) -> NoReturn:
    """Run a command as the program, from a script of its own name.

    Args:
        module: Its module in `lossatlas.commands`.
    """
    process.arm()
    process.run(lambda: import_module(f"lossatlas.commands.{module}").main())


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command that the first argument names, as the program."""
    process.arm()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    module = COMMANDS.get(name, name.removesuffix(".py"))
    if module not in COMMANDS.values():
        print(f"error: '{name}' is no command: choose from {', '.join(COMMANDS)}", file=sys.stderr)
        process.leave(2)
    sys.argv = [f"lossatlas {name}", *arguments[1:]]
    process.run(lambda: import_module(f"lossatlas.commands.{module}").main())
