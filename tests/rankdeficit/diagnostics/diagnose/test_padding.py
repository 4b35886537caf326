"""Padding counts in no number: sequences padded to different lengths give the same record."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import rankdeficit as rd
from rankdeficit.diagnostics import ProbeSettings
from rankdeficit.diagnostics.reading.masks import MaskOf
from tests.rankdeficit.diagnostics.diagnose.problems import differences, measures

WIDTH, CLASSES = 6, 3
PROBES = ProbeSettings(dtype=torch.float64, tolerance=1e-5, resamples=20)
OF_TENSORS = ["logits", "layer_ranks", "penultimate", "alignment", "gradient_ranks"]
"""What is measured where one test covers all measures."""


class Encoder(nn.Module):
    """A block of torch's transformer over tokens, and the mean of those that are no padding."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.last = nn.Linear(8, CLASSES)
        self.batch_first = batch_first

    def forward(self, x: Tensor, key_padding_mask: Tensor) -> Tensor:
        x = self.first(x if self.batch_first else x.transpose(0, 1)).tanh()
        attended = self.attention(x, x, x, key_padding_mask=key_padding_mask, need_weights=False)
        x = self.norm(x + attended[0])
        x = x + self.down(self.up(x).relu())
        x = x if self.batch_first else x.transpose(0, 1)
        tokens = (~key_padding_mask)[:, :, None].to(x)
        return self.last((x * tokens).sum(1) / tokens.sum(1))


class Recurrent(nn.Module):
    """An LSTM between linear layers, read at the last token."""

    def __init__(self, batch_first: bool, packed: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, 8), nn.Linear(7, CLASSES)
        self.rnn = nn.LSTM(8, 7, batch_first=batch_first)
        self.between = Between()
        self.batch_first, self.packed = batch_first, packed

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        x = self.first(x).relu()
        if self.packed:
            own = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            x = pad_packed_sequence(self.rnn(own)[0], batch_first=True)[0]
        else:
            x = self.rnn(x if self.batch_first else x.transpose(0, 1))[0]
            x = x if self.batch_first else x.transpose(0, 1)
        last = x[torch.arange(len(x), device=x.device), lengths - 1]
        return self.last(self.between(last))


class Convolutional(nn.Module):
    """Convolutions over tokens, of which the padding is set to zero before each."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv1d(WIDTH, 8, 1)
        self.second = nn.Conv1d(8, 7, 3, padding=1, stride=stride)
        self.last = nn.Linear(7, CLASSES)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        tokens = attention_mask[:, None].to(x)
        x = self.second(self.first(x.mT).relu() * tokens).relu()
        tokens = tokens[:, :, :: self.second.stride[0]]
        return self.last((x * tokens).sum(2) / tokens.sum(2))


class Between(nn.Identity):
    """Where a tensor can be read."""


def sequences(tokens: int, seed: int, samples: int = 48) -> list[dict[str, Tensor]]:
    """Batches of sequences of 2 to 9 tokens, padded by random numbers."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 10, (samples,), generator=generator)
    labels = torch.arange(samples) % CLASSES
    x = torch.randn(samples, 9, WIDTH, generator=generator, dtype=torch.float64)
    x += labels[:, None, None]
    noise = torch.randn(samples, tokens, WIDTH, generator=generator, dtype=torch.float64)
    tokened = torch.arange(tokens) < lengths[:, None]
    padded = torch.where(
        tokened[:, :, None], nn.functional.pad(x, (0, 0, 0, tokens - 9)), 9 * noise
    )
    whole = {"x": padded, "lengths": lengths, "labels": labels, "tokens": tokened.long()}
    return [
        {name: value[start : start + 20] for name, value in whole.items()}
        for start in range(0, samples, 20)
    ]


def record(
    model: nn.Module,
    tokens: int,
    names: str,
    mask: MaskOf = None,
    only: list[str] | None = OF_TENSORS,
) -> dict[str, Any]:
    """Of the model on sequences padded to so many tokens; names: of what is in a batch."""

    def batches(seed: int) -> list[dict[str, Tensor]]:
        found = sequences(tokens, seed)
        for batch in found:
            batch["key_padding_mask"] = batch["tokens"] == 0
            batch["attention_mask"] = batch["tokens"]
        kept = ("x", "labels", *names.split())
        return [{name: own[name] for name in kept} for own in found]

    other = {"other": (None, batches(2))} if only is None else None
    return measures(
        rd.diagnose(model, batches(0), batches(1), other, measures=only, probes=PROBES, mask=mask)
    )


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().double()


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return not [
        (path, a, b)
        for path, a, b in differences(first, second)
        if not (isinstance(a, float) and abs(a - b) < 1e-6 * max(1, abs(a))) and "probe" not in path
    ]


@pytest.mark.parametrize("batch_first", [True, False])
def test_padding_of_a_transformer_changes_nothing(batch_first: bool) -> None:
    model = seeded(lambda: Encoder(batch_first))
    only = None if batch_first else OF_TENSORS
    found = record(model, 12, "key_padding_mask", only=only)
    assert same(found, record(model, 40, "key_padding_mask", only=only))
    assert not [note for note in found["notes"] if "padding" in note]
    assert len(found["layers"]) == 5
    if not batch_first:
        assert same(found, record(seeded(lambda: Encoder(True)), 12, "key_padding_mask"))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_padding_of_an_lstm_changes_nothing(batch_first: bool, packed: bool) -> None:
    model = seeded(lambda: Recurrent(batch_first or packed, packed))
    found = record(model, 12, "lengths")
    assert [layer["name"] for layer in found["layers"]] == ["first", "rnn", "last"]
    assert same(found, record(model, 40, "lengths"))
    plain = seeded(lambda: Recurrent(True, False))
    assert same(found, record(plain, 12, "lengths"))


def test_padding_of_convolutions_over_tokens_changes_nothing() -> None:
    found = record(seeded(Convolutional), 12, "attention_mask")
    assert same(found, record(seeded(Convolutional), 41, "attention_mask"))
    assert not [note for note in found["notes"] if "padding" in note]
    longer = record(seeded(lambda: Convolutional(stride=2)), 12, "attention_mask")
    assert [note for note in longer["notes"] if "padding counts" in note and "second" in note]


def test_masks_by_a_function_and_by_name_are_the_same() -> None:
    model = seeded(lambda: Recurrent(True, False))
    expected = record(model, 12, "lengths")
    for mask in (lambda batch: batch["tokens"], "tokens"):
        assert same(record(model, 12, "lengths tokens", mask), expected)
    everything = record(model, 12, "lengths", lambda batch: torch.ones(len(batch["x"]), 12))
    assert not same(everything, expected)


def test_features_are_means_over_tokens() -> None:
    model = seeded(lambda: Encoder(True))
    batches = sequences(12, 0)
    rows = []
    for batch in batches:
        hidden = model.first(batch["x"]).tanh()
        rows += [own[:length].mean(0) for own, length in zip(hidden, batch["lengths"], strict=True)]
    expected = rd.spectrum(torch.stack(rows).detach()).stable_rank()
    found = record(model, 12, "key_padding_mask")["layers"][0]["train"]["stable_rank"]
    assert found == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        ("absent", "'absent'"),
        (lambda batch: batch["labels"], "mask gives"),
        (lambda batch: batch["tokens"] * 0, "padding alone"),
    ],
)
def test_bad_masks_are_told(mask: MaskOf, match: str) -> None:
    with pytest.raises(ValueError, match=f"train, batch 0.*{match}"):
        record(seeded(lambda: Recurrent(True, False)), 12, "lengths tokens", mask)
