"""Names of the axes of a surface on the page."""

from collections.abc import Mapping, Sequence
from typing import Any

from lossatlas.io.trajectory_files import Projection

PRINCIPAL = "principal component"  # as files of directions and trajectories name the axes of such a plane


def axis_names(directions: Mapping[str, Any] | None, trajectory: Projection | None) -> list[str]:
    """Name the axes of a plane: principal components by their number and share of the variance, others x and y.

    Args:
        directions: Metadata of the direction file, or None.
        trajectory: Path of a training run in the plane, or None.

    Returns:
        Two names.

    Example:
        >>> axis_names({"x": "1st principal component", "y": "2nd principal component"}, None)
        ['PCA direction 1', 'PCA direction 2']
    """
    shares = trajectory.explained if trajectory is not None else ()
    if not shares and not _are_principal(trajectory.axes if trajectory is not None else _axes_of(directions)):
        return ["x", "y"]
    percents = [f" ({100 * share:.0f} % of the variance)" for share in shares[:2]]
    return [f"PCA direction {k + 1}{percents[k] if k < len(percents) else ''}" for k in range(2)]


def _axes_of(directions: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(str((directions or {}).get(letter, "")) for letter in "xy")


def _are_principal(axes: Sequence[str]) -> bool:
    return len(axes) > 0 and all(PRINCIPAL in name for name in axes)
