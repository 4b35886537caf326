"""Attention of known queries and keys, in all the ways in which it is written."""

import math
from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn
from torch.nn import functional

import rankdeficit as rd
from rankdeficit.diagnostics.measures.attention import Found, attention, attention_heads
from rankdeficit.diagnostics.reading.attention import Attention
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.spectrum import numerical_rank
from tests.rankdeficit.diagnostics.architectures.hugging_face import text_model

WIDTH, HEADS, TOKENS = 8, 2, 5


def known(products: Tensor, mask: Tensor | None = None, bias: float = 0.0) -> Attention:
    """One head of these logits in one window. mask: True where a query may attend."""
    products = products.double()[None, None]
    allowed = torch.ones_like(products, dtype=torch.bool) if mask is None else mask[None, None]
    logits = (products + bias).masked_fill(~allowed, -math.inf)
    return Attention("known", products, logits, allowed)


def numbers(own: Attention) -> dict[str, float]:
    heads = attention_heads(own)
    assert heads is not None
    return {name: value.item() for name, value in heads._asdict().items()}


@pytest.mark.parametrize("n", [1, 7])
def test_uniform_attention_has_entropy_ln_n_and_rank_1(n: int) -> None:
    found = numbers(known(torch.full((4, n), 3.0)))
    assert found["entropy"] == pytest.approx(math.log(n), abs=1e-12)
    assert found["spread"] == pytest.approx(0, abs=1e-12)
    assert (found["logits_rank"], found["softmax_rank"]) == (1, 1)
    assert (
        math.isnan(found["entropy_share"]) if n == 1 else found["entropy_share"] == pytest.approx(1)
    )


def test_attention_to_oneself_has_entropy_0_and_full_rank() -> None:
    n, scale = 6, 1000.0
    found = numbers(known(scale * torch.eye(n)))
    assert found["entropy"] == found["entropy_share"] == 0
    assert (found["logits_rank"], found["softmax_rank"]) == (n, n)
    assert found["spread"] == pytest.approx(scale * math.sqrt((n - 1) / n**2))


def test_two_keys_in_closed_form() -> None:
    gap = 1.5
    p = 1 / (1 + math.exp(-gap))
    found = numbers(known(torch.tensor([[gap, 0.0], [0.0, gap]]), bias=9.0))
    assert found["entropy"] == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert found["entropy_share"] == pytest.approx(found["entropy"] / math.log(2))
    assert found["spread"] == pytest.approx(gap / 2)


def test_a_causal_mask_leaves_later_keys_out() -> None:
    n = 5
    found = numbers(known(torch.zeros(n, n), torch.ones(n, n).tril().bool()))
    assert found["entropy"] == pytest.approx(sum(math.log(i) for i in range(1, n + 1)) / n)
    assert found["entropy_share"] == pytest.approx(1)
    assert (found["spread"], found["softmax_rank"]) == (0, n)


def test_padding_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    whole, tokens = torch.randn(6, 6, generator=generator), torch.tensor([1, 1, 0, 1, 1, 0]).bool()
    padded = numbers(known(whole, tokens.expand(6, 6)))
    assert padded == pytest.approx(numbers(known(whole[tokens][:, tokens])))
    assert attention_heads(known(whole, torch.zeros(6, 6, dtype=torch.bool))) is None


class Eager(nn.Module):
    """Attention as it stands in text books, with a mask or bias that is added to the logits."""

    def __init__(self, added: Tensor | None = None, how: str = "+") -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.added, self.how = added, how

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.how == "sdpa":
            mixed = functional.scaled_dot_product_attention(q, k, v, self.added)
            return self.proj(mixed.transpose(1, 2).flatten(2))
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(WIDTH / HEADS)
        if self.added is not None and self.how == "in place":
            scores += self.added
        elif self.added is not None and self.how == "windows":
            scores = (scores.view(n, 1, HEADS, tokens, tokens) + self.added).view(scores.shape)
        elif self.added is not None:
            scores = scores + self.added
        return self.proj((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))


class Torch(nn.Module):
    """nn.MultiheadAttention, with or without returning its weights."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attn(x, x, x, need_weights=self.need_weights)[0]
        return mixed


class Classifier(nn.Module):
    """A block with attention, and a head."""

    def __init__(self, attn: nn.Module) -> None:
        super().__init__()
        self.embed, self.attn, self.head = nn.Linear(3, WIDTH), attn, nn.Linear(WIDTH, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        logits: Tensor = self.head((x + self.attn(x)).mean(dim=1))
        return logits


def inputs() -> Tensor:
    return torch.randn(3, TOKENS, 3, generator=torch.Generator().manual_seed(3))


def classifier(attn: nn.Module) -> nn.Module:
    """With the same weights, however the attention is written."""
    generator, model = torch.Generator().manual_seed(1), Classifier(attn)
    drawn: dict[tuple[int, ...], Tensor] = {}
    with torch.no_grad():
        for own in model.parameters():
            if tuple(own.shape) not in drawn:
                drawn[tuple(own.shape)] = 0.9 * torch.randn(own.shape, generator=generator)
        for own in model.parameters():
            own.copy_(drawn[tuple(own.shape)])
    return model


def read(model: nn.Module, x: Tensor | Inputs) -> Found:
    network, batch = Network.of(model, x, None, pick_logits), Inputs.of(x)
    return attention(network, [batch[i : i + 1] for i in range(len(batch))])


def same(first: Any, second: Any) -> None:
    """Rows of equal numbers, to the precision of the networks."""
    for name in ("spread", "entropy", "entropy_share", "logits_rank", "softmax_rank"):
        assert first[name] == pytest.approx(second[name], rel=1e-4, abs=1e-5)


def test_all_writings_give_the_numbers_of_queries_and_keys() -> None:
    timm_attention = timm.layers.Attention
    fused, eager = (timm_attention(WIDTH, num_heads=HEADS, qkv_bias=True) for _ in range(2))
    fused.fused_attn, eager.fused_attn = True, False
    writings = [Eager(), Eager(how="sdpa"), Torch(True), Torch(False), fused, eager]
    models = [classifier(own) for own in writings]
    (row,) = read(models[0], inputs()).rows
    assert [row[name] for name in ("heads", "queries", "keys", "inputs")] == [
        HEADS,
        TOKENS,
        TOKENS,
        3,
    ]

    block = models[0].attn
    assert isinstance(block, Eager)
    with torch.no_grad():
        embedded = models[0].embed(inputs())  # type: ignore[operator]
        q, k, _ = (
            block.qkv(embedded).reshape(3, TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4).double()
        )
    logits = q @ k.mT / math.sqrt(WIDTH / HEADS)
    weights = logits.softmax(dim=-1)
    entropy = torch.special.entr(weights).sum(dim=-1).mean(dim=-1)
    expected = {
        "spread": logits.std(dim=-1, correction=0).mean(dim=-1),
        "entropy": entropy,
        "entropy_share": entropy / math.log(TOKENS),
        "logits_rank": numerical_rank(logits).double(),
        "softmax_rank": numerical_rank(weights).double(),
    }
    same(row, {name: own.quantile(0.5, dim=0).tolist() for name, own in expected.items()})
    for name, own in expected.items():
        ends = torch.stack([own.amin(dim=0), own.amax(dim=0)], dim=1)
        torch.testing.assert_close(
            torch.tensor(row[f"{name}_range"]).double(), ends, rtol=1e-4, atol=1e-5
        )
    for model in models[1:]:
        (other,) = read(model, inputs()).rows
        same(other, row)


@pytest.mark.parametrize("how", ["+", "in place", "windows", "sdpa"])
@pytest.mark.parametrize("masked", [-100.0, -math.inf])
def test_masks_are_left_out_and_a_bias_is_not_in_the_rank(how: str, masked: float) -> None:
    bias = 0.3 * torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(5))
    mask = torch.zeros(TOKENS)
    mask[-1] = masked
    (plain,) = read(classifier(Eager(bias[:-1, :-1].clone(), how)), inputs()[:, :-1]).rows
    (padded,) = read(classifier(Eager(bias + mask, how)), inputs()).rows
    same(padded, plain)
    assert max(plain["logits_rank"]) <= WIDTH / HEADS


@pytest.mark.parametrize("masked", [False, True])
def test_numbers_do_not_depend_on_what_all_keys_of_a_query_share(masked: bool) -> None:
    """Subtracting the maximum, as some networks do against overflow, masks no key."""

    class Stable(Eager):
        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(30 * x).chunk(3, dim=-1)
            scores = q @ k.mT
            if self.how == "stable":
                scores = scores - scores.amax(dim=-1, keepdim=True)
                scores = scores.unsqueeze(1).squeeze(1) / 2 - 100.0
            else:
                scores = scores / 2
            if masked:
                scores = scores.masked_fill(torch.ones(TOKENS, TOKENS).triu(1).bool(), -1e9)
            return self.proj(scores.softmax(dim=-1) @ v)

    (plain,) = read(classifier(Stable()), inputs()).rows
    (found,) = read(classifier(Stable(how="stable")), inputs()).rows
    assert min(plain["spread"]) > 64
    same(found, plain)


def test_eager_and_fused_bert_agree_and_see_no_padding() -> None:
    tokens = torch.randint(4, 40, (2, 6), generator=torch.Generator().manual_seed(0))
    padding = torch.zeros(2, 3, dtype=torch.long)
    padded = {
        "input_ids": torch.cat([padding, tokens], dim=1),
        "attention_mask": torch.cat([padding, torch.ones_like(tokens)], dim=1),
        "position_ids": torch.cat([padding, torch.arange(6).expand(2, 6)], dim=1),
    }
    model = text_model("BERT")
    rows = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)  # type: ignore[operator]
        rows.append(read(model, Inputs(named={"input_ids": tokens})).rows)
        rows.append(read(model, Inputs(named=padded)).rows)
    for own in rows[1:]:
        assert [row["name"] for row in own] == [row["name"] for row in rows[0]]
        for row, first in zip(own, rows[0], strict=True):
            same(row, first)


class LinearAttention(nn.Module):
    """Softmax of keys and queries alone, before they meet."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return q.softmax(dim=-1) @ (k.softmax(dim=1).mT @ v)


def test_other_forms_are_named_and_networks_without_attention_are_left_alone() -> None:
    x, y = inputs(), torch.arange(3)
    data = [(x, y)]
    report = rd.diagnose(Classifier(LinearAttention()), data, data, measures=["attention"])
    assert report["attention"] is None
    (note,) = [own for own in report["notes"] if "LinearAttention" in own]
    assert '"attn"' in note
    plain = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * TOKENS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3)
    )
    report = rd.diagnose(plain, data, data, measures=["attention"])
    assert report["attention"] is None
    assert not [own for own in report["notes"] if "attention" in own]


def test_a_report_has_them_by_layer_and_head() -> None:
    x = inputs().repeat(4, 1, 1)[:10]
    data, model = [(x, torch.arange(10) % 4)], classifier(Eager())
    hooks = sum(len(own._forward_hooks) + len(own._forward_pre_hooks) for own in model.modules())
    report = rd.diagnose(model, data, data, measures=["attention"])
    (row,) = report["attention.layers"]
    assert row["name"] == "attn"
    assert row["inputs"] == 8
    assert len(report["attention.layers.attn.entropy"]) == HEADS
    assert "Attention" in str(report)
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    found = [
        own for own in report.numbers() if own.name.startswith("attention.layers.attn.entropy.")
    ]
    assert [own.split for own in found] == ["test"] * HEADS
