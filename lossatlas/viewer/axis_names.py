"""Names of the axes of a surface on the page."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lossatlas.io.trajectory_files import Projection

PRINCIPAL = "principal component"  # as files of directions and trajectories name the axes of such a plane
LONGEST = 28  # letters of a name beside an axis
REST = re.compile(r" from .*|, .*", re.DOTALL)  # what a name beside an axis leaves out


def axis_names(directions: Mapping[str, Any] | None, trajectory: Projection | None) -> list[str]:
    """Name the axes of a plane: principal components by their number and share of the variance.

    Others have the names that the file of the path gives them, in short; without a path they are x and y.

    Args:
        directions: Metadata of the direction file, or None.
        trajectory: Path of a training run in the plane, or None.

    Returns:
        Two names.

    Example:
        >>> axis_names({"x": "1st principal component", "y": "2nd principal component"}, None)
        ['1st principal component', '2nd principal component']
        >>> import numpy as np
        >>> river = ("drift from 0.pt to 9.pt", "top eigenvector, at a right angle")
        >>> axis_names(None, Projection(np.zeros(2), np.zeros(2), axes=river))
        ['drift', 'top eigenvector']
    """
    shares = trajectory.explained if trajectory is not None else ()
    if not shares and not are_principal(trajectory.axes if trajectory is not None else _axes_of(directions)):
        return [_in_short(name) for name in full_axis_names(trajectory)]
    percents = [f" ({100 * share:.0f} % of the variance)" for share in shares[:2]]
    return [
        f"{number} {PRINCIPAL}{percents[k] if k < len(percents) else ''}" for k, number in enumerate(("1st", "2nd"))
    ]


def full_axis_names(trajectory: Projection | None) -> list[str]:
    """Return the names that the file of a path gives the axes of its plane; x and y where it gives none.

    Args:
        trajectory: Path of a training run in the plane, or None.

    Example:
        >>> full_axis_names(None)
        ['x', 'y']
    """
    axes = trajectory.axes if trajectory is not None else ()
    return [axes[k].strip() or letter if k < len(axes) else letter for k, letter in enumerate("xy")]


def _in_short(name: str) -> str:
    short = REST.sub("", name) or name
    return short if len(short) <= LONGEST else f"{short[: LONGEST - 1].rstrip()}…"


def _axes_of(directions: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(str((directions or {}).get(letter, "")) for letter in "xy")


def are_principal(axes: Sequence[str]) -> bool:
    """Return whether axes have the names of principal components."""
    return len(axes) > 0 and all(PRINCIPAL in name for name in axes)
