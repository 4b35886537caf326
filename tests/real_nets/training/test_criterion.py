"""A training with a loss of its own: what the loss gets, and that its state survives a checkpoint."""

import pytest
import torch
from torch import Tensor

from rankdeficit import cross_entropy
from rankdeficit.control.criterion import Criterion, Stateless
from real_nets.training.loop import Training
from tests.real_nets.training.small import CPU, PLAIN, small_mlp, trained, training


class Drifting(Criterion):
    """Cross-entropy at a temperature that follows step, inputs and the mean of earlier losses."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("earlier", torch.zeros(()))
        self.heard: list[tuple[int, Tensor]] = []

    def forward(self, logits: Tensor, labels: Tensor, step: int, inputs: Tensor) -> Tensor:
        self.heard.append((step, inputs))
        temperature = 1 + step + float(self.earlier) + float(inputs.square().mean())
        loss = cross_entropy(logits, labels, temperature)
        self.earlier = 0.5 * self.earlier + loss.detach()
        return loss


def with_criterion(criterion: Criterion) -> Training:
    plain = training(small_mlp())
    return Training(
        plain.model, plain.batches, PLAIN, temperature=1.0, seed=0, device=CPU, criterion=criterion
    )


def test_the_loss_of_the_recipe_is_the_default() -> None:
    job = with_criterion(Stateless(lambda logits, labels: cross_entropy(logits, labels, 5.0)))
    job.run_until(job.steps, lambda step: None)
    expected = trained(small_mlp(), temperature=5.0)
    for name, value in job.model.state_dict().items():
        assert torch.equal(value.double(), expected[name])
    assert "criterion" not in job.state()


@pytest.mark.parametrize("stop", [1, 4])
def test_a_loss_with_a_state_resumes_to_the_bit(stop: int) -> None:
    whole = with_criterion(Drifting())
    whole.run_until(7, lambda step: None)
    first, second = with_criterion(Drifting()), with_criterion(Drifting())
    first.run_until(stop, lambda step: None)
    second.restore(first.state())
    second.run_until(7, lambda step: None)
    assert second.state()["criterion"] == whole.state()["criterion"] != first.state()["criterion"]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name])


def test_a_loss_gets_the_number_of_steps_done_and_the_augmented_inputs() -> None:
    criterion = Drifting()
    job = with_criterion(criterion)
    job.run_until(6, lambda step: None)
    given = [inputs for epoch in (0, 1) for inputs, _ in job.batches.epoch(epoch)]
    assert [step for step, _ in criterion.heard] == list(range(6))
    for (_, heard), inputs in zip(criterion.heard, given, strict=True):
        assert torch.equal(heard, inputs)
