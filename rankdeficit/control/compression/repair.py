"""Short training of a compressed network on the fitting samples."""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from rankdeficit.checks import check_at_least, check_positive, check_temperature
from rankdeficit.control.compression.parts import OnProgress, Part, Runner
from rankdeficit.diagnostics.reading.inputs import Inputs, chunks
from rankdeficit.softmax import cross_entropy


@dataclass(frozen=True)
class Repair:
    """Settings of the training after compression; without epochs there is none."""

    epochs: int = 0
    lr: float = 1e-4
    """Initial learning rate of Adam, which falls to zero linearly."""
    batch_size: int = 128
    temperature: float = 1.0
    """Softmax temperature of the loss; that with which the network was trained."""
    seed: int = 0
    """Seed of the order of the samples."""

    def __post_init__(self) -> None:
        check_at_least(0, repair_epochs=self.epochs)
        check_at_least(1, batch_size=self.batch_size)
        check_temperature(self.temperature)
        check_positive(repair_lr=self.lr)


def repaired(
    model: nn.Module, fit: Part, runner: Runner, settings: Repair, on_progress: OnProgress
) -> nn.Module:
    """Train the network in place with cross-entropy at its temperature, and return it.

    The network stays in evaluation mode, without dropout and with fixed averages of BatchNorm, so that
    equal seeds give equal networks on equal hardware. The samples are kept in memory.
    """
    if not settings.epochs:
        return model
    parts = list(fit)
    labels = torch.cat([own.cpu() for _, own in parts])
    groups = list(chunks([own for own, _ in parts], labels, len(labels)))  # of equal shapes
    generator = torch.Generator().manual_seed(settings.seed)
    learning = [own.requires_grad_() for own in model.parameters() if own.is_floating_point()]
    optimizer = torch.optim.Adam(learning, lr=settings.lr)
    steps = settings.epochs * sum(-(-len(own) // settings.batch_size) for _, own in groups)
    model.eval()
    done = 0
    for _ in range(settings.epochs):
        for number, rows in _order(groups, settings.batch_size, generator):
            inputs, targets = groups[number][0][rows], groups[number][1][rows]
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * (1 - done / steps)
            with torch.enable_grad():
                logits = runner.logits(model, inputs.on(runner.device, runner.dtype))
                loss = cross_entropy(
                    logits, targets.to(runner.device), settings.temperature, validate=False
                )
                optimizer.zero_grad()
                loss.backward()
            torch.nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            done += 1
            on_progress("repair", done, steps)
    return model


def _order(
    groups: list[tuple[Inputs, Int64[Tensor, " _"]]], size: int, generator: torch.Generator
) -> list[tuple[int, Int64[Tensor, " _"]]]:
    """Batches of all groups in a random order: the group's number and rows."""
    batches = [
        (number, rows)
        for number, (_, labels) in enumerate(groups)
        for rows in torch.randperm(len(labels), generator=generator, device="cpu").split(size)
    ]
    order = torch.randperm(len(batches), generator=generator, device="cpu")
    return [batches[i] for i in order.tolist()]
