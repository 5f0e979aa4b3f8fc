"""Project the checkpoints of a training run on a plane.

python plot_trajectory.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("plot_trajectory")
