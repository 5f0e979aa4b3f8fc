"""Write surfaces for ParaView.

python h52vtp.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("h52vtp")
