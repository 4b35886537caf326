"""Rank of the loss's gradient at each weight, beside that of what the layer reads (equation 3)."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rankdeficit.diagnostics.measures.alignment import note_unmatched
from rankdeficit.diagnostics.measures.layer_ranks import rank_row
from rankdeficit.diagnostics.reading.batches import spelled
from rankdeficit.diagnostics.reading.inputs import Inputs, chunks
from rankdeficit.diagnostics.reading.needs import Needs, Samples
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import Layer, reading, undisturbed
from rankdeficit.diagnostics.reading.tokens import Value, tokens_of
from rankdeficit.diagnostics.reading.trace import Place
from rankdeficit.diagnostics.reading.unfolding import (
    input_rows,
    is_transposed,
    rows_are_tokens,
    weight_matrix,
)
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import rank_text
from rankdeficit.diagnostics.report.drawing import Curve, by_layer, get
from rankdeficit.diagnostics.study import PLAIN, Loss, Study
from rankdeficit.gram import Gram
from rankdeficit.spectrum import Spectrum, spectrum

CHUNK = 64
"""Samples that go through the network at a time."""

LARGEST_SLOPE = {torch.float16: 2.0**15}
"""Size to which the loss's slope in the logits is scaled at first, by precision; 1 for others."""

BACK_OFF = {torch.float16: 2.0**-3}
"""Factor on that size for weights whose gradient overflowed; 2^-16 for others."""


TRIALS = 12
"""Scales that are tried."""


class GradientSpectra(NamedTuple):
    """Spectra of one layer over the same samples."""

    gradient: Spectrum
    """Of dL/dW."""
    inputs: Spectrum
    """Of the layer's input A. rank(dL/dW) <= rank(A); of numerical ranks that is a guide, no law."""


def gradient_spectra(
    network: Network,
    inputs: Tensor | Sequence[Inputs],
    labels: Int64[Tensor, " n"],
    temperature: float = 1.0,
    loss: Loss = PLAIN,
) -> dict[str, GradientSpectra]:
    """Spectra of dL/dW of each layer with a weight matrix, and of the input it multiplies, by name.

    inputs: a batch, or samples one by one, whose shapes may differ.
    L is the mean loss, in evaluation mode. Its slope in the logits, in float64 for `PLAIN` and at least
    float32 for others, goes back through the network in the network's precision, scaled by a power of
    two so that neither small nor large gradients leave the format. A module that runs several times has
    one gradient; it stands at its first call, with the inputs of all. Weights that the loss does not
    depend on have a gradient of zero. The parameters' `grad` and `requires_grad` stay as they are. Raises
    ValueError for models that run without gradients.
    """
    layers: dict[str, Layer] = {}
    for layer in network.layers.chosen:
        if network.weight(layer) is not None:
            layers.setdefault(layer.module, layer)
    if not layers:
        return {}
    if any(own.is_inference() for own in network.model.parameters()):
        raise ValueError(
            "the model was made under torch.inference_mode, so that torch takes no gradients of its "
            "weights; make or load it outside"
        )
    places = [layer.input for layer in network.layers.chosen if layer.module in layers]
    weights: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    grams: dict[str, Gram] = {}

    with ExitStack() as stack:
        stack.enter_context(undisturbed(network.model))

        def read(place: Place, value: Value) -> None:
            for name in network.multiplying(layers[place.module]):
                weight = weights[name] = _parameter(network.module(name))
                if not weight.requires_grad:
                    stack.callback(weight.requires_grad_, False)
                    weight.requires_grad_(True)
                if name not in sums:
                    sums[name] = torch.zeros_like(weight, dtype=torch.float64)
            axis = next(own.input_axis for own in network.layers.chosen if own.input == place)
            own = tokens_of(value, len(chunk), axis, chunk.mask)
            module = network.module(place.module)
            rows = input_rows(module, own.values.detach())
            if own.mask is not None and rows_are_tokens(module, own.values, own.mask):
                rows = rows[own.mask.flatten()]
            if place.module not in grams:
                grams[place.module] = Gram(rows.shape[1], device=rows.device)
            grams[place.module].update(rows)

        samples = [Inputs.of(inputs)] if isinstance(inputs, Tensor) else inputs
        for chunk, targets in chunks(samples, labels, CHUNK):
            with reading(network.model, places, read), torch.enable_grad(), parametrize.cached():
                logits = network.logits(chunk)
                if not logits.requires_grad:
                    raise ValueError(
                        "the model computes its logits without gradients (no_grad or detach in its "
                        "forward pass)"
                    )
                slope = _slope(loss, logits, targets.to(logits.device), temperature)
                gradients = _scaled_gradients(logits, slope, list(weights.values()))
            for name, gradient in zip(weights, gradients, strict=True):
                sums[name] += gradient * (len(chunk) / len(labels))

    def total(layer: Layer) -> Tensor:
        names = network.multiplying(layer)
        return torch.cat([_as_matrix(network.module(own), sums[own]) for own in names])

    return {
        layer.name: GradientSpectra(spectrum(total(layer)), grams[name].spectrum())
        for name, layer in layers.items()
    }


def _slope(
    loss: Loss, logits: Tensor, targets: Tensor, temperature: float
) -> Float[Tensor, "n classes"]:
    """Gradient of the loss in the logits, precise also where probabilities are almost 0 or 1."""
    least = torch.float64 if loss is PLAIN else torch.float32
    own = logits.detach().to(torch.promote_types(logits.dtype, least)).requires_grad_()
    value = loss(own, targets, temperature)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
        raise ValueError(
            f"loss returns {spelled(value)}; it must return the mean loss, one number that depends on "
            "the logits"
        )
    return torch.autograd.grad(value.squeeze(), own)[0]


def _scaled_gradients(
    logits: Tensor, slope: Tensor, weights: list[Tensor]
) -> list[Float64[Tensor, "..."]]:
    """Gradients in float64 of weights, from the loss's slope in the logits.

    Each is that of the largest scale at which it does not overflow.
    """
    dtype = logits.dtype
    largest = float(slope.abs().max())
    if not 0 < largest < math.inf:
        return [torch.full_like(w, 0 * largest, dtype=torch.float64) for w in weights]
    scale = LARGEST_SLOPE.get(dtype, 1.0) * 2.0 ** -max(math.frexp(largest)[1], -1000)
    found: list[Tensor | None] = [None] * len(weights)
    for _ in range(TRIALS):
        missing = [number for number, gradient in enumerate(found) if gradient is None]
        gradients = torch.autograd.grad(
            logits,
            [weights[number] for number in missing],
            (slope * scale).to(dtype),
            retain_graph=True,
            materialize_grads=True,
        )
        for number, gradient in zip(missing, gradients, strict=True):
            if bool(gradient.isfinite().all()):
                found[number] = gradient.double() / scale
        if all(gradient is not None for gradient in found):
            break
        scale *= BACK_OFF.get(dtype, 2.0**-16)
    nothing = math.nan  # told as such where spectra are computed
    return [
        torch.full_like(weight, nothing, dtype=torch.float64) if gradient is None else gradient
        for weight, gradient in zip(weights, found, strict=True)
    ]


def draw(record: Row) -> Figure | None:
    """Rank of each layer's loss gradient beside that of its input, which bounds exact ranks."""
    inputs, gradients = (
        [get(layer, name, "rank") for layer in record["layers"]] for name in ("input", "gradient")
    )
    if all(map(math.isnan, gradients)):
        return None
    style = {"linestyle": "--", "marker": "s", "color": "C1"}
    curves = [
        Curve("layer's input", inputs, style),
        Curve("gradient of the loss", gradients, {"color": "C0"}),
    ]
    label = f"numerical rank, γ = {record['conditions']['gamma']:g}"
    return by_layer(record, curves, label, scale="rank")


@measure("gradient_ranks", place=40)
class GradientRanks(Measure):
    """Numerical rank of the loss gradient at every weight, beside that of the layer's input."""

    needs = Needs(train=(Samples(),))
    switch = "gradients"
    blank = Blank(layers={"gradient": None, "input": None})
    figures = (("gradient_ranks", draw),)

    def values(self, study: Study) -> Values:
        """`rank_row` of gradient and input by layer; a note where there are no gradients."""
        assert study.train.subset is not None
        _, inputs, labels = study.train.subset
        options = study.options
        try:
            found = gradient_spectra(
                study.network, inputs, labels, options.temperature, options.loss
            )
        except ValueError as error:
            study.notes.append(f"no gradient ranks: {error}")
            return Values()
        note_unmatched(study)
        return Values(
            layers={
                name: {
                    "gradient": rank_row(own.gradient, options.gamma),
                    "input": rank_row(own.inputs, options.gamma),
                }
                for name, own in found.items()
            }
        )

    def layer_columns(self, record: Row) -> list[Column]:
        """Of the gradient / of the input."""
        note = (
            "Ranks (convention: matrix) of the loss gradient / of the layer's input at "
            f"gamma = {record['conditions']['gamma']:g}."
        )
        return [Column("gradient\n/ input", _ranks, note)]


def _ranks(layer: Row) -> str | None:
    gradient, inputs = layer.get("gradient"), layer.get("input")
    return f"{rank_text(gradient)}/{rank_text(inputs)}" if gradient and inputs else None


def _as_matrix(module: nn.Module, gradient: Tensor) -> Float64[Tensor, "out width"]:
    """The gradient of the parameter as that of the layer's matrix."""
    return gradient.mT if is_transposed(module) else gradient.flatten(1)


def _parameter(module: nn.Module) -> Tensor:
    """The parameter whose flattened form is the layer's matrix, or its transpose."""
    if isinstance(module, nn.MultiheadAttention):
        weight = weight_matrix(module)
        assert weight is not None
        return weight
    assert isinstance(module.weight, Tensor)
    return module.weight
