"""Changes to a newly built network: its initial weights and its classification head."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from rankdeficit.constructions import circle
from rankdeficit.control.classifier import find_classifier
from rankdeficit.diagnostics.reading.trace import WEIGHT_MODULES

Initialisation = Literal["default", "he", "lecun", "xavier", "orthogonal"]
HeadNorm = Literal["none", "layer", "batch"]


def weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of linear layers, convolutions and attention; no gains, biases, tokens or positions."""
    for module in model.modules():
        if isinstance(module, WEIGHT_MODULES):
            yield from (p for p in module.parameters(recurse=False) if p.ndim >= 2)


def initialise(model: nn.Module, scheme: str) -> None:
    """Redraw all weights from torch's global generator; `default` leaves them unchanged.

    he: N(0, 2 / fan_in); lecun: N(0, 1 / fan_in); xavier: N(0, 2 / (fan_in + fan_out)), where the fans
    of a convolution count its kernel; orthogonal: rows or columns of the weight as a matrix (out, in)
    are orthonormal. Raises ValueError for another scheme.
    """
    if scheme not in get_args(Initialisation):
        known = ", ".join(get_args(Initialisation))
        raise ValueError(f"scheme is {scheme!r}; it must be one of {known}")
    for weight in weights(model):
        if scheme == "he":
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        elif scheme == "lecun":
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        elif scheme == "xavier":
            nn.init.xavier_normal_(weight)
        elif scheme == "orthogonal":
            nn.init.orthogonal_(weight)


@torch.no_grad()
def scale_weights(model: nn.Module, factor: float) -> None:
    """Multiply the weights that `weights` yields by a factor."""
    for weight in weights(model):
        weight.mul_(factor)


@torch.no_grad()
def scale_logits(model: nn.Module, classes: int, factor: float) -> None:
    """Multiply the classifier, including its bias, and so the logits by a factor."""
    _, classifier = find_classifier(model, classes)
    for parameter in classifier.parameters():
        parameter.mul_(factor)


def change_head(model: nn.Module, classes: int, rank: int | None, norm: HeadNorm) -> None:
    """Factor the classifier through `rank` dimensions (None: leave it) and normalise the logits.

    norm: over the classes of a sample (layer) or over the batch (batch), without gain and bias, so that
    the norm of the logits cannot grow.
    """
    if rank is None and norm == "none":
        return
    name, classifier = find_classifier(model, classes)
    parts: list[nn.Module] = [classifier] if rank is None else [*factors(classifier, rank)]
    if norm == "layer":
        parts.append(nn.LayerNorm(classes, elementwise_affine=False))
    elif norm == "batch":
        parts.append(nn.BatchNorm1d(classes, affine=False).to(classifier.weight))
    if not name:
        raise ValueError(
            "the network is a lone linear layer, whose head cannot be changed in place; wrap it in "
            "nn.Sequential"
        )
    model.set_submodule(name, nn.Sequential(*parts))


@torch.no_grad()
def factors(classifier: nn.Linear, rank: int) -> tuple[nn.Linear, nn.Linear]:
    """Two linear layers without bias (width to rank, rank to classes) that replace a classifier.

    They have its device and precision. The rank of the logits is at most `rank`. The first layer has the
    first rows of the classifier. The rows of the second are unit vectors, one per class: the circle code
    for rank 2, which separates all classes (Proposition 3.2 of the paper), random directions otherwise.
    The product has, in the mean square, the Frobenius norm of the classifier. Raises ValueError unless
    1 <= rank < classes.
    """
    classes = classifier.out_features
    if not 1 <= rank < classes:
        raise ValueError(f"head_rank is {rank}; it must lie in 1..{classes - 1}, below the classes")
    weight = classifier.weight
    like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    compress = nn.Linear(classifier.in_features, rank, bias=False, **like)
    expand = nn.Linear(rank, classes, bias=False, **like)
    normal = torch.randn(classes, rank, device="cpu", dtype=torch.float32)
    directions = functional.normalize(normal, dim=1)
    compress.weight.copy_(weight[:rank])
    expand.weight.copy_(circle(classes).directions if rank == 2 else directions)
    return compress, expand
