"""Images are normalised as in training, whatever they are."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from rankdeficit.images import Normalisation, list_splits, load_splits
from real_nets import diagnose, train
from real_nets.data.opening import open_dataset
from real_nets.diagnose import Settings, complete
from tests.real_nets.diagnose.asking import (
    as_trained,
    by_name,
    quick,
)


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        ({"normalisation": "imagenet"}, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ({"normalisation": "none"}, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ({"mean": (0.5, 0.25, 0.0), "std": (0.5, 1.0, 2.0)}, [0.5, 0.25, 0.0], [0.5, 1.0, 2.0]),
    ],
    ids=["imagenet", "none", "own"],
)
def test_normalisations(
    options: dict[str, Any], mean: list[float], std: list[float], trained: Path, images: Path
) -> None:
    settings = by_name(trained, images, **options)
    found = diagnose.prepare(settings, torch.device("cpu"))
    assert found.normalise.mean.flatten().tolist() == pytest.approx(mean)
    assert found.normalise.std.flatten().tolist() == pytest.approx(std)
    assert any(f"mean {mean[0]:.4g} " in note for note in found.assumptions)


def statistics(settings: Settings) -> tuple[Normalisation, str]:
    """Of a diagnosis, and what its note says of where they are from."""
    prepared = diagnose.prepare(complete(settings), torch.device("cpu"))
    (note,) = (note for note in prepared.assumptions if note.startswith("images normalised"))
    return prepared.normalise, note


def assert_normalises_as(found: Normalisation, expected: Normalisation) -> None:
    assert torch.equal(found.mean, expected.mean)
    assert torch.equal(found.std, expected.std)


@pytest.mark.parametrize(
    "options", [{}, {"limit": 7}, {"stream": True}, {"image_size": 8, "crop": 0.6}], ids=str
)
def test_a_network_sees_other_images_normalised_as_in_its_training(
    options: dict[str, Any], trained: Path, images: Path, dark: Path
) -> None:
    own = Normalisation.of(load_splits(images)[0].pixels)
    for data in (dark, images, None):
        found, note = statistics(quick(trained=trained, data=data, **options))
        assert_normalises_as(found, own)
        assert as_trained(note)
    found, note = statistics(quick(trained=trained, data=dark, normalisation="none", **options))
    assert found.mean.tolist() == [[[0.0]]] * 3
    assert note.endswith("deviation 1 1 1")


def test_where_the_data_of_the_training_are_gone_others_are_taken_and_told(
    images: Path, dark: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "own")
    run = train.run(train.Settings(
        data=str(tmp_path / "own"), temperature=(1.0,), width=8, depth=2, epochs=0, device="cpu",
        out=tmp_path / "run",
    ))  # fmt: skip
    settings = quick(trained=run, data=dark)
    assert as_trained(statistics(settings)[1])
    others = Normalisation.of(load_splits(dark)[0].pixels)
    image = tmp_path / "own" / "train" / "class0" / "0.png"
    image.unlink()
    found, note = statistics(settings)
    assert_normalises_as(found, others)
    assert str(dark) in note
    assert all(word in note for word in ("data own", "119", "120", "--mean", "--std"))
    found, note = statistics(quick(trained=run))
    assert "--mean" in note
    shutil.rmtree(tmp_path / "own")
    found, note = statistics(settings)
    assert_normalises_as(found, others)
    assert "--mean" in note
    assert f"data {tmp_path / 'own'} " in note


def test_glyphs_and_images_left_out_count_for_the_normalisation_as_in_training(
    images: Path, dark: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "own")
    (tmp_path / "own" / "train" / "class0" / "0.png").write_text("no image")
    kept = list_splits(tmp_path / "own")[0].load_readable()[0]
    drawn = open_dataset("glyphs:2", None, image_size=8).train
    for name, expected in (("glyphs:2", drawn), (str(tmp_path / "own"), kept)):
        run = train.run(train.Settings(
            data=name, temperature=(1.0,), width=8, depth=2, epochs=0, image_size=8, device="cpu",
            on_corrupt="skip", out=tmp_path / "runs" / name.replace("/", "-"),
        ))  # fmt: skip
        found, note = statistics(quick(trained=run, data=dark))
        assert_normalises_as(found, Normalisation.of(expected.pixels))
        assert as_trained(note)


def test_a_network_of_some_images_per_class_is_diagnosed_on_these(
    images: Path, dark: Path, tmp_path: Path
) -> None:
    run = train.run(train.Settings(
        data=str(images), per_class=5, test_per_class=3, temperature=(1.0,), width=8, depth=2,
        epochs=0, device="cpu", out=tmp_path / "run",
    ))  # fmt: skip
    expected = Normalisation.of(load_splits(images)[0].first_of_each_class(5).pixels)
    prepared = diagnose.prepare(complete(quick(trained=run)), torch.device("cpu"))
    classes = len(prepared.folders.train.classes)
    assert (len(prepared.folders.train), len(prepared.folders.test)) == (5 * classes, 3 * classes)
    assert_normalises_as(prepared.normalise, expected)
    found, note = statistics(quick(trained=run, data=dark))
    assert_normalises_as(found, expected)
    assert as_trained(note)
