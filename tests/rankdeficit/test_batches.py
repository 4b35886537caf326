"""Batches that never depend on the past."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from rankdeficit import batches
from rankdeficit.augmentation import Augmentation
from rankdeficit.batches import Batches, stream, stream_seed
from rankdeficit.image_files import Framing
from rankdeficit.images import Images, Normalisation, load_splits
from tests.images import image_set, write_images

AUGMENTATIONS: list[Augmentation] = ["none", "flip", "crop-flip", "resized-crop"]
NO_CHANGE = Normalisation(torch.zeros(3, 1, 1), torch.full((3, 1, 1), 1 / 255))

few_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def test_streams_of_different_keys_are_different() -> None:
    keys = [
        (*purpose, *numbers)
        for purpose in ((), ("order",), ("augment",))
        for numbers in [
            (0,), (0, 0), (0, 0, 0), (1, 0), (0, 1), (1_000_003, 0), (0, 1_000_003), (12,), (1, 2)
        ]
    ]  # fmt: skip
    draws = {tuple(torch.rand(4, generator=stream(*key)).tolist()) for key in keys}
    assert len(draws) == len(keys)
    assert stream_seed("order", 3, 4) == 1442742084969931977  # as on every machine
    grid = {stream_seed(a, b, c) % 2**32 for a in range(20) for b in range(20) for c in range(20)}
    assert len(grid) == 8000


def numbered(n: int, size: int = 8) -> Images:
    """Images of noise whose label is their number."""
    return Images(torch.arange(n), [str(i) for i in range(n)], image_set(n, size).pixels)


def batches_of(images: Images, **options: Any) -> Batches:
    defaults = {"batch_size": 4, "augmentation": "none", "seed": 0}
    return Batches(images.on(images.device, NO_CHANGE), **defaults | options)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Images:
    root = tmp_path_factory.mktemp("images")
    write_images(root, classes=2, train=11, test=1, size=16)
    found = Images.of_folder(root / "train", Framing((16, 16)))
    return replace(found, labels=torch.arange(22))


Maker = Callable[..., Batches]


@pytest.fixture(params=["in memory", "streamed", "two workers"])
def make(request: pytest.FixtureRequest, files: Images) -> Maker:
    """Makes batches of the same 22 images."""
    if request.param == "in memory":
        return lambda **options: batches_of(files.load(), **options)
    workers = 2 if request.param == "two workers" else 0
    return lambda **options: batches_of(files, workers=workers, **options)


everywhere = pytest.mark.parametrize(  # workers augment as the process itself does
    ("make", "augmentation"),
    [*itertools.product(["in memory", "streamed"], AUGMENTATIONS), ("two workers", "resized-crop")],
    indirect=["make"],
)


def same(
    ours: Iterator[tuple[Tensor, Tensor]] | list[tuple[Tensor, Tensor]],
    theirs: Iterator[tuple[Tensor, Tensor]] | list[tuple[Tensor, Tensor]],
) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)


@few_cores
@everywhere
def test_an_epoch_goes_on_from_any_step(make: Maker, augmentation: Augmentation) -> None:
    whole = list(make(augmentation=augmentation).epoch(3))
    assert [len(labels) for _, labels in whole] == [4, 4, 4, 4, 4, 2]
    for first in (1, 4, 6):
        assert same(make(augmentation=augmentation).epoch(3, first), whole[first:])


@few_cores
def test_every_image_is_seen_once_under_its_label(make: Maker, files: Images) -> None:
    images = files.load().pixels.float()
    drawn = make()
    for epoch in range(2):
        seen = [(x, y) for inputs, labels in drawn.epoch(epoch) for x, y in zip(inputs, labels)]  # noqa: B905
        assert sorted(int(y) for _, y in seen) == list(range(22))
        assert all(torch.allclose(x, images[y], atol=1e-3) for x, y in seen)
    assert drawn.samples == 22


@few_cores
def test_other_seeds_and_epochs_have_other_orders(make: Maker) -> None:
    orders = [
        torch.cat([labels for _, labels in make(seed=seed).epoch(epoch)]).tolist()
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 0))
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == orders[4]


@pytest.mark.parametrize("augmentation", ["crop-flip", "resized-crop"])
def test_other_seeds_epochs_and_steps_have_another_augmentation(
    tmp_path: Path, augmentation: Augmentation
) -> None:
    (tmp_path / "0").mkdir()
    pixels = image_set(1, size=32).pixels[0].permute(1, 2, 0).numpy()
    for i in range(8):
        Image.fromarray(pixels).save(tmp_path / "0" / f"{i}.png")
    found = Images.of_folder(tmp_path)
    for make_ in (lambda **o: batches_of(found.load(), **o), lambda **o: batches_of(found, **o)):
        drawn = [
            inputs
            for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))
            for inputs, _ in make_(augmentation=augmentation, seed=seed).epoch(epoch)
        ]
        assert len({inputs.numpy().tobytes() for inputs in drawn}) == len(drawn) == 8
        assert all(len(inputs.flatten(1).unique(dim=0)) > 1 for inputs in drawn)


@few_cores
@everywhere
def test_processes_share_each_batch_of_one_process(
    make: Maker, augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"augmentation": augmentation, "batch_size": 6}
    whole = list(make(**options).epoch(0))
    shares = []
    for process in range(2):
        monkeypatch.setattr(batches, "rank_and_size", lambda process=process: (process, 2))
        shares.append(list(make(**options).epoch(0)))
    for (inputs, labels), *parts in zip(whole, *shares, strict=True):
        for process, (own_inputs, own_labels) in enumerate(parts):
            assert torch.equal(own_labels, labels[process::2])
            assert torch.equal(own_inputs, inputs[process::2])


@few_cores
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_streamed_batches_are_those_batches_of(files: Images, augmentation: Augmentation) -> None:
    expected = batches_of(files.load(), augmentation=augmentation, seed=5)
    for workers in (0, 2):
        found = batches_of(files, augmentation=augmentation, seed=5, workers=workers)
        assert same(found.epoch(1), list(expected.epoch(1)))


@few_cores
def test_the_global_generator_is_left_alone(make: Maker) -> None:
    before = torch.get_rng_state()
    list(make(augmentation="resized-crop").epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@few_cores
@pytest.mark.parametrize("workers", [0, 2])
def test_crops_of_streamed_files_are_taken_from_framed_images(tmp_path: Path, workers: int) -> None:
    """Files larger than their frame: the same crops for the same seed as in memory."""
    write_images(tmp_path, classes=2, train=9, test=1, size=24)
    files = Images.of_folder(tmp_path / "train", Framing((10, 14), crop=0.8))
    options = {"augmentation": "resized-crop", "batch_size": 5, "seed": 3}
    ours = list(batches_of(files, workers=workers, **options).epoch(2))
    expected = list(batches_of(files.load(), **options).epoch(2))
    assert all(inputs.shape[1:] == (3, 10, 14) for inputs, _ in ours)
    assert same(ours, expected)
    assert not same(ours, list(batches_of(files, batch_size=5, seed=3).epoch(2)))


def test_inputs_are_normalised() -> None:
    images = numbered(30)
    normalise = Normalisation.of(images.pixels)
    inputs_of = images.on(images.device, normalise)
    ((inputs, labels),) = Batches(inputs_of, batch_size=30, augmentation="none", seed=0).epoch(0)
    assert torch.equal(inputs, normalise(images.pixels[labels]))


@given(n=st.integers(2, 60), batch_size=st.integers(2, 20), processes=st.integers(1, 3))
def test_only_the_last_batch_has_another_size_and_none_is_too_small(
    n: int, batch_size: int, processes: int
) -> None:
    if min(n, batch_size) < processes:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "rank_and_size", lambda: (0, processes))
        drawn = batches_of(numbered(n), batch_size=batch_size)
        sizes = [shard.batch_size for shard in drawn.shards(0, 0)]
    assert sum(sizes) == n
    assert len(sizes) == drawn.steps_per_epoch
    assert set(sizes[:-1]) <= {batch_size}
    if len(sizes) > 1:
        assert min(batch_size, 2 * processes) <= sizes[-1] < batch_size + 2 * processes


def test_a_last_image_joins_the_batch_before() -> None:
    def sizes(n: int) -> list[int]:
        return [len(labels) for _, labels in batches_of(numbered(n)).epoch(0)]

    assert [sizes(n) for n in (8, 9, 10, 5, 3)] == [[4, 4], [4, 5], [4, 4, 2], [5], [3]]


@few_cores
@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_is_named(tmp_path: Path, workers: int) -> None:
    write_images(tmp_path, classes=2, train=5, test=1)
    found = batches_of(Images.of_folder(tmp_path / "train"), workers=workers)
    (tmp_path / "train" / "class1" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"1 of [46] images.*class1/3\.png") as e:
        list(found.epoch(0))
    assert "\n" not in str(e.value)


def test_framing_gives_streamed_images_their_size(tmp_path: Path) -> None:
    write_images(tmp_path, classes=2, train=4, test=1)
    Image.new("RGB", (5, 9)).save(tmp_path / "train" / "class0" / "odd.png")
    found = batches_of(Images.of_folder(tmp_path / "train", Framing((6, 7))), batch_size=9)
    ((inputs, _),) = found.epoch(0)
    assert inputs.shape == (9, 3, 6, 7)
    framed = load_splits(tmp_path, image_size=6)[0]
    assert batches_of(framed).size == (6, 6)


@pytest.mark.usefixtures("unchecked")
def test_bad_batches(files: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"batch_size.* 0.* 1"):
        batches_of(numbered(4), batch_size=0)
    with pytest.raises(ValueError, match="workers is -1"):
        batches_of(files, workers=-1)
    monkeypatch.setattr(batches, "rank_and_size", lambda: (0, 3))
    with pytest.raises(ValueError, match=r"train_images.* 2.* 3"):
        batches_of(numbered(2))
    with pytest.raises(ValueError, match=r"batch_size.* 2.* 3"):
        batches_of(numbered(8), batch_size=2)


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_gpu_batches_are_those_of_the_cpu(device: torch.device, augmentation: Augmentation) -> None:
    images = numbered(50)
    ours = batches_of(replace(images, device=device), augmentation=augmentation).epoch(2)
    theirs = batches_of(images, augmentation=augmentation).epoch(2)
    for (inputs, labels), (expected, expected_labels) in zip(ours, theirs, strict=True):
        assert inputs.device == labels.device == device
        assert torch.equal(labels.cpu(), expected_labels)
        torch.testing.assert_close(inputs.cpu(), expected, rtol=0, atol=1.01)
