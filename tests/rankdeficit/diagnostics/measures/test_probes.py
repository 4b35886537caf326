"""Probes against closed forms, scikit-learn and autograd; what they may not depend on; planted depth."""

import math
from pathlib import Path

import pytest
import torch
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from rankdeficit import constructions
from rankdeficit.diagnostics.measures import logistic, probes
from rankdeficit.diagnostics.measures.depth import effective_depth
from rankdeficit.diagnostics.measures.probes import Probe, fit_probe, fit_probe_path, predict

TIGHT = {"dtype": torch.float64, "tolerance": 1e-9}


def labelled(
    n: int, features: int, classes: int, *, spread: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Overlapping classes in correlated features of unlike scales."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    labels[: min(n, classes)] = torch.arange(min(n, classes))
    means = torch.randn(classes, features, dtype=torch.float64, generator=generator)
    noise = torch.randn(n, features, dtype=torch.float64, generator=generator)
    mixing = torch.randn(features, features, dtype=torch.float64, generator=generator)
    return (means[labels] + spread * noise) @ mixing * torch.logspace(-2, 2, features), labels


def accuracy(probe: Probe, features: Tensor, labels: Tensor) -> float:
    return float((predict(probe, features) == labels).double().mean())


def scikit_learn(features: Tensor, labels: Tensor) -> tuple[StandardScaler, LogisticRegression]:
    scaler = StandardScaler().fit(features.numpy())
    model = LogisticRegression(C=1.0, tol=1e-10, max_iter=20_000)
    return scaler, model.fit(scaler.transform(features.numpy()), labels.numpy())


def objective(probe: Probe, features: Tensor, labels: Tensor) -> tuple[float, float]:
    """The loss and its gradient's norm as autograd finds them."""
    inputs = (features.double() - features.double().mean(dim=0)) / probe.scale
    weight, bias = (value.double().requires_grad_() for value in (probe.weight, probe.bias))
    loss = torch.nn.functional.cross_entropy(inputs @ weight.mT + bias, labels)
    loss = loss + probe.l2 / 2 * weight.square().sum()
    gradients = torch.autograd.grad(loss, (weight, bias))
    return float(loss.detach()), math.sqrt(sum(float(value.square().sum()) for value in gradients))


def with_awkward_features(features: Tensor) -> Tensor:
    """Duplicates, a constant, and one far from zero."""
    constant = torch.full_like(features[:, :1], 0.1)
    return torch.cat([features, features[:, :2], constant, features[:, 2:3] + 1e6], dim=1)


@pytest.mark.parametrize("l2", [1e-3, 1e-1, 10.0])
def test_two_points_in_closed_form(l2: float) -> None:
    """At h = -1, 1 the loss is log(1 + exp(-2 w)) + l2 w^2 with the rows -w and w."""
    features = torch.tensor([[-3.0], [5.0]], dtype=torch.float64).repeat(4, 1)
    labels = torch.tensor([0, 1]).repeat(4)
    probe = fit_probe(features, labels, 2, l2=l2, **TIGHT)
    w = brentq(lambda w: l2 * w - 1 / (1 + math.exp(2 * w)), 0, 300, xtol=1e-14)
    torch.testing.assert_close(probe.weight.flatten(), w * torch.tensor([-1.0, 1.0]).double())
    torch.testing.assert_close(probe.bias, torch.zeros(2).double(), atol=1e-9, rtol=0)
    assert (probe.mean.item(), probe.scale.item()) == (1, 4)
    assert probe.loss == pytest.approx(math.log1p(math.exp(-2 * w)) + l2 * w**2, rel=1e-12)


def test_constant_features_leave_the_frequencies_of_the_classes() -> None:
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 2)
    probe = fit_probe(torch.full((10, 4), 0.1), labels, 3, **TIGHT)
    frequencies = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    assert not probe.weight.any()
    torch.testing.assert_close(probe.bias.softmax(dim=0), frequencies)
    assert probe.loss == pytest.approx(float(torch.special.entr(frequencies).sum()))
    assert predict(probe, torch.randn(7, 4)).tolist() == [0] * 7


def test_features_that_were_constant_in_training_do_not_count() -> None:
    h, labels = labelled(301, 5, 3)
    constant = torch.tensor([0.1, 1 / 3, math.pi, 1e6 / 7, -1e-7], dtype=torch.float64).expand(
        301, 5
    )
    probe = fit_probe(torch.cat([h, constant], dim=1), labels, 3, **TIGHT)
    assert not probe.weight[:, 5:].any()
    assert probe.scale[5:].tolist() == [1] * 5
    expected = predict(fit_probe(h, labels, 3, **TIGHT), h)
    assert torch.equal(predict(probe, torch.cat([h, 1e9 * h], dim=1)), expected)


@pytest.mark.parametrize(
    ("n", "features", "classes"), [(400, 6, 3), (300, 20, 10), (60, 100, 4), (12, 5, 9)]
)
def test_agrees_with_scikit_learn(n: int, features: int, classes: int) -> None:
    h, labels = labelled(n, features, classes)
    fresh, truth = labelled(2_000, features, classes, seed=0)
    h, fresh = with_awkward_features(h), with_awkward_features(fresh)
    scaler, model = scikit_learn(h, labels)
    probe = fit_probe(h, labels, classes, **TIGHT)
    assert probe.converged
    torch.testing.assert_close(probe.weight, torch.tensor(model.coef_), rtol=0, atol=1e-4)
    bias = torch.tensor(model.intercept_)
    torch.testing.assert_close(
        probe.bias - probe.bias.mean(), bias - bias.mean(), rtol=0, atol=1e-4
    )
    expected = torch.tensor(model.predict(scaler.transform(fresh.numpy())))
    assert torch.equal(predict(probe, fresh), expected)
    single = fit_probe(h, labels, classes)
    assert single.converged
    assert single.weight.dtype == torch.float32
    assert abs(accuracy(single, fresh, truth) - (expected == truth).double().mean()) < 0.005


@pytest.mark.parametrize("max_iterations", [1, 3, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_and_gradient_norm_are_those_of_autograd(
    dtype: torch.dtype, max_iterations: int
) -> None:
    h, labels = labelled(300, 8, 5)
    probe = fit_probe(h, labels, 5, max_iterations=max_iterations, dtype=dtype)
    loss, norm = objective(probe, h, labels)
    assert probe.loss == pytest.approx(loss, rel=1e-6)
    assert probe.gradient_norm == pytest.approx(norm, rel=1e-3, abs=1e-7)
    assert probe.converged == (probe.gradient_norm <= 1e-4) == (max_iterations == 1000)
    assert probe.iterations <= max_iterations


@pytest.mark.parametrize("tolerance", [1e-2, 1e-3, 1e-4])
def test_the_tolerance_bounds_the_distance_to_the_least_loss(tolerance: float) -> None:
    h, labels = labelled(300, 8, 5, spread=0.5)
    least = fit_probe(h, labels, 5, **TIGHT).loss
    probe = fit_probe(h, labels, 5, dtype=torch.float64, tolerance=tolerance)
    assert probe.converged
    assert 0 <= probe.loss - least <= tolerance**2 / (2 * probe.l2)


def test_a_tolerance_below_rounding_is_not_claimed() -> None:
    h, labels = labelled(300, 8, 5)
    for dtype, floor in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        probe = fit_probe(h, labels, 5, dtype=dtype, tolerance=1e-30)
        assert not probe.converged
        assert 0 < probe.gradient_norm < floor


def ill_conditioned(h: Tensor) -> Tensor:
    """Singular values from 1 to 1e-6, seen from random directions."""
    width = h.shape[1]
    rotation = torch.linalg.qr(labelled(width, width, 2, seed=9)[0])[0]
    return torch.linalg.qr(h)[0] * torch.logspace(0, -6, width) @ rotation.mT


def on_a_circle(labels: Tensor, width: int) -> Tensor:
    """Class means of rank 2 in little noise, the representations that high temperatures leave."""
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(2, width, dtype=torch.float64, generator=generator)
    noise = torch.randn(len(labels), width, dtype=torch.float64, generator=generator)
    return constructions.circle(10).directions[labels] @ plane + 0.05 * noise


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["collinear", "duplicates", "collapsed", "circle", "wide"])
def test_degenerate_features_converge_in_few_iterations(case: str, dtype: torch.dtype) -> None:
    h, labels = labelled(600, 40, 10)
    if case == "collinear":
        h = ill_conditioned(h)
    elif case == "duplicates":
        h = h.repeat(1, 4)
    elif case == "collapsed":
        h = h[:10][labels]
    elif case == "circle":
        h = on_a_circle(labels, 40)
    else:
        h, labels = labelled(50, 300, 10)
    probe = fit_probe(h, labels, 10, dtype=dtype, tolerance=1e-6)
    assert probe.converged
    assert probe.iterations <= (160 if case == "circle" else 80)
    if case in ("collapsed", "wide"):
        assert accuracy(probe, h, labels) == 1


@pytest.mark.parametrize("l2", [1e-6, 1e-10])
@pytest.mark.parametrize("case", ["collinear", "duplicates", "collapsed"])
def test_penalties_below_rounding_do_no_harm(case: str, l2: float) -> None:
    h, labels = labelled(600, 400, 10)
    h = {
        "collinear": ill_conditioned(h),
        "duplicates": h[:, :50].repeat(1, 8),
        "collapsed": h[:10][labels] + 1e-4 * h,
    }[case]
    probe = fit_probe(h, labels, 10, l2=l2, tolerance=1e-3)
    assert probe.converged
    assert probe.loss == pytest.approx(objective(probe, h, labels)[0], rel=1e-4)


def test_a_preconditioner_that_rounding_spoilt_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    factor = torch.linalg.cholesky_ex

    def spoilt(matrices: Tensor) -> tuple[Tensor, Tensor]:
        factors, failed = factor(matrices)
        return factors * math.nan, failed + 1

    h, labels = labelled(600, 40, 10)
    expected = fit_probe(h, labels, 10, tolerance=1e-6)
    monkeypatch.setattr(torch.linalg, "cholesky_ex", spoilt)
    probe = fit_probe(h, labels, 10, tolerance=1e-6)
    assert probe.converged
    assert probe.iterations != expected.iterations
    assert probe.loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_few_leading_axes_will_do(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    h, labels = labelled(600, 60, 10)
    h = ill_conditioned(h) + 0.01 * on_a_circle(labels, 60)
    expected = fit_probe(h, labels, 10, dtype=torch.float64, tolerance=1e-9)
    plain = fit_probe(h, labels, 10, dtype=dtype, tolerance=1e-6)
    monkeypatch.setattr(probes, "LEADING_AXES", 15)
    probe = fit_probe(h, labels, 10, dtype=dtype, tolerance=1e-6)
    assert probe.converged
    assert probe.iterations <= 1.5 * plain.iterations
    assert probe.loss == pytest.approx(expected.loss, rel=1e-6)
    assert probe.loss == pytest.approx(objective(probe, h, labels)[0], rel=1e-6)
    torch.testing.assert_close(probe.weight.double(), expected.weight, rtol=0, atol=2e-2)


def test_separable_features_are_separated_at_any_distance_from_zero() -> None:
    h, labels = labelled(500, 10, 4, spread=0.05)
    for offset in (0.0, 1e6, -1e8):
        probe = fit_probe(h / h.std(dim=0) + offset, labels, 4)
        assert probe.converged
        assert accuracy(probe, h / h.std(dim=0) + offset, labels) == 1


def test_classes_without_samples_are_left_out() -> None:
    h, labels = labelled(300, 5, 3)
    spread = torch.tensor([1, 4, 6])[labels]
    probe, compact = fit_probe(h, spread, 8, **TIGHT), fit_probe(h, labels, 3, **TIGHT)
    torch.testing.assert_close(probe.weight[[1, 4, 6]], compact.weight)
    torch.testing.assert_close(probe.bias[[1, 4, 6]], compact.bias)
    absent = [0, 2, 3, 5, 7]
    assert not probe.weight[absent].any()
    assert probe.bias[absent].tolist() == [-math.inf] * 5
    assert torch.equal(predict(probe, h), torch.tensor([1, 4, 6])[predict(compact, h)])


def test_neither_order_nor_scale_nor_shift_nor_names_of_classes_count() -> None:
    h, labels = labelled(400, 6, 5)
    fresh, _ = labelled(3_000, 6, 5, seed=1)
    plain = fit_probe(h, labels, 5, **TIGHT)
    expected = predict(plain, fresh)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(predict(fit_probe(h[order], labels[order], 5, **TIGHT), fresh), expected)
    scale, shift = torch.tensor([1e-3, -5.0, 1e4, 2.0, -1.0, 7.0]).double(), 100.0
    scaled = fit_probe(h * scale + shift, labels, 5, **TIGHT)
    assert torch.equal(predict(scaled, fresh * scale + shift), expected)
    torch.testing.assert_close(scaled.weight, plain.weight * scale.sign(), rtol=0, atol=1e-6)
    names = torch.tensor([3, 0, 4, 1, 2])
    renamed = fit_probe(h, names[labels], 5, **TIGHT)
    assert torch.equal(predict(renamed, fresh), names[expected])


def test_rotations_of_whitened_features_rotate_the_weights() -> None:
    """Others change the deviations that features are divided by."""
    h, labels = labelled(400, 6, 5)
    white = math.sqrt(400) * torch.linalg.qr(h - h.mean(dim=0))[0]
    rotation = torch.linalg.qr(labelled(6, 6, 2, seed=3)[0])[0]
    plain = fit_probe(white, labels, 5, **TIGHT)
    rotated = fit_probe(white @ rotation, labels, 5, **TIGHT)
    torch.testing.assert_close(rotated.weight, plain.weight @ rotation, rtol=0, atol=1e-6)
    assert rotated.loss == pytest.approx(plain.loss, rel=1e-12)


def test_a_path_has_the_probes_of_separate_fits_in_the_order_asked_for() -> None:
    h, labels = labelled(400, 12, 5)
    l2s = [1e-3, 1.0, 1e-4, 1e-1, 1.0]
    path = fit_probe_path(h, labels, 5, l2s, **TIGHT)
    alone = [fit_probe(h, labels, 5, l2=l2, **TIGHT) for l2 in l2s]
    for found, expected in zip(path, alone, strict=True):
        assert found.l2 == expected.l2
        assert found.converged
        torch.testing.assert_close(found.weight, expected.weight, rtol=0, atol=1e-4)
    norms = [float(path[i].weight.norm()) for i in (1, 3, 0, 2)]
    assert norms == sorted(norms)
    weakest = fit_probe_path(h, labels, 5, [2e-4, 1e-4])[1]
    assert weakest.iterations < fit_probe(h, labels, 5, l2=1e-4).iterations


def test_features_on_disk_and_in_blocks_give_the_same_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    h, labels = labelled(300, 7, 4)
    h = h.float()
    path = str(tmp_path / "features.bin")
    mapped = torch.from_file(path, shared=True, size=h.numel()).view(300, 7)
    mapped.copy_(h)
    plain = fit_probe(h, labels, 4)
    assert torch.equal(fit_probe(mapped, labels, 4).weight, plain.weight)
    assert torch.equal(fit_probe(h, labels, 4).weight, plain.weight)
    monkeypatch.setattr(logistic, "BLOCK", 100)
    blocked = fit_probe(mapped, labels, 4)
    torch.testing.assert_close(blocked.weight, plain.weight, rtol=0, atol=1e-3)
    assert blocked.loss == pytest.approx(plain.loss, abs=1e-6)
    assert torch.equal(predict(plain, mapped), predict(plain, h))


def test_half_precision_features_are_read_as_their_float64_values() -> None:
    h, labels = labelled(300, 7, 4)
    half = (h / h.std(dim=0)).bfloat16()
    assert torch.equal(
        fit_probe(half, labels, 4).weight, fit_probe(half.double(), labels, 4).weight
    )


@pytest.mark.parametrize("formed", [1, 3, 5])
def test_the_depth_of_a_network_whose_label_becomes_linear_at_a_known_layer(formed: int) -> None:
    """Before it, the label is the parity of pairs of signs, which no linear map can read."""
    generator = torch.Generator().manual_seed(formed)
    signs = torch.randint(2, (3_000, 12), generator=generator).double() * 2 - 1
    labels = ((signs[:, :2].prod(dim=1) > 0) * 2 + (signs[:, 2:4].prod(dim=1) > 0)).long()
    accuracies = []
    for layer in range(1, 6):
        h = signs.clone()
        if layer >= formed:
            h[:, 0], h[:, 2] = signs[:, :2].prod(dim=1), signs[:, 2:4].prod(dim=1)
        h = h @ torch.randn(12, 20, dtype=torch.float64, generator=generator)
        h = h + 0.01 * torch.randn(h.shape, dtype=torch.float64, generator=generator)
        probe = fit_probe(h[:2_000], labels[:2_000], 4)
        assert probe.converged
        accuracies.append(accuracy(probe, h[2_000:], labels[2_000:]))
    assert float(effective_depth(torch.tensor(accuracies))) == formed / 5
    assert max(accuracies[: formed - 1], default=0.25) < 0.35
    assert min(accuracies[formed - 1 :]) == 1


@pytest.mark.usefixtures("unchecked")
def test_bad_input() -> None:
    h, labels = labelled(20, 3, 4)
    for features, own, classes, settings, match in (
        (h[0], labels, 4, {}, "features has shape"),
        (h[:, :, None], labels, 4, {}, "features.*flatten"),
        (h * math.nan, labels, 4, {}, "NaN"),
        (h.long(), labels, 4, {}, "dtype"),
        (h[:0], labels[:0], 4, {}, "empty"),
        (h, labels[:5], 4, {}, "labels have shape"),
        (h, labels.double(), 4, {}, "torch.float64.* 20 .*indices"),
        (h, labels + 1, 4, {}, r"labels.* 1\.\.4.* 0\.\.3"),
        (h, labels - 1, 4, {}, r"labels.* -1\.\.2.* 0\.\.3"),
        (h, labels * 0 + 2, 4, {}, "labels.* 2.* two "),
        (h, labels, 1, {}, "classes is 1"),
        (h, labels, 4, {"l2": 0.0}, "l2 is 0"),
        (h, labels, 4, {"l2": math.inf}, "l2 is inf"),
        (h, labels, 4, {"tolerance": -1.0}, "tolerance is -1"),
        (h, labels, 4, {"max_iterations": 0}, "max_iterations is 0"),
        (h, labels, 4, {"dtype": torch.float16}, "dtype is torch.float16"),
    ):
        with pytest.raises(ValueError, match=match):
            fit_probe(features, own, classes, **settings)
    probe = fit_probe(h, labels, 4)
    for features, match in ((h[:, :2], "probe.* 3 features"), (h * math.inf, "NaN")):
        with pytest.raises(ValueError, match=match):
            predict(probe, features)
    with pytest.raises(ValueError, match="l2s is empty"):
        fit_probe_path(h, labels, 4, [])


def test_gpu_probes_equal_cpu_probes(device: torch.device) -> None:
    h, labels = labelled(400, 12, 5)
    expected = fit_probe(h, labels, 5, **TIGHT)
    found = fit_probe(h, labels, 5, device=device, **TIGHT)
    assert found.converged
    assert found.weight.device == device
    torch.testing.assert_close(found.weight.cpu(), expected.weight, rtol=0, atol=1e-6)
    assert torch.equal(predict(found, h), predict(expected, h))
    assert predict(found, h.to(device)).device == device
    single = fit_probe(h.to(device), labels.to(device), 5)
    assert single.converged
    assert accuracy(single, h.to(device), labels.to(device)) == pytest.approx(
        accuracy(expected, h, labels), abs=0.005
    )
