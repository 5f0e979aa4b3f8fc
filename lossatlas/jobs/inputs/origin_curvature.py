"""Gradient, top eigenvectors and second derivatives of the mean loss at the origin of a plane."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lossatlas.errors import BadInput, say
from lossatlas.io import Directions
from lossatlas.io.progress import StatusLine
from lossatlas.jobs.inputs.configured_data import loss_of
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import Tensor, nn

    from lossatlas.data import AnyData, Loss
    from lossatlas.hessian import Hessian
    from lossatlas.parameter_space import Point, Selection

RESOLVED = 1e-3  # relative residual of an eigenvector
MAX_PRODUCTS = 500  # for one eigenvector


class OriginCurvature:
    """Gradient, top eigenvectors and second derivatives of the mean loss at a network, computed on first use.

    Args:
        net: The network.
        data: The samples of the loss.
        loss: The loss.
        loss_name: The name of the loss in records.
        selection: The parameters that gradient and eigenvectors are with respect to.
        device: The device that computes them.
        report: Called with a line about each result.
    """

    def __init__(
        self,
        net: "nn.Module",
        data: "AnyData",
        loss: "Loss",
        *,
        loss_name: str,
        selection: "Selection",
        device: "str | torch.device",
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.net, self.data, self.loss, self.loss_name = net, data, loss, loss_name
        self.selection, self.device = selection.within_net(net), device
        self.report = report or (lambda line: None)
        self.shown = report is not None
        self.operator: Hessian | None = None
        self.vectors: list[Tensor] = []

    @classmethod
    def of(cls, loaded: LoadedInputs, selection: "Selection", device: "str | torch.device") -> "OriginCurvature":
        """Return the curvature of the inputs of a command, which prints its results."""
        loss = loss_of(loaded.loss)
        return cls(
            loaded.net,
            loaded.first,
            loss,
            loss_name=str(loaded.loss),
            selection=selection,
            device=device,
            report=say,
        )

    @property
    def name(self) -> str:
        """The loss and its samples, for the record."""
        return f"{self.loss_name} on {self.data.digest}"

    @property
    def hessian(self) -> "Hessian":
        """The Hessian of the mean loss with respect to the selected parameters."""
        from lossatlas.data.finite_check import blamed_on
        from lossatlas.hessian import Hessian, check_deterministic

        if self.operator is None:
            self.operator = Hessian(
                self.net,
                self.data,
                self.loss,
                device=self.device,
                parameters=self.selection.only,  # the loss may cut gradients of what does not move
                without=self.selection.without,
            )
            with blamed_on(self.data):
                check_deterministic(self.operator)
        return self.operator

    @property
    def selected(self) -> list[str]:
        """The names of the selected parameters."""
        return [name for name in self.hessian.names if name in self.selection]

    def gradient(self) -> "Point":
        """Return the gradient of the mean loss by parameter name, zero for unselected parameters.

        Raises:
            BadInput: The gradient is zero.
        """
        loss, gradient = self.hessian.gradient()
        point = self.selection.within(self.point(gradient, self.hessian.names))
        gradient = self.hessian.chosen.flatten([point[name] for name in self.hessian.names])
        length = float(gradient.norm())
        self.report(f"gradient of the mean {self.data.split} loss: length {length:.6g} at a loss of {loss:.6g}")
        if length == 0:
            raise BadInput("the gradient is zero here: there is no direction along it")
        return point

    def eigenvector(self, number: int) -> "Point":
        """Return the eigenvector of the number-th largest eigenvalue, its largest component positive.

        Args:
            number: Counted from 1.

        Returns:
            The unit vector by parameter name, zero for unselected parameters.

        Raises:
            BadInput: It is not resolved within MAX_PRODUCTS products, or there is none.
        """
        if len(self.vectors) < number:
            self.vectors = self.eigenvectors(number)
        return self.point(self.vectors[number - 1], self.selected)

    def eigenvectors(self, count: int) -> "list[Tensor]":
        """Return the first eigenvectors as flat tensors, see `eigenvector`."""
        from lossatlas.hessian import lanczos

        line = StatusLine()

        def progress(products: int, residual: float) -> None:
            if self.shown:
                line.show(f"eigenvector {count}: {products} products, residual {residual:.2g}")

        operator = self.hessian.block(self.selected) if self.selection else self.hessian
        pairs = lanczos(operator, top=count, tolerance=RESOLVED, max_products=MAX_PRODUCTS, progress=progress)
        if len(pairs.values) < count:
            raise BadInput(
                f"eigenvector:{count} asks for more than the {len(pairs.values)} that {pairs.products} products give"
            )
        if self.shown:
            line.end(
                f"eigenvector {count}: {pairs.products} products, eigenvalue {pairs.values[-1]:.6g}, "
                f"residual {pairs.residuals[-1]:.2g}"
            )
        if not pairs.converged[-1]:
            raise BadInput(
                f"eigenvector:{count} is not resolved after {pairs.products} products (residual "
                f"{pairs.residuals[-1]:.2g}): compute a spectrum with more products, and give its eigenvector as the "
                "direction"
            )
        return [v * v[v.abs().argmax()].sign() for v in pairs.vectors]

    def point(self, vector: "Tensor", names: Sequence[str]) -> "Point":
        """Return a flat vector over these parameters by parameter name, zero for the others."""
        import torch

        result, offset = {}, 0
        for name, shape in zip(self.hessian.names, self.hessian.shapes, strict=True):
            if name in names:
                result[name] = vector[offset : offset + shape.numel()].view(shape).cpu().clone()
                offset += shape.numel()
            else:
                result[name] = torch.zeros(shape, dtype=vector.dtype)
        return result

    def along(self, directions: Directions) -> dict[str, Any]:
        """Compute the second derivatives of the mean loss at the origin along the axes.

        Args:
            directions: The directions of the axes.

        Returns:
            'second_derivatives': 'xx', 'yy' and the mixed 'xy', in a volume also those with z; 'samples', their number,
            and 'split'.
        """
        from lossatlas.parameter_space import as_point

        vectors = {
            letter: as_point(arrays, self.net, "weights", f"the {letter} direction")
            for letter, arrays in zip("xyz", directions.axes, strict=False)
        }
        flat = {
            letter: self.hessian.chosen.flatten([point[name] for name in self.hessian.names]).to(self.hessian.device)
            for letter, point in vectors.items()
        }
        products = {letter: self.hessian(vector).double() for letter, vector in flat.items()}
        result = {a + b: float(flat[a].double() @ products[b]) for a in flat for b in flat if a <= b}
        for letter, vector in flat.items():
            value, length = result[letter * 2], float(vector.double().norm())
            self.report(
                f"second derivative of the {self.data.split} loss along {letter}: {value:.6g}, per unit length "
                f"{value / max(length, 1e-300) ** 2:.6g} (the direction has the length {length:.6g})"
            )
        return {"second_derivatives": result, "samples": len(self.data), "split": self.data.split}
