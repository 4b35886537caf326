"""Whether one linear layer alone makes a network's logits, as what changes the classifier takes it to."""

import torch
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.taps import pick_logits, undisturbed
from real_nets.models.stems import Shape

UNFIT = (RuntimeError, AssertionError, AttributeError, IndexError, TypeError, ValueError)
"""What networks raise for images that they cannot take."""


def check_one_classifier(model: nn.Module, name: str, inputs: Shape, told: str, mend: str) -> None:
    """Raise ValueError, naming the others, if logits come from images on a path around a linear layer.

    Some networks average the logits of several classifiers (distilled transformers, for example). A
    change of one of them would bound or scale only its part. Nothing is said of networks that
    cannot take images of that shape.

    name: of the linear layer. told, mend: what was asked for, and what to do instead.
    """
    classifier = model.get_submodule(name)
    like = next(classifier.parameters())
    image = torch.zeros(1, *inputs, dtype=like.dtype, device=like.device, requires_grad=True)
    made: dict[str, Tensor] = {}

    def keep(other: str, module: nn.Module, output: object) -> None:
        if isinstance(output, Tensor) and output.shape[-1:] == (module.out_features,):
            made[other] = output

    classes = classifier.out_features
    others = [
        (other, module)
        for other, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes and other != name
    ]
    hooks = [
        module.register_forward_hook(lambda m, _, out, other=other: keep(other, m, out))
        for other, module in others
    ]
    hooks.append(classifier.register_forward_hook(lambda *call: call[2].detach()))
    try:
        with undisturbed(model), torch.enable_grad():
            logits = pick_logits(model(image))
    except UNFIT:
        return
    finally:
        for hook in hooks:
            hook.remove()
