"""The README of the diagnostics: its table of measures and its example, held to the code."""

import re
from pathlib import Path

import pytest

import rankdeficit as rd
from rankdeficit.diagnostics.listing import markdown_table
from rankdeficit.diagnostics.report.glossary import TERMS, markdown_glossary
from tests.rankdeficit.diagnostics.diagnose.problems import small_problem

README = Path(rd.diagnostics.__file__).parent / "README.md"
LIBRARY = README.parents[1] / "README.md"


def between(start: str, end: str, page: Path = README) -> str:
    return page.read_text().split(f"<!-- {start} -->")[1].split(f"<!-- {end} -->")[0]


def test_the_table_lists_the_registered_measures() -> None:
    """Write it anew with `python -m rankdeficit.diagnostics.listing`."""
    assert between("measures", "end of measures").strip() == markdown_table().strip()


def test_the_glossary_is_that_of_the_pages() -> None:
    """Written by the same command."""
    assert between("glossary", "end of glossary", LIBRARY).strip() == markdown_glossary()
    taken = {name for term in TERMS.values() for name in term.measures}
    assert taken <= set(rd.diagnostics.available_measures())


@pytest.mark.usefixtures("registries")
def test_the_example_runs() -> None:
    code = "\n".join(
        re.findall(r"```python\n(.*?)```", README.read_text().split("<!-- example -->")[1], re.S)
    )
    exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    model, train, test = small_problem()
    report = rd.diagnose(model, train, test, {"other": (None, test)}, probes=False)
    assert report["train.mean_margin"] > report["train.loss"] * -100
    assert 1 <= report["layers"][0]["participation_ratio"]["test"] <= 8
    assert report["detection.other.feature-norm.auroc"] == pytest.approx(0.5)


def test_it_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 140
