"""Probes of all layers against scikit-learn and against common practice, on an idle machine.

Features: the 2x2-pooled maps and the logits of a ResNet-18 of width 16, trained for three epochs on
synthetic images (a smooth pattern per class, shifted, in noise); 10,000 samples of 100 classes.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple, TypeVar

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import ResNet

from rankdeficit.diagnostics.measures.probes import Probe, fit_probe, predict
from tests.benchmarks.timing import THREADS, meet, size
from tests.networks import narrow_resnet18

pytestmark = pytest.mark.benchmark
CLASSES, SIDE, WIDTH = 100, 16, 16
BATCH, EPOCHS_AT_MOST, RATES = 128, 40, (0.1, 0.01)
NEAR = 0.005
T = TypeVar("T")


class Layers(NamedTuple):
    """Cached features of each layer, with the images and the network they come from."""

    network: ResNet
    images: Tensor
    train: list[Tensor]
    labels: Tensor
    test: list[Tensor]
    test_labels: Tensor


@pytest.fixture(autouse=True, scope="module")
def two_threads() -> Iterator[None]:
    torch.set_num_threads(THREADS)
    with threadpool_limits(THREADS):
        yield


@pytest.fixture(scope="module")
def layers() -> Layers:
    torch.manual_seed(0)
    network = narrow_resnet18(WIDTH, CLASSES)
    trained, tested = size((10_000, 2_000), (600, 200))
    images, labels = noisy_patterns(trained, seed=1)
    test_images, test_labels = noisy_patterns(tested, seed=2)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    for _ in range(size(3, 1)):
        for index in torch.randperm(trained).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[index]), labels[index]).backward()
            optimizer.step()
    network.eval()
    train, test = (features_of(network, data) for data in (images, test_images))
    assert [h.shape[1] for h in train] == [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4 + [100]
    return Layers(network, images, train, labels, test, test_labels)


def chosen(layers: Layers) -> range:
    """The layers to probe; the last in a trial."""
    return range(size(0, len(layers.train) - 1), len(layers.train))


def noisy_patterns(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A smooth pattern for each class, rolled by up to four pixels each way, in noise."""
    coarse = torch.randn(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    patterns = functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic")
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    shifts = torch.randint(5, (n, 2), generator=generator)
    images = torch.stack(
        [
            patterns[label].roll(tuple(shift), dims=(1, 2))
            for label, shift in zip(labels.tolist(), shifts.tolist(), strict=True)
        ]
    )
    return images + 4 * torch.randn(images.shape, generator=generator), labels


@torch.no_grad()
def features_of(network: ResNet, images: Tensor) -> list[Tensor]:
    batches = [pooled(network, batch) for batch in images.split(500)]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


def pooled(network: ResNet, images: Tensor) -> list[Tensor]:
    h = network.relu(network.bn1(network.conv1(images)))
    maps = [h]
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in stage:
            maps.append(block.relu(block.bn1(block.conv1(h))))
            h = block(h)
            maps.append(h)
    pools = [functional.adaptive_avg_pool2d(each, 2).flatten(1) for each in maps]
    return [*pools, network.fc(h.mean(dim=(2, 3)))]


def timed(function: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = function()
    return time.perf_counter() - started, found


def standardised(features: Tensor, probe: Probe) -> Tensor:
    return (features.double() - probe.mean) / probe.scale


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted == labels).double().mean())


def our_probe(layers: Layers, layer: int) -> tuple[float, Probe, float]:
    """Seconds, the probe, and its test accuracy."""
    seconds, probe = timed(lambda: fit_probe(layers.train[layer], layers.labels, CLASSES))
    assert probe.converged
    return seconds, probe, accuracy(predict(probe, layers.test[layer]), layers.test_labels)


def test_against_scikit_learn(layers: Layers) -> None:
    """Its default solver and tolerance, on features standardised beforehand, in its faster precision."""
    our_probe(layers, 0)
    ours, theirs = [], []
    for layer in chosen(layers):
        times, reference = [], []
        for dtype in (torch.float32, torch.float64):
            seconds, probe, own_accuracy = our_probe(layers, layer)
            times.append(seconds)
            train, test = (
                standardised(h[layer], probe).to(dtype).numpy() for h in (layers.train, layers.test)
            )
            model = LogisticRegression(max_iter=5_000)
            with warnings.catch_warnings():
                warnings.simplefilter("error", ConvergenceWarning)
                seconds, model = timed(lambda: model.fit(train, layers.labels.numpy()))  # noqa: B023
            reference.append(seconds)
            their_accuracy = model.score(test, layers.test_labels.numpy())
            meet(own_accuracy >= their_accuracy - NEAR)
        ours.append(median(times))
        theirs.append(min(reference))
    ratio = sum(theirs) / sum(ours)
    print(
        f"\nprobes of {len(ours)} layers: {sum(ours):.1f} s, {ratio:.1f}x scikit-learn (goal 1x); "
        f"by layer {min(t / o for t, o in zip(theirs, ours, strict=True)):.1f}x to "
        f"{max(t / o for t, o in zip(theirs, ours, strict=True)):.1f}x"
    )
    meet(ratio >= 1)


def sgd_epoch(
    linear: nn.Linear, rate: float, features: Tensor, labels: Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.SGD(linear.parameters(), lr=rate, momentum=0.9)

    def run() -> None:
        for index in torch.randperm(len(features)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(linear(features[index]), labels[index]).backward()
            optimizer.step()

    return run


def sgd_probe(layers: Layers, layer: int, probe: Probe, goal: float) -> tuple[int, float, bool]:
    """Epochs to the goal at the better learning rate, seconds of one, and whether it got there."""
    train, test = (standardised(h[layer], probe).float() for h in (layers.train, layers.test))
    linears = [nn.Linear(train.shape[1], CLASSES) for _ in RATES]
    epochs = [
        sgd_epoch(linear, rate, train, layers.labels)
        for linear, rate in zip(linears, RATES, strict=True)
    ]
    times = []
    for epoch in range(1, size(EPOCHS_AT_MOST, 2) + 1):
        for linear, run in zip(linears, epochs, strict=True):
            times.append(timed(run)[0])
            if accuracy(linear(test).argmax(dim=1), layers.test_labels) >= goal - NEAR:
                return epoch, median(times), True
    return EPOCHS_AT_MOST, median(times), False


def test_against_a_network_pass_for_each_epoch_of_sgd(layers: Layers) -> None:
    """Common practice: a linear layer per network layer, SGD with momentum on features computed anew.

    Its epochs are counted on cached features and each is charged one measured pass of the network;
    counting ends at the probe's test accuracy less half a point, or after 40 epochs.
    """
    passes = median(timed(lambda: features_of(layers.network, layers.images))[0] for _ in range(3))
    torch.manual_seed(0)
    our_probe(layers, 0)
    ours, theirs, counts, capped = passes, 0.0, [], 0
    for layer in chosen(layers):
        seconds, probe, goal = our_probe(layers, layer)
        epochs, each, reached = sgd_probe(layers, layer, probe, goal)
        ours += seconds
        theirs += epochs * (passes + each)
        counts.append(epochs)
        capped += not reached
    ratio = theirs / ours
    print(
        f"\nprobes of {len(counts)} layers, one pass of the network included: {ours:.1f} s, "
        f"{ratio:.1f}x SGD (goal 10x); epochs by layer {counts}, {capped} of them given up"
    )
    assert math.isfinite(ratio)
    meet(ratio >= 10)
