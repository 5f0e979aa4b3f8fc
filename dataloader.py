"""Show or fetch data sets; `from dataloader import load` reads one.

python dataloader.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("dataloader")

from lossatlas.datasets.registry import find, get, load, load_file

__all__ = ["find", "get", "load", "load_file"]
