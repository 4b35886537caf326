"""The same training at another temperature: exact reparametrisations of T."""

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from rankdeficit.checks import check_temperature
from rankdeficit.control.head import Where, check_where, linear_head, registered_head
from rankdeficit.control.passes import Passes
from rankdeficit.diagnostics.reading.taps import Select

Model = TypeVar("Model", bound=nn.Module)

LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
)  # fmt: skip
"""Modules f without weights with f(a x) = a f(x) for a > 0."""

SGD_POWERS = {"lr": -2, "weight_decay": 2}
ADAM_POWERS = {"lr": -1, "eps": 1, "weight_decay": 2}
ADAMW_POWERS = {"lr": -1, "eps": 1, "weight_decay": 1}
"""Powers of s by which options are multiplied for weights that are divided by s."""

STATE_POWERS = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2, "max_exp_avg_sq": 2}
"""The same for what optimisers remember of gradients, which are multiplied by s."""


def equivalent(
    model: Model,
    optimizer: Optimizer,
    temperature: float,
    *,
    to: float = 1.0,
    where: Where = "head",
    batch: Any = None,
    logits: Select | None = None,
) -> tuple[Model, Optimizer]:
    """A model and an optimizer that train at temperature `to` exactly as these do at `temperature`.

    After every step both have the same logits divided by their temperature, so the same losses and
    probabilities. With r = temperature / to, weights are divided by s:

    - where="head" (any network with a linear head): weight and bias of the head have s = r.
    - where="all" (a sequence of L linear layers or convolutions with ReLU, pooling and such between them,
      homogeneous of degree L): weights have s = r^(1/L), the bias of layer l has s = r^(l/L).

    Gradients are multiplied by s, and options by powers of s in parameter groups of their own: SGD lr /
    s^2 and weight_decay s^2, with momentum and Nesterov; Adam lr / s, eps s and weight_decay s^2; AdamW
    lr / s, eps s and weight_decay s. Both are copies. What the optimizer remembers is converted, so
    this works in the middle of a training too.

    A learning rate schedule of the new optimizer must have the same factors over time. Clipping
    gradients is not equivalent unless it uses the norm in one of the two runs for both. With Adam,
    biases in front of a BatchNorm have gradients of rounding errors alone, so compare losses rather
    than weights.

    batch: for a forward pass that finds the head, and checks that the logits are proportional to it;
    without it, the head is the linear layer registered last.
    Raises ValueError for T <= 0, other optimizers, networks that are not homogeneous (where="all"), and
    as `linear_head`.
    """
    check_temperature(temperature)
    check_temperature(to)
    check_where(where)
    powers = _powers(optimizer)
    scales = dict(_scales(model, temperature / to, where, batch, logits))
    twin = copy.deepcopy(model)
    pairs = list(zip(model.parameters(), twin.parameters(), strict=True))
    counterpart = {id(own): other for own, other in pairs}
    with torch.no_grad():
        for own, other in pairs:
            other.div_(scales.get(id(own), 1.0))
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        by_scale: dict[float, list[Tensor]] = {}
        for own in group["params"]:
            if id(own) not in counterpart:
                raise ValueError(
                    f"optimizer has a parameter of shape {tuple(own.shape)} that the model has not; "
                    "pass the optimizer of this model"
                )
            by_scale.setdefault(scales.get(id(own), 1.0), []).append(counterpart[id(own)])
        groups += [_group(group, params, scale, powers) for scale, params in by_scale.items()]
    make: Any = type(optimizer)
    new: Optimizer = make(groups, lr=optimizer.defaults["lr"])
    for remembered, state in optimizer.state.items():
        scale = scales.get(id(remembered), 1.0)
        new.state[counterpart[id(remembered)]] = {
            name: _converted(value, scale ** STATE_POWERS.get(name, 0))
            for name, value in state.items()
        }
    return twin, new


def homogeneous_layers(model: nn.Module) -> list[nn.Linear | nn.modules.conv._ConvNd]:
    """Linear layers and convolutions of a homogeneous sequence; empty for other networks."""
    found: list[Any] = []
    for own in _parts(model):
        if isinstance(own, LAYERS):
            found.append(own)
        elif not isinstance(own, HOMOGENEOUS):
            return []
    return found


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """Modules of nested sequences in the order of their execution; anything else is one part."""
    if type(model) is nn.Sequential:
        for own in model:
            yield from _parts(own)
    else:
        yield model


def _scales(
    model: nn.Module, ratio: float, where: Where, batch: Any, logits: Select | None
) -> Iterator[tuple[int, float]]:
    """Identities of the parameters that are divided, and by what."""
    if where == "head":
        found = (
            registered_head(model)
            if batch is None
            else linear_head(Passes.of(model, batch, logits), may_be_zero=True)
        )
        yield from ((id(own), ratio) for own in found.parameters)
        return
    layers = homogeneous_layers(model)
    if len({id(own) for own in layers}) < len(layers) or not layers:
        raise ValueError(
            "where='all' needs an nn.Sequential of linear layers or convolutions, each once, with ReLU, "
            "pooling and flattening between them; take where='head' for other networks"
        )
    for number, layer in enumerate(layers, start=1):
        yield id(layer.weight), ratio ** (1 / len(layers))
        if layer.bias is not None:
            yield id(layer.bias), ratio ** (number / len(layers))


def _powers(optimizer: Optimizer) -> dict[str, int]:
    if type(optimizer) is SGD:
        return SGD_POWERS
    if type(optimizer) in (Adam, AdamW):
        decoupled = type(optimizer) is AdamW or optimizer.defaults.get("decoupled_weight_decay")
        return ADAMW_POWERS if decoupled else ADAM_POWERS
    raise ValueError(
        f"optimizer is {type(optimizer).__name__}; the equivalence is known for SGD, Adam and AdamW of "
        "torch.optim"
    )


def _group(
    group: dict[str, Any], params: list[Tensor], scale: float, powers: dict[str, int]
) -> dict[str, Any]:
    """The group with options for weights that are divided by a scale."""
    options = {
        name: value * scale ** powers.get(_option(name), 0) if _option(name) in powers else value
        for name, value in group.items()
        if name != "params"
    }
    return {"params": params, **options}


def _option(name: str) -> str:
    """A scheduler keeps the first rate of a group as initial_lr."""
    return "lr" if name == "initial_lr" else name


def _converted(value: Any, factor: float) -> Any:
    return value * factor if isinstance(value, Tensor) else copy.deepcopy(value)
