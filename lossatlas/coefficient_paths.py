"""The local learning coefficients of the checkpoints of a training run, by one function."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.choices import PRODUCT_PRECISIONS, ProductPrecision
from lossatlas.data import DataLike, LossLike
from lossatlas.evaluation.reference import restoring
from lossatlas.jobs.curvature.api_coefficient_job import CoefficientArguments
from lossatlas.jobs.curvature.distributed_hessian import HessianSettings
from lossatlas.jobs.curvature.learning_coefficient_job import without_second_derivatives
from lossatlas.jobs.trajectory.api_run_coefficients import RunOfNetworks, only_run, run_coefficient_path
from lossatlas.jobs.trajectory.given_runs import Run, runs_given
from lossatlas.mpi.agreement import on_all, script_world
from lossatlas.mpi.communicator import Ranks
from lossatlas.parameter_space.selection import patterns_of
from lossatlas.results import LearningCoefficientPath


@restoring
def learning_coefficients(
    net: nn.Module,
    checkpoints: Run,
    data: DataLike,
    *,
    epochs: Sequence[Any] | np.ndarray | None = None,
    loss: LossLike = "crossentropy",
    limit: int | None = None,
    only: str | Sequence[str] = (),
    without: str | Sequence[str] = (),
    chains: int = 4,
    draws: int = 400,
    burn_in: int = 400,
    steps_between: int = 1,
    minibatch: int = 128,
    localization: float = 100.0,
    inverse_temperature: float | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    precision: ProductPrecision | str | None = None,
    device: str | torch.device | None = None,
    file: str | Path | None = None,
    force: bool = False,
    ranks: Ranks = None,
    progress: bool = True,
) -> LearningCoefficientPath:
    """Estimate the local learning coefficient of every checkpoint of a training run, see `learning_coefficient`.

    The command lossatlas learning-coefficient --model_folder FOLDER computes the same, and continues the same files.

    Args:
        net: The network, into a copy of which each checkpoint is loaded.
        checkpoints: Networks, state dicts or checkpoint files in the order of training, or the folder of a run, as for
            `trajectory`. Files are read one at a time.
        data: The samples, see `lossatlas.data.as_dataset`.
        epochs: The epoch or step of each checkpoint. By default the numbers in the names of a folder's files.
        loss: The loss, as for `surface`.
        limit: Use the first `limit` samples only.
        only: Regular expressions of the names of the parameters that vary; all by default.
        without: Regular expressions of the names of parameters that do not vary.
        chains: The number of chains of each checkpoint; their spread gives the standard error.
        draws: The number of losses that are recorded in each chain.
        burn_in: The number of steps of each chain before the first of them.
        steps_between: The number of steps from one of them to the next.
        minibatch: The number of samples whose gradient is computed in a step.
        localization: The factor of half the squared distance from the weights.
        inverse_temperature: n beta, the factor of the mean loss; by default n / log n for n samples.
        learning_rate: The length of a step; by default, for each checkpoint, one that the largest eigenvalue of its
            Hessian allows. Give it for a network without second derivatives.
        seed: The seed of the chains.
        precision: 'float32' or 'float64', as for `eigenvalues`.
        device: The device, by default that of the network.
        file: The file to write or to continue, chain by chain; checkpoints that it lacks are added.
        force: Start over where `file` exists; the earlier file is kept under another name, which a warning gives.
        ranks: A communicator of mpi4py, as for `learning_coefficient`.
        progress: Print the progress.

    Returns:
        The estimates with their standard errors, and the losses, in the order of the checkpoints; after Ctrl-C of those
        that are finished.

    Raises:
        BadUsage: An argument has no meaning.
        BadInput: A checkpoint, the data or the file do not fit, or the network is random.
        CannotWrite: The file cannot be written.

    Example:
        >>> import torch, lossatlas
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(3)]
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> few = {"chains": 2, "draws": 20, "burn_in": 10, "progress": False}
        >>> found = lossatlas.learning_coefficients(nets[0], nets, data, epochs=[1, 2, 4], **few)
        >>> found.epochs, found.values.shape, found.errors.shape
        (array([1., 2., 4.]), (3,), (3,))
    """

    def checked() -> CoefficientArguments:
        hessian = HessianSettings(
            parameters=patterns_of(only),
            without=patterns_of(without),
            matrices_only=False,
            batch_size=0,
            precision=checked_word("precision", precision, PRODUCT_PRECISIONS),
            products=learning_rate is None,
            without_products=without_second_derivatives(),
        )
        settings = config.LangevinSettings(
            chains=chains,
            draws=draws,
            burn_in=burn_in,
            steps_between=steps_between,
            minibatch=minibatch,
            localization=localization,
            inverse_temperature=inverse_temperature,
            learning_rate=learning_rate,
            seed=seed,
        )
        return CoefficientArguments.checked(net, hessian, settings, device, limit=limit)

    world = script_world(ranks)
    arguments = on_all(world, checked)
    run = on_all(world, lambda: only_run(runs_given(checkpoints, None, epochs)))
    networks = RunOfNetworks(world, net, run, arguments=arguments, data=data, loss=loss)
    return LearningCoefficientPath(run_coefficient_path(networks, file=file, force=force, progress=progress))
