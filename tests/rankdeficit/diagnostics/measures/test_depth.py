"""Depth and drop by hand and at the threshold; bootstrap intervals against SciPy and their coverage."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankdeficit.diagnostics.measures import depth
from rankdeficit.diagnostics.measures.depth import bootstrap, effective_depth, ood_drop


def planted(probabilities: list[float], n: int, seed: int) -> Tensor:
    """Right answers of layers that err independently, (layers, n)."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor(probabilities, dtype=torch.float64)[:, None]
    return torch.rand((len(probabilities), n), dtype=torch.float64, generator=generator) < shares


def nested(probabilities: list[float], n: int, seed: int) -> Tensor:
    """Right answers of layers where whoever errs less is right wherever another one is."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.tensor(probabilities, dtype=torch.float64)[:, None]
    return torch.rand(n, dtype=torch.float64, generator=generator) < shares


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.5, 0.9, 0.98, 0.995, 1.0], 4 / 5),
        ([0.5, 0.99, 0.98, 0.995, 1.0], 2 / 5),  # the first one counts, whatever follows
        ([1.0, 0.2, 0.1], 1 / 3),
        ([0.1, 0.2, 0.3], 1.0),
        ([0.0, 0.0, 0.0, 0.0], 1 / 4),
        ([0.7], 1.0),
    ],
)
def test_effective_depth_by_hand(accuracies: list[float], expected: float) -> None:
    found = effective_depth(torch.tensor(accuracies, dtype=torch.float64))
    assert found.dtype == torch.float64
    assert float(found) == expected
    assert float(effective_depth(100 * torch.tensor(accuracies))) == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [100, 2_600, 9_999, 10_000, 50_000])
def test_exactly_99_percent_counts_and_one_sample_less_does_not(n: int, dtype: torch.dtype) -> None:
    multiples = torch.arange(1, n // 100 + 1)
    for missing, expected in ((0, 1 / 2), (1, 1.0)):
        counts = torch.stack([99 * multiples - missing, 100 * multiples], dim=1)
        found = effective_depth(counts.to(dtype) / n)
        assert found.tolist() == [expected] * len(multiples)


def test_another_share_sets_another_threshold() -> None:
    accuracies = torch.tensor([0.40, 0.46, 0.48, 0.50])
    assert [float(effective_depth(accuracies, share)) for share in (0.8, 0.9, 0.95, 1.0)] == [
        1 / 4,
        2 / 4,
        3 / 4,
        4 / 4,
    ]


def test_the_best_layer_is_a_higher_bar_than_the_last() -> None:
    losing = torch.tensor([0.13, 0.14, 0.17, 0.15, 0.12])
    assert float(effective_depth(losing)) == 1 / 5
    assert float(effective_depth(losing, bar="best")) == 3 / 5
    assert float(effective_depth(losing, 0.8, bar="best")) == 2 / 5
    gaining = losing.sort().values
    assert float(effective_depth(gaining)) == float(effective_depth(gaining, bar="best")) == 1


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.2, 0.8, 0.6], 0.25),
        ([0.8, 0.2, 0.0], 1.0),
        ([0.1, 0.2, 0.4], 0.0),
        ([0.0, 0.0], 0.0),
    ],
)
def test_ood_drop_by_hand(accuracies: list[float], expected: float) -> None:
    found = ood_drop(torch.tensor(accuracies, dtype=torch.float64))
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(expected, abs=1e-15)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=12))
def test_depth_and_drop_as_a_plain_loop_counts_them(counts: list[int]) -> None:
    accuracies = torch.tensor(counts, dtype=torch.float64) / 1000
    first = next(i for i, count in enumerate(counts, 1) if 100 * count >= 99 * counts[-1])
    assert float(effective_depth(accuracies)) == first / len(counts)
    drop = (max(counts) - counts[-1]) / max(1, *counts)
    assert float(ood_drop(accuracies)) == pytest.approx(drop, abs=1e-12)


def test_a_batch_is_measured_row_by_row() -> None:
    generator = torch.Generator().manual_seed(0)
    accuracies = torch.rand((3, 4, 6), generator=generator)
    for measure in (effective_depth, ood_drop):
        found = measure(accuracies)
        assert found.shape == (3, 4)
        assert found.flatten().tolist() == [float(measure(row)) for row in accuracies.flatten(0, 1)]


def test_the_interval_is_that_of_scipy() -> None:
    correct = planted([0.5, 0.8, 0.6], 400, seed=1)

    def drop(*layers: np.ndarray, axis: int) -> np.ndarray:
        accuracies = np.stack([layer.mean(axis=axis) for layer in layers])
        return (accuracies.max(axis=0) - accuracies[-1]) / accuracies.max(axis=0)

    expected = scipy.stats.bootstrap(
        correct.double().numpy(), drop, paired=True, vectorized=True, n_resamples=20_000,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    found = bootstrap(correct, ood_drop, resamples=20_000)
    assert found.estimate == float(ood_drop(correct.double().mean(dim=1)))
    assert found.low == pytest.approx(expected.low, abs=0.004)
    assert found.high == pytest.approx(expected.high, abs=0.004)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_of_a_drop_covers_the_truth_as_often_as_it_says(level: float) -> None:
    probabilities, repetitions = [0.4, 0.9, 0.7], 400
    truth = (0.9 - 0.7) / 0.9
    hits = 0
    for seed in range(repetitions):
        found = bootstrap(
            planted(probabilities, 200, seed), ood_drop, resamples=200, level=level, seed=seed
        )
        hits += found.low <= truth <= found.high
    deviation = math.sqrt(level * (1 - level) / repetitions)
    assert abs(hits / repetitions - level) < 3 * deviation + 0.02


def test_the_interval_of_a_depth_holds_the_layers_that_samples_cannot_tell_apart() -> None:
    near = bootstrap(planted([0.3, 0.5, 0.792, 0.80], 2_000, seed=0), effective_depth)
    assert (near.low, near.high) == (3 / 4, 4 / 4)
    clear = bootstrap(nested([0.3, 0.5, 0.799, 0.80, 0.80], 20_000, seed=0), effective_depth)
    assert clear == (3 / 5, 3 / 5, 3 / 5)


def test_all_layers_see_the_same_resampled_samples() -> None:
    """The difference of two equal layers has no spread, that of two independent ones has."""
    one = planted([0.6], 300, seed=0)

    def difference(accuracies: Tensor) -> Tensor:
        return accuracies[:, 0] - accuracies[:, 1]

    assert bootstrap(torch.cat([one, one]), difference) == (0, 0, 0)
    # var = p (1 - p) / n for each of the two layers, which are always unequal: 4 p (1 - p) / n
    p = float(one.double().mean())
    opposite = bootstrap(torch.cat([one, ~one]), difference, resamples=20_000)
    spread = 2 * 1.959964 * math.sqrt(4 * p * (1 - p) / 300)
    assert opposite.high - opposite.low == pytest.approx(spread, rel=0.05)


def test_neither_the_order_of_samples_nor_the_block_size_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    correct = planted([0.4, 0.9, 0.7, 0.8], 500, seed=3)
    found = bootstrap(correct, ood_drop, seed=5)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert bootstrap(correct[:, order], ood_drop, seed=5) == found
    assert bootstrap(correct, ood_drop, seed=6) != found
    monkeypatch.setattr(depth, "BLOCK", 100)
    assert bootstrap(correct, ood_drop, seed=5) == found


def test_the_ends_are_resampled_values_rounded_outwards() -> None:
    correct = planted([0.5], 100_000, seed=0)
    drawn: list[Tensor] = []

    def accuracy(accuracies: Tensor) -> Tensor:
        drawn.append(accuracies[:, 0])
        return accuracies[:, 0]

    found = bootstrap(correct, accuracy, resamples=50, level=0.9)
    ordered = next(values for values in drawn if len(values) == 50).sort().values
    assert len(ordered.unique()) > 45
    # 5 % and 95 % of the way through 50 ordered values: positions 2.45 and 46.55, counted from 0.
    assert (found.low, found.high) == (float(ordered[2]), float(ordered[47]))


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    good = torch.tensor([0.5, 0.9])
    for measure in (effective_depth, ood_drop):
        for accuracies, match in (
            (torch.tensor([0.5, math.nan]), "finite"),
            (torch.tensor([-0.1, 0.5]), "finite"),
            (torch.ones(0), "empty"),
            (torch.tensor(0.5), "dimension"),
            (torch.ones(3).long(), "dtype"),
        ):
            with pytest.raises(ValueError, match=match):
                measure(accuracies)
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="share is"):
            effective_depth(good, share)
    with pytest.raises(ValueError, match="bar is 'first'"):
        effective_depth(good, bar="first")  # type: ignore[arg-type]
    correct = torch.ones((2, 5), dtype=torch.bool)
    for wrong in (correct[0], correct.long(), correct[:, :0]):
        with pytest.raises(ValueError, match=r"correct.*shape"):
            bootstrap(wrong, ood_drop)
    for settings, match in (
        ({"resamples": 0}, "resamples is 0"),
        ({"level": 1.0}, "level is 1"),
        ({"seed": -1}, "seed is -1"),
    ):
        with pytest.raises(ValueError, match=match):
            bootstrap(correct, ood_drop, **settings)


def test_gpu_measures_equal_cpu_measures(device: torch.device) -> None:
    correct = planted([0.4, 0.9, 0.7], 500, seed=0)
    assert bootstrap(correct.to(device), ood_drop) == bootstrap(correct, ood_drop)
    accuracies = correct.double().mean(dim=1)
    for measure in (effective_depth, ood_drop):
        assert float(measure(accuracies.to(device))) == float(measure(accuracies))
