"""The page on a store: complete, the same each time, the same from an export, clear on damaged files."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rankdeficit import cli
from rankdeficit.runs import read_json, write_json
from real_nets import report
from real_nets.budgets import with_changes
from real_nets.outcomes import Results
from real_nets.page import render
from real_nets.report import Settings, build_page, run
from real_nets.store import TargetRecord, read_targets, write_target
from real_nets.targets import TARGETS
from real_nets.targets.conditions import WALL_TIME, by_group, listed
from tests.real_nets.fabricated import Numbers, by_seed, fill, setup_of

SHOWN = ("fig7", "neural-collapse", "table2")
BASE = Numbers(classes=100, rank=99)
NUMBERS = by_seed(
    baseline=[replace(BASE, auroc=0.5), replace(BASE, auroc=0.5), Numbers(outcome="diverged")],
    low=[Numbers(auroc=0.75 + seed / 20, classes=100) for seed in range(3)],
)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three targets; nobody changes it."""
    path = tmp_path_factory.mktemp("store")
    fill(path, SHOWN, NUMBERS, setup_of(missing=("svhn",), pick=["CIFAR-100/ResNet-34"]))
    return path


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "store"))


def page_of(store: Path) -> str:
    return render(build_page(store, read_targets(store, list(TARGETS))))


def summary_of(store: Path) -> list[str]:
    return list(build_page(store, read_targets(store, list(TARGETS))).summary)


def conditions_of(store: Path) -> dict[str, str]:
    return dict(build_page(store, read_targets(store, list(TARGETS))).conditions)


def job_files(store: Path, name: str) -> list[Path]:
    return sorted(store.glob(f"jobs/*/{name}"))


def test_the_page_has_a_section_per_target_in_the_order_of_the_list(original: Path) -> None:
    page = build_page(original, read_targets(original, list(TARGETS)))
    assert [section.identifier for section in page.sections] == [
        "table2",
        "fig7",
        "neural-collapse",
    ]
    text = render(page)
    for number in ("76.37%", "80.00%", "(75.00–85.00)", "+3.6 pp", "−12.4 pp"):
        assert number in text


def test_the_summary_counts_networks_and_names_the_paper(original: Path) -> None:
    first, second = build_page(original, read_targets(original, list(TARGETS))).summary
    assert "arXiv 2506.01562" in first
    assert second.startswith("6 networks on cifar100, of which 1 diverged. ")


@pytest.mark.parametrize(
    ("budget", "replacements", "expected"),
    [
        ("paper", {}, []),
        ("paper", {"svhn": "cifar100"}, []),
        ("paper", {"svhn": "tiny"}, ["out of distribution tiny"]),
        ("paper", {"imagenet": "tiny"}, []),
        (
            "paper",
            {"cifar100": "tiny"},
            [
                "tiny for CIFAR-100; out of distribution tiny; tiny with 120 train and 40 test images"
            ],
        ),
        (
            "smoke",
            {},
            [
                "glyphs:50 for CIFAR-10; glyphs:50 for CIFAR-100; out of distribution glyph-fonts:50, "
                "glyph-letters:50; glyphs:50 with 120 train and 40 test images"
            ],
        ),
    ],
)
def test_the_summary_says_which_data_are_not_the_papers(
    budget: str, replacements: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    fill(tmp_path, ["neural-collapse"], NUMBERS, setup_of(budget, replacements=replacements))
    summary = summary_of(tmp_path)
    others = [line for line in summary if line.startswith("These are not the paper's data")]
    assert [line.split(": ")[1].split(". ")[0] for line in others] == expected
    assert any("drawn letters" in line for line in summary) == (budget == "smoke")


def test_the_summary_says_which_data_are_a_part_of_the_papers(store: Path) -> None:
    for file in store.glob("jobs/*/summary.json"):
        write_json(file, read_json(file) | {"train_images": 5000, "test_images": 2000})
    (told,) = (line for line in summary_of(store) if line.startswith("These are not the paper's"))
    assert "cifar100 with 5,000 train and 2,000 test images" in told


@pytest.mark.parametrize(
    ("budget", "target", "cell", "options", "told"),
    [
        ("small", "table1", "ImageNet-100/ResNet-50", {}, "imagenet100 at 64 x 64 pixels"),
        ("paper", "table1", "ImageNet-100/ResNet-50", {}, None),
        ("paper", "table1", "CIFAR-10/MLP", {}, None),
        ("paper", "table1", "CIFAR-10/MLP", {"image_size": 32}, None),
        ("paper", "table1", "CIFAR-10/MLP", {"image_size": 64}, "cifar10 at 64 x 64 pixels"),
        ("paper", "table2", "CIFAR-10/ViT-B", {}, None),
    ],
)
def test_the_summary_names_images_of_another_size_than_the_papers(
    budget: str,
    target: str,
    cell: str,
    options: dict[str, int],
    told: str | None,
    tmp_path: Path,
) -> None:
    setup = setup_of(budget, pick=[cell], missing=("svhn",))
    setup.budget = with_changes(setup.budget, None, options)
    fill(tmp_path, [target], NUMBERS, setup)
    others = [line for line in summary_of(tmp_path) if line.startswith("These are not the paper's")]
    assert [line.split(": ")[1].split(". ")[0] for line in others] == ([told] if told else [])


def test_all_of_the_papers_data_sets_are_known_as_such(tmp_path: Path) -> None:
    fill(tmp_path, ["table1"], lambda job: None)
    assert not any("not the paper's" in line for line in summary_of(tmp_path))


def test_imagenet_100_is_told_apart_by_nothing(tmp_path: Path) -> None:
    fill(tmp_path, ["table1"], NUMBERS, setup_of("paper", pick=["ImageNet-100/ResNet-34"]))
    assert not any("not the paper's data" in line for line in summary_of(tmp_path))


def test_tables_without_rows_are_not_shown(tmp_path: Path) -> None:
    write_target(tmp_path, TargetRecord("table2", "small", [], {"CIFAR-10/ViT-B": "no timm"}, {}))
    (section,) = build_page(tmp_path, read_targets(tmp_path, list(TARGETS))).sections
    assert section.tables == []
    assert section.notes == ["Left out: CIFAR-10/ViT-B: no timm."]


def test_a_store_without_a_finished_network_has_a_page_too(tmp_path: Path) -> None:
    fill(tmp_path, ["neural-collapse"], lambda job: None)
    assert summary_of(tmp_path)[1].startswith("No networks were trained. ")
    assert conditions_of(tmp_path) == {"budget": "small"}
    assert "Not trained yet" in page_of(tmp_path)


def test_what_was_left_out_is_told_in_its_own_section(store: Path) -> None:
    fill(store, ["fig6"], NUMBERS)
    page = build_page(store, read_targets(store, list(TARGETS)))
    left_out = {
        section.identifier: [note for note in section.notes if note.startswith("Left out")]
        for section in page.sections
    }
    told = ["Left out: out-of-distribution set svhn: no svhn here."]
    assert left_out == {"table2": told, "fig7": told, "neural-collapse": told, "fig6": []}


def test_conditions_tell_what_the_numbers_were_made_with(original: Path) -> None:
    found = conditions_of(original)
    assert found["network"] == "resnet34 (width 16)"
    assert found["temperature"] == "1, 10"
    assert found["seed"] == "0, 1, 2"
    assert found["train images"] == "50000"
    assert (found["optimizer"], found["clip norm"], found["weight decay"]) == ("adamw", "none", "0")
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
    "warmup_epochs": (5.0, "5"),
    "momentum": (0.8, "0.8"),
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
    assert conditions_of(store)[WALL_TIME] == "resnet34 (width 16): 26 (0–52), n = 6"
    for file in job_files(store, "environment.json"):
        file.unlink()
    assert WALL_TIME not in conditions_of(store)


def test_conditions_tell_of_images_that_were_left_out(store: Path) -> None:
    name = "images left out, as they cannot be read"
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


def test_the_same_store_gives_the_same_page(store: Path) -> None:
    first = page_of(store)
    targets = sorted((store / "targets").iterdir())
    for file in reversed(targets):  # another order of the folder's entries
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert page_of(store) == first


def test_an_export_gives_the_same_page_without_weights(store: Path, tmp_path: Path) -> None:
    for folder in store.glob("jobs/*"):
        for name in ("weights.safetensors", "checkpoint.pt", "accuracy-0.5.safetensors"):
            (folder / name).write_bytes(b"large")
    assert run(Settings(store, export=tmp_path / "export")) == store / "report.html"
    again = run(Settings(tmp_path / "export", out=tmp_path / "new" / "page.html"))
    assert again.read_bytes() == (store / "report.html").read_bytes()
    exported = {path.suffix for path in (tmp_path / "export").rglob("*") if path.is_file()}
    assert exported == {".json", ".jsonl", ".png", ".md"}
    names = {path.name for path in (tmp_path / "export" / "figures").iterdir()}
    assert names == {"fig7-1.png"}
    shown = (tmp_path / "export" / "README.md").read_text()
    assert re.findall(r"\]\((.*)\)", shown) == ["figures/fig7-1.png"]
    for path in (tmp_path / "export").glob("jobs/*/settings.json"):
        assert json.loads(path.read_text())["settings"]["root"] is None
    results = Results(tmp_path / "export")
    for folder in store.glob("jobs/*"):
        assert results.outcome(folder.name) is not None


def test_an_export_needs_a_new_folder_and_writes_nothing_otherwise(
    store: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    for target in (taken, taken / "mine"):
        with pytest.raises(ValueError, match="is not an empty folder; name a new one"):
            run(Settings(store, export=target))
    assert [path.name for path in taken.iterdir()] == ["mine"]
    assert not (store / "report.html").exists()


def test_an_export_that_fails_leaves_nothing_and_can_be_made_again(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(_source: Path, target: Path) -> None:
        target.mkdir(exist_ok=True)
        raise OSError(28, "No space left on device", str(target))

    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "new", tmp_path / "empty"):
        for owner, name in ((report.shutil, "copy"), (report, "export_figures")):
            with monkeypatch.context() as changed:
                changed.setattr(owner, name, full_disk)
                with pytest.raises(ValueError, match=r"\(No space left on device\), .* make room"):
                    run(Settings(store, export=target))
            assert not target.exists() or not list(target.iterdir())
        assert target.exists() == (target.name == "empty")
        run(Settings(store, export=target))
        assert (target / "README.md").is_file()


def test_an_interrupted_export_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "export_figures", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(Settings(store, export=tmp_path / "export"))
    assert not (tmp_path / "export").exists()


def test_a_page_that_has_no_place_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        ValueError, match=r"folder is a folder; name a file, as .*folder/report\.html"
    ):
        run(Settings(store, out=tmp_path / "folder"))
    for below in ("file/page.html", "file/deep/page.html"):
        with pytest.raises(ValueError, match=r"cannot be written, as .*/file is a file"):
            run(Settings(store, out=tmp_path / below))
    assert {path.name for path in tmp_path.iterdir()} == {"store", "folder", "file"}
    assert not list((tmp_path / "folder").iterdir())


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match="holds no results; name the --out folder of a run"):
            run(Settings(folder))
    assert not list(tmp_path.iterdir())


def write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("name", "spoil", "words"),
    [
        ("targets/fig7.json", write("{"), ["fig7.json is damaged"]),
        ("targets/fig7.json", write("[]"), ["fig7.json is damaged", "run its target again"]),
        ("targets/fig7.json", write('{"cells": [{}]}'), ["fig7.json is damaged"]),
        ("jobs/*/summary.json", write("{"), ["summary.json is damaged"]),
        ("jobs/*/summary.json", write("[]"), ["summary.json is damaged"]),
        ("jobs/*/settings.json", write("{}"), ["settings.json is damaged"]),
        ("jobs/*/settings.json", Path.unlink, ["settings.json", "No such file"]),
        ("jobs/*/metrics.jsonl", write("{}\nnonsense\n"), ["metrics.jsonl, line 2, is damaged"]),
        ("jobs/*/metrics.jsonl", Path.unlink, ["metrics.jsonl", "No such file"]),
        (
            "jobs/*/diagnoses/final.json",
            write("nonsense"),
            ["final.json is not the file of a report"],
        ),
        ("jobs/*/metrics.jsonl", write(""), ["metrics.jsonl is damaged", "delete the folder"]),
        ("jobs/*/environment.json", write(""), ["environment.json is damaged", "delete it"]),
        ("jobs/*/environment.json", write("[]"), ["environment.json is damaged", "delete it"]),
    ],
)
def test_a_damaged_or_missing_file_is_one_line_that_names_it(
    name: str,
    spoil: Callable[[Path], object],
    words: list[str],
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in store.glob(name):
        spoil(path)
    monkeypatch.setattr(sys, "argv", ["report", str(store)])
    with pytest.raises(SystemExit) as stop:
        cli.main(Settings, run, report.PROGRAM)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2
    assert all(word in line for word in words), line
    assert not (store / "report.html").exists()


def test_a_network_whose_summary_is_missing_is_not_trained_yet(store: Path) -> None:
    for path in job_files(store, "summary.json")[:1]:
        path.unlink()
    assert "Not trained yet: ResNet-34 on CIFAR-100: 1 of 3" in page_of(store)


def test_the_command_writes_the_page_and_says_where(
    store: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    page = tmp_path / "page.html"
    result = command("real_nets.report", store, "--out", page)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"The page is {page}.\n"
    assert page.read_text() == page_of(store)
