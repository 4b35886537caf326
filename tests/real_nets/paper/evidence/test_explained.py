"""The page on what explains the final rank has the numbers of its records."""

import re
from pathlib import Path
from statistics import median

import pytest

from simulations.explain.fits import summarise
from simulations.explain.rows import read_networks
from tests.real_nets.paper.evidence.explaining import (
    FOLDER,
    LEARNED,
    STRICTER,
    errors_table,
    gain,
    gains_table,
    of,
    ruler,
    slope,
    stricter,
    summary,
    table,
    together,
)

TEXT = (FOLDER / "README.md").read_text()
PAGE = " ".join(TEXT.split())
TABLES = {"errors": errors_table, "gains": gains_table}


def test_the_table_of_networks_is_that_of_the_records() -> None:
    assert (FOLDER / "networks.csv").read_text() == table()


def test_the_summary_is_that_of_the_networks() -> None:
    """But for the toys, which the command draws anew."""
    (found,) = summarise(read_networks(FOLDER / "networks.csv", summary()["gamma"]))["sources"]
    stored = of("network")
    for name in ("runs", "groups", "left_out"):
        assert found[name] == stored[name]
    for kind in ("gains", "coefficients"):
        for name, values in found[kind].items():
            assert values == pytest.approx(stored[kind][name], abs=1e-6), name


def test_the_tables_are_those_of_the_summary() -> None:
    found = re.findall(r"<!-- table: (\w+) -->\n(.*?)\n<!-- end -->", TEXT, re.S)
    assert dict(found) == {name: make() for name, make in TABLES.items()}


def test_the_text_tells_what_the_records_have() -> None:
    for text in (
        f"of their logarithms {together():.2f})",
        f"share by {slope('network', 'norm')}",
        f"one of ln classes by {slope('network', 'classes')}",
        f"R² is {of('network')['errors']['others, norm, T']['r2']:.2f} on",
        f"R² is {of('deep UFM')['errors']['others, norm, T']['r2']:.2f}.",
        f"rank most, {slope('deep UFM', 'depth')}, then a low norm, {slope('deep UFM', 'norm')}",
        f"with a norm of {ruler('temperature', 10, 'norm', '.3g')} at T = 10",
        f"ends with rank {ruler('temperature', 10, 'rank', '.0f')} and "
        f"{ruler('classifier x 0.1', 1, 'rank', '.0f')} (class-centred",
        f"{summary()['stalled']} toys never left",
        f"(6 of {of('network')['runs']})",
    ):
        assert text in PAGE, text
    assert ruler("temperature", 10, "norm", ".3g") == ruler("classifier x 0.1", 1, "norm", ".3g")


def test_what_the_norm_adds_depends_on_which_networks_count(tmp_path: Path) -> None:
    found = stricter(tmp_path)
    assert f"the norm adds {gain(found, 'norm beyond the other numbers')} beyond the others" in PAGE
    _, low, high = found["gains"]["norm beyond the other numbers"]
    assert low < 0 < high
    assert f"{STRICTER:g} in place of {LEARNED:g} times the accuracy of guessing" in PAGE
    assert of("network")["gains"]["norm beyond the other numbers"][1] > 0


def test_verdicts_hold() -> None:
    for source in ("network", "deep UFM"):
        gains = of(source)["gains"]
        assert gains["T beyond the norm"][1] <= 0 <= gains["T beyond the norm"][2]
    assert of("deep UFM")["gains"]["norm beyond T"][1] > 0
    assert abs(of("network")["gains"]["norm beyond T"][1]) < 0.005
    assert of("network")["errors"]["others, norm, T"]["r2"] < 0.2
    left = {
        name for name, (_, low, high) in of("network")["coefficients"].items() if low * high > 0
    }
    assert left == {"norm", "classes"}
    slopes = of("deep UFM")["coefficients"]
    assert max(slopes, key=lambda name: abs(slopes[name][0])) == "depth"
    shares = [own["share"] for own in of("perceptron")["predictions"]]
    assert median(shares) > 0.95
