"""The space of a network's parameters: points, directions, planes, projections."""

from lossatlas.parameter_space.curves import CurvePlane
from lossatlas.parameter_space.directions import lengths, orthogonal, random_direction, target_direction
from lossatlas.parameter_space.layout import Layout
from lossatlas.parameter_space.normalization import normalize, scale_to
from lossatlas.parameter_space.planes import AffinePlane, MappedPlane, Plane
from lossatlas.parameter_space.points import Point, as_arrays, as_point, moved, position, tensors, wide_tensors
from lossatlas.parameter_space.projection import Components, principal_components, project
from lossatlas.parameter_space.schemes import RowLines, SchemePlane, layers_of, other_network
from lossatlas.parameter_space.selection import Selection

__all__ = [
    "AffinePlane",
    "Components",
    "CurvePlane",
    "Layout",
    "MappedPlane",
    "Plane",
    "Point",
    "RowLines",
    "SchemePlane",
    "Selection",
    "as_arrays",
    "as_point",
    "layers_of",
    "lengths",
    "moved",
    "normalize",
    "orthogonal",
    "other_network",
    "position",
    "principal_components",
    "project",
    "random_direction",
    "scale_to",
    "target_direction",
    "tensors",
    "wide_tensors",
]
