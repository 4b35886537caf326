"""The command-line option of interventions, and what a training takes from it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from rankdeficit.control.interventions.apply import Intervened
from rankdeficit.control.interventions.base import (
    HeadChange,
    Intervention,
    LossChange,
    available_interventions,
    find_interventions,
)
from rankdeficit.softmax import MeanLoss


def intervention_help() -> str:
    """Help text of the option --intervention."""
    lines = []
    for name, kind in available_interventions().items():
        value = f"={kind.default:g}" if kind.default is not None else ""
        lines.append(f"{name}{value}: {kind.help()}")
    return "Interventions on the logits, NAME or NAME=VALUE. " + ". ".join(lines) + "."


@dataclass(frozen=True, kw_only=True)
class InterventionOptions:
    """Interventions on the logits, besides those that have an option of their own."""

    intervention: tuple[str, ...] = field(default=(), metadata={"help": intervention_help})

    @property
    def interventions(self) -> list[Intervention]:
        """The interventions. Raises ValueError as `find_interventions`."""
        return find_interventions(self.intervention)

    @property
    def alternatives(self) -> tuple[str, ...]:
        """The interventions as spelled, of which every training gets one.

        Raises ValueError as `find_interventions`, and for one that is given twice.
        """
        found: list[Intervention] = []
        for spelled in self.intervention:
            (own,) = find_interventions([spelled])
            if own in found:
                raise ValueError(f"intervention {own.spelled} is given twice; give it once")
            found.append(own)
        return self.intervention

    def intervened(self, loss: MeanLoss, temperature: Callable[[int], float]) -> Intervened:
        """The training loss with these interventions, at the temperature of a step."""
        changes = [own for own in self.interventions if isinstance(own, LossChange)]
        return Intervened(loss, changes, temperature)

    def norm_seen(self, norm: float | None, temperature: float) -> float | None:
        """Effective norm of the logits that the loss gets; None where it is unknown."""
        for own in self.interventions:
            if isinstance(own, LossChange) and norm is not None:
                norm = own.norm(norm, temperature)
        return norm

    @property
    def notes_on_interventions(self) -> list[str]:
        """A note for a diagnosis on each intervention."""
        return [
            f"trained with intervention {own.spelled}; diagnosed are {own.diagnosed}"
            for own in self.interventions
        ]

    def check_scale(self, head_scale: float) -> None:
        """Raise ValueError for a scale of the head that an intervention undoes."""
        for own in self.interventions:
            if head_scale != 1 and isinstance(own, HeadChange) and own.scale_free:
                raise ValueError(
                    f"head_scale is {head_scale:g}, which intervention {own.name} undoes; change "
                    f"{own.symbol} instead"
                )

    def check_interventions(self, batch_size: int, lr_rule: str = "matched") -> None:
        """Raise ValueError for interventions that this training cannot have."""
        for own in self.interventions:
            if lr_rule != "matched":
                raise ValueError(
                    f"lr_rule is {lr_rule!r}, whose equivalence intervention {own.name} breaks; take "
                    "--lr-rule matched"
                )
            if isinstance(own, LossChange) and batch_size < own.least_batch:
                raise ValueError(
                    f"batch_size is {batch_size}; intervention {own.name} needs {own.least_batch} or more"
                )
