"""Linear probes trained for a fixed number of epochs, as others train them."""

from functools import partial

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rankdeficit.checks import check_magnitudes
from rankdeficit.diagnostics.measures.probes import Probe, ProbeSettings

BATCH = 128
"""Samples per step."""


def fit_by_protocol(
    features: Float[Tensor, "n features"],
    labels: Int64[Tensor, " n"],
    classes: int,
    settings: ProbeSettings,
    seed: int = 0,
    device: torch.device | None = None,
) -> Probe:
    """Train a linear classifier as the preset of the settings says, on features as they are.

    It starts with weights and biases of zero and takes batches in a random order given by the seed.
    Loss and gradient norm are those of the plain cross-entropy at the end of training, in float64; the
    probe is `converged` if that norm is at most the tolerance, which the protocol does not ask for.
    Raises ValueError for features that are not finite, and for the preset "converged".
    """
    protocol = settings.protocol
    if protocol is None:
        raise ValueError(f"preset is {settings.preset!r}; its probes come from fit_probe")
    check_magnitudes("features", features)
    device = device or features.device
    inputs, targets = features.to(device, settings.dtype), labels.to(device)
    layer = nn.Linear(inputs.shape[1], classes, device=device, dtype=settings.dtype)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    adam = partial(torch.optim.AdamW, weight_decay=0.0)
    kind = torch.optim.SGD if protocol.optimizer == "sgd" else adam
    optimizer = kind(layer.parameters(), lr=protocol.lr)
    loss = nn.CrossEntropyLoss(label_smoothing=protocol.label_smoothing)
    generator = torch.Generator().manual_seed(seed)
    steps = 0
    with torch.inference_mode(mode=False), torch.enable_grad():
        for _ in range(protocol.epochs):
            for batch in torch.randperm(len(inputs), generator=generator).split(BATCH):
                optimizer.zero_grad()
                loss(layer(inputs[batch.to(device)]), targets[batch.to(device)]).backward()
                optimizer.step()
                steps += 1
    weight, bias = layer.weight.detach(), layer.bias.detach()
    value, gradient_norm = _at_the_end(weight, bias, inputs, targets)
    ones = torch.ones(inputs.shape[1], dtype=torch.float64, device=device)
    return Probe(
        weight,
        bias,
        torch.zeros_like(ones),
        ones,
        loss=value,
        gradient_norm=gradient_norm,
        converged=gradient_norm <= settings.tolerance,
        iterations=steps,
        l2=0.0,
    )


def _at_the_end(
    weight: Tensor, bias: Tensor, inputs: Tensor, targets: Tensor
) -> tuple[float, float]:
    """Mean cross-entropy over all samples, and the norm of its gradient by weight and bias."""
    n, value = len(inputs), 0.0
    by_weight, by_bias = (torch.zeros_like(own, dtype=torch.float64) for own in (weight, bias))
    for rows, own in zip(inputs.split(1024), targets.split(1024), strict=True):
        logits = rows.double() @ weight.double().mT + bias.double()
        value += float(nn.functional.cross_entropy(logits, own, reduction="sum")) / n
        residual = (logits.softmax(dim=1) - nn.functional.one_hot(own, len(bias))) / n
        by_weight += residual.mT @ rows.double()
        by_bias += residual.sum(dim=0)
    return value, float((by_weight.square().sum() + by_bias.square().sum()).sqrt())
