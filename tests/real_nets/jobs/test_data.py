"""The images of a job: the same ones every time, in memory or in files, whole or shared."""

import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from rankdeficit import images as rd_images
from rankdeficit.experiments import image_splits
from rankdeficit.image_files import Framing
from rankdeficit.images import Images, Normalisation, load_splits
from real_nets.data import opening
from real_nets.data.opening import DataSource, Selection, open_dataset
from real_nets.jobs.data import JobData
from tests.images import write_images
from tests.real_nets.tiny import CPU, data_of, tiny_job, write_root

JOB = tiny_job(ood=("other",))
OWN = Selection("own")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_root(tmp_path_factory.mktemp("root"))
    write_images(folder / "large", classes=3, train=4, test=3, size=12)
    return folder


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all sets be too large for memory."""
    monkeypatch.setattr(image_splits, "IN_MEMORY", 0)


def taken(images: Images) -> tuple[Tensor, Tensor]:
    inputs, labels = zip(*images, strict=True)
    return torch.cat(inputs), torch.cat(labels)


def test_data_sets_are_opened_and_measured_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int | None]] = []

    def count(name: str, root: Path, *, image_size: int | None, **options: object) -> object:
        opened.append((name, image_size))
        return open_dataset(name, root, image_size=image_size)

    monkeypatch.setattr(opening, "open_dataset", count)
    source = DataSource(root)
    for temperature in (1.0, 50.0):
        data = JobData(replace(JOB, temperature=temperature), source, CPU)
        assert len(data.train) == 120
        assert data.normalise is not None
    assert opened == [("own", None), ("other", 8)]
    assert source.normalisation(OWN) is source.normalisation(OWN)


def test_a_source_travels_without_its_images(root: Path) -> None:
    source = DataSource(root, workers=2)
    expected = source.normalisation(OWN).mean
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    arrived = pickle.loads(sent)
    assert (arrived.root, arrived.workers) == (root, 2)
    assert source.opened
    assert not arrived.opened
    assert torch.equal(arrived.normalisation(OWN).mean, expected)


def test_inputs_are_all_images_normalised_by_the_train_images(root: Path) -> None:
    data = data_of(JOB, root)
    train, test = load_splits(root / "own")
    normalise = Normalisation.of(train.pixels)
    for found, expected in ((data.train, train), (data.test, test)):
        inputs, labels = taken(found)
        assert torch.equal(inputs, normalise(expected.pixels))
        assert torch.equal(labels, expected.labels)
    other, _ = load_splits(root / "other", 8)
    inputs, labels = taken(data.ood_images("other", "train"))
    assert torch.equal(inputs, normalise(other.pixels))
    assert torch.equal(labels, other.labels)
    assert (data.classes, data.inputs) == (4, (3, 8, 8))


@pytest.mark.usefixtures("in_files")
def test_images_in_files_are_the_same_as_in_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = data_of(JOB, root)
    assert not streamed.own.train.in_memory
    whole, some = taken(streamed.train), taken(streamed.train.some(50))
    strange = taken(streamed.ood_images("other", "test").some(7))
    loaded = streamed.train.some(50).load()
    assert loaded.in_memory
    monkeypatch.setattr(image_splits, "IN_MEMORY", 2**30)
    kept = data_of(JOB, root)
    for ours, theirs in (
        (whole, taken(kept.train)),
        (some, taken(kept.train.some(50))),
        (taken(loaded), taken(kept.train.some(50))),
        (strange, taken(kept.ood_images("other", "test").some(7))),
    ):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_some_images_are_always_the_same_ones(root: Path) -> None:
    train = data_of(JOB, root).train
    ours, theirs = (taken(images.some(50)) for images in (train, data_of(JOB, root).train))
    assert torch.equal(ours[0], theirs[0])
    everything = {tuple(image.flatten().tolist()) for image in taken(train)[0]}
    chosen = {tuple(image.flatten().tolist()) for image in ours[0]}
    assert len(chosen) == 50
    assert chosen < everything
    assert set(ours[1].tolist()) == {0, 1, 2, 3}
    for all_of_them in (0, 120, 1000):
        assert train.some(all_of_them) is train


@pytest.mark.parametrize("files", [False, True], ids=["memory", "files"])
def test_processes_share_images_among_them(
    files: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_splits, "IN_MEMORY", 0 if files else 2**30)
    some = data_of(JOB, root).train.some(50)
    expected = taken(some)
    parts = []
    for process in range(3):
        monkeypatch.setattr(rd_images, "rank_and_size", lambda process=process: (process, 3))
        parts.append(taken(some.share()))
    assert [len(labels) for _, labels in parts] == [17, 17, 16]
    for process, (inputs, labels) in enumerate(parts):
        assert torch.equal(inputs, expected[0][process::3])
        assert torch.equal(labels, expected[1][process::3])


@pytest.mark.parametrize("process", [0, 2])
def test_all_processes_see_that_one_would_get_no_image(
    process: int, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = data_of(JOB, root).test
    monkeypatch.setattr(rd_images, "rank_and_size", lambda: (process, 3))
    assert len(test.some(3).share()) == 1
    with pytest.raises(ValueError, match=r"test.* 2 images.* 3 processes.* fewer"):
        test.some(2).share()


def test_out_of_distribution_images_get_the_size_of_the_data(root: Path) -> None:
    data = data_of(tiny_job(ood=("large",)), root)
    assert taken(data.ood_images("large", "test"))[0].shape == (9, 3, 8, 8)
    resized = data_of(tiny_job(ood=("large",), image_size=10), root)
    assert resized.inputs == (3, 10, 10)
    assert taken(resized.ood_images("large", "train"))[0].shape == (12, 3, 10, 10)


def test_images_that_are_not_square_need_a_size_beside_others(root: Path, tmp_path: Path) -> None:
    for name in ("own", "other"):
        shutil.copytree(root / name, tmp_path / name)
    for path in (tmp_path / "own").rglob("*.png"):
        Image.open(path).resize((10, 8)).save(path)
    assert data_of(tiny_job(), tmp_path).inputs == (3, 8, 10)
    with pytest.raises(ValueError, match=r"own.* 8 x 10.* --image-size"):
        data_of(JOB, tmp_path)
    assert data_of(tiny_job(ood=("other",), image_size=8), tmp_path).inputs == (3, 8, 8)


def test_a_missing_set_is_named(root: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        data_of(tiny_job(data="nowhere"), root)
    with pytest.raises(ValueError, match="nowhere"):
        data_of(tiny_job(ood=("other", "nowhere")), root)
    with pytest.raises(ValueError, match=r"own.* --root"):
        data_of(tiny_job(), None)


def test_a_card_tells_data_apart_but_not_places(root: Path, tmp_path: Path) -> None:
    def change(split: str, spoil: Callable[[Path], object]) -> dict[str, object]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(root, folder)
        spoil(folder / split / "class0" / "3.png")
        return data_of(JOB, folder).card()

    def dim(path: Path) -> None:
        image = Image.open(path)
        image.putpixel((0, 0), (1, 2, 3))
        image.save(path)

    card = data_of(JOB, root).card()
    assert change("own/train", lambda path: None) == card
    others = [
        change("own/train", dim), change("own/test", dim), change("other/test", dim),
        change("other/train", Path.unlink), data_of(tiny_job(), root).card(),
        data_of(replace(JOB, image_size=6), root).card(),
    ]  # fmt: skip
    assert all(other != card for other in others)


@pytest.mark.parametrize("augmentation", ["none", "crop-flip", "resized-crop"])
def test_training_draws_the_same_batches_from_memory_and_from_files(
    augmentation: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(JOB, augmentation=augmentation, batch_size=33, seed=5)
    kept = data_of(job, root).batches
    assert kept.images.in_memory
    monkeypatch.setattr(image_splits, "IN_MEMORY", 0)
    streamed = JobData(job, DataSource(root, workers=0), CPU).batches
    assert not streamed.images.in_memory
    assert (streamed.workers, kept.seed, kept.steps_per_epoch) == (0, 5, 4)
    for ours, theirs in zip(streamed.epoch(1), kept.epoch(1), strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.usefixtures("in_files")
def test_files_are_measured_for_normalisation_without_being_kept(root: Path) -> None:
    source = DataSource(root)
    expected = Normalisation.of(load_splits(root / "own")[0].pixels)
    found = source.normalisation(OWN)
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)
    files = source.open(OWN).train
    assert not files.in_memory
    assert files.framing == Framing((8, 8))


@pytest.mark.parametrize("files", [False, True], ids=["memory", "files"])
def test_images_per_class_are_those_of_a_folder_with_the_first_ones_alone(
    files: bool, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_splits, "IN_MEMORY", 0 if files else 2**30)
    shutil.copytree(root / "other", tmp_path / "other")
    for split, count in (("train", 7), ("test", 4)):
        for folder in sorted((root / "own" / split).iterdir()):
            own = tmp_path / "own" / split / folder.name
            own.mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                (own / path.name).symlink_to(path)
    ours = data_of(replace(JOB, per_class=7, test_per_class=4), root)
    expected = data_of(JOB, tmp_path)
    assert ours.card() == expected.card()
    assert (len(ours.train), len(ours.test), len(ours.ood_images("other", "train"))) == (28, 16, 36)
    for found, theirs in ((ours.train, expected.train), (ours.test, expected.test)):
        assert torch.equal(taken(found)[0], taken(theirs)[0])
        assert torch.equal(taken(found)[1], taken(theirs)[1])
    assert JOB.key == replace(JOB, per_class=None).key != replace(JOB, per_class=7).key


def test_more_images_per_class_than_there_are_are_all(root: Path) -> None:
    every = data_of(replace(JOB, per_class=1000, test_per_class=1000), root)
    assert every.card() == data_of(JOB, root).card()
    assert len(data_of(replace(JOB, test_per_class=1), root).test) == 4
