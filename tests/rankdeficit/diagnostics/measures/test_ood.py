"""Detectors against their formulas in numpy, and where single precision or a softmax would fail."""

import importlib
import importlib.util
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from rankdeficit.diagnostics import detection
from rankdeficit.diagnostics.measures.neco import VARIANTS, fit_neco
from rankdeficit.diagnostics.measures.ood import (
    KnownData,
    detectors,
    fit_detector,
    missing_packages,
)
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics

MODULE = importlib.import_module("rankdeficit.diagnostics.measures.ood")
CLASSES, WIDTH = 5, 12
NAMES = [
    *(f"neco-{name}" for name in VARIANTS),
    *"msp max-logit energy mahalanobis vim knn".split(),
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


WEIGHT, BIAS = normal(CLASSES, WIDTH, seed=1), 0.3 * normal(CLASSES, seed=2)
"""Class means are the rows of the weight: OOD features orthogonal to them have small logits."""


def known_data(
    n: int = 300, noise: float = 0.3, temperature: float = 2.0, seen: int = CLASSES
) -> KnownData:
    labels = torch.arange(n) % seen
    features = WEIGHT[labels] + noise * normal(n, WIDTH, seed=3)
    return with_statistics(features, labels, WEIGHT, BIAS, temperature)


def with_statistics(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, temperature: float
) -> KnownData:
    statistics = ClassStatistics(features.shape[1], len(weight))
    statistics.update(features, labels)
    return KnownData(features, labels, statistics, weight, bias, temperature)


def samples(n: int = 90, seed: int = 4) -> tuple[Tensor, Tensor]:
    """ID in the first half, nearly orthogonal to the class means in the second; with their logits."""
    orthogonal = torch.linalg.qr(torch.cat([WEIGHT, normal(WIDTH - CLASSES, WIDTH)]).mT)[0]
    h = WEIGHT[torch.arange(n) % CLASSES] + 0.3 * normal(n, WIDTH, seed=seed)
    strange = 3 * normal(n, WIDTH - CLASSES, seed=seed + 1) @ orthogonal[:, CLASSES:].mT
    strange += 0.1 * normal(n, WIDTH, seed=seed + 2)
    h = torch.where((torch.arange(n) < n // 2)[:, None], h, strange)
    return h, h @ WEIGHT.mT + BIAS


def detected(name: str, known: KnownData, h: Tensor, logits: Tensor) -> list[float]:
    scores = fit_detector(name, known)(h, logits)
    assert scores.dtype == torch.float64
    return list(detection(*scores.tensor_split(2)))


def test_all_detectors_are_listed() -> None:
    assert set(detectors()) == set(NAMES)
    assert len(detectors()) == len(NAMES)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_neco_is_that_of_the_statistics(name: str) -> None:
    known, (h, logits) = known_data(), samples()
    expected = fit_neco(known.statistics, name).scores(h, logits)
    assert torch.equal(fit_detector(f"neco-{name}", known)(h, logits), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 40.0])
def test_detectors_of_logits_by_their_formulas(temperature: float) -> None:
    known, (h, logits) = known_data(temperature=temperature), samples()
    e = logits.numpy() / temperature
    largest = np.sort(np.exp(e) / np.exp(e).sum(axis=1, keepdims=True), axis=1)
    expected = {
        "msp": np.log(largest[:, :-1].sum(axis=1) / largest[:, -1]),
        "max-logit": -logits.numpy().max(axis=1),
        "energy": -temperature * logsumexp(e, axis=1),
    }
    for name, scores in expected.items():
        found = fit_detector(name, known)(h, logits).numpy()
        np.testing.assert_allclose(found, scores, rtol=1e-9, atol=1e-12)


def test_msp_orders_as_the_probability_and_keeps_the_order_where_that_rounds_to_one() -> None:
    from pytorch_ood.detector import MaxSoftmax

    known, (h, logits) = known_data(temperature=2.0), samples()
    ours = fit_detector("msp", known)(h, logits)
    assert torch.equal(ours.argsort(), MaxSoftmax.score(logits, t=2.0).argsort())
    second_less_first = logits.topk(2, dim=1).values.diff(dim=1).squeeze(1)
    steep = detected("msp", known, h, 1e6 * logits)
    assert steep == list(detection(*second_less_first.tensor_split(2)))
    assert detection(*MaxSoftmax.score(1e6 * logits).tensor_split(2)).auroc == 0.5


@pytest.mark.parametrize("seen", [CLASSES, 3])
def test_mahalanobis_by_its_formula(seen: int) -> None:
    from pytorch_ood.detector import Mahalanobis

    known, (h, logits) = known_data(seen=seen), samples()
    features, labels = known.features.numpy(), known.labels.numpy()
    means = np.stack([features[labels == k].mean(axis=0) for k in range(seen)])
    scatter = (features - means[labels]).T @ (features - means[labels])
    ridge = 1e-6 * np.square(features).sum(axis=1).mean()
    steps = h.numpy()[:, None] - means
    precision = np.linalg.inv(scatter + ridge * np.eye(WIDTH))
    expected = 0.5 * np.einsum("nki,ij,nkj->nk", steps, precision, steps).min(axis=1)
    found = fit_detector("mahalanobis", known)(h, logits)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    theirs = Mahalanobis(None).fit_features(known.features, known.labels)
    np.testing.assert_allclose(theirs.predict_features(h.float()), expected, rtol=1e-3)


@pytest.mark.parametrize("bias", [BIAS, None])
def test_vim_by_its_formula(bias: Tensor | None) -> None:
    known, (h, _) = replace(known_data(temperature=2.0), bias=bias), samples()
    W, b = WEIGHT.numpy() / 2, (np.zeros(CLASSES) if bias is None else bias.numpy()) / 2
    origin = -np.linalg.pinv(W) @ b
    train, x = known.features.numpy(), h.numpy()
    residual = np.linalg.eigh((train - origin).T @ (train - origin))[1][:, : WIDTH - WIDTH // 2]
    alpha = (train @ W.T + b).max(axis=1).mean()
    alpha /= np.linalg.norm((train - origin) @ residual, axis=1).mean()
    expected = alpha * np.linalg.norm((x - origin) @ residual, axis=1)
    expected -= logsumexp(x @ W.T + b, axis=1)
    found = fit_detector("vim", known)(h, torch.zeros(len(h), CLASSES))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n", [300, 50])
def test_knn_by_its_formula(n: int) -> None:
    known, (h, logits) = known_data(n=n), samples()
    train, x = (v / v.norm(dim=1, keepdim=True) for v in (known.features, h))
    distances = (x[:, None] - train).norm(dim=2).sort(dim=1).values
    found = fit_detector("knn", known)(h, logits)
    torch.testing.assert_close(found, distances[:, 49], rtol=1e-9, atol=1e-9)
    single = fit_detector("knn", replace(known, features=known.features.bfloat16()))
    torch.testing.assert_close(single(h, logits), found, rtol=0.02, atol=0.02)


def test_knn_needs_as_many_samples_as_neighbours() -> None:
    with pytest.raises(ValueError, match="49 samples"):
        fit_detector("knn", known_data(n=49))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e19, 1e-15])
@pytest.mark.parametrize("name", ["knn", "mahalanobis", "vim"])
def test_scores_of_packages_do_not_depend_on_units(
    name: str, scale: float, dtype: torch.dtype
) -> None:
    known, (h, logits) = known_data(), samples()
    expected = fit_detector(name, known)(h, logits)
    scaled = with_statistics(
        (scale * known.features).to(dtype), known.labels, WEIGHT / scale, BIAS, known.temperature
    )
    found = fit_detector(name, scaled)((scale * h).to(dtype), logits)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("smallest", [0.3, 1e-2, 1e-4, 1e-5, 3e-6, 1e-9, 0.0])
def test_vim_is_that_of_double_precision_or_left_out(smallest: float) -> None:
    """Singular values below the rank threshold of float32 are dropped alike in both precisions."""
    U, _, V = torch.linalg.svd(WEIGHT, full_matrices=False)
    W = U @ torch.diag(torch.tensor([5.0, 4, 3, 2, smallest], dtype=torch.float64)) @ V
    known, (h, _) = replace(known_data(temperature=1.0), weight=W), samples()
    refused = 5e-6 < smallest < 1e-3
    if refused:
        with pytest.raises(ValueError, match="conditioned"):
            fit_detector("vim", known)
        return
    inverse = np.linalg.pinv(W.numpy(), rcond=1e-6)
    origin = -inverse @ BIAS.numpy()
    train, x = known.features.numpy() - origin, h.numpy() - origin
    residual = np.linalg.eigh(train.T @ train)[1][:, : WIDTH - WIDTH // 2]
    logits = known.features.numpy() @ W.mT.numpy() + BIAS.numpy()
    alpha = logits.max(axis=1).mean() / np.linalg.norm(train @ residual, axis=1).mean()
    expected = alpha * np.linalg.norm(x @ residual, axis=1)
    expected -= logsumexp(h.numpy() @ W.mT.numpy() + BIAS.numpy(), axis=1)
    found = fit_detector("vim", known)(h, torch.zeros(len(h), CLASSES))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_ood_features_orthogonal_to_the_class_means_are_detected(name: str) -> None:
    assert detected(name, known_data(), *samples())[0] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_order_and_batches_of_samples_do_not_matter(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, (h, logits) = fit_detector(name, known_data()), samples()
    whole = detector(h, logits)
    order = torch.randperm(len(h), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(MODULE, "ROWS", 13)
    torch.testing.assert_close(
        detector(h[order], logits[order]), whole[order], rtol=1e-5, atol=1e-5
    )
    first, second = detector(h[:1], logits[:1]), detector(h[1:], logits[1:])
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_logits_scaled_with_the_temperature_are_detected_alike(name: str, scale: float) -> None:
    known, (h, logits) = known_data(), samples()
    scaled = replace(
        known, weight=scale * WEIGHT, bias=scale * BIAS, temperature=scale * known.temperature
    )
    expected = pytest.approx(detected(name, known, h, logits), abs=1e-3)
    assert detected(name, scaled, h, scale * logits) == expected


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", NAMES)
def test_features_of_any_scale_are_detected_alike(name: str, scale: float) -> None:
    """The weight is scaled the other way, so that the logits are the same."""
    known, (h, logits) = known_data(), samples()
    scaled = with_statistics(
        scale * known.features, known.labels, WEIGHT / scale, BIAS, known.temperature
    )
    expected = pytest.approx(detected(name, known, h, logits), abs=1e-3)
    assert detected(name, scaled, scale * h, logits) == expected


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_a_million_do_not_saturate(name: str) -> None:
    """At T = 1, where every probability rounds to 0 or 1."""
    known, (h, logits) = known_data(temperature=1.0), samples()
    steep = replace(known, weight=1e6 * WEIGHT, bias=1e6 * BIAS)
    found = detected(name, steep, h, 1e6 * logits)
    assert found == pytest.approx(detected(name, known, h, logits), abs=0.1)
    assert found[0] > 0.9


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-5])
@pytest.mark.parametrize("name", NAMES)
def test_collapsed_features_give_finite_scores(name: str, noise: float) -> None:
    """Within-class scatter singular or nearly so, and class means of rank 2."""
    codes = torch.zeros(CLASSES, WIDTH, dtype=torch.float64)
    angles = 2 * math.pi * torch.arange(CLASSES) / CLASSES
    codes[:, 0], codes[:, 1] = angles.cos(), angles.sin()
    labels = torch.arange(300) % CLASSES
    known = codes[labels] + noise * normal(300, WIDTH, seed=3)
    h = torch.cat([codes[labels[:50]] + noise * normal(50, WIDTH, seed=4), samples(50)[0]])
    data = with_statistics(known, labels, codes, torch.zeros(CLASSES).double(), 1.0)
    if name == "vim" and noise < 1e-6:  # in float32 what is outside the plane is rounding
        with pytest.raises(ValueError, match=" 6 principal"):
            fit_detector(name, data)
        return
    scores = fit_detector(name, data)(h, h @ codes.mT)
    assert bool(scores.isfinite().all())
    if name in ("mahalanobis", "knn", "neco-equation"):
        assert detection(*scores.tensor_split(2)).auroc == 1


def test_unknown_names_and_missing_packages_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = known_data()
    with pytest.raises(ValueError, match=r"detector.*'neco-resnt'.*neco-resnet"):
        fit_detector("neco-resnt", known)
    with pytest.raises(ValueError, match=r"'mahalonobis'.*mahalanobis"):
        missing_packages("mahalonobis")
    assert not any(missing_packages(name) for name in NAMES)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_packages("knn") == ("pytorch_ood", "sklearn")
    for name in NAMES:
        if name.startswith("neco") or name == "msp":
            fit_detector(name, known)
        else:
            with pytest.raises(ValueError, match=r'pytorch_ood.*pip install "rankdeficit\[ood\]"'):
                fit_detector(name, known)


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    known, (h, logits) = known_data(), samples()
    for changes, match in (
        ({"features": h}, "statistics.* 300 .*width 12.* 90 features"),
        ({"labels": known.labels[:3]}, r"labels.*\(3,\).*\(300,\)"),
        ({"weight": WEIGHT.mT}, r"weight.*\(12, 5\).*\(5, 12\)"),
        ({"bias": BIAS[:2]}, r"bias.*\(2,\).*\(5,\)"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"weight": None}, "ViM.*linear"),
    ):
        with pytest.raises(ValueError, match=match):
            fit_detector("vim", replace(known, **changes))
    detector = fit_detector("knn", known)
    for arguments, match in (
        ((h[:, :4], logits), r"\(n, 12\).*\(n, classes\)"),
        ((h, logits[:4]), "must be"),
        ((h, logits * math.nan), "logits has NaN"),
        ((SimpleNamespace(), logits), "features.*SimpleNamespace"),
    ):
        with pytest.raises(ValueError, match=match):
            detector(*arguments)
