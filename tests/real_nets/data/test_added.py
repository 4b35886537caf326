"""A data set that a file outside the package defines is known everywhere."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from real_nets.data import catalogue
from real_nets.data.catalogue import CATALOGUE, Load, Request, dataset, definition_of, listing
from real_nets.data.opening import DataSource, Selection, open_dataset, why_missing
from tests.conftest import Run
from tests.images import image_set

DEFINITION = '''
"""Squares whose brightness is the class, and the command that the first argument names."""

import sys

import torch

from rankdeficit.images import Images
from real_nets.data.catalogue import Load, Request, dataset


@dataset("grey-levels", "squares of four brightnesses", pixels=8, classes=4, synthetic=True)
def grey_levels(request: Request) -> Load:
    def images(each: int, seed: int) -> Images:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(4).repeat_interleave(each)
        noise = torch.randint(20, (4 * each, 3, 8, 8), generator=generator)
        return Images(labels, list("abcd"), (noise + 60 * labels[:, None, None, None]).byte())

    return lambda: (images(12, 0), images(5, 1))


if __name__ == "__main__":
    from real_nets import reproduce, train

    {"train": train, "reproduce": reproduce}[sys.argv.pop(1)].main()
'''

QUICK = "--epochs 1 --width 8 --device cpu".split()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "grey.py"
    path.write_text(DEFINITION)
    return path


@pytest.fixture
def run(script: Path, command: Run) -> Callable[..., str]:
    """Run the script; what it prints."""

    def tell(*arguments: object) -> str:
        found = command(script, *arguments)
        assert found.returncode == 0, found.stderr
        return found.stdout + found.stderr

    return tell


@pytest.mark.parametrize("name", ["train", "reproduce"])
def test_the_help_of_commands_lists_it_among_the_others(name: str, run: Callable[..., str]) -> None:
    told = run(name, "--help")
    for words in ("grey-levels: squares of four brightnesses", *CATALOGUE):
        assert words in told


def test_networks_are_trained_on_it(run: Callable[..., str], tmp_path: Path) -> None:
    run("train", "--data", "grey-levels", "--per-class", "6", "--temperature", "1", "--depth",
        "2", "--out", tmp_path / "run", *QUICK)  # fmt: skip
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["train_images"], summary["test_images"], summary["classes"]) == (24, 20, 4)


def test_reproduce_takes_it_in_place_of_another(run: Callable[..., str], tmp_path: Path) -> None:
    told = run(
        "reproduce", "mse", "--budget", "small", "--data", tmp_path, "--replace",
        "cifar10=grey-levels", "svhn=glyphs:1", "cifar100=grey-levels", "--seeds", "1",
        "--per-class", "9", "--out", tmp_path / "out", *QUICK,
    )  # fmt: skip
    assert "grey-levels" in told
    jobs = [json.loads(p.read_text()) for p in tmp_path.glob("out/jobs/*/settings.json")]
    assert len(jobs) == 2
    for job in jobs:
        own = job["settings"]["data"]["own"]
        assert (own["name"], own["train_images"], own["test_images"]) == ("grey-levels", 36, 20)
        assert job["settings"]["job"]["ood"] == ["glyphs:1"]
    assert "grey-levels for CIFAR-10" in (tmp_path / "out" / "report.html").read_text()


def in_two(request: Request) -> Load:
    count = 10 if request.number is None else request.number
    return lambda: (image_set(2 * count), image_set(4))


@pytest.fixture
def added() -> Iterator[None]:
    dataset("halves", "images of two classes", numbered=True)(in_two)
    yield
    del CATALOGUE["halves"]


@pytest.mark.usefixtures("added")
def test_it_is_opened_by_its_name(tmp_path: Path) -> None:
    assert "halves: images of two classes" in listing()
    assert why_missing("halves", None, False) is None
    assert "halves" in str(why_missing("nothing", None, False))
    assert len(open_dataset("halves:3", None).train) == 6
    assert open_dataset("halves", tmp_path, image_size=5).size == (5, 5)
    found = definition_of("halves:7")
    assert found is not None
    assert (found.name, found.synthetic, found.paper_name) == ("halves", False, None)
    assert definition_of("squares") is None


@pytest.mark.usefixtures("added")
def test_a_name_is_defined_once() -> None:
    dataset("halves", "the same function again", numbered=True)(in_two)
    with pytest.raises(ValueError, match=r"'halves'.*twice"):
        dataset("halves", "another function")(lambda request: in_two(request))


@pytest.mark.usefixtures("added")
def test_a_process_without_the_definition_gets_it_with_the_source() -> None:
    sent = pickle.dumps(DataSource(workers=3))
    before = CATALOGUE.pop("halves")
    assert why_missing("halves", None, False) is not None
    arrived = pickle.loads(sent)
    assert CATALOGUE["halves"] == before
    assert (arrived.workers, arrived.opened) == (3, {})
    assert len(arrived.open(Selection("halves")).train) == 20


def test_facts_agree_with_what_is_opened() -> None:
    for name in ("glyphs:1", "glyph-letters:1", "glyph-fonts:1"):
        definition, found = definition_of(name), open_dataset(name, None)
        assert definition is not None
        assert (definition.pixels, definition.pixels) == found.size
        assert definition.classes == len(found.classes)
        assert set(definition.ood) < set(CATALOGUE)
    assert all(set(each.ood) <= set(CATALOGUE) for each in CATALOGUE.values())
    assert torch.equal(
        catalogue.glyphs(Request("glyphs", 1, None, False))()[0].pixels,
        open_dataset("glyphs:1", None).train.pixels,
    )
