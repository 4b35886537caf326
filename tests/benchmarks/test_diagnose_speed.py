"""What a diagnosis costs beside the forward passes it needs: pytest tests/benchmarks -m benchmark -s."""

import pytest
import torch

import rankdeficit as rd
from tests.benchmarks.timing import THREADS, seconds
from tests.networks import narrow_resnet18

pytestmark = pytest.mark.benchmark
IMAGES, BATCH = 10_000, 200


def test_diagnosis_without_probes_against_a_bare_forward_pass() -> None:
    torch.set_num_threads(THREADS)
    model = narrow_resnet18(width=16, classes=100)
    inputs = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(IMAGES) % 100
    batches = list(zip(inputs.split(BATCH), labels.split(BATCH), strict=True))
    cut = len(batches) * 4 // 5
    train, test = batches[:cut], batches[cut:]

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            for images, _ in batches:
                model(images)

    def measure(**options: bool) -> None:
        rd.diagnose(model, train, test, probes=False, **options)

    bare, streamed, whole = seconds(
        forward, lambda: measure(alignment=False), measure, repetitions=5
    )
    print(
        f"\ndiagnose without probes, {IMAGES} images, narrow ResNet-18: {streamed / bare:.2f}x a bare "
        f"forward pass ({bare:.1f} s); with alignment and gradient ranks {whole / bare:.2f}x"
    )
    assert streamed <= 1.3 * bare
    assert whole <= 2.5 * bare
