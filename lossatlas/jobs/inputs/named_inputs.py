"""Load the networks, the data and the loss of a command, by name or from a user's functions, on rank 0.

loaded = load_inputs(networks, "weights", data, loss)       # writes nothing
packed = PackedInputs.of(loaded)                            # to be sent to the other ranks, see `packed_inputs`
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossatlas import config
from lossatlas.argument_checks import checked_word
from lossatlas.choices import DirType, Memory
from lossatlas.errors import BadInput, named, say
from lossatlas.io.resume import LOSS_OF_SOME_SAMPLES
from lossatlas.jobs.inputs.configured_data import checking_shapes, load_data, load_split, loss_of
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.user_code import UserFunction, function_record

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import Tensor, nn

    from lossatlas.data import AnyData
    from lossatlas.parameter_space import Point


TRACED = 64  # samples on which alignment is checked to change nothing
INPUT_CHECK_SAMPLES = 4  # on which a loss and a network of this package are checked; a user's are checked on more


def load_inputs(
    nets: config.NetworkConfig,
    dir_type: DirType,
    chosen: config.DataConfig,
    loss_name: config.LossChoice,
    *,
    train_too: bool = False,
    memory: Memory | None = "fast",
) -> LoadedInputs:
    """Load networks and data, and check them on some samples.

    Args:
        nets: The network at the origin and those at the ends of the axes.
        dir_type: 'weights' to move parameters, 'states' to move buffers too.
        chosen: The data.
        loss_name: The loss's name, or the user's function.
        train_too: Load training samples also where no split asks for them.
        memory: 'low', 'fast', or None to choose by the size of the network.

    Returns:
        The network at the origin, the data, and the record that identifies them.

    Raises:
        BadUsage: The options contradict each other.
        BadInput: A file, the network, the data and the loss do not fit each other.
    """
    from lossatlas.evaluation.reference import keep_on_disk
    from lossatlas.jobs.inputs.input_check import CHECKED
    from lossatlas.jobs.inputs.network_memory import small_batch_size, takes_little_memory
    from lossatlas.models import read_state
    from lossatlas.models.adapters import is_adapter
    from lossatlas.models.checkpoint import state_digest

    files = [file for file in (nets.file, nets.file2, nets.file3) if file]
    states = {file: read_state(file) for file in files if not is_adapter(file)}
    data = load_data(chosen, states.get(nets.file, {}), nets.model)
    first = data[chosen.splits[0]]
    net = network_for(nets.model, first)
    read = ReadNetworks.of(net, nets, states, dir_type, low=takes_little_memory(net, memory))
    ends, suffix = [file for file in (nets.file2, nets.file3) if file], ", aligned" if nets.align else ""
    towards = {file: state_digest(read.states[file]) + suffix for file in ends}
    if nets.align:
        read = read.aligned(ends, first)
    targets = [read.point_of(file) if file else None for file in (nets.file2, nets.file3)]
    origin = read.point_of(nets.file)  # last: the network keeps it
    kept = keep_on_disk(net) if read.low else None
    checked = None if kept is None else min(CHECKED, max(2, small_batch_size(first)))
    record = read.record(nets.model, loss_name, first, checked)
    training = (data.get("train") or load_split(chosen, "train")) if train_too else None
    return LoadedInputs(
        net=net,
        model=nets.model,
        data=data,
        chosen=chosen,
        loss=loss_name,
        dir_type=dir_type,
        origin=origin if kept is None else kept.point(net, dir_type),
        targets=targets,
        towards=towards,
        record=record,
        training=training,
        kept=kept,
    )


@dataclass(frozen=True, kw_only=True)
class ReadNetworks:
    """The network of a command, and the states that it takes at the origin and at the ends of the axes.

    Attributes:
        net: The network, which is loaded with one state after the other.
        states: The states by file; '' for the parameters that the network was made with.
        origin: The file of the network at the origin; '' without one.
        dir_type: 'weights' or 'states'.
        low: The network is moved in place, and everything else of its size is on disk.
        in_training_mode: The network was made in training mode.
    """

    net: "nn.Module"
    states: "Mapping[str, dict[str, Tensor]]"
    origin: str
    dir_type: DirType
    low: bool
    in_training_mode: bool

    @classmethod
    def of(
        cls,
        net: "nn.Module",
        nets: config.NetworkConfig,
        states: "Mapping[str, dict[str, Tensor]]",
        dir_type: DirType,
        *,
        low: bool,
    ) -> "ReadNetworks":
        """Add the states that no checkpoint holds: the network as it was made, and adapters merged into the origin.

        Args:
            net: The network as it was made.
            nets: The network at the origin and those at the ends of the axes.
            states: The states of the checkpoints by file.
            dir_type: 'weights' or 'states'.
            low: The network is moved in place, and everything else of its size is on disk.

        Raises:
            BadInput: An adapter is damaged, or does not fit the network.
        """
        from lossatlas.evaluation.parallel_batches import is_training
        from lossatlas.models.adapters import is_adapter, with_adapter

        every, in_training_mode = dict(states), is_training(net)
        if not nets.file:
            if not (isinstance(nets.model, UserFunction) and nets.model.short):  # a folder with weights
                say(f"note: no {named('model_file')}, so the network has the parameters that {nets.model} gives it")
            every[""] = {
                name: value.detach() if low else value.detach().clone() for name, value in net.state_dict().items()
            }
        adapters = [file for file in (nets.file, nets.file2, nets.file3) if file and is_adapter(file)]
        if adapters:
            base = every.get(nets.file) or {name: value.clone() for name, value in net.state_dict().items()}
            every |= {file: with_adapter(net, base, file) for file in adapters}
        return cls(
            net=net,
            states=every,
            origin=nets.file,
            dir_type=dir_type,
            low=low,
            in_training_mode=in_training_mode,
        )

    def aligned(self, files: "Sequence[str]", data: "AnyData") -> "ReadNetworks":
        """Return these with the states of some files aligned to the network at the origin, see `aligned_state`.

        Args:
            files: The files.
            data: Samples on which the result is checked.

        Raises:
            BadInput: The samples are no pairs, or the units cannot be permuted.
        """
        states = {file: aligned_state(self.net, self.states, self.origin, file, data) for file in files}
        return replace(self, states={**self.states, **states})

    def point_of(self, file: str) -> "Point":
        """Return the tensors of a file; the network takes them, unless they are not rounded to its types."""
        from lossatlas.jobs.inputs.networks import NamedState, point_of
        from lossatlas.models.adapters import is_adapter
        from lossatlas.parameter_space import position, tensors

        if file != self.origin and (self.low or is_adapter(file)):
            return point_of(self.net, NamedState.read(self.states[file], file), self.dir_type, as_stored=self.low)
        load_to_evaluate(self.net, self.states[file], file, training=bool(file) or self.in_training_mode)
        return tensors(self.net, self.dir_type) if self.low else position(self.net, self.dir_type)

    def record(
        self, model: config.ModelChoice, loss_name: config.LossChoice, data: "AnyData", count: int | None
    ) -> dict[str, Any]:
        """Return the fields that identify the network at the origin and its loss, after `checked_loss`.

        Args:
            model: The network's name, or the user's function that makes it.
            loss_name: The loss's name, or the user's function.
            data: The samples of which some are evaluated.
            count: The number of samples; None for the usual one.

        Raises:
            BadInput: The network, the data and the loss do not fit each other.
        """
        from lossatlas.jobs.inputs.fingerprint import settings_digest
        from lossatlas.models.checkpoint import state_digest

        loss = loss_name.function if isinstance(loss_name, UserFunction) else loss_name
        return {
            **function_record("model", model),
            "model_class": type(self.net).__name__,
            "model_settings": settings_digest(self.net),
            "loss_settings": settings_digest(loss),
            LOSS_OF_SOME_SAMPLES: checked_loss(self.net, model, loss_name, data, count),
            "checkpoint": state_digest(self.states[self.origin]),
            "dir_type": self.dir_type,
        }


def checked_loss(
    net: "nn.Module",
    model: config.ModelChoice,
    loss_name: config.LossChoice,
    data: "AnyData",
    count: int | None = None,
) -> float:
    """Return the mean loss of some samples, after `check_inputs`.

    Args:
        net: The network.
        model: Its name.
        loss_name: The name of the loss.
        data: The samples.
        count: The number of samples; None for more where a function is the user's.
    """
    from lossatlas.jobs.inputs.input_check import CHECKED, check_inputs, loss_of_some_samples

    loss, name = loss_of(loss_name), f"{model} with the loss {loss_name}"
    if count is not None or isinstance(model, UserFunction) or isinstance(loss_name, UserFunction):
        return float(check_inputs(net, loss, data, name, count or CHECKED).mean())
    check_inputs(net, loss, data, name, INPUT_CHECK_SAMPLES)
    return loss_of_some_samples(net, loss, data)


def load_to_evaluate(net: "nn.Module", state: "Mapping[str, Tensor]", file: str, *, training: bool) -> None:
    """Load a state into a network.

    A network that changes its weights when its mode is switched (adapters that merge) is loaded in the mode in which
    the state was saved, and stays in it: it is evaluated with its flags set, see `reference.check_modes`. Checkpoints
    are saved in training mode; a factory may return either.

    Args:
        net: The network.
        state: Its new tensors.
        file: Their name in messages.
        training: The state was saved in training mode.
    """
    from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
    from lossatlas.models import load_into

    if changes_weights_with_mode(net):
        net.train(training)
    load_into(net, state, file)


def aligned_state(
    net: "nn.Module", states: "Mapping[str, dict[str, Tensor]]", origin: str, file: str, data: "AnyData"
) -> "dict[str, Tensor]":
    """Return the state of a checkpoint with its hidden units permuted to match the network at the origin.

    Args:
        net: The network; its tensors are overwritten.
        states: The states by file.
        origin: The file of the network at the origin; '' without one.
        file: The file of the checkpoint.
        data: Samples on which the result is checked.

    Raises:
        BadInput: The samples are no pairs, or the units cannot be permuted.
    """
    from lossatlas.jobs.inputs.alignment import aligned
    from lossatlas.models import load_into

    few = next(data.batches(TRACED))
    if not isinstance(few, list | tuple) or len(few) != 2:
        raise BadInput(
            f"{named('align')} traces a network that is called with the first of (inputs, targets): these are no such "
            "pairs"
        )
    own = {}
    for name in (origin, file):
        load_into(net, states[name], name)
        own[name] = {key: value.clone() for key, value in net.state_dict().items()}
    result, count = aligned(net, own[origin], own[file], few[0])
    reference = origin or "the network at the origin"
    unchanged = "" if count else ", they were in the best order found"
    say(f"aligned {file} to {reference}: {count} hidden units change places{unchanged}")
    return result


def check_model(model: config.ModelChoice) -> None:
    """Raise BadUsage for a name that is not in the zoo."""
    from lossatlas.models import MODELS

    if isinstance(model, str):
        checked_word("model", model, sorted(MODELS))


def check_checkpoints(*files: str | None) -> None:
    """Raise BadInput for a checkpoint that is missing, before anything else is read; None and '' stand for none."""
    from lossatlas.models.checkpoint import check_exists

    for file in files:
        if file:
            check_exists(file)


def check_user_functions(*names: str | UserFunction) -> None:
    """Import the user's functions among these, before anything is read.

    Raises:
        BadInput: As `UserFunction.function`.
    """
    for name in names:
        if isinstance(name, UserFunction):
            name.function  # noqa: B018


def network_for(model: config.ModelChoice, data: "AnyData") -> "nn.Module":
    """Return a network of the zoo for samples of this shape, or the user's, in evaluation mode.

    A network that changes its weights when its mode is switched stays in the mode in which its factory returns it.

    Raises:
        BadInput: There is no such network for these inputs.
    """
    from lossatlas.data import shape_of
    from lossatlas.evaluation.parallel_batches import changes_weights_with_mode
    from lossatlas.models import build

    if isinstance(model, UserFunction):
        net = build(model)
        return net if changes_weights_with_mode(net) else net.eval()
    with checking_shapes(model, data):
        return build(model, shape_of(data), data.classes).eval()
