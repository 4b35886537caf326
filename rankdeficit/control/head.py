"""The layers that make a classifier's logits, so that the logits are proportional to their parameters."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.control.passes import Mode, Passes, restored
from rankdeficit.diagnostics.reading.outputs import kind_of_outputs

Where = Literal["head", "all"]
"""What is changed: the head, or all weights."""

MAKERS = (nn.Linear, nn.modules.conv._ConvNd)
"""Modules that can make logits."""

UNMOVED = 0.05
"""Relative change at most of logits that a normalisation fixes when the head is doubled."""


@dataclass(frozen=True)
class Head:
    """The layers that make the logits, by name: one, or several whose outputs are averaged."""

    modules: dict[str, nn.Module]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Weights and biases, each once."""
        found = {id(own): own for module in self.modules.values() for own in module.parameters()}
        return list(found.values())

    @property
    def name(self) -> str:
        """Names of the modules."""
        return " and ".join(name or "the model itself" for name in self.modules)


def check_where(where: str) -> None:
    """Raise ValueError for anything but "head" and "all"."""
    if where not in get_args(Where):
        raise ValueError(f"where is {where!r}; it must be one of {', '.join(get_args(Where))}")


def registered_head(model: nn.Module) -> Head:
    """The linear layer registered last, found without a forward pass.

    Raises ValueError where there is none, and where only a forward pass shows what makes the logits:
    another linear layer has as many outputs, or another kind of layer is registered behind it.
    """
    linear = {name: own for name, own in model.named_modules() if isinstance(own, nn.Linear)}
    if not linear:
        raise ValueError("the model has no linear layer, so no head whose weights set the logits")
    last = list(linear)[-1]
    names = list(dict(model.named_modules()))
    behind = [name for name in names[names.index(last) + 1 :] if not _passes_on(model, name)]
    if behind:
        raise ValueError(
            f"{behind[0]} is registered behind the linear layer {last} and may change the logits; pass "
            "batch=..., which shows what makes them"
        )
    outputs = linear[last].out_features
    peers = [name for name, own in linear.items() if own.out_features == outputs]
    if len(peers) > 1:
        raise ValueError(
            f"{' and '.join(peers)} are linear layers with {outputs} outputs each; pass batch=..., "
            "which tells those that make the logits"
        )
    return Head({last: linear[last]})


def _passes_on(model: nn.Module, name: str) -> bool:
    """Whether a module leaves logits in evaluation mode as they are, or only holds others."""
    module = model.get_submodule(name)
    return isinstance(module, (nn.Identity, nn.Dropout)) or bool(list(module.children()))


def linear_head(passes: Passes, *, may_be_zero: bool = False) -> Head:
    """The layers to whose parameters the logits are proportional.

    Tried are the linear layer or convolution that runs last, and all that have as many outputs as there
    are classes: twice their parameters must give twice the logits in evaluation mode. Parameters are
    restored exactly.
    may_be_zero: where all logits are zero, take the layer that runs last, unchecked.
    Raises ValueError where there is no such layer, with the reason: no linear layer, zero logits, logits
    that a normalisation or a softmax fixes, or weights that another part of the network shares.
    """
    before, makers = run_makers(passes)
    ran = list(makers)
    if not ran:
        raise ValueError("the model runs no linear layer, so no head whose weights set the logits")
    if not bool(before.any()):
        if may_be_zero:
            return Head({ran[-1]: makers[ran[-1]]})
        raise ValueError(
            f"all logits are zero, as if {ran[-1]} started at zero; no factor changes that: initialise "
            "it first, for instance with nn.init.normal_(weight, std=0.01)"
        )
    as_wide = [name for name in ran if _outputs(makers[name]) == before.shape[1]]
    for chosen in [ran[-1:], as_wide] if len(as_wide) > 1 else [ran[-1:]]:
        head = Head({name: makers[name] for name in chosen})
        with restored(head.parameters):
            multiply(head.parameters, 2.0)
            after = passes.logits()
        if _same(after, 2 * before):
            return head
    raise ValueError(_reason(passes.model, head, before, after))


def run_makers(
    passes: Passes, mode: Mode = "eval"
) -> tuple[Float[Tensor, "n c"], dict[str, nn.Module]]:
    """The logits, and the linear layers and convolutions that ran, in the order of their last calls."""
    makers = {name: own for name, own in passes.model.named_modules() if isinstance(own, MAKERS)}
    ran: dict[str, nn.Module] = {}

    def note(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        ran.pop(name, None)
        ran[name] = module

    hooks = [own.register_forward_hook(partial(note, name)) for name, own in makers.items()]
    try:
        return passes.logits(mode), ran
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def multiply(parameters: list[nn.Parameter], factor: float) -> None:
    """Multiply parameters in place."""
    for own in parameters:
        own.mul_(factor)


def _lies_in(name: str, module: str) -> bool:
    """Whether a parameter belongs to a module or its parametrisations; all do to the model itself."""
    return not module or name.startswith(f"{module}.")


def _outputs(module: nn.Module) -> int:
    outputs = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    assert isinstance(outputs, int)
    return outputs


def _same(found: Float[Tensor, "n c"], expected: Float[Tensor, "n c"]) -> bool:
    """Equal up to the rounding of a forward pass."""
    distance = (found.double() - expected.double()).norm()
    return bool(distance <= 16 * torch.finfo(found.dtype).eps * expected.double().norm())


def _reason(model: nn.Module, head: Head, before: Tensor, after: Tensor) -> str:
    """Why the logits are not proportional to the head."""
    own = {id(parameter) for parameter in head.parameters}
    sharing = [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in own and not any(_lies_in(name, module) for module in head.modules)
    ]
    if sharing:
        return (
            f"{head.name} shares its weights with {', '.join(sharing)}, so that no factor sets the "
            "logits alone; untie them first"
        )
    if kind_of_outputs([before]) != "logits":
        return (
            "the model returns probabilities or their logarithms; pick its logits with logits=..."
        )
    if (after - before).norm() <= UNMOVED * before.norm():
        return (
            f"twice the weights of {head.name} give the same logits: a normalisation behind it fixes "
            "their norm; change that normalisation's gain, or remove it"
        )
    return (
        f"twice the weights of {head.name} do not give twice the logits, so that these have another "
        "source or are not linear in the head"
    )
