"""The page on what explains the final rank has the numbers of its records."""

import re
from statistics import median

import pytest

from simulations.explain.fits import summarise
from simulations.explain.rows import read_networks
from tests.real_nets.paper.evidence.explaining import (
    FOLDER,
    errors_table,
    gains_table,
    of,
    ruler,
    slope,
    summary,
    table,
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
        f"moves the logit of the rank by {slope('network', 'norm')}",
        f"one of ln classes by {slope('network', 'classes')}",
        f"R² is {of('network')['errors']['others, norm, T']['r2']:.2f} on",
        f"R² is {of('deep UFM')['errors']['others, norm, T']['r2']:.2f}.",
        f"rank most, {slope('deep UFM', 'depth')}, then a low norm, {slope('deep UFM', 'norm')}",
        f"with a norm of {ruler('temperature', 10, 'norm', '.3g')} at T = 10",
        f"ends with rank {ruler('temperature', 10, 'rank', '.0f')} and "
        f"{ruler('classifier x 0.1', 1, 'rank', '.0f')} (medians",
        f"{summary()['stalled']} toys never left",
        f"(6 of {of('network')['runs']})",
    ):
        assert text in PAGE, text
    assert ruler("temperature", 10, "norm", ".3g") == ruler("classifier x 0.1", 1, "norm", ".3g")


def test_verdicts_hold() -> None:
    for source in ("network", "deep UFM"):
        gains, errors = of(source)["gains"], of(source)["errors"]
        assert (gains["norm beyond T"][1] > 0) == (source == "deep UFM")
        assert gains["T beyond the norm"][1] <= 0 <= gains["T beyond the norm"][2]
        known, constant = (errors[name]["r2"] for name in ("others, norm, T", "nothing"))
        assert (known > constant + 0.1) == (source == "deep UFM")
    left = {
        name for name, (_, low, high) in of("network")["coefficients"].items() if low * high > 0
    }
    assert left == {"norm", "classes"}
    slopes = of("deep UFM")["coefficients"]
    assert max(slopes, key=lambda name: abs(slopes[name][0])) == "depth"
    shares = [own["share"] for own in of("perceptron")["predictions"]]
    assert median(shares) > 0.95
