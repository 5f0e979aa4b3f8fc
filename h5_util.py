"""Show, check, export or convert the files.

python h5_util.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("h5_util")

from lossatlas.io.contents import check, convert, describe, export, slim

__all__ = ["check", "convert", "describe", "export", "slim"]
