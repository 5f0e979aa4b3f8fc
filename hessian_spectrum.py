"""Compute eigenvalues, trace, density and effective dimension of the Hessian.

python hessian_spectrum.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("hessian_spectrum")
