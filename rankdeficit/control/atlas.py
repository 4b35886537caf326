"""The norm of the logits at initialisation, and the factors that set it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, nn

from rankdeficit.checks import check_temperature
from rankdeficit.control.head import MAKERS, Head, linear_head
from rankdeficit.control.norm import norms_of
from rankdeficit.control.passes import Passes
from rankdeficit.diagnostics.reading.taps import Select
from rankdeficit.experiments.figure_style import set_log_scale, with_legend_below

HOT, COLD = 0.05, 1.0
"""Deviation of a logit from the mean of its sample, over T, below which a network starts hot: its loss is
within HOT^2 / 2 = 0.00125 of ln c, and its softmax flat, as at a high temperature. Above COLD its random
predictions cost about COLD^2 / 2 = 0.5 more than ln c, as at a low temperature."""


@dataclass(frozen=True)
class Start:
    """A network at initialisation; norms are medians over seeds."""

    library: str
    family: str
    name: str
    seeds: int
    classes: int
    parameters: int
    """Number of its parameters."""
    head: str
    """Name of the layer that makes the logits."""
    width: int
    """Number of features that the head reads."""
    head_gain: float
    """Standard deviation of the head's weights times sqrt(width): 1 keeps the scale of the features, and
    torch's default is 0.577."""
    features_norm: float
    """Norm ||h|| of the features of a sample over sqrt(width), in training mode."""
    normalised: str
    """Normalisation before the head, with the activations between; `none` if weights are between."""
    evaluation: float
    """Norm ||M||_F / sqrt(n) of the logits, in evaluation mode."""
    training: float
    """The same in training mode, in which networks learn."""
    lowest: float
    """Over seeds, in training mode."""
    highest: float
    predicted: float
    """sqrt(c) x head_gain x features_norm: the norm in training mode of a random head without bias."""
    deviation: float
    """Root mean square of the logits with each sample's mean subtracted, over T, in training mode."""
    flag: str
    """`zero` head, `hot` or `cold` start (see HOT and COLD), or nothing."""


@dataclass(frozen=True)
class Look:
    """A network with the weights of one seed."""

    head: Head
    width: int
    head_gain: float
    features_norm: float
    normalised: str
    evaluation: float
    training: float
    deviation: float
    classes: int
    parameters: int


def look(
    model: nn.Module,
    batch: Any,
    temperature: float = 1.0,
    *,
    head: Head | None = None,
    logits: Select | None = None,
) -> Look:
    """The norm of a network's logits on a batch, and the factors that set it. The network is unchanged.

    head: the layer that makes the logits, if known [default: `linear_head`, or the layer that runs last
    where all logits are zero].
    Raises ValueError for T <= 0, as `linear_head`, and for a batch of one.
    """
    check_temperature(temperature)
    passes = Passes.of(model, batch, logits)
    if len(passes.inputs) < 2:
        raise ValueError("batch has one sample; pass two or more, for norms in training mode")
    values = passes.logits()
    if head is None:
        head = linear_head(passes, may_be_zero=True)
    name, module = next(iter(head.modules.items()))
    learning, features, normalised = _features(passes, name)
    assert isinstance(module.weight, Tensor)
    weight = module.weight.detach().double()
    width, classes = weight[0].numel(), values.shape[1]
    training = norms_of(learning, temperature)
    return Look(
        head=head,
        width=width,
        head_gain=float(weight.square().mean().sqrt()) * math.sqrt(width),
        features_norm=features,
        normalised=normalised,
        evaluation=norms_of(values, temperature).effective,
        training=training.effective,
        deviation=training.centred / math.sqrt(classes),
        classes=classes,
        parameters=sum(own.numel() for own in passes.model.parameters()),
    )


def summarise(library: str, family: str, name: str, looks: Sequence[Look]) -> Start:
    """Medians over seeds of one network."""
    first = looks[0]

    def middle(field: str) -> float:
        return float(median(getattr(own, field) for own in looks))

    gain, features = middle("head_gain"), middle("features_norm")
    training, deviation = [own.training for own in looks], middle("deviation")
    return Start(
        library=library,
        family=family,
        name=name,
        seeds=len(looks),
        classes=first.classes,
        parameters=first.parameters,
        head=first.head.name,
        width=first.width,
        head_gain=gain,
        features_norm=features,
        normalised=first.normalised,
        evaluation=middle("evaluation"),
        training=float(median(training)),
        lowest=min(training),
        highest=max(training),
        predicted=math.sqrt(first.classes) * gain * features,
        deviation=deviation,
        flag=_flag(gain, deviation),
    )


def _flag(gain: float, deviation: float) -> str:
    if gain == 0:
        return "zero"
    return "hot" if deviation < HOT else "cold" if deviation > COLD else ""


def _features(passes: Passes, head: str) -> tuple[Tensor, float, str]:
    """Logits in training mode, norm of the head's input over sqrt(width), and its normalisation."""
    before: list[str] = []
    found: list[float] = []
    kinds: list[str] = []

    def note(module: nn.Module, arguments: Any) -> None:
        if isinstance(module, MAKERS) or _normalises(module):
            before.clear()
        before.append(type(module).__name__)

    def read(module: nn.Module, arguments: Any) -> None:
        features = arguments[0].detach().double()
        channels = 1 if isinstance(module, nn.modules.conv._ConvNd) else features.ndim - 1
        found.append(float(features.square().sum(dim=channels).mean().sqrt()))
        kinds[:] = before

    modules = dict(passes.model.named_modules())
    hooks = [
        own.register_forward_pre_hook(note)
        for name, own in modules.items()
        if name != head and (not list(own.children()) or _normalises(own))
    ]
    hooks.append(modules[head].register_forward_pre_hook(read))
    try:
        logits = passes.logits("train")
    finally:
        for hook in hooks:
            hook.remove()
    own = modules[head]
    width = own.in_features if isinstance(own, nn.Linear) else own.in_channels
    assert isinstance(width, int)
    return logits, found[-1] / math.sqrt(width), _spell(kinds)


def _normalises(module: nn.Module) -> bool:
    """Whether this is a normalisation: one that holds its activation too, but no container of others."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return "Norm" in type(module).__name__ and (bool(own) or not list(module.children()))


PASSING = ("Identity", "Dropout", "Flatten", "Permute", "Pool", "Select", "DropPath")
"""Parts of the names of modules that are left out of the description."""


def _spell(kinds: Sequence[str]) -> str:
    """The last normalisation and the activations behind it; `none` if a layer with weights is last."""
    if not kinds or "Norm" not in kinds[0]:
        return "none"
    return ", ".join(
        dict.fromkeys(own for own in kinds if not any(part in own for part in PASSING))
    )


FLAG_COLOURS = {"": "C0", "hot": "C3", "cold": "C2"}


def norms_by_family(starts: Sequence[Start]) -> Figure:
    """Norm in training mode of every network, by family in the order of their medians."""
    shown = [own for own in starts if own.flag != "zero"]
    families: dict[tuple[str, str], list[Start]] = {}
    for own in shown:
        families.setdefault((own.library, own.family), []).append(own)
    order = sorted(families, key=lambda key: median(own.training for own in families[key]))
    figure = Figure(figsize=(7.4, 1.2 + 0.17 * len(order)))
    axes = figure.subplots()
    for flag, colour in FLAG_COLOURS.items():
        points = [
            (own.training, at)
            for at, key in enumerate(order)
            for own in families[key]
            if own.flag == flag
        ]
        if points:
            label = {"": "between", "hot": "hot start", "cold": "cold start"}[flag]
            axes.plot(
                *zip(*points, strict=True), "o", color=colour, markersize=4, alpha=0.7, label=label
            )
    axes.set_yticks(range(len(order)), [f"{family} ({library})" for library, family in order])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(-0.8, len(order) - 0.2)
    axes.set_xscale("log")
    set_log_scale(axes, "x")
    classes = ", ".join(str(own) for own in sorted({own.classes for own in starts}))
    axes.set_xlabel(f"norm of the logits, untrained, training mode ({classes} classes)")
    zeros = len(starts) - len(shown)
    axes.set_title(f"{len(shown)} networks" + (f"; {zeros} more start at zero" if zeros else ""))
    return with_legend_below(figure, columns=3)


def norms_against_prediction(starts: Sequence[Start]) -> Figure:
    """Norm in training mode against that of a random head without bias on features of the same norm."""
    figure = Figure(figsize=(5.4, 4.4))
    axes = figure.subplots()
    shown = [own for own in starts if own.predicted > 0 and own.training > 0]
    for number, (label, chosen) in enumerate(
        {
            "LayerNorm before the head": [s for s in shown if "LayerNorm" in s.normalised],
            "BatchNorm before the head": [s for s in shown if "BatchNorm" in s.normalised],
            "others": [
                s for s in shown if not any(k in s.normalised for k in ("LayerNorm", "BatchNorm"))
            ],
        }.items()
    ):
        points = [(own.predicted, own.training) for own in chosen]
        if points:
            axes.plot(*zip(*points, strict=True), "os^"[number], color=f"C{number}", markersize=4,
                      alpha=0.7, label=label)  # fmt: skip
    everything = [value for own in shown for value in (own.predicted, own.training)]
    if everything:
        ends = [min(everything) / 1.5, 1.5 * max(everything)]
        axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", label="equal")
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel("predicted: sqrt(c) x head gain x norm of the features / sqrt(width)")
    axes.set_ylabel("norm of the logits, training mode")
    set_log_scale(axes, "xy")
    return with_legend_below(figure, columns=2)
