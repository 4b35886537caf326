"""Interventions in training: the changed network and its loss."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from rankdeficit.checks import check_temperature
from rankdeficit.control.classifier import find_classifier
from rankdeficit.control.criterion import Criterion
from rankdeficit.control.head import linear_head, registered_head
from rankdeficit.control.interventions.base import (
    HeadChange,
    Intervention,
    LossChange,
    Seen,
    find_interventions,
)
from rankdeficit.control.passes import Passes
from rankdeficit.softmax import MeanLoss, cross_entropy


class Observed(nn.Sequential):
    """A linear head whose weight and last input losses can read."""

    features: Tensor | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """The logits; the input is kept where gradients are recorded."""
        if torch.is_grad_enabled():
            self.features = inputs
        logits: Tensor = super().forward(inputs)
        return logits

    def __getstate__(self) -> dict[str, Any]:
        """Without the input, whose graph cannot be copied."""
        return {**self.__dict__, "features": None}


class Intervened(Criterion):
    """A loss with changes, at a temperature that depends on the number of steps done."""

    def __init__(
        self,
        loss: MeanLoss,
        changes: Sequence[LossChange] = (),
        temperature: Callable[[int], float] = lambda step: 1.0,
    ) -> None:
        super().__init__()
        self.loss, self.changes, self.temperature = loss, tuple(changes), temperature
        self._observed: list[Observed] = []
        """No submodule: its weights are the network's."""

    def attach(self, model: nn.Module) -> None:
        """Read head and features of this network, where a change needs them."""
        if needs_observation(self.changes):
            self._observed = [own for own in model.modules() if isinstance(own, Observed)][:1]

    def of(self, model: nn.Module) -> MeanLoss:
        """The mean loss of this network's logits and labels at a temperature."""
        self.attach(model)
        return self.mean_loss if self.changes else self.loss

    def forward(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        step: int = 0,
        inputs: Float[Tensor, "n ..."] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean loss of the network's last batch."""
        return self.mean_loss(logits, labels, self.temperature(step))

    def mean_loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """The mean loss at a temperature.

        Of logits that are not the network's last ones, as in a diagnosis, features are unknown, and
        changes that read them are left out.
        """
        seen = self.seen(logits, temperature)
        total = self.loss(seen.logits, labels, temperature)
        for change in self._applied(seen):
            penalty = change.penalty(seen)
            total = total if penalty is None else total + penalty
        return total

    def seen(self, logits: Tensor, temperature: float) -> Seen:
        """What the loss gets instead of the network's logits."""
        seen = self._seen(logits, temperature)
        for change in self._applied(seen):
            seen = replace(seen, logits=change.logits(seen))
        return seen

    def _applied(self, seen: Seen) -> list[LossChange]:
        return [
            change
            for change in self.changes
            if len(seen.logits) >= change.least_batch
            and (seen.features is not None or not change.needs_features)
        ]

    def _seen(self, logits: Tensor, temperature: float) -> Seen:
        wide = widened(logits)
        if not self._observed:
            return Seen(wide, temperature)
        (observed,) = self._observed
        head, features, observed.features = observed[0], observed.features, None
        assert isinstance(head, nn.Linear)
        if features is None or not logits.requires_grad or logits.is_leaf:
            return Seen(wide, temperature, head)
        return Seen(wide, temperature, head, widened(features.flatten(1)))


def widened(tensor: Tensor) -> Tensor:
    """In float32 where the precision is half, in which squares overflow and norms are rounded."""
    return tensor.float() if tensor.element_size() < 4 else tensor


def needs_observation(changes: Sequence[Intervention]) -> bool:
    """Whether the loss reads head or features."""
    losses = [change for change in changes if isinstance(change, LossChange)]
    return any(change.needs_head or change.needs_features for change in losses)


def changed_head(head: nn.Linear, changes: Sequence[Intervention]) -> nn.Module:
    """The module that takes the place of a linear head; the head itself where none is changed.

    Raises ValueError for a head with NaN or infinite weights, and as the changes do.
    """
    if not changes:
        return head
    if not bool(head.weight.isfinite().all()):
        raise ValueError(
            f"intervention {changes[0].name} needs finite weights, but the head has NaN or infinite "
            "ones; mend the weights of the model first"
        )
    heads = [change for change in changes if isinstance(change, HeadChange)]
    replacing = [change.module(head) for change in heads if change.replaces]
    first: nn.Module = replacing[0] if replacing else head
    if needs_observation(changes):
        first = Observed(first)
    following = [change.module(head) for change in heads if not change.replaces]
    return nn.Sequential(first, *following) if following else first


def change_classifier(model: nn.Module, classes: int, changes: Sequence[Intervention]) -> nn.Module:
    """The network with a changed classifier, the last linear layer with `classes` outputs.

    Raises ValueError as `find_classifier` and `changed_head`.
    """
    if not changes:
        return model
    name, head = find_classifier(model, classes)
    changed = changed_head(head, changes)
    if not name:
        return changed
    if changed is not head:
        model.set_submodule(name, changed)
    return model


def intervene(
    model: nn.Module,
    *interventions: str,
    temperature: float = 1.0,
    loss: MeanLoss = cross_entropy,
    batch: Any = None,
) -> tuple[nn.Module, Intervened]:
    """The network and the loss of a training with interventions spelled NAME or NAME=VALUE.

    The network is changed in place (a lone linear layer is replaced): its head is replaced, followed by
    a module, or made to remember its input. `loss(model(inputs), labels)` is the training loss.

    loss: mean loss of logits and labels at a temperature, by default cross-entropy. batch: inputs that
    find the head by a forward pass; without it, the head is the linear layer registered last.
    Raises ValueError for T <= 0, unknown interventions, values out of range, and models without a
    single linear head.
    """
    check_temperature(temperature)
    changes = find_interventions(interventions)
    head = registered_head(model) if batch is None else linear_head(Passes.of(model, batch))
    (name, linear), *others = head.modules.items()
    if others or not isinstance(linear, nn.Linear):
        raise ValueError(
            f"the logits come from {head.name}; interventions need a single linear layer as head"
        )
    changed = changed_head(linear, changes)
    if not name:
        model = changed
    elif changed is not linear:
        model.set_submodule(name, changed)
    losses = [change for change in changes if isinstance(change, LossChange)]
    criterion = Intervened(loss, losses, lambda step: temperature)
    criterion.attach(model)
    return model, criterion
