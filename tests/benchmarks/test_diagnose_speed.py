"""What a diagnosis costs beside the forward passes it needs: pytest tests/benchmarks -m benchmark -s.

Page faults of large temporary tensors move both sides by half: set MALLOC_MMAP_THRESHOLD_=1000000000 and
MALLOC_TRIM_THRESHOLD_=4000000000 (glibc) for steady figures.
"""

import pytest
import torch

import rankdeficit as rd
from tests.benchmarks import timing
from tests.benchmarks.timing import THREADS, meet, seconds, size
from tests.networks import narrow_resnet18

pytestmark = pytest.mark.benchmark
BATCH = 200


def test_diagnosis_without_probes_against_a_bare_forward_pass() -> None:
    torch.set_num_threads(THREADS)
    count = size(10_000, 250)
    model = narrow_resnet18(width=size(16, 4), classes=100)
    inputs = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % 100
    batches = list(zip(inputs.split(size(BATCH, 50)), labels.split(size(BATCH, 50)), strict=True))
    cut = len(batches) * 4 // 5
    train, test = batches[:cut], batches[cut:]

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            for images, _ in batches:
                model(images)

    def measure(**options: bool) -> None:
        rd.diagnose(model, train, test, probes=False, **options)

    bare, streamed, aligned, whole = seconds(
        forward,
        lambda: measure(alignment=False),
        lambda: measure(gradients=False),
        measure,
        repetitions=5,
    )
    ratios = [time / bare for time in (streamed, aligned, whole)]
    print(
        f"\ndiagnose without probes, {count} images, narrow ResNet-18, against a bare forward pass "
        f"({bare:.1f} s): {ratios[0]:.2f}x (goal 1.3x), with alignment {ratios[1]:.2f}x (goal 2.5x), "
        f"with gradient ranks too {ratios[2]:.2f}x"
    )
    meet(ratios[0] <= 1.7)
    meet(ratios[1] <= 3.0)
    meet(ratios[2] <= 3.5)
    if not timing.TRIAL and (ratios[0] > 1.3 or ratios[1] > 2.5):
        pytest.xfail(f"{ratios[0]:.2f}x and {ratios[1]:.2f}x")
