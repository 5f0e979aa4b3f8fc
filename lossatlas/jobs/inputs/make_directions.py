"""Make the directions of a line or a plane, for the commands and for the Python functions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.jobs.inputs.origin_curvature import OriginCurvature

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from lossatlas.parameter_space import Layout, Point, Selection


@dataclass(frozen=True)
class AxisRequest:
    """The direction of one axis.

    Attributes:
        kind: 'random', 'gradient', 'eigenvector', 'vector' (a given one) or 'network' (towards another network).
        norm: Its normalization, see `parameter_space.normalization`; '' for none, which is unit length for a gradient and for
            eigenvectors.
        ignore: 'biasbn' where biases and normalization layers do not move.
        number: The number of the eigenvector, counted from 1.
        vector: The vector, or the parameters of the other network.
        digest: The digest of the vector or of the other network, for the record.
        scheme: It is a random network to which a scheme leads.
    """

    kind: str
    norm: str = ""
    ignore: str = ""
    number: int = 1
    vector: "Point | None" = None
    digest: str = ""
    scheme: bool = False

    def describe(self, seed: int, idx: int, layout: "Layout", curvature: "OriginCurvature | None") -> str:
        """Describe the direction for the record; equal texts mean equal directions.

        Args:
            seed: The seed of random directions.
            idx: The number of a repeat.
            layout: The layers of the network.
            curvature: Gradient and eigenvectors at the origin, where one of them is asked for.
        """
        scaled = f"norm={self.norm or 'none'}{layout.rule(self.norm)}, ignore={self.ignore or 'none'}"
        if self.scheme:
            scaled = f"norm=filter{layout.rule('filter')}, a network that the scheme goes to"
        if self.kind == "network":
            return f"towards {self.digest}"
        if self.kind == "random":
            return f"random, {scaled}, seed={seed}, idx={idx}"
        if self.kind == "vector":
            return f"a vector with the sha256 {self.digest}, {scaled}"
        assert curvature is not None
        number = f" {self.number}" if self.kind == "eigenvector" else ""
        return f"{self.kind}{number} of {curvature.name}, {scaled}"

    def direction(
        self, origin: "Point", seed: int, layout: "Layout", selection: "Selection", curvature: "OriginCurvature | None"
    ) -> "Point":
        """Make the direction.

        Args:
            origin: The parameters at the origin.
            seed: The seed of this axis, see `parameter_space.directions.seed_of`.
            layout: The layers of the network.
            selection: The parameters that move.
            curvature: Gradient and eigenvectors at the origin, where one of them is asked for.

        Returns:
            The direction by tensor name.

        Raises:
            BadInput: The gradient is zero, or the eigenvector is not resolved.
        """
        from lossatlas.parameter_space import other_network, random_direction, scale_to, target_direction

        if self.kind == "network":
            assert self.vector is not None
            return target_direction(origin, self.vector, selection)
        if self.scheme:
            return other_network(origin, seed, layout, selection)
        if self.kind == "random":
            return random_direction(origin, self.norm, self.ignore, seed, layout, selection)
        if self.kind == "vector":
            assert self.vector is not None
            return scale_to(self.vector, origin, self.norm, self.ignore, layout, selection)
        assert curvature is not None
        made = curvature.gradient() if self.kind == "gradient" else curvature.eigenvector(self.number)
        made = {name: made[name].to(w) if name in made else w.new_zeros(w.shape) for name, w in origin.items()}
        return scale_to(made, origin, self.norm or "unit", self.ignore, layout, selection)


def vector_hash(vector: "Point") -> str:
    """Return the SHA-256 of a direction by its tensors' names, shapes and values, as records name it."""
    digest = hashlib.sha256()
    for name, value in vector.items():
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
    return digest.hexdigest()


def make_directions(
    axes: Sequence[AxisRequest],
    origin: "Point",
    layout: "Layout",
    selection: "Selection",
    curvature: OriginCurvature | None,
    *,
    seed: int,
    idx: int = 0,
    same: bool = False,
    orthogonal_to: "Point | None" = None,
    orthogonalize: bool = False,
) -> "list[Point]":
    """Make the directions of a line or a plane, for the commands and the Python functions alike.

    Args:
        axes: One request for each axis.
        origin: The parameters at the origin.
        layout: The layers of the network.
        selection: The parameters that move.
        curvature: Gradient and eigenvectors at the origin, where one of them is asked for.
        seed: The seed of random directions.
        idx: The number of a repeat, which has other random directions.
        same: The second axis takes the direction of the first.
        orthogonal_to: The first direction, where it is not that of `axes`.
        orthogonalize: Subtract from the second direction its projection onto the first.

    Returns:
        The directions by tensor name, one for each axis.

    Raises:
        BadInput: See `AxisRequest.direction`; the second direction is along the first.
    """
    from lossatlas.parameter_space import orthogonal
    from lossatlas.parameter_space.directions import seed_of

    vectors: list[Point] = []
    for k, axis in enumerate(axes):
        own = vectors[0] if k and same else axis.direction(origin, seed_of(seed, idx, k), layout, selection, curvature)
        vectors.append(own)
    if orthogonalize:
        vectors[1] = orthogonal(vectors[1], vectors[0] if orthogonal_to is None else orthogonal_to)
    return vectors
