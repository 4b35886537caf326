"""The batched deep UFM: gradients and objectives against autograd, for all targets and losses."""

from typing import Any

import pytest
import torch

import rankdeficit as rd
from rankdeficit.toys.labels import noisy_targets
from rankdeficit.toys.ufm import DeepUfm, UfmShape, initial_parameters
from tests.rankdeficit.toys.reference import doubles, reference_objective


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gradient_and_objective_against_autograd(
    bias: bool, loss: Any, activation: Any, depth: int
) -> None:
    shape = UfmShape(4, 3, 5, depth, activation, bias)
    parameters = initial_parameters(shape, [0, 1, 2], dtype=torch.float64)
    parameters += 0.1  # so that biases count
    temperatures, decay = doubles(1, 3, 0.5), doubles(0.1, 0, 0.2)
    model = DeepUfm(
        shape, parameters, temperatures, loss=loss, weight_decay=decay, feature_decay=0.3
    )
    model.compute_gradient()
    objective = model.objective()
    for run in range(3):
        row = parameters[run].clone().requires_grad_()
        expected = reference_objective(
            shape, row, temperatures[run].item(), loss, decay[run].item(), 0.3
        )
        expected.backward()
        torch.testing.assert_close(objective[run], expected.detach(), rtol=1e-13, atol=0)
        torch.testing.assert_close(model.gradient[run], row.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("kind", ["counts", "labels", "noise"])
def test_unequal_classes_and_other_targets_against_autograd(loss: Any, kind: str) -> None:
    shape = UfmShape(3, 2, 4, 2, counts=(4, 1, 2) if kind != "labels" else None)
    own = {"labels": torch.tensor([2, 0, 1, 1, 0, 2]), "noise": None, "counts": None}[kind]
    targets = noisy_targets(shape.labels(), 3, 0.3) if kind == "noise" else own
    parameters = initial_parameters(shape, [0, 1], dtype=torch.float64)
    assert len(shape.labels()) == shape.samples
    model = DeepUfm(shape, parameters, doubles(1, 20), loss=loss, weight_decay=0.1, targets=targets)
    model.compute_gradient()
    for run, T in enumerate((1.0, 20.0)):
        row = parameters[run].clone().requires_grad_()
        expected = reference_objective(shape, row, T, loss, 0.1, 0.1, targets)
        expected.backward()
        torch.testing.assert_close(model.objective()[run], expected.detach(), rtol=1e-13, atol=0)
        torch.testing.assert_close(model.gradient[run], row.grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_a_learnt_temperature_against_autograd(loss: Any) -> None:
    shape = UfmShape(3, 2, 4, 2, bias=True, learn_temperature=True)
    plain = UfmShape(3, 2, 4, 2, bias=True)
    parameters = initial_parameters(shape, [0, 1], dtype=torch.float64)
    torch.testing.assert_close(
        parameters[:, :-1], initial_parameters(plain, [0, 1], dtype=torch.float64), rtol=0, atol=0
    )
    assert not parameters[:, -1].any()
    parameters[:, -1] = doubles(0.3, -2)
    model = DeepUfm(shape, parameters, doubles(1, 20), loss=loss, weight_decay=0.1)
    model.compute_gradient()
    for run, start in enumerate((1.0, 20.0)):
        row = parameters[run].clone().requires_grad_()
        T = start * row[-1].exp()
        expected = reference_objective(plain, row[:-1], T, loss, 0.1, 0.1)
        expected.backward()
        torch.testing.assert_close(model.temperatures[run], T.detach(), rtol=1e-15, atol=0)
        torch.testing.assert_close(model.objective()[run], expected.detach(), rtol=1e-13, atol=0)
        torch.testing.assert_close(model.gradient[run], row.grad, rtol=1e-11, atol=1e-14)


def test_targets_of_each_run_are_those_of_runs_alone() -> None:
    shape = UfmShape(3, 2, 4, 2)
    parameters = initial_parameters(shape, [0, 1], dtype=torch.float64)
    each = [noisy_targets(shape.labels(), 3, noise) for noise in (0.0, 0.4)]
    together = DeepUfm(shape, parameters, doubles(1, 20), targets=torch.stack(each))
    together.compute_gradient()
    for run, T in enumerate((1.0, 20.0)):
        alone = DeepUfm(shape, parameters[[run]], doubles(T), targets=each[run])
        alone.compute_gradient()
        torch.testing.assert_close(
            together.gradient[run], alone.gradient[0], rtol=1e-12, atol=1e-15
        )
        torch.testing.assert_close(together.objective()[run], alone.objective()[0])


@pytest.mark.parametrize("noise", [None, (0.1, 0.1, 0.1), (0.0, 0.2, 0.5)])
def test_a_loss_by_autograd_is_the_explicit_one(noise: tuple[float, ...] | None) -> None:
    shape = UfmShape(3, 2, 4, 2)
    parameters = initial_parameters(shape, [0, 1, 2], dtype=torch.float64)
    targets = None
    if noise:
        targets = torch.stack([noisy_targets(shape.labels(), 3, own) for own in noise])
    explicit, by_autograd = (
        DeepUfm(shape, parameters, doubles(1, 20, 1), loss=loss, weight_decay=0.1, targets=targets)
        for loss in ("ce", lambda logits, labels, T: rd.cross_entropy(logits, labels, T))
    )
    for model in (explicit, by_autograd):
        model.compute_gradient()
    torch.testing.assert_close(by_autograd.gradient, explicit.gradient, rtol=1e-11, atol=1e-14)
    torch.testing.assert_close(by_autograd.objective(), explicit.objective(), rtol=1e-13, atol=0)


def test_a_function_has_fixed_temperatures() -> None:
    shape = UfmShape(3, 2, 4, 2, learn_temperature=True)
    with pytest.raises(ValueError, match="learn_temperature needs the loss 'ce' or 'mse'"):
        DeepUfm(shape, initial_parameters(shape, [0]), doubles(1), loss=rd.cross_entropy)


def test_equal_counts_and_targets_of_the_classes_change_nothing() -> None:
    plain, counted = UfmShape(3, 2, 4, 2), UfmShape(3, 2, 4, 2, counts=(2, 2, 2))
    parameters = initial_parameters(plain, [0], dtype=torch.float64)
    gradients = []
    for shape, targets in ((plain, None), (counted, None), (plain, plain.labels())):
        model = DeepUfm(shape, parameters, doubles(5), targets=targets)
        model.compute_gradient()
        gradients.append(model.gradient)
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-14, atol=1e-16)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "targets", [torch.zeros(5, dtype=torch.long), torch.full((6,), 3), torch.full((6, 3), 0.4)]
)
def test_targets_that_do_not_fit_are_refused(targets: torch.Tensor) -> None:
    shape = UfmShape(3, 2, 4, 2)
    with pytest.raises(ValueError, match="targets"):
        DeepUfm(shape, initial_parameters(shape, [0]), doubles(1), targets=targets)


@pytest.mark.parametrize("counts", [(1, 2), (1, 2, 0)])
def test_counts_that_do_not_fit_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counts"):
        UfmShape(3, 2, 4, 2, counts=counts)
