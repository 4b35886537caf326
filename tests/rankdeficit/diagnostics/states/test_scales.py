"""Precision and scale of what is streamed: exact multiples of the same numbers give the same measures.

Entries are integers below 2^6 times a power of two, exact in every format, so measures that do not
change with the scale must agree to the rounding of float64.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rankdeficit.diagnostics.measures.calibration import temperature_scaling
from rankdeficit.diagnostics.measures.collapse import nearest_centre_agreement, neural_collapse
from rankdeficit.diagnostics.measures.neco import VARIANTS, fit_neco
from rankdeficit.diagnostics.measures.ood import KnownData, detectors, fit_detector
from rankdeficit.diagnostics.measures.ortho_dev import ortho_dev
from rankdeficit.diagnostics.measures.probes import fit_probe, predict
from rankdeficit.diagnostics.measures.scaling import fit_temperature
from rankdeficit.diagnostics.reading.pooling import pool_features
from rankdeficit.diagnostics.states.alignment import InputDirections, StreamedAlignment
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsStatistics
from rankdeficit.diagnostics.states.moments import Moments
from rankdeficit.diagnostics.states.sampling import sample_keys
from rankdeficit.gram import Gram

SCALES = [
    *[(torch.float16, exponent) for exponent in (-18, 0, 10)],
    *[(torch.bfloat16, exponent) for exponent in (-120, -83, 0, 66, 122)],
    *[(torch.float32, exponent) for exponent in (-120, -83, 0, 66, 122)],
    *[(torch.float64, exponent) for exponent in (-430, -83, 66, 430)],
]
"""The largest bring the largest entry to the format's last power of two; 2^-83 is 1e-25, 2^66 is 7e19."""

scales = pytest.mark.parametrize(("dtype", "exponent"), SCALES)


def integers(*shape: int, seed: int = 0, largest: int = 63) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


def scaled(values: Tensor, dtype: torch.dtype, exponent: int) -> Tensor:
    found = (values * 2.0**exponent).to(dtype)
    assert torch.equal(found.double(), values * 2.0**exponent)
    return found


def directions_of(rows: Tensor, samples: Tensor, size: int = 64) -> InputDirections:
    state = InputDirections(rows.shape[1])
    for batch, own in zip(rows.split(size), samples.split(size), strict=True):
        state.update(batch, sample_keys(own))
    return state


@scales
@pytest.mark.parametrize("width", [24, 200])  # a wide layer's directions come from Lanczos
def test_planted_directions_at_every_scale(dtype: torch.dtype, exponent: int, width: int) -> None:
    samples = integers(256, width, largest=3)
    samples[:, 0] = 20 * integers(256, seed=1, largest=3)  # most of the input is along one axis
    weight = torch.zeros(5, width, dtype=torch.float64)
    weight[:, 0], weight[:, 1] = 3, 4
    found = directions_of(scaled(samples, dtype, exponent), samples).alignment(weight, 1)
    same = directions_of(samples, samples).alignment(weight, 1)
    assert found == pytest.approx(same, rel=1e-9, abs=1e-9)
    assert found.value == pytest.approx(0.6, abs=0.02)
    for power in (-900, 900):  # of the weight, too
        other = directions_of(samples, samples).alignment(weight * 2.0**power, 1)
        assert other == pytest.approx(same, rel=1e-9, abs=1e-9)


def test_a_small_batch_before_or_after_a_large_one() -> None:
    samples = integers(128, 12)
    weight = integers(7, 12, seed=1)

    def streamed(*exponents: int) -> StreamedAlignment:
        state = InputDirections(12)
        for exponent in exponents:
            state.update(samples * 2.0**exponent, sample_keys(samples))
        return state.alignment(weight)

    zeros = InputDirections(12)
    for batch in (torch.zeros_like(samples), samples * 2.0**-900):
        zeros.update(batch, sample_keys(samples))
    alone = streamed(0)
    assert zeros.alignment(weight)[:2] == pytest.approx(alone[:2], abs=1e-9)
    for exponents in ((-1000, 900), (900, -1000), (-60, 0), (0, -60)):
        assert streamed(*exponents)[:2] == pytest.approx(alone[:2], abs=1e-9)
    assert streamed(0, 0)[:2] == pytest.approx(alone[:2], abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_rows_of_norm_thirty(dtype: torch.dtype) -> None:
    rows = torch.randn(500, 40, generator=torch.Generator().manual_seed(0)).double()
    rows = (30 * rows / rows.norm(dim=1, keepdim=True)).to(dtype)
    weight = integers(9, 40)
    assert directions_of(rows, rows).alignment(weight) == pytest.approx(
        directions_of(rows.double(), rows).alignment(weight), abs=1e-9
    )


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_rows_that_are_not_finite_are_told(bad: float) -> None:
    rows = torch.ones(4, 3).half()
    state = InputDirections(3)
    rows[2, 1] = bad
    with pytest.raises(ValueError, match=r"rows.*NaN"):
        state.update(rows, sample_keys(rows))


LABELS = torch.arange(400) % 4


def collapsed(seed: int = 0, largest: int = 3) -> Tensor:
    """Features of 4 classes: means far apart, and noise."""
    means = integers(4, 10, seed=9, largest=40)
    return means[LABELS] + integers(400, 10, seed=seed, largest=largest)


def class_statistics(features: Tensor) -> ClassStatistics:
    state = ClassStatistics(features.shape[1], 4)
    for batch, labels in zip(features.split(90), LABELS.split(90), strict=True):
        state.update(batch, labels)
    return state


def gram_numbers(h: Tensor) -> Any:
    gram = Gram(h.shape[1])
    for batch in h.split(90):
        gram.update(batch)
    found = gram.spectrum()
    return [*found.rank_curve().tolist(), float(found.stable_rank()), float(found.effective_rank())]


def collapse_numbers(h: Tensor) -> Any:
    statistics = class_statistics(h)
    agreement = nearest_centre_agreement(h, LABELS, statistics.means)
    return [*neural_collapse(statistics, integers(4, 10, seed=3)), agreement]


def moments_numbers(h: Tensor) -> Any:
    moments = Moments(h.shape[1])
    for batch in h.split(90):
        moments.update(batch)
    scatter = moments.total_scatter
    return (scatter / scatter.trace()).flatten().tolist()


def neco_numbers(h: Tensor) -> Any:
    statistics = class_statistics(h)
    logits = integers(400, 4, seed=4)
    found = [fit_neco(statistics, name).scores(h, logits)[:50] for name in VARIANTS
             if not (VARIANTS[name].standardised and VARIANTS[name].raw_denominator)]  # fmt: skip
    return torch.cat(found).tolist()


def probe_numbers(h: Tensor) -> Any:
    probe = fit_probe(h, LABELS, 4, dtype=torch.float64, tolerance=1e-8)
    return [probe.loss, *predict(probe, h).tolist()]


def ortho_numbers(h: Tensor) -> Any:
    return [ortho_dev(class_statistics(h).means, h[:50].double().mean(dim=0))]


FEATURES: dict[str, Callable[[Tensor], Any]] = {
    "gram": gram_numbers,
    "neural collapse": collapse_numbers,
    "moments": moments_numbers,
    "neco": neco_numbers,
    "probe": probe_numbers,
    "ortho-dev": ortho_numbers,
}


@scales
@pytest.mark.parametrize("name", FEATURES)
def test_measures_of_features(name: str, dtype: torch.dtype, exponent: int) -> None:
    h = collapsed()
    h = h.clamp(-63, 63)
    found, expected = FEATURES[name](scaled(h, dtype, exponent)), FEATURES[name](h)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@scales
def test_measures_of_logits(dtype: torch.dtype, exponent: int) -> None:
    logits, T = integers(400, 4), 8.0 * 2.0**exponent

    def measures(values: Tensor, temperature: float) -> Any:
        state = LogitsStatistics(4, temperature)
        state.update(values)
        found = state.measures().record()
        found["logits_norm"] /= temperature
        found["singular_values"] = [value / temperature for value in found["singular_values"]]
        fitted = temperature_scaling(values, LABELS, temperature)
        best = fit_temperature(values, LABELS) / temperature
        ends = [T / temperature for T in fitted.temperatures]
        return list(flat(found)), [*fitted.before, *fitted.after, *ends, best]

    for found, expected in zip(
        measures(scaled(logits, dtype, exponent), T), measures(logits, 8.0), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-9)


def flat(record: Any) -> Any:
    if isinstance(record, (dict, list)):
        for value in record.values() if isinstance(record, dict) else record:
            yield from flat(value)
    else:
        yield record


@scales
@pytest.mark.parametrize("name", [n for n in detectors() if n != "neco-swin"])
def test_order_of_detection_scores(name: str, dtype: torch.dtype, exponent: int) -> None:
    """Scores are those of unscaled features, up to the single precision of packages.

    By its definition "swin" changes with the scale: standardised over raw.
    """

    def scores(values: Tensor) -> Tensor:
        shape = values.double() / values.double().abs().max()
        logits = shape @ integers(4, 10, seed=5).mT
        known = KnownData(values, LABELS, class_statistics(values), None, None, 1.0)
        if name == "vim":
            size = float(values.double().abs().max())
            known = KnownData(
                values, LABELS, known.statistics, integers(4, 10, seed=5) / size, None, 1.0
            )
        found = fit_detector(name, known)(values, logits)
        return found / found.abs().max()

    h = collapsed(largest=20).clamp(-63, 63)
    found, expected = scores(scaled(h, dtype, exponent)), scores(h)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert len(expected.unique()) > 100


@scales
@pytest.mark.parametrize(("shape", "last"), [((2, 32, 5), True), ((2, 3, 32, 32), False),
                                             ((2, 3, 6, 6), False), ((2, 6, 6, 3), True)])  # fmt: skip
def test_averages_of_maps_and_tokens(
    shape: tuple[int, ...], last: bool, dtype: torch.dtype, exponent: int
) -> None:
    maps = 48 + integers(*shape, largest=15)  # sums leave the format at the largest scales
    found = pool_features(scaled(maps, dtype, exponent), 2, last)
    expected = pool_features(maps, 2, last)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    eps = torch.finfo(found.dtype).eps
    torch.testing.assert_close(found.double() / 2.0**exponent, expected, rtol=4 * eps, atol=0)
