"""The directions of a line or a plane: their requests, records and vectors, for commands and Python functions alike."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lossatlas.choices import DirectionWord, DirType, Ignore, NormOrNone
from lossatlas.errors import named
from lossatlas.io import Directions
from lossatlas.io.seeded_directions import SeededDirection
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.parameter_space import Layout, Point, Selection
    from lossatlas.parameter_space.scratch import Scratch

RequestKind = Literal[DirectionWord, "vector", "network"]


@dataclass(frozen=True)
class AxisRequest:
    """The direction of one axis.

    Attributes:
        kind: 'random', 'gradient', 'eigenvector', 'vector' (a given one) or 'network' (towards another network).
        norm: Its normalization, see `parameter_space.normalization`; '' for none, which is unit length for a gradient
            and for eigenvectors.
        ignore: 'biasbn' where biases and normalization layers do not move.
        number: The number of the eigenvector, counted from 1.
        vector: The vector, or the parameters of the other network.
        digest: The digest of the vector or of the other network, for the record.
        scheme: The other network is the random one of a scheme.
    """

    kind: RequestKind
    norm: NormOrNone = ""
    ignore: Ignore = ""
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

    def direction(self, at: "Origin", seed: int, curvature: "OriginCurvature | None") -> "Point":
        """Draw, compute or take the vector, and normalize it.

        Args:
            at: The network at the origin.
            seed: The seed of this axis, see `parameter_space.directions.seed_of`.
            curvature: Gradient and eigenvectors at the origin, where one of them is asked for.

        Returns:
            The direction by tensor name.

        Raises:
            BadInput: The gradient is zero, or the eigenvector is not resolved.
        """
        import torch

        from lossatlas.parameter_space import other_network, random_direction, scale_to, target_direction
        from lossatlas.parameter_space.directions import widened_dtype

        origin, layout, selection = at.point, at.layout, at.selection
        if self.kind == "network":
            assert self.vector is not None
            return target_direction(origin, self.vector, selection, at.scratch)
        if self.scheme:
            return other_network(origin, seed, layout, selection)
        if self.kind == "random":
            return random_direction(
                origin, self.norm, self.ignore, seed, layout, selection=selection, scratch=at.scratch
            )
        if self.kind == "vector":
            assert self.vector is not None
            return scale_to(self.vector, origin, self.norm, self.ignore, layout, selection=selection)
        assert curvature is not None
        made = curvature.gradient() if self.kind == "gradient" else curvature.eigenvector(self.number)
        zeros = {name: torch.zeros(w.shape, dtype=widened_dtype(w), device=w.device) for name, w in origin.items()}
        made = {name: made[name].to(zero) if name in made else zero for name, zero in zeros.items()}
        return scale_to(made, origin, self.norm or "unit", self.ignore, layout, selection=selection)


def vector_hash(vector: "Point") -> str:
    """Return the SHA-256 of a direction by its tensors' names, shapes and values, as records name it."""
    digest = hashlib.sha256()
    for name, value in vector.items():
        digest.update(f"{name} {tuple(value.shape)}\n".encode())
        digest.update(np.ascontiguousarray(value.cpu().numpy()).data)
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The network at the origin of a grid, and what of it moves.

    Attributes:
        net: The network.
        dir_type: 'weights' or 'states'.
        point: A copy of its tensors by name.
        selection: The parameters that move.
        scratch: Makes the files for directions of a large network; None for memory.
    """

    net: "nn.Module"
    dir_type: DirType
    point: "Point"
    selection: "Selection"
    scratch: "Scratch | None" = None

    @classmethod
    def checked(
        cls,
        net: "nn.Module",
        dir_type: DirType,
        point: "Point",
        selection: "Selection",
        scratch: "Scratch | None" = None,
    ) -> "Origin":
        """Return the origin, after a check that some of its parameters move.

        Args:
            net: The network at the origin.
            dir_type: 'weights' or 'states'.
            point: Its tensors by name.
            selection: The parameters that move.
            scratch: Makes files of large directions; None for memory.

        Raises:
            BadUsage: No parameter moves, or a pattern of the selection fits none.
        """
        selection = selection.within_net(net)
        selection.of(point)
        return cls(net=net, dir_type=dir_type, point=point, selection=selection, scratch=scratch)

    @cached_property
    def layout(self) -> "Layout":
        """The layers of the network."""
        from lossatlas.parameter_space import Layout

        return Layout.of(self.net)

    def vectors(self, directions: Directions) -> "list[Point]":
        """Return stored directions by tensor name.

        Raises:
            BadInput: As `as_point`.
        """
        from lossatlas.parameter_space import as_point

        return [
            as_point(arrays, self.net, self.dir_type, f"the {letter} direction")
            for letter, arrays in zip("xyz", directions.axes, strict=False)
            if arrays
        ]

    def moved_by(self, vectors: "Sequence[Point]") -> dict[str, np.ndarray]:
        """Return how far directions move each tensor.

        Returns:
            'tensors', the names (n,), and 'lengths' (n, 1 + directions): the norm of each tensor, then the norms of its
            blocks of the directions.
        """
        from lossatlas.parameter_space import lengths

        return {"tensors": np.array([name.encode() for name in self.point]), "lengths": lengths(self.point, vectors)}


@dataclass(frozen=True, kw_only=True)
class DirectionRequest:
    """The directions of a line, a plane or a volume that a command or a Python function asks for.

    Attributes:
        origin: The network at the origin.
        axes: One request for each axis.
        curvature: Gradient and eigenvectors at the origin; None where none of them is asked for.
        seed: The seed of random directions.
        idx: The number of a repeat, which has other random directions.
        same: The second axis takes the direction of the first.
        store: A file holds the vectors of random directions also where their seeds would do.
        orthogonalize: Subtract from each direction its projections onto those before it.
    """

    origin: Origin
    axes: Sequence[AxisRequest]
    curvature: OriginCurvature | None = None
    seed: int
    idx: int = 0
    same: bool = False
    store: bool = False
    orthogonalize: bool = False

    @property
    def needs_curvature(self) -> bool:
        """An axis is the gradient or an eigenvector."""
        return any(axis.kind in ("gradient", "eigenvector") for axis in self.axes)

    def describe(self) -> dict[str, str]:
        """Describe the directions for records, by the letters of the axes; equal texts mean equal directions."""
        origin, result = self.origin, {}
        for letter, axis in zip("xyz", self.axes, strict=False):
            words = axis.describe(self.seed, self.idx, origin.layout, self.curvature)
            if letter == "y" and self.same and axis.kind != "network":
                words = "the x direction"
            selected = f", {origin.selection}" if origin.selection else ""
            before = {"y": ", orthogonal to x", "z": ", orthogonal to x and y"}.get(letter, "")
            result[letter] = words + selected + before * self.orthogonalize
        return result

    def make(self, *, orthogonal_to: "Point | None" = None) -> "list[Point]":
        """Draw, compute or read the directions, normalize them, and make them orthogonal if asked for.

        Args:
            orthogonal_to: The first direction, where `axes` does not give it.

        Returns:
            The directions by tensor name, one for each axis.

        Raises:
            BadInput: See `AxisRequest.direction`; a direction lies in the span of those before it.
        """
        from lossatlas.parameter_space import orthogonal
        from lossatlas.parameter_space.directions import seed_of

        at, vectors = self.origin, list["Point"]()
        for k, axis in enumerate(self.axes):
            if k and self.same:
                vectors.append(vectors[0])
                continue
            seed = seed_of(self.seed, self.idx, k)
            vectors.append(axis.direction(at, seed, self.curvature))
        if self.orthogonalize:
            before = [vectors[0] if orthogonal_to is None else orthogonal_to]
            for k in range(1, len(vectors)):
                for other in before:  # these are orthogonal to each other
                    vectors[k] = orthogonal(vectors[k], other, "xyz"[k])
                before.append(vectors[k])
        return vectors

    def stored(self, vectors: "Sequence[Point]", about: Mapping[str, Any]) -> Directions:
        """Return directions as a file stores them, with their descriptions.

        Args:
            vectors: The directions by tensor name.
            about: Further fields of their record.
        """
        origin = self.origin
        axes = [as_stored(vector, origin, vectors_too=self.store) for vector in vectors]
        x, y, z = (*axes, None, None)[:3]
        assert x is not None
        return Directions(x, y, {**about, **self.describe()}, origin.moved_by(vectors), z)


def as_stored(vector: "Point", origin: Origin, *, vectors_too: bool = False) -> "Sequence[np.ndarray]":
    """Return the arrays of a direction file.

    Args:
        vector: The direction by tensor name.
        origin: The network at the origin.
        vectors_too: Store vectors also of a random direction of a large network, which can be drawn again.
    """
    from lossatlas.parameter_space import as_arrays
    from lossatlas.parameter_space.directions import DrawnPoint
    from lossatlas.parameter_space.points import entries
    from lossatlas.parameter_space.scratch import MappedPoint

    if vectors_too or not isinstance(vector, DrawnPoint):
        arrays = as_arrays({name: value.cpu() for name, value in vector.items()}, origin.net, origin.dir_type)
        return ArraysInFile(arrays, vector) if isinstance(vector, MappedPoint) else arrays
    names, state = list(vector), origin.net.state_dict()
    order = [
        names.index(name) if name in vector else tuple(state[name].shape)
        for name in entries(origin.net, origin.dir_type)
    ]
    values = [value.numpy() for value in vector.values()]
    result = SeededDirection.drawn(vector.seed, list(vector.records.values()), order, values)
    result.__dict__["point"] = vector
    return result


class ArraysInFile(list[np.ndarray]):
    """Arrays of a direction that lies in a temporary file.

    Args:
        arrays: The arrays, in the order of a direction file.
        point: The direction by tensor name.
    """

    def __init__(self, arrays: "Sequence[np.ndarray]", point: "Point") -> None:
        super().__init__(arrays)
        self.point = point

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the arrays alone."""
        return list, (list(self),)


def note_sheared(origin: Origin, directions: Directions) -> None:
    """Give a note where two directions are far from orthogonal."""
    from lossatlas.parameter_space.directions import note_skewed

    vectors = zip("xyz", origin.vectors(directions), strict=False)
    for (first, x), (second, y) in itertools.combinations(vectors, 2):
        remedy = f"{named('orthogonalize')} takes out of {second} its part along {first}"
        note_skewed(x, y, f"the surface is sheared ({remedy})")
