"""Which weights start smaller in the training at T = 1 that a training at T is equivalent to."""

from torch import Tensor, nn

from rankdeficit.control.classifier import last_linear


def scaled_groups(model: nn.Module, temperature: float) -> list[tuple[list[Tensor], float]]:
    """All parameters in groups, each with the factor by which it is larger than in the run at T = 1.

    - A network of only linear layers and ReLU is homogeneous of degree L, its number of layers: its
      weights have T^(1/L), and the bias of layer l has T^(l/L).
    - In other networks the classifier has T, all other parameters 1.

    Raises ValueError as `last_linear`.
    """
    layers = linear_layers(model)
    if layers:
        a = temperature ** (1 / len(layers))
        weights: list[Tensor] = [layer.weight for layer in layers]
        groups = [(weights, a)]
        for number, layer in enumerate(layers, start=1):
            if layer.bias is not None:
                groups.append(([layer.bias], a**number))
        return groups
    head: list[Tensor] = list(last_linear(model).parameters())
    others: list[Tensor] = [p for p in model.parameters() if all(p is not q for q in head)]
    return [(others, 1.0), (head, temperature)]


def linear_layers(model: nn.Module) -> list[nn.Linear]:
    """The linear layers of a sequence of linear layers and ReLU; empty for any other network."""
    if not isinstance(model, nn.Sequential):
        return []
    parts = [part for part in model if not isinstance(part, (nn.Flatten, nn.ReLU))]
    return parts if all(isinstance(part, nn.Linear) for part in parts) else []  # type: ignore[return-value]
