"""A network up to one of its layers, with a linear head on that layer's output."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.pooling import pool_features
from rankdeficit.diagnostics.reading.trace import first_value

Side = Literal["input", "output"]


class Stopped(Exception):  # noqa: N818
    """Carries a representation out of a forward pass; no error."""

    def __init__(self, representation: Any) -> None:
        super().__init__("a forward pass was left early")
        self.representation = representation


class Early(nn.Module):
    """The network `body` up to a module's input or output, pooled, and a linear `head` on it.

    An exception ends the forward pass of the body as soon as the representation is computed. This works
    for any network, and later layers are not computed.
    """

    def __init__(
        self,
        body: nn.Module,
        module: str,
        side: Side,
        head: nn.Module,
        *,
        grid: int,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.body, self.head = body, head
        self.module, self.side = module, side
        self.grid, self.channels_last = grid, channels_last

    def features(self, *args: Any, **kwargs: Any) -> Float[Tensor, "n features"]:
        """Input of the head."""
        representation = left_early(self.body, self.module, self.side, *args, **kwargs)
        return pool_features(representation, self.grid, self.channels_last)

    def forward(self, *args: Any, **kwargs: Any) -> Float[Tensor, "n classes"]:
        """Logits."""
        logits: Tensor = self.head(self.features(*args, **kwargs))
        return logits


def left_early(
    body: nn.Module, module: str, side: Side, *args: Any, **kwargs: Any
) -> Float[Tensor, "n *shape"]:
    """Input or output of a module at its first call in a forward pass, which ends there.

    Raises ValueError if the module is not called, or its value is not a plain tensor.
    """
    found = body.get_submodule(module)
    hook: Callable[..., Any]
    if side == "input":

        def hook(_: nn.Module, args: Any, kwargs: Any) -> None:
            raise Stopped(first_value((args, kwargs)))

        handle = found.register_forward_pre_hook(hook, with_kwargs=True)
    else:

        def hook(_: nn.Module, args: Any, output: Any) -> None:
            raise Stopped(first_value(output))

        handle = found.register_forward_hook(hook)
    try:
        body(*args, **kwargs)
    except Stopped as stopped:
        representation = stopped.representation
    else:
        raise ValueError(f"{module} is not called in a forward pass; name another layer")
    finally:
        handle.remove()
    if not isinstance(representation, Tensor):
        raise ValueError(f"{module} gives no plain tensor that a head can read; name another layer")
    return representation


def unused_modules(body: nn.Module, run: Callable[[], Tensor], at: str, side: Side) -> list[str]:
    """Names of the outermost modules that `run` neither calls nor reads parameters of.

    run: a forward pass that ends at the given side of the module `at`, with a differentiable result. If
    it ends at the input, the module itself counts as unused.
    """
    called: set[str] = set()
    parameters = list(body.parameters())
    learning = [own.requires_grad for own in parameters]
    handles = []
    for name, module in body.named_modules():

        def note(_: nn.Module, args: Any, name: str = name) -> None:
            called.add(name)

        handles.append(module.register_forward_pre_hook(note))
    try:
        for own in parameters:
            own.requires_grad_(own.is_floating_point())
        with torch.enable_grad():
            total = run().sum()
        floating = [own for own in parameters if own.requires_grad]
        gradients = torch.autograd.grad(total, floating, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
        for own, flag in zip(parameters, learning, strict=True):
            own.requires_grad_(flag)
    called -= {at} if side == "input" else set()
    fixed = {id(own) for own in parameters if not own.is_floating_point()}
    read = {id(own) for own, found in zip(floating, gradients, strict=True) if found is not None}
    read |= fixed

    def used(prefix: str, module: nn.Module) -> bool:
        below = (f"{prefix}.{name}" if name else prefix for name, _ in module.named_modules())
        if any(name in called for name in below):
            return True
        return any(id(own) in read for own in module.parameters())

    found: list[str] = []
    for name, module in body.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        empty = not [*module.parameters(), *module.buffers()]
        holds = isinstance(module, (nn.ModuleList, nn.ModuleDict)) or at.startswith(f"{name}.")
        if name and not (inside or empty or holds or used(name, module)):
            found.append(name)
    return found
