"""Neural Collapse against two passes: pytest tests/benchmarks/test_collapse_speed.py -m benchmark -s."""

import pytest
import torch
from torch import Tensor

from rankdeficit.diagnostics import ClassStatistics, neural_collapse
from rankdeficit.diagnostics.measures.collapse import NeuralCollapse
from tests.benchmarks import timing
from tests.benchmarks.timing import THREADS, seconds, size

pytestmark = pytest.mark.benchmark
BATCH = 1000


def samples(classes: int) -> list[tuple[Tensor, Tensor]]:
    """Batches of features as after a ReLU, and their labels."""
    generator = torch.Generator().manual_seed(0)
    width, n = size((512, 50_000), (128, 2_000))
    means = torch.randn(classes, width, generator=generator)
    labels = torch.randint(classes, (n,), generator=generator)
    features = (means[labels] + 0.3 * torch.randn(n, width, generator=generator)).relu()
    return list(zip(features.split(BATCH), labels.split(BATCH), strict=True))


def streamed(batches: list[tuple[Tensor, Tensor]], classes: int) -> NeuralCollapse:
    statistics = ClassStatistics(batches[0][0].shape[1], classes)
    for features, labels in batches:
        statistics.update(features, labels)
    return neural_collapse(statistics)


def two_passes(batches: list[tuple[Tensor, Tensor]], classes: int) -> dict[str, float]:
    """The same in single precision: class sums by one-hot products, then scatter and variances."""
    width = batches[0][0].shape[1]
    sums, counts = torch.zeros(classes, width), torch.zeros(classes)
    for features, labels in batches:
        members = (labels[:, None] == torch.arange(classes)).mT.float()
        sums += members @ features
        counts += members.sum(dim=1)
    means = sums / counts[:, None]
    scatter, squares = torch.zeros(width, width), torch.zeros(classes)
    for features, labels in batches:
        members = (labels[:, None] == torch.arange(classes)).mT.float()
        deviations = features - means[labels]
        scatter += deviations.mT @ deviations
        squares += (members @ deviations.square()).sum(dim=1)
    centred = means - means.mean(dim=0)
    within, between = scatter / counts.sum(), centred.mT @ centred / classes
    variances = squares / counts
    distances = torch.cdist(means, means).square()
    pairs = (variances[:, None] + variances) / (2 * distances)
    norms = centred.norm(dim=1)
    cosines = (centred @ centred.mT / (norms[:, None] * norms))[
        ~torch.eye(classes, dtype=torch.bool)
    ]
    return {
        "nc1": (torch.trace(torch.linalg.pinv(between, rtol=1e-5) @ within) / classes).item(),
        "within_to_between": (within.trace() / between.trace()).item(),
        "class_distance_variance": pairs[~torch.eye(classes, dtype=torch.bool)].mean().item(),
        "equinorm": (norms.std(correction=0) / norms.mean()).item(),
        "cosine_deviation": cosines.std(correction=0).item(),
    }


@pytest.mark.parametrize("classes", [10, 100])
def test_class_statistics_against_two_passes(classes: int) -> None:
    """One pass in double precision against two in single, as accumulators of other packages take them.

    Products in double precision run at half the rate: the scatter alone takes longer than both passes.
    """
    torch.set_num_threads(THREADS)
    batches = samples(classes)
    ours, theirs = streamed(batches, classes), two_passes(batches, classes)
    for name, value in theirs.items():
        assert getattr(ours, name) == pytest.approx(value, rel=1e-3), name
    took, single = seconds(
        lambda: streamed(batches, classes), lambda: two_passes(batches, classes), repetitions=7
    )
    ratio = single / took
    print(f"\nNeural Collapse, {classes} classes: {ratio:.2f}x two float32 passes (goal 1.5x)")
    if not timing.TRIAL and ratio < 1.5:
        pytest.xfail(f"{ratio:.2f}x two passes in single precision")
