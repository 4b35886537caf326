"""Class statistics against plain formulas, and Neural Collapse against geometries in closed form."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rankdeficit import constructions
from rankdeficit.constructions import Code
from rankdeficit.diagnostics import ClassStatistics, nearest_centre_agreement, neural_collapse
from tests.processes import run_together


def labelled(n: int, features: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[:classes] = torch.arange(classes)
    noise = torch.randn(n, features, dtype=torch.float64, generator=generator)
    means = 3 * torch.randn(classes, features, dtype=torch.float64, generator=generator)
    return means[labels] + noise, labels


def statistics_of(h: Tensor, labels: Tensor, classes: int, sizes: Sequence[int]) -> ClassStatistics:
    statistics = ClassStatistics(h.shape[1], classes)
    for features, own in zip(h.split(list(sizes)), labels.split(list(sizes)), strict=True):
        statistics.update(features, own)
    return statistics


def assert_equal(a: ClassStatistics, b: ClassStatistics) -> None:
    assert torch.equal(a.counts, b.counts)
    for name in ("means", "scatter", "squares"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-11, atol=1e-11)


def with_noise(
    code: Code, radius: float, spread: float, per_class: int, width: int
) -> tuple[Tensor, Tensor]:
    """Means on a code of this radius; noise of the same exact second moment spread^2 I in each class."""
    labels = torch.arange(code.classes).repeat_interleave(2 * per_class * width)
    means = torch.zeros(code.classes, width, dtype=torch.float64)
    means[:, : code.rank] = radius * code.directions
    steps = spread * math.sqrt(width) * torch.eye(width, dtype=torch.float64)
    noise = torch.cat([steps, -steps]).repeat(code.classes * per_class, 1)
    return means[labels] + noise, labels


@pytest.mark.parametrize("sizes", [[200], [1] * 200, [7, 93, 100]])
def test_streamed_statistics_are_those_of_all_samples(sizes: list[int]) -> None:
    h, labels = labelled(200, 6, 4)
    found = statistics_of(h, labels, 4, sizes)
    for k in range(4):
        own = h[labels == k]
        assert found.counts[k] == len(own)
        torch.testing.assert_close(found.means[k], own.mean(dim=0))
        square = (own - own.mean(dim=0)).square().sum()
        torch.testing.assert_close(found.squares[k], square)
    scatter = sum(
        (h[labels == k] - h[labels == k].mean(dim=0)).mT
        @ (h[labels == k] - h[labels == k].mean(dim=0))
        for k in range(4)
    )
    torch.testing.assert_close(found.scatter, scatter)
    torch.testing.assert_close(found.scatter.trace(), found.squares.sum())


def test_merging_is_seeing_all_in_any_order() -> None:
    h, labels = labelled(300, 5, 3)
    whole = statistics_of(h, labels, 3, [300])
    parts = [
        statistics_of(a, b, 3, [len(b)]) for a, b in zip(h.split(90), labels.split(90), strict=True)
    ]
    first = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    last = parts[3].merge(parts[2]).merge(parts[1]).merge(parts[0])
    assert_equal(first, whole)
    assert_equal(last, whole)


def test_tight_classes_far_from_the_origin_keep_their_digits() -> None:
    """Where a difference of raw second moments would have none left."""
    h, labels = labelled(400, 4, 2)
    tight = 1e6 + 1e-4 * h
    found = statistics_of(tight, labels, 2, [100] * 4)
    expected = statistics_of(h, labels, 2, [400])
    torch.testing.assert_close(1e8 * found.scatter, expected.scatter, rtol=1e-4, atol=1e-3)


def _share(rank: int, count: int, folder: Path) -> None:
    h, labels = labelled(101, 5, 3)
    mine = (h.tensor_split(count)[rank], labels.tensor_split(count)[rank])
    statistics = statistics_of(*mine, 3, [len(mine[1])])
    statistics.all_reduce()
    torch.save(
        [statistics.counts, statistics.means, statistics.scatter, statistics.squares],
        folder / f"{rank}.pt",
    )


def test_two_processes_end_with_all_samples(tmp_path: Path) -> None:
    run_together(_share, tmp_path, tmp_path)
    whole = statistics_of(*labelled(101, 5, 3), 3, [101])
    for rank in range(2):
        found = ClassStatistics(5, 3)
        found.counts, found.means, found.scatter, found.squares = torch.load(
            tmp_path / f"{rank}.pt", weights_only=True
        )
        assert_equal(found, whole)


@pytest.mark.parametrize("classes", [3, 4, 10])
def test_a_noisy_simplex_etf(classes: int) -> None:
    radius, spread, width = 5.0, 0.3, classes + 2
    code = constructions.simplex_etf(classes)
    h, labels = with_noise(code, radius, spread, 2, width)
    statistics = statistics_of(h, labels, classes, [len(labels)])
    weight = torch.zeros(classes, width, dtype=torch.float64)
    weight[:, : classes - 1] = 7 * code.directions
    found = neural_collapse(statistics, weight)
    assert found.nc1 == pytest.approx(spread**2 * (classes - 1) ** 2 / (radius**2 * classes))
    assert found.retained_rank == classes - 1
    assert found.within_to_between == pytest.approx(width * spread**2 / radius**2)
    distance = 2 * radius**2 * classes / (classes - 1)
    assert found.class_distance_variance == pytest.approx(width * spread**2 / distance)
    for value in (
        found.equinorm,
        found.mean_cosine_gap,
        found.cosine_deviation,
        found.self_duality,
    ):
        assert value == pytest.approx(0, abs=1e-12)
    assert nearest_centre_agreement(h, (h @ weight.mT).argmax(dim=1), statistics.means) == 1


@pytest.mark.parametrize("classes", [4, 5, 10])
def test_a_noisy_circle_fails_equiangularity_only(classes: int) -> None:
    radius, spread = 5.0, 0.1
    code = constructions.circle(classes)
    h, labels = with_noise(code, radius, spread, 1, 6)
    weight = torch.zeros(classes, 6, dtype=torch.float64)
    weight[:, :2] = code.directions
    found = neural_collapse(statistics_of(h, labels, classes, [len(labels)]), weight)
    assert found.nc1 == pytest.approx(4 * spread**2 / (radius**2 * classes))
    assert found.retained_rank == 2
    assert found.equinorm == pytest.approx(0, abs=1e-12)
    assert found.self_duality == pytest.approx(0, abs=1e-12)
    assert found.mean_cosine_gap == pytest.approx(0, abs=1e-12)
    expected = math.sqrt(classes * (classes - 3) / 2) / (classes - 1)
    assert found.cosine_deviation == pytest.approx(expected)


def test_rotations_shifts_and_relabelling_change_nothing() -> None:
    h, labels = labelled(200, 6, 4)
    weight = labelled(4, 6, 4, seed=3)[0]
    rotation = torch.linalg.qr(labelled(6, 6, 2, seed=5)[0])[0]
    swap = torch.tensor([2, 0, 3, 1])
    plain = neural_collapse(statistics_of(h, labels, 4, [200]), weight)
    turned = neural_collapse(
        statistics_of(h @ rotation + 10, swap[labels], 4, [200]),
        (weight @ rotation)[swap.argsort()],
    )
    assert turned == pytest.approx(plain)


def test_the_rank_that_nc1_retains_depends_on_gamma() -> None:
    h, labels = with_noise(constructions.pairs(6), 1.0, 0.1, 1, 4)
    h[:, 2] *= 1e-4
    statistics = statistics_of(h, labels, 6, [len(labels)])
    assert neural_collapse(statistics).retained_rank == 2
    assert neural_collapse(statistics, gamma=1e-6).retained_rank == 3
    assert neural_collapse(statistics).self_duality is None


def test_coincident_means_are_infinitely_far_from_collapse() -> None:
    h = torch.tensor([[1.0, 0.0], [-1.0, 0.0]] * 2)
    found = neural_collapse(statistics_of(h, torch.tensor([0, 0, 1, 1]), 2, [4]))
    assert found.retained_rank == 0
    assert found.nc1 == found.within_to_between == found.equinorm == math.inf
    assert math.isnan(found.mean_cosine_gap)


def test_nearest_centres_by_hand() -> None:
    means = torch.tensor([[0.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [1.5, 5.0]])
    logits = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    assert nearest_centre_agreement(features, logits.argmax(dim=1), means) == pytest.approx(2 / 3)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused_and_changes_nothing() -> None:
    h, labels = labelled(20, 3, 2)
    statistics = statistics_of(h, labels, 2, [20])
    before = statistics.means.clone()
    for features, own, match in (
        (h[:, :2], labels, r"must be \(n, 3\)"),
        (h, labels[:5], "labels have shape"),
        (h, labels.double(), "dtype"),
        (h, labels + 1, r"labels.* 1\.\.2.* 0\.\.1"),
        (h * math.nan, labels, "NaN"),
    ):
        with pytest.raises(ValueError, match=match):
            statistics.update(features, own)
    assert torch.equal(statistics.means, before)
    with pytest.raises(ValueError, match=r"3 features.*5 classes"):
        statistics.merge(ClassStatistics(3, 5))
    with pytest.raises(ValueError, match="no samples"):
        neural_collapse(ClassStatistics(3, 2))
    with pytest.raises(ValueError, match=r"weight.*shape"):
        neural_collapse(statistics, h)
    for arguments in ((0, 3), (3, 1)):
        with pytest.raises(ValueError, match="at least"):
            ClassStatistics(*arguments)


def test_gpu_statistics_equal_cpu_statistics(device: torch.device) -> None:
    h, labels = labelled(300, 8, 4)
    found = ClassStatistics(8, 4, device=device)
    found.update(h.to(device), labels.to(device))
    expected = statistics_of(h, labels, 4, [300])
    torch.testing.assert_close(found.scatter.cpu(), expected.scatter)
    assert neural_collapse(found) == pytest.approx(neural_collapse(expected))
