"""A problem with a large network, whose weights and directions lie in files: once on each host, for all its ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossatlas.choices import DirType
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.make_directions import Origin
from lossatlas.jobs.inputs.packed_inputs import PackedInputs
from lossatlas.jobs.sweep.parametrization import MappedParametrization
from lossatlas.mpi.communicator import World

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    import torch
    from torch import Tensor, nn

    from lossatlas.data import Loss
    from lossatlas.io.scratch_files import MappedFile
    from lossatlas.jobs.sweep.problem import Problem
    from lossatlas.parameter_space.scratch import Format, MappedPoint


@dataclass(frozen=True)
class LargeProblem:
    """A large network, the directions of its line or plane, and data, to be sent to other ranks without the tensors.

    Attributes:
        inputs: The data, and the name of the network; its state is empty.
        dir_type: 'weights' or 'states'.
        formats: The tensors in each file: first of the network, then of each direction.
        net: The network on this rank; None before `on_ranks`.
        files: The tensors on this rank; none before `on_ranks`.
    """

    inputs: PackedInputs
    dir_type: DirType
    formats: "Sequence[Sequence[Format]]"
    net: "nn.Module | None" = None
    files: "Sequence[MappedPoint]" = ()

    @classmethod
    def of(cls, loaded: LoadedInputs, origin: Origin, points: MappedParametrization) -> "LargeProblem":
        """Return the problem on rank 0.

        Directions that are in no file yet are copied into one.

        Raises:
            CannotWrite: The disk lacks the space for the copies.
        """
        from lossatlas.parameter_space.scratch import MappedPoint

        assert loaded.kept is not None
        assert origin.scratch is not None
        kept = loaded.kept.file
        files = [kept if isinstance(kept, MappedPoint) else origin.scratch.copy(kept)]
        plane = points.plane(loaded.net, origin.point)
        for arrays, vector in zip(points.directions, plane.directions, strict=True):
            made = getattr(arrays, "point", None)
            files.append(made if isinstance(made, MappedPoint) else origin.scratch.copy(vector))
        inputs = replace(PackedInputs.of(loaded), state={})
        return cls(inputs, points.dir_type, [file.formats for file in files], loaded.net, files)

    def __getstate__(self) -> dict[str, object]:
        """Send the record alone."""
        return {**self.__dict__, "net": None, "files": ()}

    def on_ranks(self, world: World) -> "LargeProblem":
        """Return the problem with network and files on this rank; all ranks call this together.

        Raises:
            CannotWrite: The disk of another host lacks the space for the files.
            WorkFailed: On rank 0, where another rank failed.
        """
        from lossatlas.mpi.mapped_files import shared_files
        from lossatlas.parameter_space.scratch import MappedPoint, layout_of

        own: list[MappedFile] = [file.file for file in self.files]
        held = shared_files(world, own, [layout_of(formats)[1] for formats in self.formats])
        if world.root:
            return self
        files = [MappedPoint(file, formats) for file, formats in zip(held, self.formats, strict=True)]
        return replace(self, net=network_with(self.inputs, files[0]), files=files)

    def unpack(self, loss: "Loss", device: "str | torch.device") -> "Problem":
        """Return the problem on a device of this rank.

        Raises:
            BadInput: This rank cannot read the data, or reads other data than rank 0.
        """
        from lossatlas.evaluation.reference import KEPT_TENSORS
        from lossatlas.jobs.sweep.problem import Problem
        from lossatlas.parameter_space import AffinePlane
        from lossatlas.parameter_space.offloaded import placed

        net = self.net
        assert net is not None
        placed(net, device)
        data = {split: packed.unpack(split) for split, packed in self.inputs.data.items()}
        plane = AffinePlane(KEPT_TENSORS[net].point(net, self.dir_type), *self.files[1:])
        return Problem(net, plane, data, loss, device, None, lambda: net)


def network_with(inputs: PackedInputs, tensors: "Mapping[str, Tensor]") -> "nn.Module":
    """Build the network of another rank and copy its tensors into it, from which it will be restored.

    Args:
        inputs: The name of the network.
        tensors: All of its tensors, in the order of `evaluation.reference.tensors_of`.

    Raises:
        BadInput: The network is another one here.
    """
    import torch

    from lossatlas.errors import BadInput
    from lossatlas.evaluation.reference import keep_on_disk, tensors_of

    net = inputs.built(next(iter(inputs.data.values())).unpack(next(iter(inputs.data))))
    own = tensors_of(net)
    if [(tuple(t.shape), t.dtype) for t in own] != [(tuple(t.shape), t.dtype) for t in tensors.values()]:
        raise BadInput(f"{inputs.model} gives a network with other tensors on this rank than on rank 0")
    with torch.no_grad():
        for value, there in zip(own, tensors.values(), strict=True):
            value.data.copy_(there)
    keep_on_disk(net, tensors)
    return net
