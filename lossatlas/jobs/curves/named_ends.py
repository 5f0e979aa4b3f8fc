"""Load the ends of a curve, and its data, by the names that a command is told."""

import torch

from lossatlas import config
from lossatlas.errors import BadInput
from lossatlas.jobs.curves.curve_job import CurveEnds
from lossatlas.jobs.inputs.configured_data import loss_of
from lossatlas.jobs.inputs.named_inputs import load_inputs
from lossatlas.parameter_space.directions import target_direction


def load_ends(
    nets: config.NetworkConfig, chosen: config.DataConfig, loss_name: config.LossChoice, *, device: str | torch.device
) -> CurveEnds:
    """Load the two networks of a curve and the data.

    Args:
        nets: The networks.
        chosen: The data.
        loss_name: Name of the loss, or the user's function.
        device: Where the curve is trained.

    Returns:
        The ends on the device.

    Raises:
        BadInput: A file is missing or does not fit, or both networks are the same.
    """
    loaded = load_inputs(nets, "weights", chosen, loss_name, train_too=True)
    train, end = loaded.training, loaded.targets[0]
    assert train is not None
    assert end is not None
    net = loaded.net.to(device)
    first, last = ({name: value.to(device) for name, value in point.items()} for point in (loaded.origin, end))
    if not any(bool(d.any()) for d in target_direction(first, last).values()):
        raise BadInput(f"{nets.file2} is the same network as {nets.file}: there is nothing between them")
    names = (loaded.record["checkpoint"], *loaded.towards.values())
    return CurveEnds(
        net=net,
        points=(first, last),
        names=names,
        train=train,
        data={"train": train, **loaded.data},
        loss=loss_of(loss_name),
    )
