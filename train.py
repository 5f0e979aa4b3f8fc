"""Train a network of the zoo, or one of your own.

python train.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("train")
