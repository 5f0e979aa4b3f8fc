"""Options of the commands, each defined once, and the frozen configurations that jobs are made of.

Groups of options stand as users write them: a command inherits those it takes. `job_configs` holds what
`commands.job_choices` makes of them, with user functions resolved and files found.
"""

from lossatlas.config.command_options import GridCommandOptions, PlaneOptions
from lossatlas.config.figure_options import (
    CameraOptions,
    ContourOptions,
    DisplayOptions,
    DrawOptions,
    FigureOptions,
    LookOptions,
    PlotConfig,
    ShowOptions,
)
from lossatlas.config.hessian_options import (
    ADAPTIVE_RADII,
    PLAIN_RADII,
    HessianOptions,
    LanczosOptions,
    LangevinSettings,
    MatrixOptions,
    RiseOptions,
    SpectrumSettings,
)
from lossatlas.config.input_options import (
    DataOptions,
    DatasetOptions,
    ModelOptions,
    NetworkOptions,
    NetworksOptions,
    OneSplitDataOptions,
    TwoNetworksOptions,
)
from lossatlas.config.job_configs import (
    AxisConfig,
    DataConfig,
    DirectionConfig,
    GridConfig,
    HessianConfig,
    LossChoice,
    ModelChoice,
    NetworkConfig,
    RunConfig,
)
from lossatlas.config.output_options import OutputConfig, ResultOptions
from lossatlas.config.point_options import (
    BN_SAMPLES,
    DIRECTION_SEED,
    MOST_MARGIN,
    BatchNormOptions,
    DirectionOptions,
    GridOptions,
    SchemeOptions,
    SelectionOptions,
)
from lossatlas.config.run_options import (
    BatchOptions,
    DeviceOptions,
    EvaluationOptions,
    ModelGroupOptions,
    ProductOptions,
    RanksOptions,
)

__all__ = [
    "ADAPTIVE_RADII",
    "BN_SAMPLES",
    "DIRECTION_SEED",
    "MOST_MARGIN",
    "PLAIN_RADII",
    "AxisConfig",
    "BatchNormOptions",
    "BatchOptions",
    "CameraOptions",
    "ContourOptions",
    "DataConfig",
    "DataOptions",
    "DatasetOptions",
    "DeviceOptions",
    "DirectionConfig",
    "DirectionOptions",
    "DisplayOptions",
    "DrawOptions",
    "EvaluationOptions",
    "FigureOptions",
    "GridCommandOptions",
    "GridConfig",
    "GridOptions",
    "HessianConfig",
    "HessianOptions",
    "LanczosOptions",
    "LangevinSettings",
    "LookOptions",
    "LossChoice",
    "MatrixOptions",
    "ModelChoice",
    "ModelGroupOptions",
    "ModelOptions",
    "NetworkConfig",
    "NetworkOptions",
    "NetworksOptions",
    "OneSplitDataOptions",
    "OutputConfig",
    "PlaneOptions",
    "PlotConfig",
    "ProductOptions",
    "RanksOptions",
    "ResultOptions",
    "RiseOptions",
    "RunConfig",
    "SchemeOptions",
    "SelectionOptions",
    "ShowOptions",
    "SpectrumSettings",
    "TwoNetworksOptions",
]
