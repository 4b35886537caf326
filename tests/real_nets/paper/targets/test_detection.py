"""Table 2 from stores with known numbers: both directions, all variants of NECO."""

from dataclasses import replace
from pathlib import Path

from real_nets.page import Table
from tests.real_nets.fabricated import (
    BEYOND,
    COLD,
    HOT,
    RESNET,
    Numbers,
    by_seed,
    hundred,
    row_of,
    section_of,
    setup_of,
)


def detected(auroc: float, fpr: float) -> Numbers:
    return hundred(auroc=auroc, fpr=fpr)


DETECTED = by_seed(
    baseline=[detected(0.60, 0.92), detected(0.62, 0.90), detected(0.64, 0.94)],
    low=[detected(0.75, 0.80), detected(0.77, 0.78), detected(0.79, 0.82)],
)


def test_table_2_compares_auroc_and_false_positives(tmp_path: Path) -> None:
    section = section_of(tmp_path, "table2", DETECTED, setup_of(pick=["CIFAR-100/ResNet-18"]))
    table = section.tables[0]
    assert row_of(table, *RESNET, COLD, "cifar10") == [
        *("63.66%", "90.44%"),
        *("62.00% (60.00–64.00), n = 3", "92.00% (90.00–94.00), n = 3"),
        *("−1.7 pp", "+1.6 pp"),
    ]
    assert row_of(table, *RESNET, HOT, "cifar10") == [
        *("77.04%", "80.13%"),
        *("77.00% (75.00–79.00), n = 3", "80.00% (78.00–82.00), n = 3"),
        *("0.0 pp", "−0.1 pp"),
    ]
    assert row_of(table, *RESNET, HOT, "svhn")[0:2] == ["", ""]
    moves = [
        f"the AUROC ({ood}) rises{BEYOND} (62.00% to 77.00%), as in the paper; "
        f"the FPR ({ood}) falls{BEYOND} (92.00% to 80.00%), as in the paper"
        for ood in ("svhn", "cifar10")
    ]
    assert section.paragraphs[1:] == [f"ResNet-18 on CIFAR-100: {'; '.join(moves)}."]


def notes_of(table: Table, ood: str) -> set[str | None]:
    return {cell.note for row in table.rows if row[3].text == ood for cell in row[4:6] if cell.text}


def test_table_2_notes_where_the_papers_ood_set_is_another(tmp_path: Path) -> None:
    setup = setup_of(missing=("cifar10",), replacements={"svhn": "tiny"}, pick=["CIFAR-100/*"])
    table = section_of(tmp_path, "table2", DETECTED, setup).tables[0]
    assert notes_of(table, "tiny") == {
        "the paper's out-of-distribution set is CIFAR-10",
        "the paper's out-of-distribution set is CIFAR-10; the paper's network was pretrained on "
        "ImageNet-21k",
    }


def test_table_2_notes_pretraining(tmp_path: Path) -> None:
    setup = setup_of(pick=["CIFAR-10/ViT-B"])
    table = section_of(tmp_path, "table2", DETECTED, setup).tables[0]
    assert notes_of(table, "cifar100") == {"the paper's network was pretrained on ImageNet-21k"}
    plain = setup_of(pick=["CIFAR-10/ResNet-34"])
    table = section_of(tmp_path / "plain", "table2", DETECTED, plain).tables[0]
    assert notes_of(table, "cifar100") == {None}


def test_table_2_without_any_ood_set_still_shows_the_paper(tmp_path: Path) -> None:
    missing = setup_of(missing=("svhn", "cifar10"), pick=["CIFAR-100/ResNet-18"])
    section = section_of(tmp_path, "table2", DETECTED, missing)
    assert row_of(section.tables[0], *RESNET, COLD, "") == ["63.66%", "90.44%", *[""] * 4]


def test_table_2_shows_every_variant_and_equal_accuracy(tmp_path: Path) -> None:
    kept = {0.5: detected(0.7, 0.7)}
    numbers = by_seed(baseline=[replace(detected(0.6, 0.9), kept=kept)] * 3, low=[
        replace(detected(0.8, 0.8), kept=kept)] * 3)  # fmt: skip
    section = section_of(tmp_path, "table2", numbers, setup_of(pick=["CIFAR-100/ResNet-18"]))
    _, variants, equal = section.tables
    assert [c.title for c in variants.columns[4:]] == [
        f"neco-{name}" for name in ("deit", "equation", "resnet", "swin", "vit")
    ]
    assert row_of(variants, *RESNET, HOT, "svhn") == ["80.00%"] * 5
    assert row_of(equal, *RESNET, HOT, "cifar10")[2:4] == ["70.00%"] * 2
    (then,) = (
        text for text in section.paragraphs if text.startswith("At equal train accuracy (50%), ")
    )
    assert [then.count(f"the AUROC ({ood}) does not move") for ood in ("svhn", "cifar10")] == [1, 1]
