"""Show what every MPI rank sees; the scheduler itself is `lossatlas.mpi`.

python scheduler.py --help
"""

from lossatlas.cli import script

if __name__ == "__main__":
    script("ranks")

from lossatlas.mpi.communicator import World, connect
from lossatlas.mpi.scheduler import answer, follow, lead, serve

__all__ = ["World", "answer", "connect", "follow", "lead", "serve"]
