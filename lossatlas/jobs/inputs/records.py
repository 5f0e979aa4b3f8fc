"""Records of a job: the fields that identify it, and the provenance that a file holds beside them."""

import platform
import socket
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES
from lossatlas.mpi.communicator import World, mpi_library

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.data import AnyData, Losses, LossLike


def provenance(
    world: World, command: str, threads: int, seed: int, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the provenance of a run for its file, none of which is compared when the file is continued.

    Args:
        world: The ranks.
        command: The command line.
        threads: CPU threads of each rank.
        seed: The seed of random directions.
        options: All options of the command by name.

    Returns:
        These, and the time, the host and the versions of the libraries.
    """
    import torch

    import lossatlas

    return {
        "command": command,
        "started": datetime.now().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "ranks": world.size,
        "threads_per_rank": threads,
        "seed": seed,
        "versions": {
            "lossatlas": lossatlas.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "h5py": version("h5py"),
            **({"mpi": mpi_library()} if world.comm is not None else {}),
        },
        **({"config": dict(options)} if options else {}),
    }


def request_of(net: "nn.Module", loss: "LossLike", splits: "Mapping[str, AnyData]", losses: "Losses") -> dict[str, Any]:
    """Return the fields that identify a job, see `io.resume`.

    Args:
        net: The network.
        loss: The loss as the user gave it.
        splits: The data by split.
        losses: The losses of some samples.
    """
    from lossatlas.jobs.inputs.fingerprint import data_record, settings_digest, user_loss_name
    from lossatlas.models.checkpoint import state_digest
    from lossatlas.models.state_names import state_tensors

    name = {"loss": loss} if isinstance(loss, str) else {"loss_function": user_loss_name(loss)}
    return {
        "model_class": type(net).__name__,
        "model_settings": settings_digest(net),
        "checkpoint": state_digest(state_tensors(net)),
        **name,
        "loss_settings": settings_digest(loss),
        LOSS_OF_SOME_SAMPLES: float(losses.mean()),
        **data_record(splits),
    }


def about_of(splits: "Mapping[str, AnyData]") -> dict[str, Any]:
    """Return the provenance that a file records beside the request."""
    import torch

    from lossatlas.jobs.inputs.fingerprint import data_sketches

    return {"torch": torch.__version__, "sketches": data_sketches(splits)}
