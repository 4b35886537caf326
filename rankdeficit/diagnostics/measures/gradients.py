"""Rank of the loss's gradient at each weight, beside that of what the layer reads (equation 3)."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import Layer, reading, undisturbed
from rankdeficit.diagnostics.reading.trace import Place
from rankdeficit.diagnostics.reading.unfolding import input_rows, weight_matrix
from rankdeficit.gram import Gram
from rankdeficit.softmax import cross_entropy
from rankdeficit.spectrum import Spectrum, spectrum

Loss = Callable[[Tensor, Tensor, float], Tensor]
"""Mean loss of (logits, labels, temperature)."""

PLAIN: Loss = partial(cross_entropy, validate=False)
"""Cross-entropy of softmax(logits / T)."""

CHUNK = 64
"""Samples that go through the network at a time."""


class GradientSpectra(NamedTuple):
    """Spectra of one layer over the same samples."""

    gradient: Spectrum
    """Of dL/dW."""
    inputs: Spectrum
    """Of the layer's input A. rank(dL/dW) <= rank(A); of numerical ranks that is a guide, no law."""


def gradient_spectra(
    network: Network,
    inputs: Tensor,
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    loss: Loss = PLAIN,
) -> dict[str, GradientSpectra]:
    """Spectra of dL/dW of each layer with a weight matrix, and of the input it multiplies, by name.

    L is the mean loss, in evaluation mode. A module that runs several times has one gradient; it
    stands at its first call, with the inputs of all. Weights that the loss does not depend on have a
    gradient of zero. The parameters' `grad` and `requires_grad` stay as they are. Raises ValueError for
    models that run without gradients.
    """
    layers: dict[str, Layer] = {}
    for layer in network.layers.chosen:
        if weight_matrix(network.module(layer.module)) is not None:
            layers.setdefault(layer.module, layer)
    places = [layer.input for layer in network.layers.chosen if layer.module in layers]
    weights: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    grams: dict[str, Gram] = {}

    with ExitStack() as stack:
        stack.enter_context(undisturbed(network.model))

        def read(place: Place, tensor: Tensor) -> None:
            module = network.module(place.module)
            weight = weights[place.module] = _parameter(module)
            if not weight.requires_grad:
                stack.callback(weight.requires_grad_, False)
                weight.requires_grad_(True)
            rows = input_rows(module, tensor.detach())
            if place.module not in grams:
                sums[place.module] = torch.zeros_like(weight, dtype=torch.float64)
                grams[place.module] = Gram(rows.shape[1], device=rows.device)
            grams[place.module].update(rows)

        for chunk, targets in zip(inputs.split(CHUNK), labels.split(CHUNK), strict=True):
            with reading(network.model, places, read), torch.enable_grad(), parametrize.cached():
                logits = network.logits(chunk)
                if not logits.requires_grad:
                    raise ValueError(
                        "the model computes its logits without gradients (no_grad or detach in its "
                        "forward pass)"
                    )
                targets = targets.to(logits.device)
                gradients = torch.autograd.grad(
                    loss(logits, targets, temperature),
                    list(weights.values()),
                    materialize_grads=True,
                )
            for total, gradient in zip(sums.values(), gradients, strict=True):
                total += gradient * (len(chunk) / len(inputs))
    return {
        layer.name: GradientSpectra(spectrum(sums[name].flatten(1)), grams[name].spectrum())
        for name, layer in layers.items()
    }


def _parameter(module: nn.Module) -> Tensor:
    """The parameter whose flattened form is the layer's matrix."""
    if isinstance(module, nn.MultiheadAttention):
        weight = weight_matrix(module)
        assert weight is not None
        return weight
    assert isinstance(module.weight, Tensor)
    return module.weight
