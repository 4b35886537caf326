"""The layers of one network do not depend on how it is written, and what is no layer is told."""

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision.models as zoo
from torch import Tensor, nn
from torch.nn import functional

import rankdeficit as rd
from rankdeficit.diagnostics.reading.taps import find_layers
from tests.rankdeficit.diagnostics.diagnose.problems import QUICK
from tests.rankdeficit.diagnostics.taps.networks import (
    IMAGES,
    VECTORS,
    CifarResNet,
    names,
    read_layers,
    seeded,
)

TOKENS = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(4))
LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


class Torch(nn.Module):
    """Self-attention with two heads by torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Fused(nn.Module):
    """One linear layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Separate(nn.Module):
    """Three of them, and the product written out."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))
        self.dense = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        layers = self.query, self.key, self.value
        q, k, v = (own(x).unflatten(2, (2, 4)).transpose(1, 2) for own in layers)
        weights = (q @ k.mT / 2).softmax(-1)
        return self.dense((weights @ v).transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    """Two blocks around an attention, and a classifier."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(make() for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(8) for _ in range(4))
        self.up = nn.ModuleList(nn.Linear(8, 12) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(12, 8) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(2):
            x = x + self.attentions[i](self.norms[2 * i](x))
            x = x + self.down[i](functional.gelu(self.up[i](self.norms[2 * i + 1](x))))
        return self.head(x.mean(1))


def written_three_ways() -> dict[str, nn.Module]:
    """The same function with the same weights."""
    own, fused, separate = (seeded(Encoder(kind)) for kind in (Torch, Fused, Separate))
    weights = own.state_dict()
    shared = {name: value for name, value in weights.items() if not name.startswith("attentions")}
    for model in (fused, separate):
        model.load_state_dict(shared, strict=False)
    with torch.no_grad():
        for i in range(2):
            attention = own.attentions[i].attention
            last, first = fused.attentions[i], separate.attentions[i]
            for name, joined in (
                ("weight", attention.in_proj_weight),
                ("bias", attention.in_proj_bias),
            ):
                getattr(last.qkv, name).copy_(joined)
                getattr(last.proj, name).copy_(getattr(attention.out_proj, name))
                getattr(first.dense, name).copy_(getattr(attention.out_proj, name))
                parts = zip((first.query, first.key, first.value), joined.chunk(3), strict=True)
                for layer, value in parts:
                    getattr(layer, name).copy_(value)
    return {"torch": own, "fused": fused, "separate": separate}


def test_an_attention_is_one_layer_however_it_is_written() -> None:
    models = written_three_ways()
    reports = {
        name: rd.diagnose(copy.deepcopy(model).double(), [(TOKENS, LABELS)], [(TOKENS, LABELS)])
        for name, model in models.items()
    }
    expected = read_layers(models["torch"], TOKENS)
    assert len(expected) == 2 * 3 + 1
    for name, model in models.items():
        found = read_layers(model, TOKENS)
        torch.testing.assert_close(list(found.values()), list(expected.values()))
        for measure in ("effective_depth.value", "effective_depth.interval"):
            assert reports[name][measure] == reports["torch"][measure]
        for own, reference in zip(
            reports[name].record["layers"], reports["torch"].record["layers"], strict=True
        ):
            for measure in ("alignment", "alignment_error", "alignment_random"):
                assert own[measure] == pytest.approx(reference[measure], abs=1e-5)
            for measure in ("gradient", "input"):
                for key in ("rank", "stable_rank", "effective_rank"):
                    assert own[measure][key] == pytest.approx(reference[measure][key], rel=1e-4)
        assert reports[name]["network"]["left_out"] == {}
    assert reports["torch"]["network"]["counted_with"] == {}
    assert reports["fused"]["network"]["counted_with"] == {
        f"attentions.{i}.qkv": [f"attentions.{i}.proj"] for i in (0, 1)
    }
    assert reports["separate"]["network"]["counted_with"] == {
        f"attentions.{i}.query": [f"attentions.{i}.{own}" for own in ("key", "value", "dense")]
        for i in (0, 1)
    }
    text = str(reports["separate"])
    assert all(name in text for name in ("attentions.#.query", "attentions.#.key"))


def test_the_last_product_without_a_projection_of_its_own_is_a_layer_by_itself() -> None:
    class Bare(Separate):
        def forward(self, x: Tensor) -> Tensor:
            return (self.query(x) @ self.key(x).mT).softmax(-1) @ self.value(x)

    model = Encoder(Bare)
    found = find_layers(model, TOKENS)
    assert [layer.name.split(".")[-1] for layer in found.chosen[:2]] == ["query", "0"]
    assert found.left_out == {f"attentions.{i}.dense": "not run" for i in (0, 1)}


def test_vision_transformers_of_two_libraries_have_the_same_layers() -> None:
    timm = pytest.importorskip("timm")
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 3, "num_heads": 2, "mlp_dim": 24}
    own = zoo.VisionTransformer(**sizes, hidden_dim=12, num_classes=4)
    other = timm.models.VisionTransformer(
        img_size=32, patch_size=8, depth=3, num_heads=2, mlp_ratio=2, embed_dim=12, num_classes=4
    )
    # patches, (attention and two linear layers) x 3 blocks, classifier
    assert [len(names(model, IMAGES)) for model in (own, other)] == [1 + 3 * 3 + 1] * 2


def test_branches_on_one_input_are_one_layer_and_longer_ones_are_told() -> None:
    squeeze = find_layers(zoo.squeezenet1_1(num_classes=10), torch.randn(2, 3, 64, 64))
    assert len(squeeze.chosen) == 18
    assert not squeeze.left_out
    beside = {layer.name: layer.counted_with for layer in squeeze.chosen}
    assert beside["features.3.expand1x1"] == ("features.3.expand3x3",)

    model = zoo.googlenet(num_classes=10, init_weights=False, aux_logits=True)
    google = find_layers(model, IMAGES)
    with_first = {layer.name: layer.counted_with for layer in google.chosen}
    assert with_first["inception3a.branch2.0.conv"] == (
        "inception3a.branch1.conv",
        "inception3a.branch3.0.conv",
    )
    assert google.left_out["inception3a.branch4.1.conv"] == "parallel branch"
    counted = {*with_first, *(name for own in with_first.values() for name in own)}
    weights = {n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert counted | google.left_out.keys() == weights
    assert not counted & google.left_out.keys()
    assert google.left_out["aux1.fc2"] == "not run"


def test_shortcuts_and_gates_are_told_by_name() -> None:
    assert find_layers(CifarResNet(1, "after"), IMAGES).left_out == {
        f"blocks.{i}.shortcut.0": "shortcut" for i in (1, 2)
    }
    assert find_layers(zoo.mobilenet_v3_small(num_classes=4), IMAGES).left_out.keys() == {
        f"features.{i}.block.{1 if i == 1 else 2}.{fc}"
        for i in (1, *range(4, 12))
        for fc in ("fc1", "fc2")
    }

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.pooler = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(5, 5)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.first(x).relu()
            return {"logits": self.last(x), "pooled": self.pooler(x)}

    found = find_layers(Pooled(), VECTORS)
    assert found.left_out == {"pooler": "beside the path to the logits"}
    report = rd.diagnose(Pooled(), [(VECTORS, LABELS[:3])], [(VECTORS, LABELS[:3])], **QUICK)
    assert report["network.left_out.pooler"] == "beside the path to the logits"
    assert "pooler" in str(report)


class Adapted(nn.Module):
    """A linear layer with a low-rank update beside it, as LoRA writes it."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(functional.dropout(x, 0.1, self.training))) * 2


def test_low_rank_updates_are_beside_the_layers_that_they_adapt() -> None:
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 4))
    adapted = nn.Sequential(
        Adapted(plain[0], 2), nn.ReLU(), Adapted(plain[2], 3), nn.ReLU(), plain[4]
    )
    found = find_layers(adapted, VECTORS)
    assert [layer.name for layer in found.chosen] == ["0.base", "2.base", "4"]
    updates = [f"{i}.{own}" for i in (0, 2) for own in ("down", "up")]
    assert found.left_out == dict.fromkeys(updates, "low-rank update")
    assert [place.module for place in (own.representation for own in found.chosen)] == [
        "1",
        "3",
        "",
    ]


def test_a_deep_branch_that_is_no_low_rank_update_stays_the_main_path() -> None:
    class Residual(nn.Module):
        def __init__(self, wide: bool, between: nn.Module) -> None:
            super().__init__()
            self.short, self.down = nn.Linear(6, 6), nn.Linear(6, 9 if wide else 3)
            self.between, self.up = between, nn.Linear(9 if wide else 3, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.short(x) + self.up(self.between(self.down(x)))

    for wide, between in ((True, nn.Identity()), (False, nn.ReLU()), (False, nn.BatchNorm1d(3))):
        found = find_layers(nn.Sequential(Residual(wide, between), nn.Linear(6, 4)), VECTORS)
        assert [layer.name for layer in found.chosen] == ["0.down", "0.up", "1"]
        assert found.left_out == {"0.short": "shortcut"}
    after = nn.Sequential(nn.Linear(6, 6), Skip(nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6))))
    assert names(nn.Sequential(*after, nn.Linear(6, 4)), VECTORS) == [
        "0",
        "1.branch.0",
        "1.branch.1",
        "2",
    ]


class Skip(nn.Module):
    """x plus a branch of it."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("read", ["sequence", "state"])
def test_recurrent_networks_are_layers(kind: type[nn.RNNBase], read: str) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(8, 6)
            self.rnn = kind(6, 5, num_layers=2, batch_first=True)
            self.last = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            sequence, state = self.rnn(self.first(x).relu())
            state = state[0] if isinstance(state, tuple) else state
            return self.last(sequence[:, -1] if read == "sequence" else state[-1])

    found = find_layers(seeded(Recurrent()), TOKENS)
    assert [(layer.name, layer.kind) for layer in found.chosen] == [
        ("first", "linear"),
        ("rnn", "composite"),
        ("last", "linear"),
    ]


def test_branches_on_other_patches_are_noted() -> None:
    class Fire(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.three = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
            self.other, self.last = nn.Conv2d(3, 4, 1), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            branches = [self.one(x), self.other(x), self.three(x)]
            return self.last(torch.cat(branches, 1).relu().mean((2, 3)))

    images = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    data = [(images, torch.arange(8) % 4)]
    model = seeded(Fire())
    report = rd.diagnose(model, data, data, measures=["alignment"], rows_per_sample=36)
    assert report["network.counted_with"] == {"one": ["other", "three"]}
    assert [own for own in report["notes"] if "branches" in own and "(one for" in own]
    both = torch.cat([model.one.weight.flatten(1), model.other.weight.flatten(1)])
    rows = images.movedim(1, -1).flatten(0, 2)
    expected = rd.diagnostics.alignment(both.detach(), rows)
    assert report["layers.one.alignment"] == pytest.approx(float(expected), abs=1e-5)


class OfGpt2(nn.Module):
    """Two branches on one input, their sum, and a head: with a linear layer, or GPT-2's."""

    def __init__(self, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.first, self.other = layer(6, 9), layer(6, 9)
        self.second, self.head = layer(9, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh() + self.other(x).tanh()
        return self.head(self.second(hidden).relu().mean(dim=1))


def test_a_linear_layer_is_the_same_layer_with_its_weight_transposed() -> None:
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    torch.manual_seed(0)
    plain, transposed = OfGpt2(nn.Linear), OfGpt2(lambda width, out: conv1d(out, width))
    with torch.no_grad():
        for name, own in plain.named_parameters():
            turned = own.ndim == 2 and not name.startswith("head")
            transposed.get_parameter(name).copy_(own.mT if turned else own)
    labels = torch.arange(90) % 4
    data = [(torch.randn(90, 5, 6), labels)]
    reports = [rd.diagnose(own, data, data, probes=False) for own in (plain, transposed)]
    for one, other in zip(*(report["layers"] for report in reports), strict=True):
        assert one["alignment"] is not None
        for name in ("alignment", "alignment_error", "alignment_random"):
            assert one[name] == pytest.approx(other[name], rel=1e-5), one["name"]
        assert (one["kind"], one["train"]["rank"]) == (other["kind"], other["train"]["rank"])
        for name in ("gradient", "input"):
            assert one[name]["rank_curve"] == other[name]["rank_curve"]
            assert one[name]["stable_rank"] == pytest.approx(other[name]["stable_rank"], rel=1e-4)
    assert len(reports[0]["layers"]) == 3


class Experts(nn.Module):
    """The expert that a router chooses for each sample, multiplied with all others or alone."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way, self.router = way, nn.Linear(6, 3)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 6, 6)), nn.Parameter(torch.randn(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.router(x).argmax(dim=1)
        if self.way == "selected":
            return torch.bmm(x[:, None], self.weight[chosen])[:, 0] + self.bias[chosen]
        every = torch.bmm(x.expand(3, *x.shape), self.weight) + self.bias[:, None]
        return every[chosen, torch.arange(len(x))]


def test_experts_are_one_layer_with_all_products_or_with_selected_weights() -> None:
    networks = [
        seeded(nn.Sequential(nn.Linear(6, 6), nn.ReLU(), Experts(way), nn.Linear(6, 4)))
        for way in ("all", "selected")
    ]
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(networks[0](x), networks[1](x), atol=1e-6)
    for network in networks:
        found = find_layers(network, x)
        assert [layer.name for layer in found.chosen] == ["0", "2", "3"]
        assert found.chosen[1].counted_with == ("2.router",)
        assert not found.left_out


class Bare(nn.Module):
    """A branch that is multiplied by parameters of the network itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 6), nn.Linear(6, 4)
        self.experts = nn.Parameter(torch.randn(3, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return self.head(h + torch.bmm(h.expand(3, *h.shape), self.experts).mean(dim=0))


def test_a_parameter_that_a_branch_is_multiplied_by_outside_of_modules_is_told_by_name() -> None:
    found = find_layers(seeded(Bare()), torch.randn(8, 6))
    assert [layer.name for layer in found.chosen] == ["stem", "head"]
    assert "outside" in found.left_out["experts"]
