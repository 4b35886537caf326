"""Temperature of attention: softmax(Q K^T / (sqrt(d) T)) in every writing, fixed and learned."""

import copy
import math
from collections.abc import Callable

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional

from rankdeficit.control import attention_temperatures, set_attention_temperature
from rankdeficit.diagnostics.reading.attention import reading_attention
from tests.rankdeficit.diagnostics.architectures.hugging_face import image_model

WIDTH, HEADS = 8, 2


class Timm(nn.Module):
    """timm's attention, with or without normalised queries and keys."""

    def __init__(self, qk_norm: bool) -> None:
        super().__init__()
        norm = nn.LayerNorm if qk_norm else None
        self.attn = timm.layers.Attention(
            WIDTH, HEADS, qkv_bias=True, qk_norm=qk_norm, norm_layer=norm
        )

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attn(x)
        return mixed


class Torch(nn.Module):
    """nn.MultiheadAttention, with keys of the queries' width or of another."""

    def __init__(self, kdim: int = WIDTH, bias: bool = True) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, bias=bias, kdim=kdim, batch_first=True)
        self.kdim = kdim

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attn(x, x[..., : self.kdim], x, need_weights=False)[0]
        return mixed


def transformers_vit() -> nn.Module:
    """With a single block: the logits of a second one would follow the first one's output."""
    model = image_model("ViT")
    del model.vit.layers[1:]  # type: ignore[union-attr,operator,index]
    return model


WRITINGS: dict[str, Callable[[], nn.Module]] = {
    "timm": lambda: Timm(False),
    "timm, normalised": lambda: Timm(True),
    "torch": Torch,
    "torch, no bias": lambda: Torch(bias=False),
    "torch, other keys": lambda: Torch(6),
    "transformers": transformers_vit,
}


def inputs(name: str) -> Tensor:
    shape = (1, 3, 32, 32) if name == "transformers" else (1, 5, WIDTH)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention_logits(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with (
        torch.no_grad(),
        reading_attention(model, lambda own: found.update({own.name: own.logits[0]})),
    ):
        model(x)
    return found


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = WRITINGS[name]().double().eval()
    with torch.no_grad():
        for own in model.parameters():
            own.add_(0.2 * torch.randn_like(own))
    return model


@pytest.mark.parametrize("name", WRITINGS)
def test_the_logits_of_every_head_are_divided_by_its_temperature(name: str) -> None:
    model, x = made(name), inputs(name)
    before = attention_logits(model, x)
    plain = copy.deepcopy(model)
    names = set_attention_temperature(model, 4.0)
    assert names == list(before) == list(attention_temperatures(model))
    for own, logits in attention_logits(model, x).items():
        torch.testing.assert_close(logits, before[own] / 4)
    assert not any(own.requires_grad for n, own in model.named_parameters() if "temperature" in n)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in plain.parameters())

    set_attention_temperature(model, 1.0, learnable=True)  # replaces the other
    learned = {n: p for n, p in model.named_parameters() if n.endswith("log_temperature")}
    assert [p.shape for p in learned.values()] == [(HEADS,)] * len(names)
    torch.testing.assert_close(attention_logits(model, x), before)
    with torch.no_grad():
        for p in learned.values():
            p.copy_(torch.tensor([math.log(2.0), math.log(8.0)]))
    divided = torch.tensor([2.0, 8.0], dtype=torch.float64)
    for own, logits in attention_logits(model, x).items():
        torch.testing.assert_close(logits, before[own] / divided[:, None, None])
        torch.testing.assert_close(attention_temperatures(model)[own], divided)

    values = list(model.state_dict().values())
    assert len({own.data_ptr() for own in values}) == len(values)  # as files of weights want it
    copied = copy.deepcopy(model)
    torch.testing.assert_close(attention_logits(copied, x), attention_logits(model, x))
    set_attention_temperature(copied, 1.0)
    torch.testing.assert_close(attention_logits(copied, x), before)
    again = copy.deepcopy(plain)
    set_attention_temperature(again, 3.0, learnable=True)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(attention_logits(again, x), attention_logits(model, x))


@pytest.mark.parametrize("name", ["torch", "timm, normalised"])
def test_the_gradient_in_ln_t_is_that_of_the_output(name: str) -> None:
    model, x = made(name), inputs(name)
    set_attention_temperature(model, 0.5, learnable=True)
    (own,) = [p for n, p in model.named_parameters() if n.endswith("log_temperature")]
    (gradient,) = torch.autograd.grad(model(x).square().sum(), own)
    with torch.no_grad():
        for head in range(HEADS):
            values = []
            for step in (1e-5, -2e-5):
                own[head] += step
                values.append(model(x).square().sum().item())
            own[head] += 1e-5
            slope = (values[0] - values[1]) / 2e-5
            assert gradient[head].item() == pytest.approx(slope, rel=1e-5)


def test_a_fixed_temperature_is_not_trained() -> None:
    model, x = made("torch"), inputs("torch")
    set_attention_temperature(model, 5.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    torch.testing.assert_close(
        attention_temperatures(model)["attn"], torch.full((HEADS,), 5.0, dtype=torch.float64)
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_bad_temperatures_change_nothing(temperature: float) -> None:
    model = made("torch")
    names = list(model.state_dict())
    with pytest.raises(ValueError, match="temperature"):
        set_attention_temperature(model, temperature)
    assert list(model.state_dict()) == names


class Grouped(nn.Module):
    """Two queries share a key, as in decoders of transformers; queries are normalised on demand."""

    def __init__(self, norm: str = "") -> None:
        super().__init__()
        self.num_heads, width = 2 * HEADS, WIDTH // HEADS
        self.q_proj, self.k_proj = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = norm
        if norm:
            self.add_module(norm, nn.LayerNorm(width))

    def forward(self, x: Tensor) -> Tensor:
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        k = self.k_proj(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        if self.norm:
            q = self.get_submodule(self.norm)(q)
        return functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)


def test_grouped_queries_have_a_temperature_each() -> None:
    model, x = nn.Sequential(Grouped()).double(), inputs("torch")
    (before,) = attention_logits(model, x).values()
    set_attention_temperature(model, 4.0)
    (after,) = attention_logits(model, x).values()
    torch.testing.assert_close(after, before / 4)
    assert attention_temperatures(model)["0"].shape == (2 * HEADS,)


@pytest.mark.parametrize("name", ["q_norm", "q_layernorm", "query_layernorm"])
def test_queries_that_are_normalised_later_are_refused(name: str) -> None:
    """A normalisation behind the layer undoes what divides its output."""
    with pytest.raises(ValueError, match="attention"):
        set_attention_temperature(Grouped(name), 4.0)


def test_models_that_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="MultiheadAttention"):
        set_attention_temperature(nn.Linear(3, 2), 2.0)

    class OtherAxes(nn.Module):
        """Normalises queries whose heads are on another axis."""

        def __init__(self) -> None:
            super().__init__()
            self.num_heads, self.qkv = HEADS, nn.Linear(WIDTH, WIDTH)
            self.q_norm, self.k_norm = nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            queries: Tensor = self.q_norm(self.qkv(x).unflatten(-1, (HEADS, -1)))
            return queries

    model = OtherAxes()
    set_attention_temperature(model, 2.0)
    with pytest.raises(ValueError, match="heads"):
        model(torch.zeros(1, 5, WIDTH))
