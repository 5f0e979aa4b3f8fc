"""Options that several commands share, of groups of all kinds."""

from dataclasses import dataclass

from lossatlas.config.figure_options import PlotConfig
from lossatlas.config.input_options import DataOptions, NetworksOptions
from lossatlas.config.output_options import OutputConfig
from lossatlas.config.point_options import DirectionOptions, GridOptions
from lossatlas.config.run_options import BatchOptions


@dataclass(frozen=True)
class PlaneOptions(NetworksOptions, DirectionOptions):
    """Networks, and directions from one of them."""


@dataclass(frozen=True)
class GridCommandOptions(PlaneOptions, DataOptions, GridOptions, BatchOptions, OutputConfig, PlotConfig):
    """Options that all commands on a grid share."""
