"""Weights as matrices, and the rows they multiply, against the layers themselves."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rankdeficit.diagnostics.reading.unfolding import input_rows, rows_per_sample, weight_matrix


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs_as_rows(module: nn.Module, outputs: Tensor) -> Tensor:
    """Outputs of a layer in the order of `input_rows`: sample by sample, channels last."""
    if isinstance(module, nn.modules.conv._ConvNd):
        outputs = outputs.movedim(1, -1)
    return outputs.flatten(0, -2) if outputs.ndim > 1 else outputs


CONVOLUTIONS = [
    (nn.Conv1d, (11,), {"kernel_size": 3}),
    (nn.Conv1d, (11,), {"kernel_size": 4, "padding": "same"}),
    (nn.Conv1d, (11,), {"kernel_size": 3, "padding": 2, "padding_mode": "reflect", "stride": 2}),
    (nn.Conv1d, (12,), {"kernel_size": 3, "dilation": 3, "padding": 1, "stride": 2}),
    (nn.Conv2d, (6, 5), {"kernel_size": 1}),
    (nn.Conv2d, (6, 5), {"kernel_size": 1, "stride": 2}),
    (nn.Conv2d, (6, 5), {"kernel_size": 3, "padding": 1}),
    (nn.Conv2d, (6, 5), {"kernel_size": (2, 3), "padding": (1, 2), "stride": (2, 1)}),
    (nn.Conv2d, (6, 5), {"kernel_size": (2, 3), "padding": "same", "dilation": (1, 2)}),
    (nn.Conv2d, (6, 5), {"kernel_size": 3, "padding": "valid", "bias": False}),
    (nn.Conv2d, (6, 5), {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"}),
    (nn.Conv2d, (6, 5), {"kernel_size": 3, "padding": 2, "padding_mode": "reflect", "stride": 2}),
    (nn.Conv2d, (6, 5), {"kernel_size": 3, "padding": 2, "padding_mode": "replicate"}),
    (nn.Conv2d, (6, 5), {"kernel_size": (6, 5)}),
    (nn.Conv3d, (4, 5, 3), {"kernel_size": (2, 3, 2), "stride": (1, 2, 1), "padding": (0, 1, 1)}),
    (nn.Conv3d, (4, 5, 3), {"kernel_size": 2, "padding": "same", "dilation": (1, 2, 1)}),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(("kind", "sides", "settings"), CONVOLUTIONS)
def test_matrix_times_rows_is_the_convolution_and_errors_times_rows_its_gradient(
    kind: Callable[..., nn.Module], sides: tuple[int, ...], settings: dict[str, object]
) -> None:
    module = kind(3, 4, **settings).double()
    inputs = normal(2, 3, *sides)
    rows, matrix = input_rows(module, inputs), weight_matrix(module)
    assert rows_per_sample(module, inputs) == len(rows) // 2
    outputs = module(inputs)
    bias = 0 if module.bias is None else module.bias
    torch.testing.assert_close(rows @ matrix.mT + bias, outputs_as_rows(module, outputs))
    errors = normal(*outputs.shape, seed=1)
    (gradient,) = torch.autograd.grad((outputs * errors).sum(), module.weight)
    delta = outputs_as_rows(module, errors)
    torch.testing.assert_close(gradient.flatten(1), delta.mT @ rows)


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3), st.integers(1, 4),
    st.integers(7, 10), st.integers(7, 10),
)  # fmt: skip
def test_rows_agree_with_torch_unfold(
    kernel: int, stride: int, padding: int, dilation: int, channels: int, height: int, width: int
) -> None:
    module = nn.Conv2d(channels, 2, kernel, stride, padding, dilation).double()
    inputs = normal(2, channels, height, width)
    expected = nn.functional.unfold(inputs, kernel, dilation, padding, stride)
    torch.testing.assert_close(input_rows(module, inputs), expected.mT.flatten(0, 1))


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3), (2, 4, 5, 3)])
def test_linear_layers_read_one_row_per_token(shape: tuple[int, ...]) -> None:
    module, inputs = nn.Linear(3, 4).double(), normal(*shape)
    rows = input_rows(module, inputs)
    assert len(rows) == shape[0] * rows_per_sample(module, inputs)
    outputs = module(inputs)
    expected = outputs_as_rows(module, outputs)
    torch.testing.assert_close(rows @ weight_matrix(module).mT + module.bias, expected)
    errors = normal(*outputs.shape, seed=1)
    (gradient,) = torch.autograd.grad((outputs * errors).sum(), module.weight)
    torch.testing.assert_close(gradient, errors.flatten(0, -2).mT @ rows)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_reads_tokens_sample_by_sample(batch_first: bool) -> None:
    module = nn.MultiheadAttention(6, 1, batch_first=batch_first).double()
    with torch.no_grad():
        module.in_proj_bias.normal_(generator=torch.Generator().manual_seed(0))
    tokens = normal(2, 5, 6)  # samples first
    inputs = tokens if batch_first else tokens.transpose(0, 1)
    assert rows_per_sample(module, tokens) == 5
    rows, matrix = input_rows(module, tokens), weight_matrix(module)
    torch.testing.assert_close(rows, tokens.flatten(0, 1), rtol=0, atol=0)
    # Attention by hand from these queries, keys and values is the module's output.
    projected = (rows @ matrix.mT + module.in_proj_bias).reshape(2, 5, 3, 6)
    queries, keys, values = projected.unbind(2)
    weights = (queries @ keys.mT / 6**0.5).softmax(dim=-1)
    outputs = module(inputs, inputs, inputs)[0]
    outputs = outputs if batch_first else outputs.transpose(0, 1)
    torch.testing.assert_close(outputs, module.out_proj(weights @ values))


def test_attention_to_other_widths_is_read_by_its_queries() -> None:
    module = nn.MultiheadAttention(6, 2, kdim=3, vdim=4)
    assert weight_matrix(module) is module.q_proj_weight


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 4, 3, padding=1, stride=2), (3, 3, 6, 5)),
        (nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"), (3, 3, 7)),
        (nn.Linear(6, 4), (3, 5, 6)),
        (nn.Linear(6, 4), (3, 6)),
        (nn.MultiheadAttention(6, 2), (3, 5, 6)),
    ],
)
def test_positions_choose_rows_of_their_sample(module: nn.Module, shape: tuple[int, ...]) -> None:
    inputs = normal(*shape).float()
    available = rows_per_sample(module, inputs)
    generator = torch.Generator().manual_seed(2)
    positions = torch.randint(available, (3, 4), generator=generator)  # some of them twice
    everything = input_rows(module, inputs).unflatten(0, (3, available))
    expected = torch.cat([everything[sample, positions[sample]] for sample in range(3)])
    torch.testing.assert_close(input_rows(module, inputs, positions), expected, rtol=0, atol=0)


def test_pictures_of_more_pixels_than_float32_counts_are_unfolded_exactly() -> None:
    inputs = torch.zeros(1, 1, 2**12, 2**12 + 2)  # past 2^24 pixels
    inputs[0, 0, -1, -1], inputs[0, 0, -1, -2] = 7.0, 5.0
    module = nn.Conv2d(1, 1, (1, 2), (2**12 - 1, 1))
    last = torch.tensor([[rows_per_sample(module, inputs) - 1]])
    assert input_rows(module, inputs, last).tolist() == [[5.0, 7.0]]


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, groups=4),
        nn.ConvTranspose2d(4, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Sequential(nn.Linear(3, 3)),
    ],
)
def test_modules_without_one_matrix_have_none(module: nn.Module) -> None:
    assert weight_matrix(module) is None
