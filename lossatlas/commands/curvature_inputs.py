"""The inputs of commands that compute with the Hessian at one point, from their options."""

from collections.abc import Sequence
from typing import Any

from lossatlas import programs
from lossatlas.commands import job_choices
from lossatlas.config.option_fields import resolved_options
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.named_curvature_job import CommandInputs


def command_inputs(args: Any, command: Sequence[str], hessian: HessianSettings) -> CommandInputs:
    """Return the inputs that options choose.

    Args:
        args: Options with those of `NetworkOptions`, `OneSplitDataOptions` and `ProductOptions`.
        command: The line of the command in words, for the record.
        hessian: The settings of the Hessian.

    Raises:
        BadUsage: The options contradict each other.
    """
    return CommandInputs(
        model=job_choices.model_choice(args),
        model_file=job_choices.model_file(args),
        data=job_choices.data_choice(args),
        loss=job_choices.loss_choice(args),
        hessian=hessian,
        run=job_choices.run_choice(args),
        command=programs.command_line(command[0], command[1:]),
        resolved=resolved_options(args),
    )
