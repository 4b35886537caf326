"""Networks by name. A new one is a function with the decorator `register`."""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

MODELS: dict[str, Callable[..., nn.Sequential]] = {}


def register(function: Callable[..., nn.Sequential]) -> Callable[..., nn.Sequential]:
    """Make a network known by its function's name."""
    MODELS[function.__name__] = function
    return function


def build(
    name: str, *, inputs: tuple[int, ...], classes: int, width: int, depth: int
) -> nn.Sequential:
    """The network of that name. Raises ValueError for unknown names and sizes below 1."""
    if name not in MODELS:
        raise ValueError(f"model is {name!r}; it must be one of {', '.join(sorted(MODELS))}")
    for argument, value in (("width", width), ("depth", depth)):
        if value < 1:
            raise ValueError(f"{argument} is {value}; it must be at least 1")
    return MODELS[name](inputs=inputs, classes=classes, width=width, depth=depth)


@register
def mlp(*, inputs: tuple[int, ...], classes: int, width: int, depth: int) -> nn.Sequential:
    """ReLU network of `depth` linear layers, classifier included.

    He initialisation (weights N(0, 2 / fan_in), biases 0), which keeps the norm of the activations,
    and with it the initial logits norm, whatever the depth.
    """
    channels, height, width_in = inputs
    sizes = [channels * height * width_in] + [width] * (depth - 1)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    layers.append(nn.Linear(sizes[-1], classes))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
