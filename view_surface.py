"""Write the interactive page of finished surfaces.

python view_surface.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("view_surface")
