"""Products with the Hessian of a network's mean loss.

    operator = Hessian(net, data, LOSSES["crossentropy"])
    operator(v)                    # the Hessian times v, (size,) both
    loss, gradient = operator.gradient()

Convention: the mean over the samples (with weights, the weighted mean), plus the loss's own term of the parameters.
Products are exact, by differentiating the gradient's product with v once more (Pearlmutter, 1994); batches come in a
fixed order, and the network is in eval mode.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from dataloader import Dataset
from errors import BadInput, BadUsage
from losses import Batch, Loss

Reduce = Callable[[Tensor], Tensor]  # the sum of a vector over the ranks that share the data


class Hessian:
    """The Hessian with respect to chosen parameters of a copy of `net`, as a function of flat vectors.

    parameters: patterns of parameter names (re.search), all parameters by default; a tensor with several names (tied
    weights) counts once. matrices_only: of these the ones with more than one axis, as in the release of Li et al.
    reduce: where the data are spread over ranks, how a vector is summed over them; then `total` is the weight of all
    samples. Raises BadUsage where no parameter is chosen.
    """

    def __init__(
        self,
        net: nn.Module,
        data: Dataset,
        loss: Loss,
        *,
        parameters: Sequence[str] = (),
        matrices_only: bool = False,
        batch_size: int = 128,
        device: torch.device | str = "cpu",
        reduce: Reduce | None = None,
    ) -> None:
        self.net = deepcopy(net).to(device).eval().requires_grad_(False)
        self.loss, self.reduce = loss, reduce or (lambda vector: vector)
        named = dict(self.net.named_parameters())
        self.names = [name for name, value in named.items()
                      if (not parameters or any(re.search(pattern, name) for pattern in parameters))
                      and (value.dim() > 1 or not matrices_only)]  # fmt: skip
        if not self.names:
            raise BadUsage(
                f"no parameter is called like {', '.join(parameters) or 'a matrix'}: there are {', '.join(named)}"
            )
        self.parameters = [named[name].requires_grad_(True) for name in self.names]
        self.shapes = [p.shape for p in self.parameters]
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype, self.device = self.parameters[0].dtype, self.parameters[0].device
        inputs = data.inputs.to(device, self.dtype) if data.inputs.is_floating_point() else data.inputs.to(device)
        self.batches: list[Batch] = list(
            zip(inputs.split(batch_size), data.targets.to(device).split(batch_size), strict=True)
        )
        with torch.no_grad():
            weights = [loss(self.net, batch).weights for batch in self.batches]
        own = sum(
            float(len(b[1]) if w is None else w.double().sum()) for b, w in zip(self.batches, weights, strict=True)
        )
        self.total = float(self.reduce(torch.tensor([own], dtype=torch.float64))[0])
        self.share = own / self.total  # of the term of the parameters alone, which every rank would add

    def __call__(self, vector: Tensor) -> Tensor:
        """The Hessian times a vector (size,), in the parameters' dtype."""
        pieces = self.unflatten(vector.to(self.device, self.dtype))
        total = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for value in self.parts():
            gradients = torch.autograd.grad(value, self.parameters, create_graph=True, allow_unused=True)
            used = [(g, v) for g, v in zip(gradients, pieces, strict=True) if g is not None and g.requires_grad]
            if not used:  # a loss that is linear in the parameters
                continue
            product = torch.stack([(g * v).sum() for g, v in used]).sum()
            total += self.flatten(torch.autograd.grad(product, self.parameters, allow_unused=True))
        return self.reduce(total)

    def gradient(self) -> tuple[float, Tensor]:
        """The mean loss and its gradient (size,)."""
        loss, total = 0.0, torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for value in self.parts():
            loss += float(value.detach())
            total += self.flatten(torch.autograd.grad(value, self.parameters, allow_unused=True))
        return float(self.reduce(torch.tensor([loss], dtype=torch.float64))[0]), self.reduce(total)

    def parts(self) -> Iterator[Tensor]:
        """Each batch's part of the mean loss; they add up to it."""
        # Fused attention has no second derivative (pytorch issue 116350).
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for k, batch in enumerate(self.batches):
                losses = self.loss(self.net, batch)
                weighted = losses.per_sample if losses.weights is None else losses.weights * losses.per_sample
                part = weighted.sum() / self.total
                if losses.penalty is not None and k == 0:
                    part = part + losses.penalty * self.share
                yield part

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """One vector, zero where a parameter does not enter."""
        return torch.cat([p.new_zeros(p.numel()) if t is None else t.detach().reshape(-1)
                          for t, p in zip(tensors, self.parameters, strict=True)])  # fmt: skip

    def check_deterministic(self, tolerance: float = 1e-5) -> None:
        """Raise BadInput when two evaluations at the same weights differ, as with dropout in eval mode or noise."""
        probe = torch.randn(self.size, generator=torch.Generator().manual_seed(0)).to(self.device, self.dtype)
        with torch.random.fork_rng():
            first, second = self(probe), self(probe)
        error = float((first - second).norm() / first.norm().clamp(min=1e-30))
        if not error <= tolerance:
            raise BadInput(f"two products with the same vector differ by {error:.1e}: the network or its loss is random "
                           "(dropout, noise, shuffled data), and its Hessian is not defined")  # fmt: skip
