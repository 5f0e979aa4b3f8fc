"""Volumes on the page, which shows one plane of them at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.io.surface_files import PLANE_MARK
from lossatlas.landscape.surface import Surface

LARGEST, SMALLEST = 1e38, 1e-37  # absolute values that single precision holds with all its digits


def nearest_to_zero(z: np.ndarray) -> float:
    """Return the coordinate of the plane that is shown first.

    Example:
        >>> nearest_to_zero(np.array([-0.75, 0.25, 1.25]))
        0.25
    """
    return float(z[np.abs(z).argmin()])


def first_plane(surface: Surface) -> Surface:
    """Return the plane of a volume that is shown first; a curve or a plane itself."""
    return surface if surface.grid.z is None else surface.plane_at(nearest_to_zero(surface.grid.z))


def planes_of(volume: Surface) -> Iterator[tuple[int, Surface]]:
    """Yield the planes of a volume with their numbers."""
    assert volume.grid.z is not None
    for k, z in enumerate(volume.grid.z):
        yield k, volume.plane_at(float(z))


def is_single(values: np.ndarray) -> bool:
    """Return whether single precision holds values: none of them overflows or loses digits.

    Example:
        >>> is_single(np.array([0.0, 1e-3, np.nan])), is_single(np.array([1e200]))
        (True, False)
    """
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return bool(sizes.size == 0 or (sizes.max() < LARGEST and sizes.min() > SMALLEST))


def check_volume_alone(surfaces: Sequence[Surface], *, with_path: bool = False, files: Sequence[str] = ()) -> None:
    """Check that a volume has its page to itself.

    Args:
        surfaces: The surfaces of a page.
        with_path: The path of a training is on it too.
        files: Their files, for the message.

    Raises:
        BadUsage: There is a volume, and something else.
    """
    volumes = [k for k, surface in enumerate(surfaces) if surface.grid.z is not None]
    if not volumes or (len(surfaces) == 1 and not with_path):
        return
    z = surfaces[volumes[0]].grid.z
    assert z is not None
    plane = nearest_to_zero(z)
    file = files[volumes[0]] if files else "FILE.h5"
    beside = "with the path of a training" if len(surfaces) == 1 else "beside other surfaces"
    raise BadUsage(
        f"a volume is shown on a page of its own: {beside}, name one of its planes, as in "
        f"{file}{PLANE_MARK}{plane:.6g} (in Python .plane_at({plane:.6g}))"
    )
