"""Reliability by bins, against cases that are computed by hand and the calibration error."""

import math

import pytest
import torch

import rankdeficit as rd
from rankdeficit.diagnostics import calibration
from rankdeficit.diagnostics.measures.correctness import counts, pack, unpack
from rankdeficit.diagnostics.measures.reliability import draw, reliability
from rankdeficit.diagnostics.report.verdicts import expected_error
from tests.rankdeficit.diagnostics.diagnose.problems import small_problem


def test_bins_by_hand() -> None:
    """Two classes: logits (0, ln 2) have confidence 2/3, which T = 2 turns into sqrt 2 / (1 + sqrt 2)."""
    logits = torch.tensor([[0.0, math.log(2)]] * 3 + [[0.0, math.log(99)]], dtype=torch.float64)
    found = reliability(logits, torch.tensor([1, 1, 0, 1]), bins=4)
    assert found.counts == [0, 0, 3, 1]
    assert found.confidences == pytest.approx([None, None, 2 / 3, 0.99])
    assert found.accuracies == pytest.approx([None, None, 2 / 3, 1.0])
    warm = reliability(logits[:1], torch.tensor([1]), temperature=2.0, bins=1)
    assert warm.confidences == pytest.approx([math.sqrt(2) / (1 + math.sqrt(2))])


def test_the_bins_are_those_of_the_calibration_error() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 7, generator=generator)
    labels = torch.randint(7, (500,), generator=generator)
    found = reliability(logits, labels, temperature=1.5)
    gaps = [
        n * abs(a - q)
        for n, q, a in zip(found.counts, found.confidences, found.accuracies, strict=True)
        if q is not None and a is not None
    ]
    assert sum(gaps) / 500 == pytest.approx(calibration(logits, labels, 1.5).ece, abs=1e-12)


def test_reliability_after_temperature_scaling_stands_beside_that_before() -> None:
    model, train, test = small_problem()
    report = rd.diagnose(
        model, train, test, temperature=0.05, measures=["calibration", "reliability"]
    )
    n = report["test.samples"]
    for own, when in ((report["reliability"], "before"), (report["reliability.after"], "after")):
        bins = zip(own["counts"], own["confidences"], own["accuracies"], strict=True)
        error = sum(count * abs(a - q) for count, q, a in bins if count) / n
        assert error == pytest.approx(report["calibration"][when]["ece"], abs=1e-12)
    figure = draw(report.record)
    assert figure is not None
    titled = [axes for axes in figure.axes if axes.get_title()]
    for axes, own in zip(titled, (report["reliability"], report["reliability.after"]), strict=True):
        drawn = axes.lines[0].get_xdata()
        assert list(drawn) == [q for q in own["confidences"] if q is not None]


def test_the_error_of_calibrated_predictions_by_sampling_alone() -> None:
    """One bin of n samples of confidence 1/2: E|share - 1/2| = sqrt(2 / pi) / (2 sqrt n), nearly."""
    n = 400
    draws = torch.distributions.Binomial(n, torch.tensor(0.5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean = float((draws.sample((20_000,)) / n - 0.5).abs().mean())
    assert expected_error([n, 0], [0.5, None]) == pytest.approx(mean, rel=0.02)
    assert expected_error([n], [1.0]) == 0


def test_bits_come_back_and_pair_only_the_same_samples() -> None:
    first = torch.tensor([True, True, False, False, True, False, True, True, True])
    second = torch.tensor([True, False, True, True, True, False, True, True, False])
    rows = [
        {"correctness": {"samples": "same", "bits": pack(own.numpy())}, "test": {"samples": 9}}
        for own in (first, second)
    ]
    assert unpack(pack(first.numpy()), 9).tolist() == first.tolist()
    assert counts(*rows) == (2, 2)
    rows[1]["correctness"]["samples"] = "others"
    assert counts(*rows) is None
    assert counts(rows[0], {"test": {"samples": 9}}) is None
    with pytest.raises(ValueError, match="16 bits for 17 samples"):
        unpack(pack(first.numpy()), 17)
