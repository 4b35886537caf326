"""Blocks of samples read from networks: what they hold, and data that cannot be read."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rankdeficit.diagnostics.reading.blocks as module_under_test
from rankdeficit.diagnostics.reading.blocks import Block, Reading, blocks
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.store import RowStore
from rankdeficit.diagnostics.reading.survey import Wanted, survey
from rankdeficit.diagnostics.reading.taps import pick_logits
from rankdeficit.diagnostics.reading.unfolding import input_rows, rows_per_sample
from rankdeficit.diagnostics.states.sampling import draws, positions, sample_keys

CLASSES = 4
ALL = Reading(grid=2, features=True, rows=3)
IMAGES = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(CLASSES, (20,), generator=torch.Generator().manual_seed(1))


def convolutional() -> nn.Sequential:
    """A network whose layers write over what was read: in-place ReLU after what each layer makes."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip


def network_of(model: nn.Module, inputs: Tensor = IMAGES, *patterns: str) -> Network:
    return Network.of(model, inputs, patterns or None, pick_logits)


def loader(size: int, inputs: Tensor = IMAGES, labels: Tensor = LABELS) -> list[Any]:
    return list(zip(inputs.split(size), labels.split(size), strict=True))


def read(network: Network, batches: Iterable[Any], reading: Reading = ALL, **more: Any) -> Block:
    """All blocks as one."""
    found = list(blocks(network, batches, "test", reading, **more))

    def joined(group: str) -> dict[str, Tensor]:
        return {
            name: torch.cat([getattr(b, group)[name] for b in found])
            for name in getattr(found[0], group)
        }

    single = {
        name: torch.cat([getattr(block, name) for block in found])
        for name in ("labels", "keys", "logits", "penultimate")
    }
    return Block(**single, features=joined("features"), rows=joined("rows"))


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("size", [1, 6, 20])
def test_blocks_hold_what_a_direct_computation_gives(
    size: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_under_test, "BLOCK", block)
    model = convolutional()
    found = read(network_of(model), iter(loader(size)))  # a stream that can be read once
    model.eval()
    with torch.no_grad():
        first = model[1](model[0](IMAGES))
        second = model[5](model[4](model[3](model[2](first))))
        logits = model(IMAGES)
        close = torch.testing.assert_close
        assert torch.equal(found.labels, LABELS)
        assert torch.equal(found.keys, sample_keys(IMAGES))
        close(found.logits, logits)
        close(found.penultimate, second.mean((2, 3)))
        quarters = nn.functional.adaptive_avg_pool2d(first, 2).flatten(1)
        assert list(found.features) == ["0", "3", "8"]
        close(found.features["0"], quarters)
        close(found.features["3"], second.flatten(1))  # 1 x 1 maps stay as they are
        close(found.features["8"], logits)
        layers = (("0", IMAGES), ("3", model[2](first)), ("8", second.mean((2, 3))))
        for salt, (name, inputs) in enumerate(layers):
            module = model[int(name)]
            available = rows_per_sample(module, inputs)
            chosen = positions(draws(found.keys, 3, 3)[:, salt], available)
            close(found.rows[name], input_rows(module, inputs, chosen))
            assert len(found.rows[name]) == 20 * min(3, available)


def test_blocks_are_as_large_as_asked_and_the_last_one_holds_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module_under_test, "BLOCK", 7)
    sizes = [len(b.labels) for b in blocks(network_of(convolutional()), loader(3), "test", ALL)]
    assert sizes == [9, 9, 2]


def test_only_what_is_asked_for_is_read() -> None:
    (found,) = blocks(network_of(convolutional()), loader(20), "test", Reading())
    assert found.features == {}
    assert found.rows == {}
    assert found.penultimate.shape == (20, 6)


def test_batchnorm_neither_moves_nor_mixes_samples() -> None:
    model = convolutional().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    together = read(network_of(model), loader(20))
    alone = read(network_of(model), loader(20, IMAGES[:1], LABELS[:1]))
    torch.testing.assert_close(together.logits[:1], alone.logits)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(module.training for module in model.modules())


def test_labels_may_be_lists_and_batches_longer_than_pairs() -> None:
    network = network_of(convolutional())
    expected = read(network, loader(5))
    lists = read(network, [[x, y.tolist()] for x, y in loader(5)])
    named = read(network, [(x, tuple(y.tolist()), {"index": 3}) for x, y in loader(5)])
    small = read(network, [(x, y.to(torch.uint8)) for x, y in loader(5)])
    for other in (lists, named, small):
        assert torch.equal(other.labels, expected.labels)
        assert torch.equal(other.logits, expected.logits)


def test_empty_batches_are_passed_over() -> None:
    network = network_of(convolutional())
    empty = (IMAGES[:0], LABELS[:0])
    found = read(network, [empty, *loader(6), empty])
    assert torch.equal(found.logits, read(network, loader(6)).logits)
    assert list(blocks(network, [empty], "test", ALL)) == []
    assert list(blocks(network, [], "test", ALL)) == []


def test_batches_are_shown_as_they_were_given() -> None:
    shown: list[tuple[Tensor, Tensor, Tensor]] = []
    read(
        network_of(convolutional()),
        loader(8),
        on_batch=lambda keys, inputs, labels: shown.append((keys, *inputs.tensors, labels)),
    )
    keys, inputs, labels = map(torch.cat, zip(*shown, strict=True))
    assert torch.equal(inputs, IMAGES)
    assert torch.equal(labels, LABELS)
    assert torch.equal(keys, sample_keys(IMAGES))


def test_double_networks_get_double_inputs() -> None:
    model = convolutional()
    expected = read(network_of(model), loader(6))
    found = read(network_of(model.double()), loader(6))
    assert found.logits.dtype == found.rows["3"].dtype == torch.float64
    torch.testing.assert_close(found.logits, expected.logits.double(), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.keys, expected.keys)


class SumInPlace(nn.Module):
    """Adds to what follows the first layer, after it could be read."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        x += self.second(x)
        return self.last(x)


def test_what_is_written_over_later_is_read_before() -> None:
    model, inputs = SumInPlace(), torch.randn(20, 6)
    found = read(network_of(model, inputs), loader(6, inputs))
    with torch.no_grad():
        first = model.first(inputs).relu()
        second = first + model.second(first)
    torch.testing.assert_close(found.features["first"], first)
    torch.testing.assert_close(found.features["second"], second)
    torch.testing.assert_close(found.penultimate, second)
    torch.testing.assert_close(found.rows["second"], first)


class TokenModel(nn.Module):
    """Integers in, their embeddings averaged by attention."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(50, 6)
        self.hidden, self.last = nn.Linear(6, 5), nn.Linear(5, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(torch.relu(self.hidden(self.embedding(tokens))).mean(1))


def test_networks_of_tokens_read_integers() -> None:
    tokens = torch.randint(50, (20, 9), generator=torch.Generator().manual_seed(4))
    model = TokenModel()
    found = read(network_of(model, tokens), loader(6, tokens))
    with torch.no_grad():
        embedded = model.embedding(tokens)
        torch.testing.assert_close(found.logits, model(tokens))
        torch.testing.assert_close(found.penultimate, torch.relu(model.hidden(embedded)).mean(1))
        chosen = positions(draws(sample_keys(tokens), 3, 1)[:, 0], 9)
        torch.testing.assert_close(found.rows["hidden"], input_rows(model.hidden, embedded, chosen))
    assert list(found.features) == ["hidden", "last"]


def test_labels_of_the_data_sets_own_classes_have_no_upper_bound() -> None:
    found = read(network_of(convolutional()), loader(6, labels=LABELS + 1000), own_labels=True)
    assert torch.equal(found.labels, LABELS + 1000)
    with pytest.raises(ValueError, match=r"test, batch 0: labels.* -2.* 0 or more"):
        read(network_of(convolutional()), loader(20, labels=LABELS - 2), own_labels=True)


def spoilt(value: float) -> Tensor:
    images = IMAGES.clone()
    images[[8, 11], 1, 2, 3] = value
    return images


GOOD = (IMAGES[:6], LABELS[:6])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (IMAGES, "tensor.*20, 3.*pairs"),
        ((IMAGES,), "tuple.* 1.*pairs"),
        ({"a": IMAGES, "b": IMAGES, "label": LABELS}, "inputs.*takes .input"),
        (7, "7.*pairs"),
        (None, "None.*pairs"),
        ((LABELS, IMAGES), "inputs.*tensor.*.20,..*torch.int64"),
        ((IMAGES.numpy().astype(object), LABELS), "inputs.*ndarray.* 20.*tensor"),
        ((list(IMAGES), LABELS), "inputs.*list.* 20.*tensor"),
        ((IMAGES, None), "labels.*None.*indices"),
        ((IMAGES, LABELS.double() / 2), "labels.*tensor.*.20,..*torch.float64"),
        ((IMAGES, [0.5] * 20), "labels.*list.* 20"),
        ((IMAGES, ["cat"] * 20), "labels.*list.* 20.*indices"),
        ((IMAGES, [None] * 20), "labels.*list.* 20.*indices"),
        ((IMAGES, 2 * nn.functional.one_hot(LABELS)), "labels.*tensor.*.20, 4."),
        ((IMAGES, LABELS[:, None, None]), "labels.*tensor.*.20, 1, 1."),
        ((IMAGES, torch.tensor(3)), r"labels.*tensor.*\(\)"),
        ((IMAGES, LABELS[:19]), "20 inputs.*19 labels"),
        ((IMAGES, LABELS + 1), "labels.*1..4.*0..3.*logits"),
        ((IMAGES, LABELS - 1), "labels.*-1..2.*0..3"),
        ((spoilt(math.nan), LABELS), r"inputs \[8, 11\].*NaN"),
        ((spoilt(-math.inf), LABELS), r"inputs \[8, 11\].*NaN"),
        ((spoilt(3e38), LABELS), r"logits.*\[8, 11\].*NaN"),
        ((IMAGES[:0], LABELS), "0 inputs.*20 labels"),
    ],
)
def test_bad_batches_are_named_and_the_network_is_left_as_it_was(batch: Any, message: str) -> None:
    model = convolutional().train()
    for layer in (model[0], model[3]):
        layer.weight.data *= 1e3  # so that huge pixels leave float32
    network = network_of(model)
    with pytest.raises(ValueError, match=rf"^test, batch 1\b.*{message}"):
        read(network, iter([GOOD, batch]))
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.usefixtures("unchecked")
def test_an_empty_data_set_is_an_error_of_that_data_set() -> None:
    network = network_of(convolutional())
    for nothing in ([], iter(()), [(IMAGES[:0], LABELS[:0])]):
        with (
            RowStore() as store,
            pytest.raises(ValueError, match=r"^validation.*empty"),
        ):
            survey("validation", network, nothing, Wanted(), temperature=1.0, grid=2, store=store)


class Wayward(nn.Module):
    """A network that takes another path, or makes something else, of dark pictures."""

    def __init__(self, whim: Callable[["Wayward", Tensor], Tensor]) -> None:
        super().__init__()
        self.body, self.last = convolutional()[:8], nn.Linear(6, CLASSES)
        self.other, self.whim = nn.Linear(6, CLASSES), whim

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.last(features) if x.mean() > -10 else self.whim(self, features)


def spoilt_logit(logits: Tensor) -> Tensor:
    """One class of one sample is infinite."""
    return logits.index_put((torch.tensor(2), torch.tensor(1)), torch.tensor(math.inf))


@pytest.mark.parametrize(
    ("whim", "message"),
    [
        (lambda net, h: net.other(h), "last.*first batch"),
        (lambda net, h: net.last(h)[:, :3], r"logits.*\(6, 3\).* 6 .* 4"),
        (lambda net, h: net.last(h)[:5], r"logits.*\(5, 4\).* 6 samples"),
        (lambda net, h: net.last(h).log() * math.nan, r"logits.*\[0, 1, 2, 3, 4\]"),
        (lambda net, h: spoilt_logit(net.last(h)), r"logits.*\[2\].*NaN"),
    ],
)
def test_networks_that_change_their_mind_are_an_error(
    whim: Callable[..., Tensor], message: str
) -> None:
    network = network_of(Wayward(whim))
    with pytest.raises(ValueError, match=f"test, batch 1: {message}"):
        read(network, [GOOD, (IMAGES[:6] - 100, LABELS[:6])])


def test_errors_of_loader_network_and_consumer_leave_the_network_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module_under_test, "BLOCK", 4)
    model = convolutional().train()
    model[3].eval()
    network = network_of(model)

    def breaking() -> Iterator[Any]:
        yield GOOD
        raise OSError("disk")

    def as_before() -> bool:
        modes = [module.training for module in model]
        hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
        return (
            modes == [n != 3 for n in range(9)]
            and not any(hooks)
            and torch.backends.mha.get_fastpath_enabled()
            and torch.is_grad_enabled()
        )

    with pytest.raises(OSError, match="disk"):
        read(network, breaking())
    assert as_before()
    with pytest.raises(ValueError, match=r"batch 1.*inputs.*\(6, 4"):
        read(network, [GOOD, (torch.zeros(6, 4, 8, 8), LABELS[:6])])
    assert as_before()

    def consume() -> None:
        with contextlib.closing(blocks(network, loader(4), "test", ALL)) as stream:
            for _ in stream:
                assert not as_before()
                raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert as_before()
