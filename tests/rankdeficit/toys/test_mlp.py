"""The batched MLP: each run against torch.nn and autograd, batches against single runs."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import rankdeficit as rd
from rankdeficit.toys.mlp import (
    EPSILON,
    SMALL_HEAD,
    BatchedMlp,
    MlpShape,
    gaussian_clusters,
    initial_parameters,
)


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


ACTIVATIONS = {"relu": functional.relu, "tanh": torch.tanh, "linear": lambda x: x}


def normalise(x: torch.Tensor, kind: str) -> torch.Tensor:
    """Torch's own normalisations, without parameters."""
    if kind == "layer":
        return functional.layer_norm(x, x.shape[-1:], eps=EPSILON)
    if kind == "rms":
        return functional.rms_norm(x, x.shape[-1:], eps=EPSILON)
    if kind == "batch":
        return functional.batch_norm(x, None, None, training=True, eps=EPSILON)
    return x


def reference(shape: MlpShape, row: torch.Tensor) -> nn.ModuleList:
    """One run's parameters in torch.nn.Linear layers: weights first, then biases."""
    sizes = [shape.inputs, *[shape.width] * (shape.depth - 1), shape.classes]
    layers = nn.ModuleList(
        nn.Linear(before, after, bias=shape.bias, dtype=torch.float64)
        for before, after in pairwise(sizes)
    )
    owners = [layer.weight for layer in layers] + [layer.bias for layer in layers if shape.bias]
    for parameter, values in zip(owners, row.split([p.numel() for p in owners]), strict=True):
        parameter.data.copy_(values.view_as(parameter))
    return layers


def apply(shape: MlpShape, layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    for layer in layers[:-1]:
        x = ACTIVATIONS[shape.activation](normalise(layer(x), shape.normalisation))
    x = layers[-1](x)
    if not shape.norm_logits:
        return x
    return normalise(x, "layer" if shape.normalisation == "none" else shape.normalisation)


SHAPES = [
    MlpShape(4, 3, 5, 1),
    MlpShape(4, 3, 5, 1, bias=True, norm_logits=True),
    MlpShape(4, 3, 5, 2, "linear"),
    MlpShape(4, 3, 5, 3, "tanh", bias=True, norm_logits=True),
    MlpShape(4, 3, 5, 4, "relu"),
    *[
        MlpShape(4, 3, 5, 3, "relu", bias=True, normalisation=kind, norm_logits=norm_logits)  # type: ignore[arg-type]
        for kind in ("none", "layer", "rms", "batch")
        for norm_logits in (False, True)
    ],
]


def names(shape: MlpShape) -> str:
    return f"{shape.depth} {shape.activation} {shape.normalisation} {shape.norm_logits}"


def make_batch(shape: MlpShape, runs: int = 3, **options: Any) -> BatchedMlp:
    parameters = initial_parameters(shape, range(runs), dtype=torch.float64)
    parameters += 0.1  # so that biases count
    return BatchedMlp(shape, parameters, doubles(1, 3, 0.5)[:runs], **options)


def make_data(shape: MlpShape, runs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and labels of their own for each run, or one set for all."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(runs, 8, shape.inputs, generator=generator, dtype=torch.float64)
    return x, torch.randint(shape.classes, (runs, 8), generator=generator)


@pytest.mark.parametrize("sets", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=names)
def test_logits_loss_and_gradient_against_torch_nn(shape: MlpShape, sets: int) -> None:
    decay = doubles(0.1, 0, 0.2)
    model = make_batch(shape, weight_decay=decay, label_smoothing=0.1)
    x, labels = make_data(shape, sets)
    seen = model.forward(x)
    loss = model.data_loss(x, labels)
    model.compute_gradient(x, labels)
    slopes = model.weight_gradients(x, labels)
    for run in range(3):
        data, truth = x[run % sets], labels[run % sets]
        layers = reference(shape, model.parameters[run])
        logits = apply(shape, layers, data)
        torch.testing.assert_close(seen.logits[run], logits, rtol=1e-12, atol=1e-13)
        expected = functional.cross_entropy(
            logits / model.temperatures[run], truth, label_smoothing=0.1
        )
        torch.testing.assert_close(loss[run], expected, rtol=1e-12, atol=0)
        expected.backward()
        for layer, slope in zip(layers, slopes, strict=True):
            torch.testing.assert_close(slope[run], layer.weight.grad, rtol=1e-10, atol=1e-13)
        parts = [(layer.weight.grad + decay[run] * layer.weight).flatten() for layer in layers]
        parts += [layer.bias.grad for layer in layers if shape.bias]
        torch.testing.assert_close(model.gradient[run], torch.cat(parts), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES[-3:], ids=names)
def test_layers_hand_over_the_input_of_each_weight_matrix(shape: MlpShape) -> None:
    model = make_batch(shape)
    x, _ = make_data(shape, 1)
    weights, biases = shape.unpack(model.parameters)
    seen = model.forward(x)
    assert [tuple(h.shape) for h in seen.inputs] == [(3, 8, 4), (3, 8, 5), (3, 8, 5)]
    assert torch.equal(seen.inputs[0], x.expand(3, -1, -1))
    for layer in (0, 1):
        for run in range(3):
            linear = seen.inputs[layer][run] @ weights[layer][run].mT + biases[layer][run]
            expected = normalise(linear, shape.normalisation).relu()
            torch.testing.assert_close(
                seen.inputs[layer + 1][run], expected, rtol=1e-12, atol=1e-13
            )


@pytest.mark.parametrize("shape", [SHAPES[3], SHAPES[4]], ids=names)
def test_softmax_mse_is_the_library_s(shape: MlpShape) -> None:
    model = make_batch(shape, loss="mse")
    x, labels = make_data(shape, 1)
    loss = model.data_loss(x, labels)
    model.compute_gradient(x, labels)
    for run in range(3):
        layers = reference(shape, model.parameters[run])
        T = model.temperatures[run].item()
        expected = rd.softmax_mse(apply(shape, layers, x[0]), labels[0], T)
        torch.testing.assert_close(loss[run], expected, rtol=1e-12, atol=0)
        expected.backward()
        weights = torch.cat([layer.weight.grad.flatten() for layer in layers])
        torch.testing.assert_close(
            model.gradient[run, : len(weights)], weights, rtol=1e-10, atol=1e-14
        )


@pytest.mark.parametrize("shape", SHAPES, ids=names)
def test_a_batch_equals_its_runs_alone(shape: MlpShape) -> None:
    batch = make_batch(shape, weight_decay=0.01)
    x, labels = make_data(shape, 3)
    alone = [
        BatchedMlp(
            shape, batch.parameters[run : run + 1].clone(), batch.temperatures[run : run + 1],
            weight_decay=0.01,
        )
        for run in range(3)
    ]  # fmt: skip
    for _ in range(20):
        batch.compute_gradient(x, labels)
        batch.parameters -= 0.05 * batch.gradient
        for run, model in enumerate(alone):
            model.compute_gradient(x[run : run + 1], labels[run : run + 1])
            model.parameters -= 0.05 * model.gradient
    together = torch.cat([model.parameters for model in alone])
    torch.testing.assert_close(batch.parameters, together, rtol=1e-10, atol=1e-12)


@given(
    depth=st.integers(1, 5),
    activation=st.sampled_from(["relu", "linear"]),
    factor=st.floats(0.1, 10),
    seed=st.integers(0, 99),
)
def test_bias_free_networks_are_homogeneous_of_their_depth(
    depth: int, activation: Any, factor: float, seed: int
) -> None:
    shape = MlpShape(4, 3, 6, depth, activation)
    parameters = initial_parameters(shape, [seed], dtype=torch.float64)
    model = BatchedMlp(shape, parameters, doubles(1.0))
    x, _ = make_data(shape, 1)
    torch.testing.assert_close(
        model.forward(x, factor * parameters).logits,
        factor**depth * model.forward(x).logits,
        rtol=1e-12, atol=1e-13 * factor**depth,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["layer", "rms", "batch"])
def test_with_normalisation_only_the_head_s_scale_counts(kind: Any) -> None:
    """Up to the epsilon in the variance."""
    shape = MlpShape(4, 3, 6, 3, "relu", normalisation=kind)
    parameters = 100 * initial_parameters(shape, [0], dtype=torch.float64)
    model = BatchedMlp(shape, parameters, doubles(1.0))
    x, _ = make_data(shape, 1)
    torch.testing.assert_close(
        model.forward(x, 7 * parameters).logits, 7 * model.forward(x).logits, rtol=1e-5, atol=1e-5
    )
    assert not torch.allclose(model.forward(x, parameters + 10).logits, model.forward(x).logits)


@pytest.mark.parametrize(
    ("scheme", "variances"),
    [
        ("he", (2 / 100, 2 / 400, 2 / 400)),
        ("lecun", (1 / 100, 1 / 400, 1 / 400)),
        ("xavier", (2 / 500, 2 / 800, 2 / 700)),
        ("small-head", (2 / 100, 2 / 400, 1e-24 / 3)),
    ],
)
def test_variances_of_initialisations(scheme: Any, variances: tuple[float, ...]) -> None:
    shape = MlpShape(100, 300, 400, 3, bias=True)
    parameters = initial_parameters(shape, [0, 1], scheme, 3.0, dtype=torch.float64)
    weights, biases = shape.unpack(parameters)
    for weight, variance in zip(weights, variances, strict=True):
        assert weight.var().item() == pytest.approx(9 * variance, rel=0.03)
        assert abs(weight.mean().item()) < 5 * math.sqrt(9 * variance / weight.numel())
    assert all((bias == 0).all() for bias in biases)
    kurtosis = (weights[-1].pow(4).mean() / weights[-1].square().mean() ** 2).item()
    assert kurtosis == pytest.approx(1.8 if scheme == "small-head" else 3, rel=0.03)
    if scheme == "small-head":
        assert weights[-1].abs().max() <= 3 * SMALL_HEAD


def test_orthogonal_initialisation_has_orthonormal_rows_or_columns() -> None:
    shape = MlpShape(4, 3, 7, 3)
    weights, _ = shape.unpack(
        initial_parameters(shape, [0, 1], "orthogonal", 2.0, dtype=torch.float64)
    )
    for weight in weights:
        values = torch.linalg.svdvals(weight)
        torch.testing.assert_close(values, torch.full_like(values, 2), rtol=1e-12, atol=0)
    assert not torch.allclose(weights[1][0], weights[1][1])


def test_runs_start_alike_alone_in_a_batch_and_in_any_dtype() -> None:
    shape = MlpShape(3, 2, 5, 2, bias=True)
    for scheme in ("he", "lecun", "xavier", "orthogonal", "small-head"):
        together = initial_parameters(shape, [7, 8], scheme, dtype=torch.float64)
        alone = initial_parameters(shape, [8], scheme, dtype=torch.float64)
        assert torch.equal(together[1], alone[0])
        assert not torch.equal(together[0], together[1])
        assert torch.equal(initial_parameters(shape, [8], scheme)[0], alone[0].float())


def test_diverged_runs_do_not_touch_their_neighbours() -> None:
    shape = SHAPES[4]
    both, alone = make_batch(shape, 2), make_batch(shape, 1)
    both.parameters[1] = 1e200
    x, labels = make_data(shape, 1)
    for model in (both, alone):
        model.compute_gradient(x, labels)
    assert not both.gradient[1].isfinite().all()
    torch.testing.assert_close(both.gradient[0], alone.gradient[0], rtol=1e-12, atol=0)


def test_float32_parameters_take_float64_samples() -> None:
    shape = SHAPES[4]
    model = BatchedMlp(shape, initial_parameters(shape, [0]), doubles(2.0), weight_decay=0.1)
    x, labels = make_data(shape, 1)
    model.compute_gradient(x, labels)
    double = BatchedMlp(shape, model.parameters.double(), doubles(2.0), weight_decay=0.1)
    double.compute_gradient(x, labels)
    assert model.gradient.dtype == torch.float32
    torch.testing.assert_close(model.gradient.double(), double.gradient, rtol=1e-4, atol=1e-6)


def test_statistics_of_gaussian_clusters() -> None:
    classes, samples, inputs, separation = 5, 4000, 50, 30.0
    x, labels = gaussian_clusters(classes, samples, inputs, separation, 0, dtype=torch.float64)
    assert torch.equal(labels, torch.arange(classes).repeat_interleave(samples))
    groups = x.view(classes, samples, inputs)
    means = groups.mean(dim=1) / separation
    lengths = means.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.15)
    cosines = (means @ means.mT / lengths / lengths[:, None]).fill_diagonal_(0)
    assert cosines.abs().max() < 0.5
    noise = (groups - groups.mean(dim=1, keepdim=True)).flatten(0, 1)
    assert noise.square().sum(dim=1).mean().item() == pytest.approx(1, rel=0.01)
    covariance = noise.mT @ noise / len(noise)
    expected = torch.eye(inputs, dtype=torch.float64) / inputs
    torch.testing.assert_close(covariance, expected, rtol=0, atol=0.06 / inputs)


def test_a_class_has_its_number_of_clusters() -> None:
    x, labels = gaussian_clusters(3, 200, 10, 1e6, 1, clusters_per_class=4, dtype=torch.float64)
    for label in range(3):
        own = x[labels == label] / 1e6
        near = torch.cdist(own, own) < 1e-3
        sizes = near.sum(dim=1)
        assert (1 / sizes).sum().item() == pytest.approx(4)
        assert sizes.min() > 20
        others = x[labels != label] / 1e6
        assert torch.cdist(own, others).min() > 1e-3


def test_samples_depend_on_their_seed_and_dtype_only_rounds() -> None:
    x, labels = gaussian_clusters(3, 5, 4, 2.0, 7, dtype=torch.float64)
    again, same = gaussian_clusters(3, 5, 4, 2.0, 7)
    assert torch.equal(again, x.float())
    assert torch.equal(labels, same)
    other, _ = gaussian_clusters(3, 5, 4, 2.0, 8, dtype=torch.float64)
    assert (other - x).norm() > 0.5 * x.norm()


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments() -> None:
    good = MlpShape(3, 2, 4, 2)
    parameters = initial_parameters(good, [0])
    one = doubles(1)
    for call, match in (
        (lambda: MlpShape(0, 2, 4, 2), "inputs is 0"),
        (lambda: MlpShape(3, 1, 4, 2), "classes is 1"),
        (lambda: MlpShape(3, 2, 0, 2), "width is 0"),
        (lambda: MlpShape(3, 2, 4, 0), "depth is 0"),
        (lambda: MlpShape(3, 2, 4, 2, "gelu"), "activation is 'gelu'"),  # type: ignore[arg-type]
        (lambda: MlpShape(3, 2, 4, 2, normalisation="group"), "normalisation is 'group'"),  # type: ignore[arg-type]
        (lambda: initial_parameters(good, []), "seeds is empty"),
        (lambda: initial_parameters(good, [0], "zero"), "init is 'zero'"),  # type: ignore[arg-type]
        (lambda: initial_parameters(good, [0], scale=0.0), "init_scale is 0.0"),
        (lambda: initial_parameters(good, [0], scale=math.nan), "init_scale is nan"),
        (lambda: initial_parameters(good, [0], scale=math.inf), "init_scale is inf"),
        (lambda: BatchedMlp(good, parameters, doubles(1, 2)), "parameters have shape"),
        (lambda: BatchedMlp(MlpShape(3, 2, 5, 2), parameters, one), "need .1, 25."),
        (lambda: BatchedMlp(good, parameters, doubles(0)), "temperature"),
        (lambda: BatchedMlp(good, parameters, doubles(1e-50)), "beyond torch.float32"),
        (lambda: BatchedMlp(good, parameters, doubles(1e39)), "beyond torch.float32"),
        (
            lambda: BatchedMlp(good, parameters.expand(2, -1), doubles(1, 1e39)),
            "beyond torch.float32",
        ),
        (lambda: BatchedMlp(good, parameters, one, loss="hinge"), "loss is 'hinge'"),  # type: ignore[arg-type]
        (lambda: BatchedMlp(good, parameters, one, weight_decay=-1.0), "weight_decay is -1"),
        (lambda: BatchedMlp(good, parameters, one, weight_decay=math.inf), "weight_decay"),
        (lambda: BatchedMlp(good, parameters, one, label_smoothing=1.0), "label_smoothing is 1"),
        (lambda: BatchedMlp(good, parameters, one, label_smoothing=math.nan), "label_smoothing"),
        (lambda: gaussian_clusters(1, 2, 3, 1.0, 0), "classes is 1"),
        (lambda: gaussian_clusters(2, 0, 3, 1.0, 0), "samples_per_class is 0"),
        (lambda: gaussian_clusters(2, 2, 0, 1.0, 0), "inputs is 0"),
        (lambda: gaussian_clusters(2, 2, 3, 0.0, 0), "separation is 0"),
        (lambda: gaussian_clusters(2, 2, 3, math.inf, 0), "separation is inf"),
        (lambda: gaussian_clusters(2, 2, 3, 1.0, 0, clusters_per_class=0), "clusters_per_class"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("shape", SHAPES[-2:], ids=names)
def test_gpu_equals_cpu(shape: MlpShape, device: torch.device) -> None:
    on_cpu = make_batch(shape, weight_decay=doubles(0.1, 0, 0.2))
    on_gpu = BatchedMlp(
        shape, on_cpu.parameters.to(device), on_cpu.temperatures, weight_decay=doubles(0.1, 0, 0.2)
    )
    x, labels = make_data(shape, 3)
    on_cpu.compute_gradient(x, labels)
    on_gpu.compute_gradient(x.to(device), labels.to(device))
    torch.testing.assert_close(on_gpu.gradient.cpu(), on_cpu.gradient, rtol=1e-9, atol=1e-11)
