"""The commands by name, and how the user of this process starts them: in a shell, from a clone, or with `python -m`.

Messages, usage lines and recorded commands take the name of a command from here, so that they name one that exists for
the user who reads them.
"""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PROGRAM, MODULE, SCRIPT = "lossatlas", "python -m lossatlas", "python"
# Names the folder in which ranks that --ranks started register, see `register_local_rank`.
LOCAL_RANKS = "LOSSATLAS_LOCAL_RANKS"


class Command(NamedTuple):
    """A command.

    Attributes:
        module: Its module in `lossatlas.commands`.
        summary: A line that says what it does.
        options: Options that are added to the user's.
        script: Its script at the root of a clone, '' for none.
    """

    module: str
    summary: str
    options: tuple[str, ...] = ()
    script: str = ""


COMMANDS = {
    "surface": Command("plot_surface", "compute the loss on a line, a plane or a volume", script="plot_surface.py"),
    "eigen": Command(
        "plot_hessian_eigen", "compute extreme eigenvalues over a line or a plane", script="plot_hessian_eigen.py"
    ),
    "spectrum": Command(
        "hessian_spectrum", "compute the Hessian's spectrum, trace and density", script="hessian_spectrum.py"
    ),
    "sharpness": Command("sharpness", "compute the worst and the average rise of the loss within a distance"),
    "learning-coefficient": Command(
        "learning_coefficient", "estimate the local learning coefficient of a minimum by Langevin dynamics"
    ),
    "trajectory": Command(
        "plot_trajectory", "project checkpoints of a training onto a plane", script="plot_trajectory.py"
    ),
    "directions": Command("net_plotter", "make or describe direction files", script="net_plotter.py"),
    "train": Command("train", "train a network", script="train.py"),
    "train-curve": Command("train_curve", "train a curve of low loss between two networks"),
    "plot": Command("plot", "draw files of any kind"),
    "plot-1d": Command("plot_1D", "draw curves", script="plot_1D.py"),
    "plot-2d": Command("plot_2D", "draw surfaces: contours, heat map, 3-D", script="plot_2D.py"),
    "plot-volume": Command("plot_volume", "draw a volume: planes side by side, or cut open"),
    "plot-layers": Command("plot_layers", "draw a curve for each layer as a heat map"),
    "plot-spectrum": Command("plot_spectrum", "draw a Hessian's spectral density and traces"),
    "plot-sharpness": Command("plot_sharpness", "draw the rise of the loss over the distance"),
    "plot-learning-coefficient": Command(
        "plot_learning_coefficient", "draw the chains of a learning coefficient, or several coefficients"
    ),
    "minima": Command("plot_minima", "draw and count the minima of a surface"),
    "animate": Command("animate_surface", "make a film of a surface"),
    "view": Command("view_surface", "write an interactive page of surfaces", script="view_surface.py"),
    "gallery": Command("view_gallery", "write a folder of interactive pages with an index"),
    "flatness": Command("flatness", "print how flat surfaces are around their centres"),
    "info": Command("h5_util", "describe, export or convert a file", script="h5_util.py"),
    "check": Command("h5_util", "verify that a file is complete and undamaged", ("--check",)),
    "vtk": Command("h52vtp", "write a surface for ParaView", script="h52vtp.py"),
    "data": Command("dataloader", "show or download data sets", script="dataloader.py"),
    "ranks": Command("ranks", "show what every MPI rank sees", script="scheduler.py"),
    "completion": Command("completion", "print a script that completes these names in a shell"),
}


class Started:
    """The way in which this process was started; set by `lossatlas.cli` alone.

    by: PROGRAM, MODULE or SCRIPT. name: of the command, '' where a function was called. prefix: the words that start
    this command again. typed: the command line of the user, where it is not this process's own.
    """

    by = PROGRAM
    name = ""
    prefix: Sequence[str] = ()
    typed = ""


def find_command(word: str) -> str:
    """Return the name of the command that a word means: its name, its module or its script; '' for none."""
    stem = word.removesuffix(".py")
    names = (name for name, each in COMMANDS.items() if stem in (each.module, Path(each.script or name).stem))
    return stem if stem in COMMANDS else next(names, "")


def program(module: str = "") -> str:
    """Name a command as the user of this process knows it.

    Args:
        module: Its module in `lossatlas.commands`, or another of its names; the running command if ''.

    Returns:
        'lossatlas flatness', 'python -m lossatlas flatness', or 'plot_surface.py' for a script at the root of a clone.
    """
    if not module and not Started.name:
        return Path(sys.argv[0]).name
    name = find_command(module) if module else Started.name
    script = COMMANDS[name].script
    if Started.by == SCRIPT and script:
        return script
    return f"{PROGRAM if Started.by == PROGRAM else MODULE} {name}"


def shell(module: str = "") -> str:
    """Return the words that start a command in the user's shell: as `program`, with 'python' before a script."""
    words = program(module)
    return f"python {words}" if words.endswith(".py") else words


def command_line(module: str, arguments: Sequence[str]) -> str:
    """Return the command line that the user typed, or would type, as files record it.

    Args:
        module: Of the command, in `lossatlas.commands`.
        arguments: Its arguments.
    """
    return Started.typed or f"{shell(module)} {shlex.join(arguments)}".rstrip()


SCRIPTS = sorted({c.module for c in COMMANDS.values()} | {"scheduler"}, key=len, reverse=True)
MENTIONED = re.compile(
    rf"\b(?:(python )?({'|'.join(SCRIPTS)})\.py"
    rf"|(?:python -m )?lossatlas\s+({'|'.join(sorted(COMMANDS, key=len, reverse=True))}))(?![\w:-]|\.\w)"
)


def in_own_words(text: str) -> str:
    """Replace names of commands in a help text, 'lossatlas NAME' or 'python FILE.py', by those that the user knows."""

    def replaced(found: re.Match[str]) -> str:
        python, script, name = found.groups()
        module = COMMANDS[name or find_command(script)].module
        return shell(module) if python or name else program(module)

    return MENTIONED.sub(replaced, text)


def register_local_rank() -> None:
    """Tell the process that started this rank by --ranks its number and process id, and learn what the user typed.

    The folder's name is removed from the environment: a command that this process starts is not a rank.
    """
    from lossatlas.launchers import rank_launched

    if folder := os.environ.pop(LOCAL_RANKS, ""):
        Started.typed = Path(folder, "command").read_text()
        Path(folder, f"{rank_launched()}.{os.getpid()}").touch()


def again(module: str) -> list[str]:
    """Return the words that start a command of this installation in another process, as this one was started."""
    return list(Started.prefix) or [sys.executable, "-m", "lossatlas", find_command(module)]
