"""Surfaces as data: grids, fields, statistics, tolerances. Needs only numpy."""

from lossatlas.landscape.grid import Grid
from lossatlas.landscape.statistics import STATISTICS
from lossatlas.landscape.surface import Surface, unresolved
from lossatlas.landscape.tolerance import Tolerance

__all__ = ["STATISTICS", "Grid", "Surface", "Tolerance", "unresolved"]
