"""The page on published networks has their numbers, and defines them."""

import csv
import re
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

FOLDER = ROOT / "real_nets" / "results" / "published"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
MARKS = "<!-- table: networks -->\n", "<!-- end -->"


def networks() -> list[dict[str, str]]:
    with (FOLDER / "networks.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def percent(row: dict[str, str], name: str, interval: bool = True) -> str:
    """In percent, with its interval."""
    value, *ends = (
        f"{100 * float(row[key]):.1f}"
        for key in (name, f"{name}_low", f"{name}_high")
        if key in row
    )
    return f"{value} ({ends[0]} to {ends[1]})" if interval else value


def markdown() -> str:
    """The table of the page."""
    lines = [
        "| network | train / test accuracy, % | raw rank (at 1e-2) | class-centred rank | κ "
        "| ρ, street characters | ρ, CIFAR-100 | NECO / kNN, street characters | NECO / kNN, CIFAR-100 |",
        "|---" * 9 + "|",
    ]
    for row in networks():
        accuracies = " / ".join(
            percent(row, f"{name}_accuracy", False) for name in ("train", "test")
        )
        detected = [
            " / ".join(
                percent(row, f"auroc_{data}_{name}", False) for name in ("neco-resnet", "knn")
            )
            for data in ("street", "cifar100")
        ]
        cells = [
            row["network"], accuracies, f"{row['rank']} ({row['rank_at_0.01']})", row["centred_rank"],
            percent(row, "kappa"), percent(row, "rho_street"), percent(row, "rho_cifar100"), *detected,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_table_is_that_of_the_networks() -> None:
    assert PAGE.partition(MARKS[0])[2].partition(MARKS[1])[0] == markdown()


def test_the_table_of_presets_is_that_of_its_records() -> None:
    with (FOLDER / "presets.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = ["| probes | κ | ρ, street characters |", "|---|---|---|"]
    for row in rows:
        cells = row["preset"], percent(row, "kappa"), percent(row, "rho_street")
        lines.append(f"| {' | '.join(cells)} |")
        assert row["train_images"] == row["test_images"] == "5000"
        assert float(row["kappa_high"]) < 1  # the paper's 100 %
        assert float(row["rho_street_low"]) > 0.1  # and its 10 %
    assert "<!-- table: presets -->\n" + "\n".join(lines) + "\n<!-- end -->" in PAGE


def test_what_is_said_of_all_networks_holds() -> None:
    for row in networks():
        ranks = {row[f"{name}_rank"] for name in ("centred", "sample_centred", "covariance")}
        assert ranks == {row["rank_at_0.01"]} == {"9"}
        assert 92.5 <= 100 * float(row["kappa"]) <= 95.5
        assert 52.5 <= 100 * float(row["rho_cifar100"]) <= 54.5
        assert 61 <= 100 * float(row["rho_street"]) <= 69.5
        for data in ("street", "cifar100"):
            assert float(row[f"auroc_{data}_knn"]) > float(row[f"auroc_{data}_neco-resnet"])


@pytest.mark.parametrize("depth", [20, 56])
def test_the_definition_is_that_of_the_networks(depth: int) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    defined: dict[str, Any] = {"__name__": "resnets"}
    exec(code, defined)
    model = defined[f"resnet{depth}"]().eval()
    (row,) = [row for row in networks() if row["network"] == f"ResNet-{depth}"]
    assert sum(own.numel() for own in model.parameters()) == int(row["parameters"])
    logits = model(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
