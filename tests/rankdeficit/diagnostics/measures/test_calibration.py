"""Calibration by hand, against torchmetrics and scikit-learn, and the temperature that mends it."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from rankdeficit.diagnostics.measures.calibration import (
    calibration,
    temperature_scaling,
    vector_scaling,
)
from rankdeficit.diagnostics.measures.scaling import fit_temperature, temperature_limit

MEASURES = "rankdeficit.diagnostics.measures"
MODULES = [importlib.import_module(f"{MEASURES}.{name}") for name in ("calibration", "scaling")]


def sample(n: int, c: int, seed: int = 0, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, c, dtype=torch.float64, generator=generator)
    probabilities = torch.softmax(logits / temperature, dim=1)
    return logits, torch.multinomial(probabilities, 1, generator=generator).squeeze(1)


def test_by_hand() -> None:
    """Confidences 3/4 (right), 3/4 (wrong), 1/2 (a tie, whose first class is right)."""
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0], [4.0, 4.0]])
    found = calibration(logits, torch.tensor([0, 1, 0]), bins=2)
    assert found.nll == pytest.approx((math.log(4 / 3) + math.log(4) + math.log(2)) / 3, abs=1e-7)
    assert found.ece == pytest.approx((abs(1 - 1.5) + abs(1 - 0.5)) / 3, abs=1e-7)
    assert found.brier == pytest.approx((2 / 16 + 18 / 16 + 1 / 2) / 3, abs=1e-7)


def test_certain_and_uniform_predictions() -> None:
    labels = torch.arange(4)
    assert calibration(1e6 * torch.eye(4), labels) == (0, 0, 0, 0)
    wrong = calibration(1e6 * torch.eye(4), labels.flip(0))
    assert wrong == pytest.approx((1e6, 1, 2, 1))
    uniform = calibration(torch.full((4, 4), 7.0), labels)
    assert uniform == pytest.approx((math.log(4), 0, 3 / 4, 0), abs=1e-12)


@pytest.mark.parametrize("bins", [1, 10, 15])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 50.0])
@pytest.mark.parametrize(("n", "c"), [(500, 10), (60, 2)])
def test_agrees_with_torchmetrics_and_scikit_learn(
    n: int, c: int, temperature: float, bins: int
) -> None:
    logits, labels = sample(n, c)
    found = calibration(logits, labels, temperature, bins)
    probabilities = torch.softmax(logits / temperature, dim=1)
    error = multiclass_calibration_error(probabilities, labels, c, n_bins=bins, norm="l1")
    assert found.ece == pytest.approx(float(error), abs=1e-6)
    p, y = probabilities.numpy(), labels.numpy()
    assert found.nll == pytest.approx(log_loss(y, p, labels=range(c)), abs=1e-10)
    assert found.brier == pytest.approx(np.square(p - np.eye(c)[y]).sum(axis=1).mean(), abs=1e-12)


@given(
    st.integers(2, 30), st.integers(2, 6), st.integers(0, 99), st.floats(-4, 4), st.floats(-4, 4)
)
def test_what_changes_no_probability_changes_no_calibration(
    n: int, c: int, seed: int, log_scale: float, log_temperature: float
) -> None:
    logits, labels = sample(n, c, seed)
    T, s = 10.0**log_temperature, 10.0**log_scale
    plain = pytest.approx(calibration(logits, labels, T), rel=1e-6, abs=1e-9)
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    swap, order = (torch.randperm(size, generator=generator) for size in (c, n))
    assert tuple(calibration(s * logits, labels, s * T)) == plain
    assert tuple(calibration(logits + 1e-3 * T * shifts, labels, T)) == plain
    assert tuple(calibration(logits[:, swap.argsort()], swap[labels], T)) == plain
    assert tuple(calibration(logits[order], labels[order], T)) == plain


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(("n", "c"), [(300, 5), (200, 2)])
def test_the_fitted_temperature_minimises_the_likelihood_loss(
    n: int, c: int, temperature: float
) -> None:
    logits, labels = sample(n, c, seed=n, temperature=temperature)
    T = fit_temperature(logits, labels)

    def loss(log_beta: float) -> float:
        scaled = logits * math.exp(log_beta)
        return float(torch.nn.functional.cross_entropy(scaled, labels))

    best = minimize_scalar(loss, bounds=(-8, 5), method="bounded", options={"xatol": 1e-10})
    assert pytest.approx(math.exp(-best.x), rel=1e-5) == T
    assert calibration(logits, labels, T).nll <= best.fun + 1e-15


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_temperature_in_closed_form_is_found_at_every_scale(scale: float) -> None:
    """Logits (a, 0), right k times of n: p = k/n at T = a / ln(k / (n - k))."""
    logits = torch.tensor([[scale, 0.0]]).repeat(10, 1)
    for right in (6, 9):
        T = fit_temperature(logits, (torch.arange(10) >= right).long())
        exact = float(logits[0, 0].double()) / math.log(right / (10 - right))
        assert pytest.approx(exact, rel=1e-10) == T


@pytest.mark.parametrize("scale", [1e-6, 3.0, 1e6])
def test_scaled_logits_have_a_scaled_temperature(scale: float) -> None:
    logits, labels = sample(200, 7)
    T = fit_temperature(logits, labels)
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * T, rel=1e-9)
    moved = scale * (logits + 5 * torch.arange(200).double()[:, None])
    assert fit_temperature(moved, labels) == pytest.approx(scale * T, rel=1e-9)


def test_a_planted_temperature_is_recovered() -> None:
    logits, labels = sample(50_000, 10, temperature=7.0)
    assert fit_temperature(logits, labels) == pytest.approx(7, rel=0.03)


def optimum(logits: Tensor, labels: Tensor, scale: float) -> float:
    """SciPy's bounded minimum of the loss in extended precision, over T from scale / e^5 to scale e^5.

    Near the minimum the difference to the loss at the centre of the bounds is minimised: it resolves
    flat minima.
    """
    e = logits.double().numpy().astype(np.longdouble)
    e -= e[np.arange(len(e)), labels.numpy()][:, None]

    def loss(x: float) -> np.longdouble:
        return np.logaddexp.reduce(e * np.exp(np.longdouble(centre + x)), axis=1).sum()

    def difference(x: float) -> np.longdouble:
        beta = np.exp(np.longdouble(centre))
        p = np.exp(beta * (e - e.max(axis=1)[:, None]))
        p /= p.sum(axis=1)[:, None]
        growth = np.expm1(np.where(p > 0, beta * np.expm1(np.longdouble(x)) * e, 0))
        return np.log1p((p * growth).sum(axis=1)).sum()

    centre = -math.log(scale)
    for width, function in ((5, loss), (1e-2, difference), (1e-4, difference)):
        bounds, options = (-width, width), {"xatol": 1e-14}
        centre += minimize_scalar(function, bounds=bounds, method="bounded", options=options).x
    return math.exp(-centre)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("kind", ["plain", "masked", "many masked", "outlier", "one right outlier"])
def test_the_optimum_is_scipys_whatever_the_largest_logits(kind: str, scale: float) -> None:
    logits, labels = sample(400, 10, seed=3)
    logits = scale * logits
    if kind.endswith("masked"):
        masked = slice(0, 1 if kind == "masked" else 7)
        labels = labels[keep := labels >= masked.stop]
        logits = logits[keep]
        logits[:, masked] = -1e9 * scale
    elif kind == "outlier":  # large against every other logit, not its own sample's label
        logits[5, (int(labels[5]) + 1) % 10] = -1e4 * scale
    elif kind == "one right outlier":
        logits[5, labels[5]] = 1e4 * scale
    T = fit_temperature(logits, labels)
    assert pytest.approx(optimum(logits, labels, scale), rel=1e-8) == T
    assert 0.5 * scale < T < 2 * scale
    assert temperature_limit(logits, labels) is None


def test_the_optimum_of_random_logits_is_scipys() -> None:
    """Sizes, scales and temperatures at random; the fixed cases are below."""
    generator = torch.Generator().manual_seed(11)
    tried = 0
    for seed in range(40):
        n, c = (int(torch.randint(*ends, (), generator=generator)) for ends in ((20, 80), (2, 8)))
        log_scale, log_temperature = (4 * torch.rand(2, generator=generator) - 2).tolist()
        logits, labels = sample(n, c, seed, temperature=10.0 ** (log_temperature / 4))
        logits = 10.0**log_scale * logits
        if temperature_limit(logits, labels) is not None:
            continue
        T = fit_temperature(logits, labels)
        assert pytest.approx(optimum(logits, labels, T), rel=1e-8) == T
        tried += 1
    assert tried > 30


def test_masked_classes_and_certain_samples_change_no_temperature() -> None:
    """A column of -1e9 has probability 0, a sample right by 1e4 loss 0: neither has a slope."""
    logits, labels = sample(300, 6)
    T = fit_temperature(logits, labels)
    masked = torch.cat([logits, torch.full((300, 2), -1e9, dtype=torch.float64)], dim=1)
    assert fit_temperature(masked, labels) == pytest.approx(T, rel=1e-9)
    assert fit_temperature(masked.float(), labels) == pytest.approx(T, rel=1e-6)
    certain = torch.cat([logits, 1e4 * torch.eye(6, dtype=torch.float64)])
    more = torch.cat([labels, torch.arange(6)])
    assert fit_temperature(certain, more) == pytest.approx(T, rel=1e-9)


def test_an_optimum_far_from_the_scale_of_the_logits_is_found() -> None:
    """Two classes, half of the samples wrong by 1 and half right by 1 + 2 share, to first order."""
    gaps = torch.ones(100, dtype=torch.float64)
    for share in (1e-4, 1e-7):  # beta is 2 share in the limit
        gaps[:50], gaps[50:] = 1 + 2 * share, -1
        T = fit_temperature(torch.stack([gaps, 0 * gaps], dim=1), torch.zeros(100).long())
        assert pytest.approx(1 / (2 * share), rel=5 * share**0.5) == T


def test_data_that_decides_no_temperature_gives_the_bounds() -> None:
    logits, _ = sample(100, 4)
    top = logits.topk(2, dim=1).values
    gap = float((top[:, 0] - top[:, 1]).median())
    reach = float((logits.amax(dim=1) - logits.amin(dim=1)).max())
    right, wrong = logits.argmax(dim=1), logits.argmin(dim=1)
    for scale in (1e-6, 1.0, 1e6):
        assert fit_temperature(scale * logits, right) == pytest.approx(scale * gap / 1e4)
        assert fit_temperature(scale * logits, wrong) == pytest.approx(scale * reach * 1e4)
        assert temperature_limit(scale * logits, right) == "zero"
        assert temperature_limit(scale * logits, wrong) == "infinity"
    assert temperature_scaling(logits, right).limits == ("zero", "zero")
    assert temperature_scaling(logits, wrong).limits == ("infinity", "infinity")
    assert fit_temperature(torch.ones(3, 4), torch.tensor([0, 1, 2])) == 1
    assert temperature_limit(torch.ones(3, 4), torch.tensor([0, 1, 2])) is None
    masked = torch.cat([logits, torch.full((100, 1), -1e9, dtype=torch.float64)], dim=1)
    assert fit_temperature(masked, right) == pytest.approx(gap / 1e4)
    balanced = torch.tensor([[0.1, 0.7, 0.3]]).repeat(3, 1)  # slope 0 at infinite T, up to rounding
    assert temperature_limit(balanced, torch.arange(3)) == "infinity"


def test_nearly_separable_data() -> None:
    """One mistake by a margin of 1e-3 among gaps of 1: in closed form for two classes."""
    gaps = torch.ones(1000, dtype=torch.float64)
    gaps[0] = -1e-3
    T = fit_temperature(torch.stack([gaps, torch.zeros(1000)], dim=1), torch.zeros(1000).long())
    # Slope zero: 999 / (1 + exp(beta)) = 1e-3 / (1 + exp(-1e-3 beta)).
    slope = 999 / (1 + math.exp(1 / T)) - 1e-3 / (1 + math.exp(-1e-3 / T))
    assert slope == pytest.approx(0, abs=1e-11)


def test_temperature_scaling_uses_the_other_half() -> None:
    """Overconfident in one half of the samples, found with the very permutation, not in the other."""
    logits, labels = sample(400, 5, temperature=3.0)
    found = temperature_scaling(logits, labels, temperature=0.5, seed=4)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(4))
    first, second = order[:200], order[200:]
    on_first, on_second = found.temperatures
    assert on_first == pytest.approx(fit_temperature(logits[second], labels[second]), rel=1e-9)
    assert on_second == pytest.approx(fit_temperature(logits[first], labels[first]), rel=1e-9)
    scaled = logits.clone()
    scaled[first] /= on_first
    scaled[second] /= on_second
    assert torch.equal(scaled.argmax(dim=1), logits.argmax(dim=1))
    assert found.before == calibration(logits, labels, 0.5)
    assert found.after == pytest.approx(calibration(scaled, labels), rel=1e-9)
    assert found.after.nll < found.before.nll
    assert found.after.ece < found.before.ece
    assert temperature_scaling(logits, labels, seed=5).temperatures != found.temperatures


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logits, labels = sample(100, 5)
    stored = np.memmap(tmp_path / "logits", dtype=np.float32, mode="w+", shape=(100, 5))
    stored[:] = logits.numpy()
    mapped = torch.from_numpy(stored)
    whole = temperature_scaling(mapped, labels)
    by_class = vector_scaling(mapped, labels)
    for module in MODULES:
        monkeypatch.setattr(module, "ROWS", 7)
    found = temperature_scaling(mapped, labels)
    assert by_class is not None
    assert vector_scaling(mapped, labels).after == pytest.approx(by_class.after, rel=1e-7)
    assert found.temperatures == pytest.approx(whole.temperatures, rel=1e-10)
    assert found.before == pytest.approx(whole.before, rel=1e-12)
    assert found.after == pytest.approx(whole.after, rel=1e-9)
    assert np.array_equal(stored, logits.float().numpy())


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    logits, labels = sample(10, 3)
    for arguments, match in (
        ((logits, labels[:4]), "labels have shape"),
        ((logits, labels.float()), r"10 class indices \(torch.int64\)"),
        ((logits, labels + 3), r"0\.\.2"),
        ((logits * math.nan, labels), "NaN"),
        ((logits.long(), labels), "dtype"),
        ((torch.where(logits > 0, logits, -math.inf), labels), "-1e9"),
    ):
        for function in (calibration, fit_temperature, temperature_scaling, vector_scaling):
            with pytest.raises(ValueError, match=match):
                function(*arguments)
    for settings, match in (((0.0,), "temperature is 0"), ((1.0, 0), "bins is 0")):
        for function in (calibration, temperature_scaling):
            with pytest.raises(ValueError, match=match):
                function(logits, labels, *settings)
    with pytest.raises(ValueError, match=r"samples.* 1.* 2"):
        temperature_scaling(logits[:1], labels[:1])
