"""Table 2, OOD detection, from stores with known numbers."""

from dataclasses import replace
from pathlib import Path

import pytest

from rankdeficit.page import Section
from real_nets.paper.compare import Verdict
from tests.real_nets.fabricated import (
    HOT,
    RESNET,
    Numbers,
    by_seed,
    compared,
    hundred,
    numbers_of,
    row_of,
    section_of,
    setup_of,
)

ONE = setup_of(pick=["CIFAR-100/ResNet-18"])
WHERE = "ResNet-18 on CIFAR-100"


def detected(auroc: float, fpr: float) -> Numbers:
    return hundred(auroc=auroc, fpr=fpr)


DETECTED = by_seed(
    baseline=[detected(0.60, 0.92), detected(0.62, 0.90), detected(0.64, 0.94)],
    low=[detected(0.75, 0.80), detected(0.77, 0.78), detected(0.79, 0.82)],
)


def test_table_2_compares_auroc_and_false_positives(tmp_path: Path) -> None:
    table = section_of(tmp_path, "table2", DETECTED, ONE).tables[0]
    assert numbers_of(table, "AUROC of NECO (cifar10)") == [
        *("63.66%", "77.04%"),
        *("62.00% (60.00–64.00)", "77.00% (75.00–79.00)"),
        *("−1.7 pp", "0.0 pp"),
    ]
    assert numbers_of(table, "FPR of NECO (cifar10)") == [
        *("90.44%", "80.13%"),
        *("92.00% (90.00–94.00)", "80.00% (78.00–82.00)"),
        *("+1.6 pp", "−0.1 pp"),
    ]
    assert numbers_of(table, "AUROC of NECO (svhn)")[:2] == ["", ""]
    found = compared(tmp_path / "records", "table2", DETECTED, ONE)[WHERE]
    assert [one.moved for one in found.values()] == [1, -1] * 2
    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == {
        "AUROC of NECO (svhn)": Verdict.UNCLAIMED, "FPR of NECO (svhn)": Verdict.UNCLAIMED,
        "AUROC of NECO (cifar10)": Verdict.AGREES, "FPR of NECO (cifar10)": Verdict.AGREES,
    }  # fmt: skip


def notes_of(section: Section, ood: str) -> set[str | None]:
    """Notes at the paper's numbers of an out-of-distribution set."""
    rows = [row for row in section.tables[0].rows if f"({ood})" in row[2].text]
    return {cell.note for row in rows for cell in row if cell.kind == "paper"}


ELSEWHERE = {"missing": ("cifar10",), "replacements": {"svhn": "tiny"}}


@pytest.mark.parametrize(
    ("cell", "options", "ood", "words"),
    [
        ("CIFAR-100/ResNet-18", ELSEWHERE, "tiny", ["CIFAR-10"]),
        ("CIFAR-100/ViT-B", ELSEWHERE, "tiny", ["CIFAR-10", "ImageNet-21k"]),
        ("CIFAR-10/ViT-B", {}, "cifar100", ["ImageNet-21k"]),
        ("CIFAR-10/ResNet-34", {}, "cifar100", []),
    ],
)  # fmt: skip
def test_table_2_notes_what_is_different_about_the_papers_numbers(
    cell: str, options: dict[str, object], ood: str, words: list[str], tmp_path: Path
) -> None:
    section = section_of(tmp_path, "table2", DETECTED, setup_of(pick=[cell], **options))  # type: ignore[arg-type]
    (note,) = notes_of(section, ood)
    assert [word for word in ("CIFAR-10", "ImageNet-21k") if note and word in note] == words


def test_table_2_without_any_ood_set_still_shows_the_paper(tmp_path: Path) -> None:
    missing = setup_of(missing=("svhn", "cifar10"), pick=["CIFAR-100/ResNet-18"])
    table = section_of(tmp_path, "table2", DETECTED, missing).tables[0]
    assert numbers_of(table, "AUROC") == ["63.66%", "77.04%", *[""] * 4]


def test_table_2_shows_every_variant_and_equal_accuracy(tmp_path: Path) -> None:
    kept = {0.5: detected(0.7, 0.7)}
    numbers = by_seed(baseline=[replace(detected(0.6, 0.9), kept=kept)] * 3, low=[
        replace(detected(0.8, 0.8), kept=kept)] * 3)  # fmt: skip
    _, variants, _, equal = section_of(tmp_path, "table2", numbers, ONE).tables
    assert [c.title for c in variants.columns[4:]] == [
        "d of NECO", *(f"neco-{name}" for name in ("equation", "resnet", "swin", "vit"))
    ]  # fmt: skip
    assert row_of(variants, *RESNET, HOT, "svhn")[1:] == ["80.00%"] * 4
    assert int(row_of(variants, *RESNET, HOT, "svhn")[0]) >= 1
    assert numbers_of(equal, "AUROC of NECO (cifar10)")[2:4] == ["70.00%"] * 2
    found = compared(tmp_path / "records", "table2", numbers, ONE, 0.5)[WHERE]
    assert {one.moved for one in found.values()} == {0}
