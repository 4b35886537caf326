"""The training loss as a module: it gets the step and the inputs, and checkpoints keep its state."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor, nn


class Criterion(nn.Module, ABC):
    """Training loss of a batch, averaged over its samples.

    Subclasses define `forward`. Buffers are state: checkpoints keep the `state_dict`, and a resumed
    training restores it. Nothing but the state, the arguments and torch's generators (seeded anew before
    every step) may influence the loss, or a resumed training differs from an uninterrupted one.
    Parameters are not trained.
    """

    def attach(self, model: nn.Module) -> None:
        """Called once with the network before it is trained, for losses that read its modules."""
        for own in self.children():
            if isinstance(own, Criterion):
                own.attach(model)

    @abstractmethod
    def forward(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        step: int,
        inputs: Float[Tensor, "n ..."],
    ) -> Float[Tensor, ""]:
        """The mean loss.

        step: number of steps done before this one. inputs: augmented inputs of the network.
        """


class Stateless(Criterion):
    """A loss of logits and labels alone."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self,
        logits: Float[Tensor, "n c"],
        labels: Int64[Tensor, " n"],
        step: int,
        inputs: Float[Tensor, "n ..."],
    ) -> Float[Tensor, ""]:
        """The mean loss, the same at every step."""
        return self.loss(logits, labels)
