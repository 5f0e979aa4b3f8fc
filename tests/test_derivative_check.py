"""Which networks have their derivatives compared in coarse steps, and that wrong derivatives are found in those too."""

import pytest
import torch
from torch import nn

from lossatlas.data import LOSSES, Dataset
from lossatlas.errors import BadInput
from lossatlas.hessian import Hessian
from lossatlas.hessian.derivative_check import COARSE_STEPS, STEPS, check_derivatives, probe_of


class Float32Softmax(nn.Module):
    """A softmax in float32 whatever its input is, as in attention of T5; `cut` detaches it."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__()
        self.cut = cut

    def forward(self, x):
        return 16 * (3 * (x.detach() if self.cut else x)).float().softmax(-1).to(x.dtype)


def hessian(*inner: nn.Module) -> Hessian:
    torch.manual_seed(0)
    x, y = torch.randn(40, 6), torch.randint(0, 3, (40,))
    net = nn.Sequential(nn.Linear(6, 16), *inner, nn.Linear(16, 3))
    return Hessian(net, Dataset("noise", "train", (x, y), 3), LOSSES["crossentropy"])


@pytest.mark.parametrize(
    ("inner", "steps"),
    [
        ([Float32Softmax()], COARSE_STEPS),
        ([nn.Tanh()], STEPS),
        ([nn.ReLU(), nn.Linear(16, 16), nn.ReLU()], STEPS),
        ([nn.LayerNorm(16)], STEPS),
    ],
    ids=["float32 inside", "smooth", "kinks", "float64 all through"],
)
def test_steps_are_coarse_where_the_copy_in_float64_rounds_to_float32(inner, steps):
    operator = hessian(*inner)
    assert probe_of(operator).steps == steps
    check_derivatives(operator)


def test_a_cut_gradient_is_found_in_coarse_steps_too():
    with pytest.raises(BadInput, match="disagrees with finite differences"):
        hessian(Float32Softmax(cut=True))
