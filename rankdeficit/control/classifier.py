"""The linear layer that classifies, found by its number of outputs, and whether it is the only one."""

from functools import partial

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import pick_logits, undisturbed

UNFIT = (RuntimeError, AssertionError, AttributeError, IndexError, TypeError, ValueError)
"""Exceptions that networks raise for images of an unsuitable size."""


def find_classifier(model: nn.Module, classes: int) -> tuple[str, nn.Linear]:
    """Name and module of the last linear layer with `classes` outputs.

    Raises ValueError if there is none.
    """
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    if not found:
        raise ValueError(
            f"the network has no linear layer with {classes} outputs; leave out head_rank, "
            "head_norm and head_scale"
        )
    return found[-1]


def check_one_classifier(
    model: nn.Module, classifier: nn.Linear, inputs: tuple[int, int, int], problem: str, remedy: str
) -> None:
    """Raise ValueError if the logits depend on the images by a path around the classifier.

    Some networks average the logits of several classifiers (distilled transformers, for example), and
    changing one of them would leave the others unchanged. The message consists of `problem`, the names
    of the other classifiers, and `remedy`. Networks that cannot take images of this shape pass.
    """
    peers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classifier.out_features
    }
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, arguments: object, output: Tensor) -> None:
        outputs[name] = output

    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in peers.items()]
    hooks.append(
        classifier.register_forward_hook(lambda module, arguments, output: output.detach())
    )
    try:
        with torch.random.fork_rng(devices=[]), undisturbed(model), torch.enable_grad():
            weight = classifier.weight
            image = torch.zeros(1, *inputs, dtype=weight.dtype, device=weight.device)
            total = pick_logits(model(image.requires_grad_())).sum()
    except UNFIT:
        return
    finally:
        for hook in hooks:
            hook.remove()
    if not total.requires_grad:
        return
    sources = [image, *outputs.values()]
    around, *others = torch.autograd.grad(total, sources, allow_unused=True)
    if around is None:
        return
    own = next(name for name, module in model.named_modules() if module is classifier)
    names = [name for name, gradient in zip(outputs, others, strict=True) if gradient is not None]
    raise ValueError(
        f"{problem}, but the logits come from more than the classifier {own}"
        + (f": also from {', '.join(names)}" if names else "")
        + f"; {remedy}"
    )


def last_linear(model: nn.Module) -> nn.Linear:
    """The linear module registered last. Raises ValueError if there is none."""
    found = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise ValueError(
            "lr_rule is 'reparametrised', but the network has no linear classifier; take "
            "--lr-rule matched"
        )
    return found[-1]
