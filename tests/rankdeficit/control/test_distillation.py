"""Distillation: gradient and limits with their constants, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from rankdeficit import cross_entropy, softmax
from rankdeficit.control.criterion import Stateless
from rankdeficit.control.distillation import Distillation, kd_loss


def pair(seed: int, n: int = 6, c: int = 5, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher."""
    generator = torch.Generator().manual_seed(seed)
    z, v = scale * torch.randn(2, n, c, dtype=torch.float64, generator=generator)
    return z, v


def gradient(z: Tensor, v: Tensor, T: float) -> Tensor:
    """Per sample, in the student's logits."""
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(len(z) * kd_loss(z, v, T), z)
    return found


@pytest.mark.parametrize("T", [0.1, 1.0, 2.0, 1000.0])
def test_the_gradient_is_the_analytic_one(T: float) -> None:
    z, v = pair(0)
    expected = T * (softmax(z, T) - softmax(v, T))
    torch.testing.assert_close(gradient(z, v, T), expected, rtol=1e-9, atol=1e-13 * T)
    inputs = (0.1 * z[:2] * max(T, 1)).requires_grad_(), (0.1 * v[:2] * max(T, 1)).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z, v: kd_loss(z, v, T), inputs, eps=1e-6 * max(T, 1), atol=1e-6 * max(T, 1)
    )


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(-1, 2))
def test_the_loss_is_torchs_divergence(seed: int, c: int, log_temperature: float) -> None:
    (z, v), T = pair(seed, c=c), 10.0**log_temperature
    log_p, log_q = (torch.log_softmax(e / T, dim=1) for e in (v, z))
    expected = T**2 * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    assert float(kd_loss(z, v, T)) == pytest.approx(float(expected), rel=1e-9, abs=1e-13 * T**2)
    assert float(kd_loss(v + 3.0, v, T)) == pytest.approx(0, abs=1e-13 * T**2)


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(-0.5, 4))
def test_hot_distillation_is_a_squared_error_of_centred_logits(
    seed: int, c: int, log_temperature: float
) -> None:
    (z, v), T = pair(seed, n=1, c=c), 10.0**log_temperature
    delta = (z - v) - (z - v).mean()
    half = float(delta.square().sum()) / (2 * c)
    w = max(float(e.max() - e.min()) for e in (z, v))
    rounding = 1e-14 * T**2
    assert half * math.exp(-w / T) - rounding <= float(kd_loss(z, v, T))
    assert float(kd_loss(z, v, T)) <= half * math.exp(w / T) + rounding
    error = (gradient(z, v, T) - delta / c).abs().max()
    assert float(error) <= math.expm1(2 * w / T) * float(delta.abs().max()) / c + 1e-14 * T


def test_the_error_of_the_hot_limit_is_of_order_one_over_the_temperature() -> None:
    z, v = pair(1)
    delta = (z - v) - (z - v).mean(dim=1, keepdim=True)
    errors = [float((gradient(z, v, T) - delta / 5).norm()) for T in (1e2, 1e3, 1e4)]
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(10, rel=0.02)


@given(st.integers(0, 10**6), st.integers(2, 8), st.floats(-2, 0.5))
def test_cold_distillation_is_cross_entropy_with_the_teachers_prediction(
    seed: int, c: int, log_temperature: float
) -> None:
    (z, v), T = pair(seed, n=1, c=c), 10.0**log_temperature
    largest = v.topk(2).values[0]
    gap, prediction = float(largest[0] - largest[1]), v.argmax(dim=1)
    z.requires_grad_()
    (expected,) = torch.autograd.grad(T**2 * cross_entropy(z, prediction, T), z)
    error = float((gradient(z.detach(), v, T) - expected).abs().max())
    assert error <= T * (c - 1) * math.exp(-gap / T) + 1e-14


def test_labels_have_the_rest_of_the_weight() -> None:
    z, v = pair(2)
    labels = torch.arange(6) % 5
    term, own = kd_loss(z, v, 4.0), cross_entropy(z, labels)
    for weight in (0.0, 0.3, 1.0):
        torch.testing.assert_close(
            kd_loss(z, v, 4.0, labels, weight), weight * term + (1 - weight) * own
        )
    soft = softmax(v, 2.0)
    torch.testing.assert_close(kd_loss(z, v, 4.0, soft, 0.0), cross_entropy(z, soft))


def test_half_precision_and_single_samples() -> None:
    z, v = pair(3)
    exact = float(kd_loss(z, v, 1000.0))
    single = kd_loss(z.float(), v.float(), 1000.0)
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(exact, rel=1e-5)
    assert kd_loss(z.half(), v.half(), 2.0).dtype == torch.float32
    means = [float(kd_loss(z[i], v[i], 2.0)) for i in range(6)]
    assert float(kd_loss(z, v, 2.0)) == pytest.approx(sum(means) / 6)


def test_temperatures_of_training_belong_to_the_networks() -> None:
    """A student at S = 5 and a teacher at T = 50 are as networks at 1 with smaller logits."""
    z, v = pair(4)
    labels, inputs = torch.arange(6) % 5, torch.ones(6, 2, dtype=torch.float64)
    teacher = torch.nn.Linear(2, 5, dtype=torch.float64)
    teacher.weight.data.zero_()
    teacher.bias.data = 50 * v[0]
    loss = Distillation(
        teacher,
        Stateless(lambda logits, labels: cross_entropy(logits, labels, 5.0)),
        kd_temperature=4.0,
        weight=0.7,
        student_temperature=5.0,
        teacher_temperature=50.0,
    )
    found = loss(5 * z, labels, 0, inputs)
    torch.testing.assert_close(found, kd_loss(z, v[:1].expand(6, 5), 4.0, labels, 0.7))
    assert not loss.state_dict()
    assert not any(p.requires_grad for p in teacher.parameters())


def test_the_temperature_of_a_student_may_change_during_training() -> None:
    z, v = pair(5)
    teacher = torch.nn.Linear(1, 5, dtype=torch.float64)
    teacher.weight.data.zero_()
    teacher.bias.data = v[0]
    plain = Stateless(lambda logits, labels: logits.sum())
    options = {"kd_temperature": 2.0, "weight": 1.0}
    moving = Distillation(teacher, plain, student_temperature=lambda step: 5.0 - step, **options)
    rest = torch.zeros(6).long(), 0, torch.ones(6, 1, dtype=torch.float64)
    for step in (0, 3):
        fixed = Distillation(teacher, plain, student_temperature=5.0 - step, **options)
        assert moving(z, rest[0], step, rest[2]) == fixed(z, *rest)


@pytest.mark.usefixtures("unchecked")
def test_wrong_use() -> None:
    z, v = pair(0)
    labels = torch.arange(6) % 5
    for arguments, word in (
        ((z, v, 0.0), "temperature is 0"),
        ((z, v, -1.0), "temperature is -1"),
        ((z, v, math.nan), "temperature is nan"),
        ((z, v[:3], 1.0), "same samples"),
        ((z, v[:, :3], 1.0), "same samples"),
        ((z, v * math.nan, 1.0), "teacher has NaN"),
        ((z * math.inf, v, 1.0), "student has NaN"),
        ((z, v.long(), 1.0), "teacher has dtype"),
        ((z, v, 1.0, labels, 1.5), "weight is 1.5"),
        ((z, v, 1.0, labels, math.nan), "weight is nan"),
        ((z, v, 1.0, labels + 4), "0..4"),
        ((z, v, 1.0, 2 * softmax(v, 1.0)), "sum to 1"),
        ((z, v, 1.0, labels[:2]), "shape"),
    ):
        with pytest.raises(ValueError, match=word):
            kd_loss(*arguments)
