"""Draw surfaces: contours, filled contours, heat maps and 3-D.

python plot_2D.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("plot_2D")
