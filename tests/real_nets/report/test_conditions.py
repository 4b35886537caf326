"""Conditions: what the numbers were made with."""

import json
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments.runs import read_json, write_json
from rankdeficit.page.numbers import by_group, listed
from real_nets.paper.conditions import WALL_TIME
from tests.real_nets.fabricated import fill, setup_of
from tests.real_nets.report.pages import (
    NUMBERS,
    conditions_of,
    job_files,
    page_of,
)


def test_conditions_tell_what_the_numbers_were_made_with(original: Path) -> None:
    found = conditions_of(original)
    assert found["network"] == "resnet34 (width 16)"
    assert found["temperature"] == "1, 10"
    assert found["seed"] == "0, 1, 2"
    assert found["train images"] == "50,000"
    assert (found["optimizer"], found["clip norm"], found["weight decay"]) == ("sgd", "5", "0.0005")
    assert (found["momentum"], found["warmup epochs"]) == ("0.9", "1")
    assert (found["precision"], found["compile"]) == ("float32", "no")
    environment = json.loads(job_files(original, "environment.json")[0].read_text())
    assert (found["torch"], found["threads"]) == (environment["torch"], str(environment["threads"]))


def change_jobs(store: Path, **options: object) -> None:
    """Give all jobs of a store other options."""
    for file in job_files(store, "settings.json"):
        written = read_json(file)
        written["settings"]["job"] |= options
        write_json(file, written)


def test_conditions_tell_how_many_images_were_followed_and_diagnosed(store: Path) -> None:
    found = conditions_of(store)
    assert (found["followed images"], found["diagnosed images"]) == ("2000", "5000")
    change_jobs(store, diagnosed_images=0)
    assert conditions_of(store)["diagnosed images"] == "all"


CHANGES = {
    "nesterov": (True, "yes"),
    "loss": ("mse", "mse"),
    "label_smoothing": (0.1, "0.1"),
    "stop_accuracy": (0.99, "0.99"),
    "pretrained": (True, "yes"),
    "crop": (0.875, "0.875"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_conditions_tell_options_that_are_not_the_usual_ones(name: str, store: Path) -> None:
    title, (value, told) = name.replace("_", " "), CHANGES[name]
    change_jobs(store, nesterov=False)
    assert title not in conditions_of(store)
    change_jobs(store, **{name: value})
    assert conditions_of(store)[title] == told


def test_conditions_tell_the_size_of_images_that_were_resized(tmp_path: Path) -> None:
    setup = setup_of(replacements={"imagenet100": "mine"}, pick=["*100/ResNet-34"])
    fill(tmp_path, ["trade-off"], NUMBERS, setup)
    found = conditions_of(tmp_path)
    assert found["pixels per side"] == "cifar100: 32; mine: 64"
    assert found["crop"] == "cifar100: none; mine: 0.875"


def test_conditions_tell_how_long_networks_took(store: Path) -> None:
    for seconds, file in enumerate(job_files(store, "environment.json")):
        write_json(file, read_json(file) | {"wall_seconds_of_last_process": 10.4 * seconds})
    assert conditions_of(store)[WALL_TIME] == "resnet34 (width 16): 26 (0–52), n\u00a0=\u00a06"
    for file in job_files(store, "environment.json"):
        file.unlink()
    assert WALL_TIME not in conditions_of(store)


def test_conditions_tell_of_images_that_were_left_out(store: Path) -> None:
    name = "unreadable images left out"
    assert name not in conditions_of(store)
    for file in job_files(store, "settings.json"):
        written = json.loads(file.read_text())
        cards = written["settings"]["data"]
        cards["own"]["skipped"], cards["ood"]["other"]["skipped"] = 4, 1
        file.write_text(json.dumps(written))
    assert conditions_of(store)[name] == "1 of other, 4 of own"
    assert name in page_of(store)


def test_unknown_conditions_are_called_so(store: Path) -> None:
    for file in job_files(store, "environment.json"):
        file.unlink()
    assert conditions_of(store)["torch"] == "unknown"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([10, 2.5, 2.5], "2.5, 10"),
        ([None, 1.0], "1, none"),
        ([True, False, True], "no, yes"),
        (["sgd", "adamw", "sgd"], "adamw, sgd"),
        ([1e-12], "1e-12"),
        ([1_281_167, 500], "500, 1281167"),
    ],
)
def test_values_are_listed_once_numbers_first(values: list[Any], text: str) -> None:
    assert listed(values) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([("mlp", 0), ("mlp", 1), ("vit", 1), ("vit", 0)], "0, 1"),
        ([("vit", 0.1), ("mlp", 0.5), ("mlp", 0.3)], "mlp: 0.3, 0.5; vit: 0.1"),
        ([("vit", None), ("mlp", 1.0), ("vgg19", None)], "mlp: 1; vgg19, vit: none"),
    ],
)
def test_values_that_differ_between_networks_are_told_of_each(
    values: list[tuple[str, Any]], text: str
) -> None:
    assert by_group(values) == text
