"""The training loss with interventions on the logits."""

from torch import nn

from rankdeficit.control.interventions import HeadChange, Intervened, Intervention, LossChange
from rankdeficit.softmax import MeanLoss, cross_entropy, softmax_mse
from rankdeficit.toys.ufm import Loss


def objective(loss: Loss, changes: list[Intervention]) -> tuple[Loss | MeanLoss, nn.Module]:
    """The loss of the logits, and the module that gives what is measured of them.

    Raises ValueError for interventions on features or on the weights of the head, and for those with
    parameters of their own.
    """
    losses = [own for own in changes if isinstance(own, LossChange)]
    heads = [own for own in changes if isinstance(own, HeadChange)]
    for own in changes:
        if not _acts_on_logits(own):
            raise ValueError(
                f"intervention {own.name} acts on features or on the head's weights, which here train "
                "by explicit gradients; simulations.interventions has it on an MLP"
            )
    seen = nn.Sequential(*(own.module(nn.Linear(1, 2, device="meta")) for own in heads))
    for own, module in zip(heads, seen, strict=True):
        if any(True for _ in module.parameters()):
            raise ValueError(
                f"intervention {own.name} has parameters of its own, which do not train here; a "
                "learnable temperature is --learn-temperature, and simulations.interventions has others "
                "on an MLP"
            )
    if not changes:
        return loss, seen
    changed = Intervened({"ce": cross_entropy, "mse": softmax_mse}[loss], losses)
    return lambda logits, targets, T: changed.mean_loss(seen(logits), targets, T), seen


def _acts_on_logits(own: Intervention) -> bool:
    if isinstance(own, LossChange):
        return not (own.needs_head or own.needs_features)
    return isinstance(own, HeadChange) and not own.replaces
