"""The environment of an MPI launcher: ranks and sizes, known before MPI is initialized, and without it."""

import os

SIZES = (
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "PMIX_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "PALS_SIZE",
    "FLUX_JOB_SIZE",
    "SLURM_STEP_NUM_TASKS",
)
RANKS = (
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
    "PMIX_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "FLUX_TASK_RANK",
    "SLURM_PROCID",
)
# A variable that only one family's launcher sets, and words in the names of libraries of other families.
FOREIGN = {
    "OMPI_COMM_WORLD_SIZE": ("Open MPI", ("MPICH", "Intel", "MVAPICH", "CRAY")),
    "HYDI_CONTROL_FD": ("MPICH", ("Open MPI",)),
    "MV2_COMM_WORLD_SIZE": ("MVAPICH", ("Open MPI",)),
    "PALS_SIZE": ("Cray PALS", ("Open MPI",)),
}


def launched() -> int:
    """Return the number of ranks that the launcher started; 1 without a launcher.

    Example:
        >>> launched()
        1
    """
    sizes = [os.environ.get(name, "") for name in SIZES]
    return max([int(size) for size in sizes if size.isdecimal() and len(size) < 10], default=1)


def first_launched() -> bool:
    """Test whether this process is the launcher's rank 0, or there is no launcher."""
    return all(os.environ.get(name, "0") == "0" for name in RANKS)


def rank_launched() -> str:
    """Return this process's rank as the launcher states it; '0' without a launcher."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "0")


def other_family(library: str) -> str:
    """Return the launcher's family if the MPI library does not belong to it, otherwise ''.

    Args:
        library: Name of the MPI library, as it states it.
    """
    for name, (family, words) in FOREIGN.items():
        if name in os.environ and any(word in library for word in words):
            return family
    return ""


def under_launcher() -> bool:
    """Return whether a launcher started this process, be it alone. The shell of a batch job counts as none."""
    return any(name in os.environ for name in SIZES if not name.startswith("SLURM_"))
