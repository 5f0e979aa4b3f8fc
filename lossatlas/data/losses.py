"""Losses: functions of (model, batch) that return per-sample losses, weights and metrics.

    losses = LOSSES["crossentropy"](net, (inputs, labels))
    loss = as_loss(torch.nn.CrossEntropyLoss(label_smoothing=0.1))      # an ordinary loss(output, target)

A batch is (inputs, targets), or (input, input, ..., targets), or a dict with the targets under one of TARGETS and the
network's arguments by name; for `next_token` tokens alone, and for `multiple_choice` questions. `model` is the network,
or a function that computes the same.
"""

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from lossatlas.argument_checks import checked_word
from lossatlas.choices import LOSS_NAMES, LossName
from lossatlas.data.dataset import BATCH_AS_SAMPLE
from lossatlas.data.structures import Structure, is_column, leaves, mapped
from lossatlas.errors import BadInput, BadUsage, named

Batch = Structure
TARGETS = ("labels", "label", "targets", "target", "y")  # keys of the targets in a dict
# Names of the first argument of a loss(model, batch), as opposed to a loss(output, target).
MODEL_NAMES = ("model", "net", "network", "module")
LARGEST_UPCAST = 1 << 22  # logits that are converted to float64 at a time
IGNORED_LABEL = -100  # a label that does not count, as in torch


@dataclass(frozen=True)
class Losses:
    """The result of a loss function for one batch of n samples.

    Attributes:
        per_sample: Losses, (n,).
        weights: Weights of the samples in every mean, (n,), or None for 1.
        metrics: Further per-sample values by name, (n,) each, averaged like the loss; `accuracy` is between 0 and 1.
        penalty: A term of the parameters alone, (), the same for every batch.
        spread: False if `per_sample` repeats the mean of the batch, so that the variance over the samples is unknown.

    Example:
        >>> Losses(torch.tensor([1.0, 3.0]), weights=torch.tensor([3.0, 1.0])).mean()
        tensor(1.5000)
    """

    per_sample: Tensor
    weights: Tensor | None = None
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    penalty: Tensor | None = None
    spread: bool = True

    def mean(self) -> Tensor:
        """Return the (weighted) mean over the batch, plus the term of the parameters."""
        weights = self.weights
        mean = self.per_sample.mean() if weights is None else (weights * self.per_sample).sum() / weights.sum()
        return mean if self.penalty is None else mean + self.penalty


Model = Callable[..., Any]  # a network, or a function from inputs to outputs
Loss = Callable[[Model, Batch], Losses]
LossLike = LossName | str | nn.Module | Callable[[Any, Any], Tensor | Losses]  # what `as_loss` takes; it checks names


def forward(model: Model, batch: Batch) -> tuple[Tensor, Any]:
    """Return the output of a network for a batch, and the targets.

    Args:
        model: The network.
        batch: Inputs and targets.

    Raises:
        BadInput: Inputs and targets cannot be told apart, or the labels of the network have to be shifted.
    """
    if isinstance(batch, Mapping):
        found = [name for name in TARGETS if name in batch]
        if not found:
            language = f"{named('loss_name', 'next_token')} for a language model, or " if "input_ids" in batch else ""
            raise BadInput(
                f"a batch has no targets: it holds {', '.join(map(str, batch))}, and none of {', '.join(TARGETS)}; "
                f"give {language}a loss(model, batch) of your own"
            )
        check_not_shifted(type(model).__name__)
        return output_of(model(**{name: value for name, value in batch.items() if name not in found})), batch[found[0]]
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        inputs = batch[:-1]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):  # (inputs by name, targets)
            return output_of(model(**inputs[0])), batch[-1]
        if len(inputs) == 1 and isinstance(inputs[0], list | tuple):  # ((input, input), targets)
            inputs = inputs[0]
        return output_of(model(*inputs)), batch[-1]
    raise BadInput(
        f"a batch is {type(batch).__name__}, neither (inputs, targets) nor a dict with "
        f"{' or '.join(TARGETS)}: give a loss(model, batch) of your own"
    )


def check_not_shifted(kind: str) -> None:
    """Check that the outputs of a network are about the labels at their positions.

    Args:
        kind: The name of the class of the network.

    Raises:
        BadInput: The network predicts the next token, or makes its inputs of the labels.
    """
    if any(word in kind for word in ("CausalLM", "LMHead")):
        raise BadInput(
            f"{kind} predicts the next token, and its labels have to be shifted: give "
            f"{named('loss_name', 'next_token')}"
        )
    if any(word in kind for word in ("Seq2Seq", "ConditionalGeneration")):
        raise BadInput(
            f"{kind} makes its own inputs of the labels: give a loss(model, batch) of your own, see "
            "docs/howto/own-loss.md"
        )


def output_of(output: Any) -> Tensor:
    """Return the output tensor of a network: `logits` where they have a name, or the first of several.

    Raises:
        BadInput: The output contains no tensor.
    """
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "logits"):
        return output.logits
    if isinstance(output, Mapping):
        return output["logits"] if "logits" in output else next(iter(output.values()))
    if isinstance(output, list | tuple):
        return output[0]
    raise BadInput(
        f"the network gives {type(output).__name__}, which is not a tensor: give a loss(model, batch) of your own"
    )


def crossentropy(model: Model, batch: Batch) -> Losses:
    """Compute the cross-entropy of logits and labels.

    Labels equal to IGNORED_LABEL do not count. The weight of a sample is the number of its positions, so that the mean
    is over all positions.

    Args:
        model: Its output is (n, classes), or (n, classes, ...) as in torch, or (n, ..., classes) as in sequences.
        batch: Its targets are whole numbers, (n,) or (n, ...).

    Returns:
        Losses in nats, with the accuracy.

    Raises:
        BadInput: The shapes do not match, or the targets are not whole numbers.
    """
    output, targets = forward(model, batch)
    logits = positions_last(output, targets)
    if targets.dim() == 1 and logits.dim() == 2:
        loss = row_losses(logits, targets)
        return Losses(loss, (targets != IGNORED_LABEL).to(loss), accuracy(logits, targets))
    return mean_over_positions(logits, targets)


def mean_over_positions(logits: Tensor, targets: Tensor) -> Losses:
    """Compute the mean cross-entropy of each sample over its positions, which are its weight, and the accuracy.

    Args:
        logits: (n, ..., classes).
        targets: Whole numbers, (n, ...); IGNORED_LABEL does not count.
    """
    flat = row_losses(logits.flatten(0, -2), targets.flatten()).view(len(targets), -1)
    valid = (targets != IGNORED_LABEL).view(len(targets), -1)
    count = valid.sum(1)
    right = ((logits.argmax(-1) == targets).view(len(targets), -1) & valid).sum(1)
    each = count.clamp(min=1)
    return Losses(flat.sum(1) / each, count.to(flat), {"accuracy": right / each})


def next_token(model: Model, batch: Batch) -> Losses:
    """Compute the cross-entropy of each token given those before it, of a causal language model.

    The weight of a sample is the number of its tokens that count, so that the mean is over all tokens; its exponential
    is the perplexity. `labels` are shifted here, as transformers does: the label at position k + 1 belongs to the
    output at k.

    Args:
        model: Its output is (n, t, vocabulary).
        batch: The arguments of the model by name: `input_ids` (n, t), and perhaps `attention_mask` (n, t), which is 0
            at padding, and `labels` (n, t), of which IGNORED_LABEL does not count. By default every token counts that
            is no padding and follows one that is none. Lists, such as the texts, are not passed. Or the tokens alone,
            (n, t).

    Returns:
        Losses in nats, with the accuracy of the most probable token.

    Raises:
        BadInput: The batch holds no tokens, or the shapes do not match.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7))
        >>> losses = next_token(model, torch.tensor([[1, 2, 3, 4], [5, 6, 1, 2]]))
        >>> losses.per_sample.shape, losses.weights.tolist()
        (torch.Size([2]), [3.0, 3.0])
    """
    if isinstance(batch, Mapping):
        targets = following_tokens(batch)
        output = output_of(model(**{name: v for name, v in batch.items() if name != "labels" and not is_column(v)}))
    else:
        tokens = tokens_alone(batch)
        targets = following_tokens({"input_ids": tokens})
        output = output_of(model(tokens))
    if output.dim() != 3 or output.shape[:2] != targets.shape:
        raise BadInput(
            f"next_token: outputs {tuple(output.shape)} and tokens {tuple(targets.shape)} do not fit: a causal "
            "language model gives (samples, positions, vocabulary)"
        )
    return mean_over_positions(output, targets)


def tokens_alone(batch: Batch) -> Any:
    """Return the one tensor of a batch without names.

    Raises:
        BadInput: The batch has several tensors.
    """
    if isinstance(batch, list | tuple) and len(batch) != 1:
        raise BadInput(
            "next_token: the batch has several tensors without names: give a dict with 'input_ids', or, where the "
            f"targets are shifted already, {named('loss_name', 'crossentropy')}"
        )
    return batch[0] if isinstance(batch, list | tuple) else batch


def following_tokens(batch: Mapping[str, Any]) -> Tensor:
    """Return the token that the output at each position predicts, (n, t), or IGNORED_LABEL; see `next_token`.

    Raises:
        BadInput: The batch holds no whole numbers (n, t), or a mask of another shape.
    """
    tokens = batch.get("labels", batch.get("input_ids"))
    if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.is_floating_point() or tokens.dtype == torch.bool:
        given = f"{tokens.dtype} {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else ", ".join(map(str, batch))
        raise BadInput(
            "next_token needs tokens as whole numbers (samples, positions), alone or under 'input_ids': the batch has "
            f"{given}"
        )
    targets = torch.full_like(tokens, IGNORED_LABEL, dtype=torch.int64)
    targets[:, :-1] = tokens[:, 1:]
    mask = batch.get("attention_mask")
    if "labels" in batch or mask is None:
        return targets
    if mask.shape != tokens.shape:
        raise BadInput(
            f"next_token: the attention mask {tuple(mask.shape)} does not say which of the tokens "
            f"{tuple(tokens.shape)} are padding: give 'labels', with -100 where a token does not count"
        )
    real = mask != 0
    targets[:, :-1].masked_fill_(~(real[:, 1:] & real[:, :-1]), IGNORED_LABEL)
    return targets


def row_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy of each row, (n,); many logits are converted to float64 a few rows at a time.

    Args:
        logits: (n, classes).
        targets: Whole numbers, (n,).
    """
    if logits.numel() <= LARGEST_UPCAST:
        return F.cross_entropy(upcast(logits), targets, reduction="none")
    parts = zip(*(each.split(max(1, LARGEST_UPCAST // logits.shape[1])) for each in (logits, targets)), strict=True)
    return torch.cat([F.cross_entropy(rows.double(), labels, reduction="none") for rows, labels in parts])


def multiple_choice(model: Model, batch: Batch) -> Losses:
    """Compute the log-likelihood of each choice as the continuation of its context, as lm-evaluation-harness does.

    Args:
        model: A causal language model; its output is (n, t, vocabulary).
        batch: Questions, see `lossatlas.question_data`: `input_ids` and `following` (n, choices, t), perhaps
            `attention_mask`, `characters` (n, choices), which is 0 where there is no such choice, and `answer` (n,).

    Returns:
        The negative log-likelihood of the right choice, summed over its tokens, in nats. Metrics: `exact_match`, the
        share of questions of which each token of the right choice is the most probable one, as greedy generation would
        give it; and of several choices `accuracy`, the share whose right choice has the largest log-likelihood, and
        `accuracy_norm`, the same after division by the number of characters of the choice.

    Raises:
        BadInput: The batch holds no questions.
    """
    if not isinstance(batch, Mapping) or not {"input_ids", "following", "characters", "answer"} <= set(batch):
        raise BadInput(
            "multiple_choice needs questions: make them by lossatlas.question_data, or give choices:FILE.jsonl"
        )
    given = {name: batch[name].flatten(0, 1) for name in ("input_ids", "attention_mask") if name in batch}
    following, characters, answer = batch["following"], batch["characters"], batch["answer"][:, None]
    logits = output_of(model(**given))
    minus = row_losses(logits.flatten(0, 1), following.flatten()).view(following.shape).sum(-1)
    right = (logits.argmax(-1).view(following.shape) == following) | (following == IGNORED_LABEL)
    metrics = {"exact_match": right.all(-1).gather(1, answer)[:, 0]}
    if characters.shape[1] > 1:
        known = minus.masked_fill(characters == 0, torch.inf)
        best, best_of_length = (each.argmin(1, keepdim=True) for each in (known, known / characters.clamp(min=1)))
        metrics |= {"accuracy": (best == answer)[:, 0], "accuracy_norm": (best_of_length == answer)[:, 0]}
    return Losses(minus.gather(1, answer)[:, 0], metrics=metrics)


def positions_last(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the logits with the classes along the last axis.

    Args:
        logits: (n, classes, ...) or (n, ..., classes).
        targets: (n, ...).

    Raises:
        BadInput: Labels and logits do not match, or match in both readings, of which other batches may show another
            one.
    """
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise BadInput(
            f"cross-entropy needs whole numbers as labels, the targets are {targets.dtype}: give labels, or another "
            f"{named('loss_name')}"
        )
    second = logits.dim() >= 2 and targets.shape == logits.shape[:1] + logits.shape[2:]
    last = logits.dim() >= 2 and targets.shape == logits.shape[:-1]
    if second and last and logits.dim() > 2:
        raise BadInput(
            f"cross-entropy: of outputs {tuple(logits.shape)} the second or the last axis may be the classes: give a "
            "function of (output, target), such as F.cross_entropy for the second one, or pad to another length"
        )
    if second or last:
        return logits.movedim(1, -1) if second else logits
    raise BadInput(f"cross-entropy: outputs {tuple(logits.shape)} and labels {tuple(targets.shape)} do not fit")


def mse(model: Model, batch: Batch) -> Losses:
    """Compute the mean squared error.

    Args:
        model: The network.
        batch: Its targets are labels (n,), or numbers of the shape of the output.

    Returns:
        For labels, the mean over the classes of (softmax(logits) - one-hot)^2, as in the code of Li et al. (2018), with
        the accuracy. Otherwise, the mean over all values of a sample of (output - target)^2.

    Raises:
        BadInput: The shapes do not match.
    """
    output, targets = forward(model, batch)
    output = upcast(output)
    if not targets.is_floating_point() and output.dim() == 2 and targets.dim() == 1:
        error = output.softmax(1) - F.one_hot(targets, output.shape[1])
        return Losses((error**2).mean(1), metrics=accuracy(output, targets))
    if output.shape != targets.shape:
        if output.numel() != targets.numel() or len(output) != len(targets):
            raise BadInput(f"mse: outputs {tuple(output.shape)} and targets {tuple(targets.shape)} do not fit")
        targets = targets.view_as(output)
    return Losses(((output - targets) ** 2).flatten(1).mean(1) if output.dim() > 1 else (output - targets) ** 2)


def upcast(logits: Tensor) -> Tensor:
    """Convert logits in half precision to float32."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def accuracy(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Return the metric `accuracy`, (n,) bool."""
    return {"accuracy": logits.argmax(1) == targets}


LOSSES: dict[LossName, Loss] = {
    "crossentropy": crossentropy,
    "mse": mse,
    "next_token": next_token,
    "multiple_choice": multiple_choice,
}
TORCH_MODULES: dict[Any, Any] = {F.cross_entropy: nn.CrossEntropyLoss, F.nll_loss: nn.NLLLoss}


def as_loss(function: LossLike) -> Loss:
    """Convert a user's loss to a function of (model, batch) that returns `Losses`.

    A function of (model, batch) is recognized by the name of its first argument, see MODEL_NAMES. A loss that gives
    only the mean of a batch is accepted; the variance over the samples is then unknown.

    Args:
        function: A name of LOSSES; a function of (model, batch) that returns `Losses` or a tensor; or a function or
            module of (output, target), with or without `reduction`.

    Raises:
        BadUsage: The name is unknown, the object cannot be called, the loss is a sum over samples, or it takes three
            arguments.

    Example:
        >>> loss = as_loss(torch.nn.CrossEntropyLoss())
        >>> loss(torch.nn.Linear(3, 2), (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))).per_sample.shape
        torch.Size([4])
    """
    if isinstance(function, str):
        try:
            return LOSSES[checked_word("loss", function, LOSS_NAMES)]
        except BadUsage as error:
            raise BadUsage(f"{error}, or give a function") from None
    if not callable(function):
        raise BadUsage(f"a loss has to be a function, not {function!r}")
    if function in LOSSES.values() or isinstance(function, UserLoss):
        return cast(Loss, function)
    if isinstance(function, nn.Module):
        return partial(module_losses, unreduced(function))
    known, options = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
    if known in TORCH_MODULES and not getattr(function, "args", ()):
        return as_loss(TORCH_MODULES[known](**options))  # a module tells its class weights and ignored labels
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # builtins may have no signature
        signature = inspect.Signature()
    names = list(signature.parameters)
    if names and names[0] in MODEL_NAMES:
        if not takes(signature, 2) and takes(signature, 3):
            name = getattr(function, "__name__", "score")
            raise BadUsage(
                f"{name}{signature} takes three arguments, a loss (model, batch): for a score of a task give "
                f"lossatlas.with_scores({name})"
            )
        return UserLoss(function)
    return partial(function_losses, function, has_reduction="reduction" in names)


def takes(signature: inspect.Signature, count: int) -> bool:
    """Return whether a function can be called with so many arguments without names."""
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True


def unreduced(module: nn.Module) -> nn.Module:
    """Return a copy of a loss module that gives one value for each sample or position.

    Raises:
        BadUsage: The module sums over the samples.
    """
    if not hasattr(module, "reduction"):
        return module
    if module.reduction == "sum":
        raise BadUsage(
            f"{type(module).__name__} sums over the samples, so the loss depends on their number: use reduction='mean'"
        )
    result: Any = deepcopy(module)
    result.mean_over, result.reduction = module.reduction, "none"
    return result


def module_losses(module: nn.Module, model: Model, batch: Batch) -> Losses:
    """Evaluate a loss module of (output, target)."""
    output, targets = forward(model, batch)
    output = upcast(output)
    if isinstance(module, nn.CrossEntropyLoss | nn.NLLLoss) and not targets.is_floating_point():
        return with_class_weights(module, output, targets)
    if any(True for _ in (*module.parameters(), *module.buffers())):
        module = deepcopy(module).to(output.device, output.dtype)
    found = module(output, match_dtype(targets, output))
    return as_losses(found, output, targets, sums=getattr(module, "mean_over", "") == "batchmean")


def with_class_weights(module: nn.CrossEntropyLoss | nn.NLLLoss, output: Tensor, targets: Tensor) -> Losses:
    """Evaluate a cross-entropy whose mean is weighted by class, over the labels that are not ignored."""
    weight = None if module.weight is None else module.weight.to(output)
    options: dict[str, Any] = {"weight": weight, "ignore_index": module.ignore_index, "reduction": "none"}
    if isinstance(module, nn.NLLLoss):
        loss = F.nll_loss(output, targets, **options)
    else:
        loss = F.cross_entropy(output, targets, label_smoothing=module.label_smoothing, **options)
    valid = targets != module.ignore_index
    each = valid.to(loss) if weight is None else weight[torch.where(valid, targets, 0)] * valid
    total = each.view(len(targets), -1).sum(1)
    per_sample = loss.view(len(targets), -1).sum(1) / torch.where(total > 0, total, torch.ones_like(total))
    return Losses(per_sample, total, accuracy(output, targets) if targets.dim() == 1 and weight is None else {})


def function_losses(function: Callable[..., Any], model: Model, batch: Batch, *, has_reduction: bool) -> Losses:
    """Evaluate a loss function of (output, target).

    Args:
        function: The user's function.
        model: The network.
        batch: Inputs and targets of the samples.
        has_reduction: The function has an argument `reduction`, which gets "none".

    Returns:
        The loss of each sample, or their mean where the function returns one number.

    Raises:
        BadInput: The function takes the network, not its output, or its result cannot be used.
    """
    output, targets = forward(model, batch)
    options = {"reduction": "none"} if has_reduction else {}
    output = upcast(output)
    try:
        found = function(output, match_dtype(targets, output), **options)
    except TypeError as error:
        if "'Tensor' object is not callable" not in str(error):
            raise
        raise BadInput(
            "the loss calls the output of the network: a function of (output, target) gets these; call its parameters "
            "model and batch where it calls the network itself"
        ) from error
    except RuntimeError:  # its own tensors, such as class weights, are float32
        found = function(output.float(), match_dtype(targets, output.float()), **options)
    return as_losses(found, output, targets)


def match_dtype(targets: Any, output: Tensor) -> Any:
    """Convert floating-point targets to the precision of the output, which is float64."""
    return targets.to(output.dtype) if isinstance(targets, Tensor) and targets.is_floating_point() else targets


class UserLoss:
    """A user's loss(model, batch), whose result is converted to `Losses`.

    The loss may differentiate with respect to its inputs, by torch.autograd or torch.func: autograd is on while it
    runs, and its result is detached if autograd was off before.

    Attributes:
        single_threaded: The loss has used forward-mode differentiation (torch.func.jvp, jacfwd, hessian), which only
            one thread of a process can do at a time. Noticed by the main thread, which calls the loss first.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.single_threaded = function, False

    def __call__(self, model: Model, batch: Batch) -> Losses:
        recorded = torch.is_grad_enabled()
        own = mapped(batch, lambda tensor: tensor.detach())  # so that `requires_grad_()` does not change the samples
        with torch.enable_grad():
            if self.single_threaded or threading.current_thread() is not threading.main_thread():
                found = self.function(model, own)
            else:
                with detect_forward_mode() as used:
                    found = self.function(model, own)
                self.single_threaded = bool(used)
        if not isinstance(found, Losses):
            count = next((len(leaf) for _, leaf in leaves(batch) if not isinstance(leaf, Tensor) or leaf.dim()), 1)
            found = per_sample_or_mean(found, count)
        return found if recorded else without_graph(found)


def is_single_threaded(loss: Loss) -> bool:
    """Return whether only one thread at a time can evaluate a loss, as far as is known."""
    return isinstance(loss, UserLoss) and loss.single_threaded


def without_graph(losses: Losses) -> Losses:
    """Detach all tensors of a result from the autograd graph."""

    return replace(
        losses,
        per_sample=detached(losses.per_sample),
        weights=detached(losses.weights),
        metrics={name: detached(value) for name, value in losses.metrics.items()},
        penalty=detached(losses.penalty),
    )


def detached(value: Any) -> Any:
    """Return a tensor without its graph; other values, which `loss_check` refuses, as they are."""
    return value.detach() if isinstance(value, Tensor) else value


@contextmanager
def detect_forward_mode() -> Iterator[list[bool]]:
    """Detect forward-mode differentiation within the block: the list that is yielded is not empty if there was any."""
    used: list[bool] = []
    names = ("make_dual", "enter_dual_level")  # entry points of torch.func, and of forward_ad itself
    before = {name: getattr(forward_ad, name) for name in names}

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def recorded_call(*arguments: Any, **keywords: Any) -> Any:
            used.append(True)
            return function(*arguments, **keywords)

        return recorded_call

    for name, function in before.items():
        setattr(forward_ad, name, recording(function))
    try:
        yield used
    finally:
        for name, function in before.items():
            setattr(forward_ad, name, function)


def as_losses(loss: Any, output: Tensor, targets: Any, *, sums: bool = False) -> Losses:
    """Convert the result of a loss of (output, target), and add the accuracy where the targets are labels.

    Args:
        loss: The result: a tensor with one value per sample, or a single one.
        output: Output of the network, samples along the first axis.
        targets: Targets of the samples.
        sums: A single value is a sum over the samples, not a mean.
    """
    result = per_sample_or_mean(loss, len(output), sums=sums)
    labels = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dtype != torch.bool
    if labels and targets.dim() == 1 and output.dim() == 2:
        result = replace(result, metrics=accuracy(output, targets))
    return result


def per_sample_or_mean(loss: Any, count: int, *, sums: bool = False) -> Losses:
    """Convert a tensor to per-sample losses.

    Args:
        loss: One value for each sample, or for each of its positions, or the mean of the batch ().
        count: The number of samples.
        sums: Positions are summed instead of averaged.

    Raises:
        BadInput: It is not a tensor, or has another number of values.
    """
    if not isinstance(loss, Tensor):
        raise BadInput(f"a loss gave {type(loss).__name__}, not a tensor or lossatlas.Losses")
    if loss.dim() == 0:
        return Losses(loss.expand(count), spread=False)
    if len(loss) != count:
        raise BadInput(
            f"a loss gave {len(loss)} values for a batch of {count} samples: give one for each, or their mean; samples "
            f"lie along the first axis of every tensor; {BATCH_AS_SAMPLE}"
        )
    if loss.dim() == 1:
        return Losses(loss)
    flat = loss.flatten(1)
    return Losses(flat.sum(1) if sums else flat.mean(1))
