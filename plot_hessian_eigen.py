"""Compute the smallest and the largest Hessian eigenvalue on a line or a plane.

python plot_hessian_eigen.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("plot_hessian_eigen")
