"""Draw curves: loss and accuracy along a line.

python plot_1D.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("plot_1D")
