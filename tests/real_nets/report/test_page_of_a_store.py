"""The page on a store: its sections and summary."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from rankdeficit.diagnostics.report.glossary import TERMS
from rankdeficit.experiments.runs import read_json, write_json
from rankdeficit.page import render
from real_nets.paper.budgets import with_changes
from real_nets.paper.store import TargetRecord, read_targets, write_target
from real_nets.paper.targets import TARGETS
from real_nets.report import build_page
from tests.real_nets.fabricated import fill, setup_of
from tests.real_nets.report.pages import NUMBERS, conditions_of, other_data_of, page_of, summary_of
from tests.undrawn import needs_latex


def test_the_page_has_a_section_per_target_in_the_order_of_the_list(original: Path) -> None:
    with matplotlib.rc_context({"text.usetex": True}):  # the user's, which no figure is made in
        page = build_page(original, read_targets(original, list(TARGETS)))
    pictures = [picture for section in page.sections for picture in section.pictures]
    assert pictures
    assert not any(needs_latex(picture.figure) for picture in pictures)
    assert [section.identifier for section in page.sections] == [
        "table2",
        "fig7",
        "neural-collapse",
        "glossary",
    ]
    text = render(page)
    for number in ("76.37%", "80.00%", "(75.00–85.00)", "+3.6\u00a0pp", "−12.4\u00a0pp"):
        assert number in text


def test_the_summary_counts_networks_and_names_the_paper(original: Path) -> None:
    summary = build_page(original, read_targets(original, list(TARGETS))).summary
    assert any("arXiv 2506.01562" in text for text in summary)
    assert any(re.match("6 networks.* cifar100.* 1 diverged", text) for text in summary)


def test_the_summary_says_once_why_a_temperature_stands_for_low_logit_norm(original: Path) -> None:
    summary = build_page(original, read_targets(original, list(TARGETS))).summary
    told = [text for text in summary if text.startswith("Low logit norm is T = ")]
    cells = [cell for own in read_targets(original, list(TARGETS)) for cell in own.cells]
    reasons = {cell.reason for cell in cells if cell.reason}
    assert [sum(reason in text for text in told) for reason in reasons] == [1] * len(reasons) != []


@pytest.mark.parametrize(
    ("budget", "replacements", "expected"),
    [
        ("paper", {}, []),
        ("paper", {"svhn": "cifar100"}, []),
        ("paper", {"svhn": "tiny"}, ["tiny as .*"]),
        ("paper", {"imagenet": "tiny"}, []),
        (
            "paper",
            {"cifar100": "tiny"},
            ["tiny .*CIFAR-100", "tiny as .*", "tiny .*120 train.* 40 test.*"],
        ),
        (
            "smoke",
            {},
            [
                "glyphs:50 .*CIFAR-10",
                "glyphs:50 .*CIFAR-100",
                "glyph-fonts:50, glyph-letters:50 as .*",
                "glyphs:50 .*120 train.* 40 test.*",
            ],
        ),
    ],
)
def test_the_summary_says_which_data_are_not_the_papers(
    budget: str, replacements: dict[str, str], expected: list[str], tmp_path: Path
) -> None:
    fill(tmp_path, ["neural-collapse"], NUMBERS, setup_of(budget, replacements=replacements))
    for told, pattern in zip(other_data_of(tmp_path), expected, strict=True):
        assert re.fullmatch(pattern, told)
    if not replacements:
        assert any("drawn letters" in line for line in summary_of(tmp_path)) == (budget == "smoke")


def test_the_summary_says_which_data_are_a_part_of_the_papers(store: Path) -> None:
    for file in store.glob("jobs/*/summary.json"):
        write_json(file, read_json(file) | {"train_images": 5000, "test_images": 2000})
    (told,) = other_data_of(store)
    assert re.search("cifar100.* 5,000 train.* 2,000 test", told)


@pytest.mark.parametrize(
    ("budget", "target", "cell", "options", "told"),
    [
        ("small", "table1", "ImageNet-100/ResNet-50", {}, "imagenet100 .*64 x 64.*"),
        ("paper", "table1", "ImageNet-100/ResNet-50", {}, None),
        ("paper", "table1", "CIFAR-10/MLP", {}, None),
        ("paper", "table1", "CIFAR-10/MLP", {"image_size": 32}, None),
        ("paper", "table1", "CIFAR-10/MLP", {"image_size": 64}, "cifar10 .*64 x 64.*"),
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
    setup = replace(setup, budget=with_changes(setup.budget, None, options))
    fill(tmp_path, [target], NUMBERS, setup)
    for found, pattern in zip(other_data_of(tmp_path), [told] if told else [], strict=True):
        assert re.fullmatch(pattern, found)


def test_all_of_the_papers_data_sets_are_known_as_such(tmp_path: Path) -> None:
    fill(tmp_path, ["table1"], lambda job: None)
    assert other_data_of(tmp_path) == []


def test_imagenet_100_is_told_apart_by_nothing(tmp_path: Path) -> None:
    fill(tmp_path, ["table1"], NUMBERS, setup_of("paper", pick=["ImageNet-100/ResNet-34"]))
    assert other_data_of(tmp_path) == []


def test_tables_without_rows_are_not_shown(tmp_path: Path) -> None:
    write_target(tmp_path, TargetRecord("table2", "small", [], {"CIFAR-10/ViT-B": "no timm"}, {}))
    (section,) = build_page(tmp_path, read_targets(tmp_path, list(TARGETS))).sections
    (cells,) = section.tables
    assert {cell.text for row in cells.rows for cell in row[2:]} == {"not measured"}
    (note,) = section.notes
    assert "CIFAR-10/ViT-B: no timm" in note


def test_a_store_without_a_finished_network_has_a_page_too(tmp_path: Path) -> None:
    fill(tmp_path, ["neural-collapse"], lambda job: None)
    assert re.match("No networks", summary_of(tmp_path)[1])
    assert conditions_of(tmp_path) == {"budget": "small"}
    assert "3 of 3" in page_of(tmp_path)


def test_what_was_left_out_is_told_in_its_own_section(store: Path) -> None:
    fill(store, ["fig6"], NUMBERS)
    page = build_page(store, read_targets(store, list(TARGETS)))
    left_out = {
        section.identifier: ["svhn: no svhn here" in note for note in section.notes].count(True)
        for section in page.sections
    }
    told = {"table2": 1, "fig7": 1, "neural-collapse": 1, "fig6": 0, "glossary": 0}
    assert left_out == told


def test_the_glossary_defines_the_measures_of_the_page_and_no_others(original: Path) -> None:
    *_, glossary = build_page(original, read_targets(original, list(TARGETS))).sections
    (table,) = glossary.tables
    found = {row[0].text for row in table.rows}
    assert {TERMS[name].name for name in ("accuracy", "ortho_dev", "neco", "auroc", "nc2")} <= found
    assert not {TERMS[name].name for name in ("effective_depth", "gradient", "calibration")} & found


def test_the_same_store_gives_the_same_page(store: Path) -> None:
    first = page_of(store)
    targets = sorted((store / "targets").iterdir())
    for file in reversed(targets):  # another order of the folder's entries
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    assert page_of(store) == first
