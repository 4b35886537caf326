"""Numbers of the READMEs come from the records."""

import json
from importlib.resources import files

from tests.conftest import ROOT

README = (ROOT / "rankdeficit" / "control" / "README.md").read_text()
KINDS = {"ufm": "deep UFM", "mlp": "perceptron"}


def test_the_table_of_toys_is_that_of_the_stored_fit() -> None:
    record = json.loads(files("rankdeficit.control.dial").joinpath("predictor.json").read_text())
    assert f"{record['runs']:,} runs" in README
    assert f"{record['judging_runs']:,} runs" in README
    by = {(own["target"], own["kind"], own["start"]): own for own in record["coverage"]}
    for target in ("rank at 0.001", "rank at 0.01", "rank at 0.1", "depth"):
        for kind, name in KINDS.items():
            if (target, kind, "all") not in by:
                continue
            left, stuck = (by[target, kind, start] for start in ("left", "not left"))
            cells = [
                f"{own['coverage']:.0%} / {own['median_width']:.2f}".replace("%", " %")
                for own in (left, stuck)
            ]
            error = f"{by[target, kind, 'all']['error']:.3f}"
            change = f"{by[target, kind, 'all']['error_without_change']:.3f}"
            assert f"| {target} | {name} | {cells[0]} | {cells[1]} | {error} | {change} |" in README
