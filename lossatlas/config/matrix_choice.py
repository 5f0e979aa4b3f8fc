"""The choice of a matrix of second order: what it allows, and the fields that identify its results."""

from typing import Any

from lossatlas.choices import CurvatureMatrix
from lossatlas.errors import BadUsage, named


def check_matrix(matrix: CurvatureMatrix, fisher_draws: int, **for_hessian: bool) -> None:
    """Check that the settings of a job suit its matrix.

    Args:
        matrix: The matrix, see `hessian.gauss_newton`.
        fisher_draws: The number of targets that are drawn for each sample.
        for_hessian: Settings that only the Hessian has, by the names of their arguments: whether they are chosen.

    Raises:
        BadUsage: A setting is for another matrix, or the number is below 1.
    """
    if not isinstance(fisher_draws, int) or fisher_draws < 1:
        raise BadUsage(f"{named('fisher_draws', fisher_draws)}: the number of drawn targets has to be 1 or more")
    if fisher_draws != 1 and matrix != "mc_fisher":
        raise BadUsage(
            f"{named('fisher_draws', fisher_draws)} is for {named('matrix', 'mc_fisher')}, whose targets are drawn"
        )
    for name, chosen in for_hessian.items():
        if chosen and matrix != "hessian":
            own = "compile" if name == "compiled" else name
            raise BadUsage(f"{named(own)} is for the Hessian: leave it or {named('matrix', matrix)} out")


def matrix_request(matrix: CurvatureMatrix, fisher_draws: int, seed: int) -> dict[str, Any]:
    """Return the fields that tell the results of a matrix from those of others; none for the Hessian.

    Args:
        matrix: The matrix.
        fisher_draws: The number of targets that are drawn for each sample.
        seed: Their seed.

    Example:
        >>> matrix_request("ggn", 1, 0), matrix_request("mc_fisher", 2, 7)
        ({'matrix': 'ggn'}, {'matrix': 'mc_fisher', 'fisher_draws': 2, 'target_seed': 7})
    """
    if matrix == "hessian":
        return {}
    drawn = {"fisher_draws": fisher_draws, "target_seed": seed} if matrix == "mc_fisher" else {}
    return {"matrix": matrix, **drawn}
