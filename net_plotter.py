"""Make or describe the directions of a surface.

python net_plotter.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("net_plotter")

from lossatlas.commands.net_plotter import describe_direction_file as describe
from lossatlas.jobs.inputs.named_directions import find_directions, moved_lines

__all__ = ["describe", "find_directions", "moved_lines"]
