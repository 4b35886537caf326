"""The stand-in for a GPU: it computes like a CPU, and refuses and waits like a GPU."""

import pytest
import torch
from torch import nn

from tests.stand_in import IN_PASSING, waits


def trained(device: torch.device | str) -> tuple[list[float], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, 8, 8, generator=generator).to(device)
    labels = torch.arange(16, device=device) % 3
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
        model = nn.Sequential(*parts).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.state_dict()


def test_it_trains_a_network_to_the_same_bits(stand_in_device: torch.device) -> None:
    losses, weights = trained(stand_in_device)
    expected_losses, expected = trained("cpu")
    assert losses == expected_losses
    assert losses[-1] < losses[0]
    for name, value in expected.items():
        assert weights[name].device == stand_in_device
        assert torch.equal(weights[name].cpu(), value)


def test_views_share_their_numbers(stand_in_device: torch.device) -> None:
    matrix = torch.zeros(2, 3, device=stand_in_device)
    matrix[0].add_(1)
    matrix.mT[2, 1] = 5
    assert matrix.tolist() == [[1, 1, 1], [0, 0, 5]]


def test_tensors_of_two_devices_do_not_mix(stand_in_device: torch.device) -> None:
    ours, generator = torch.ones(3, device=stand_in_device), torch.Generator()
    assert (ours + 1 + torch.tensor(1.0)).tolist() == [3, 3, 3]  # a number may come from anywhere
    for mix in (
        lambda: ours + torch.ones(3),
        lambda: torch.stack([ours, torch.ones(3)]),
        lambda: ours.numpy(),
        lambda: torch.randn(3, generator=generator, device=stand_in_device),
        lambda: ours.normal_(generator=generator),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            mix()


def test_what_makes_the_host_wait_is_told(device: torch.device) -> None:
    ours, theirs = torch.ones(3, device=device), torch.ones(3)
    large = torch.ones(IN_PASSING, dtype=torch.uint8)
    for at_once in (
        lambda: ours.sum() + 1,
        lambda: ours.double(),
        lambda: ours.copy_(ours + 1),
        lambda: theirs.to(device, non_blocking=True),
        lambda: large.to(device, non_blocking=True),
        lambda: ours[torch.zeros(2, dtype=torch.long, device=device)],
        lambda: torch.zeros(3, device=device),
    ):
        with waits(device) as found:
            at_once()
        assert not found
    for waiting in (
        lambda: ours.sum().item(),
        lambda: bool(ours.isfinite().all()),
        lambda: ours.tolist(),
        lambda: ours.cpu(),
        lambda: theirs.to(device),
        lambda: ours.copy_(theirs),
        lambda: torch.tensor(2.0, device=device),
        lambda: ours[ours > 0],
        lambda: ours.nonzero(),
    ):
        with waits(device) as found:
            waiting()
        assert found
