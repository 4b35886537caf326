"""What watching costs a training at the default interval: pytest tests/benchmarks -m benchmark -s."""

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.watch.watch import MEASURES
from tests.benchmarks.timing import THREADS, meet, seconds, size
from tests.networks import narrow_resnet18

pytestmark = pytest.mark.benchmark
BATCH = 128


def test_watching_a_resnet18() -> None:
    """Its mean cost over a cycle of measurements, beside the steps between two of them."""
    torch.set_num_threads(THREADS)
    model = narrow_resnet18(width=size(64, 4), classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    count = size(BATCH, 16)
    inputs = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 10

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()

    longest = max(MEASURES.values())
    watches = [
        rd.Watch(model, [(inputs, labels)], every=1, measures=names).open()
        for names in ([name for name, apart in MEASURES.items() if apart == 1], [*MEASURES])
    ]
    step, often, all_of_them = seconds(
        train, *(lambda watch=own: watch.step() for own in watches), repetitions=3
    )
    mean = ((longest - 1) * often + all_of_them) / longest
    ratio = 1 + mean / (100 * step)
    print(
        f"\nwatching a ResNet-18 every 100 steps: {ratio:.4f}x a plain training (goal 1.02x); a step "
        f"{step:.2f} s, a measurement {often:.2f} s, one with the layers {all_of_them:.2f} s"
    )
    meet(ratio <= 1.02)
