"""The page on distillation has the numbers of its students."""

import csv
from statistics import mean, median, stdev

from scipy.stats import t

from tests.conftest import ROOT

FOLDER = ROOT / "real_nets" / "results" / "distillation"
PAGE = " ".join((FOLDER / "README.md").read_text().split())


def students() -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Train and test accuracy in percent of the students of each teacher and KD temperature, by seed."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with (FOLDER / "students.csv").open() as file:
        for row in csv.DictReader(file):
            accuracies = 100 * float(row["train_accuracy"]), 100 * float(row["test_accuracy"])
            found.setdefault((row["teacher"], row["kd_temperature"]), []).append(accuracies)
    return found


def spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def gains(key: tuple[str, str]) -> list[float]:
    """Test accuracy above that of the student with labels alone, seed by seed."""
    own, alone = (students()[name] for name in (key, ("none", "")))
    return [after[1] - before[1] for after, before in zip(own, alone, strict=True)]


def line(key: tuple[str, str]) -> str:
    """One row of the table."""
    own = students()[key]
    train, test = (spread([one[side] for one in own]) for side in (0, 1))
    gained = "" if key[0] == "none" else spread(gains(key))
    teacher = "none" if key[0] == "none" else f"T = {key[0]}"
    return f"| {teacher} | {key[1]} | {train} | {test} | {gained} |".replace("  ", " ")


def difference(kd: str) -> tuple[float, float]:
    """Mean gain of students of hot teachers above those of cold ones, and half of its 95 % interval."""
    hot, cold = gains(("50", kd)), gains(("1", kd))
    own = [a - b for a, b in zip(hot, cold, strict=True)]
    return mean(own), float(t.ppf(0.975, len(own) - 1)) * stdev(own) / len(own) ** 0.5


def test_the_table_is_that_of_the_students() -> None:
    assert len(students()) == 7
    for key, own in students().items():
        assert len(own) == 3
        assert line(key) in PAGE


def test_the_difference_between_teachers_is_that_told() -> None:
    for kd in ("1", "4", "16"):
        centre, half = difference(kd)
        assert f"{centre:+.2f} ({centre - half:+.2f} to {centre + half:+.2f})" in PAGE
