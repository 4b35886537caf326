"""Whether one linear layer alone makes a network's logits, as all take for granted that change it."""

from functools import partial

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import pick_logits, undisturbed
from real_nets.models.parts import Shape

UNFIT = (RuntimeError, AssertionError, AttributeError, IndexError, TypeError, ValueError)
"""What networks raise for images that they cannot take."""


def check_one_classifier(
    model: nn.Module, classifier: nn.Linear, inputs: Shape, told: str, mend: str
) -> None:
    """Raise ValueError if the logits come from the images by another way than through the classifier.

    Some networks average the logits of several classifiers (distilled transformers, for example); what
    changes one of them leaves the others as they are. The error names them, after `told`, what was
    asked for, and before `mend`, what to do instead. Of networks that cannot take images of that shape
    nothing is said.
    """
    peers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classifier.out_features
    }
    made: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, arguments: object, output: Tensor) -> None:
        made[name] = output

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
    sources = [image, *made.values()]
    around, *others = torch.autograd.grad(total, sources, allow_unused=True)
    if around is None:
        return
    own = next(name for name, module in model.named_modules() if module is classifier)
    names = [name for name, gradient in zip(made, others, strict=True) if gradient is not None]
    raise ValueError(
        f"{told}, but the logits come from more than the classifier {own}"
        + (f": also from {', '.join(names)}" if names else "")
        + f"; {mend}"
    )
