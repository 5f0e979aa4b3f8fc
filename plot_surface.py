"""Compute the loss of a network on a line or a plane through its parameters.

python plot_surface.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("plot_surface")
