"""What the READMEs show is what happens, and their links lead somewhere."""

import importlib
import re
import sys
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

from proofs.claims import run_check
from rankdeficit import bounds
from rankdeficit.control import logits_norm
from rankdeficit.experiments.options import documentation
from rankdeficit.experiments.runs import read_json, read_rows
from rankdeficit.experiments.tables import spread
from simulations.ufm import Settings, Ufm
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
LIBRARY = (ROOT / "rankdeficit" / "README.md").read_text()
LONGEST = 150


def test_the_library_examples_run_and_say_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, _, _, reports = re.findall(r"```python\n(.*?)```", LIBRARY, re.S)
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(example, names)
        monkeypatch.chdir(tmp_path)
        exec(reports, names)
    assert names["comparison"].differences()["test.accuracy"].p is not None
    assert {path.name for path in tmp_path.iterdir()} == {"narrow.html", "narrow.csv"}
    rd, logits = names["rd"], names["logits"]
    assert rd.numerical_rank(logits) == 3
    assert rd.numerical_rank(rd.softmax(30 * logits)) > 3
    assert names["gram"].spectrum().rank() == 3
    gap = bounds.singular_gap(rd.softmax(logits[:50]).mT)
    assert gap.lower <= gap.gap <= gap.upper
    assert names["code"].rank == 2


def test_the_toy_models_end_with_these_ranks() -> None:
    _, example, _, _ = re.findall(r"```python\n(.*?)```", LIBRARY, re.S)
    names: dict[str, Any] = {}
    exec(example, names)
    ranks = names["rd"].centred_rank(names["logits"]).tolist()
    assert {*ranks[:4]} <= {26, 27, 28, 29}  # one more, as other processors round otherwise
    assert {*ranks[4:]} <= {18, 19, 20, 21}


def test_the_diagnosis_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, _ = re.findall(r"```python\n(.*?)```", README, re.S)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        data = [[(torch.randn(60, 4), torch.arange(60) % 3)] for _ in range(4)]
    names = dict(zip(("train", "test", "svhn_train", "svhn_test"), data, strict=True))
    monkeypatch.chdir(tmp_path)
    exec(example, {"model": model} | names)
    assert (tmp_path / "report.json").exists()
    assert (tmp_path / "figures" / "probe_accuracies.png").exists()


def test_the_example_of_levers_runs() -> None:
    _, example = re.findall(r"```python\n(.*?)```", README, re.S)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        inputs = torch.randn(3, 1300, 4)
        parts = dict(zip(("train", "choose", "test"), inputs, strict=True))
        names: dict[str, Any] = {key: [(x, torch.arange(1300) % 3)] for key, x in parts.items()}
        names |= {"model": model, "images": inputs[0]}
        exec(example, names)
    assert logits_norm(model, inputs[0]).evaluation.raw == pytest.approx(0.5, rel=1e-5)
    assert isinstance(names["small"].model, nn.Module)


def test_the_false_bound_is_refuted() -> None:
    _, _, example, _ = re.findall(r"```python\n(.*?)```", LIBRARY, re.S)
    names: dict[str, Any] = {}
    exec(example, names)
    with pytest.raises(AssertionError):
        settings(print_blob=False, database=None)(names["test_a_sharper_gap"])()


def recipe(package: str) -> str:
    """The example of a package's README of how to add something to it."""
    page = (ROOT / package / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.S)
    return code


def imported(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of this code, from a file, where --help finds its texts."""
    (folder / "pasted.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "pasted", raising=False)
    return importlib.import_module("pasted")


def test_the_recipe_of_a_simulation_is_a_simulation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = imported(recipe("simulations"), tmp_path, monkeypatch)
    assert documentation(module.Settings)["length"] == "Steps of a walk."
    path = module.Walk().run(module.Settings(length=9, seeds=3, out=tmp_path / "run"))
    rows, (ends,) = read_rows(path), read_json(path / "summary.json").values()
    assert ends == [row["place"] for row in rows[8::9]]
    places = [[row["place"] for row in rows if row["seed"] == seed] for seed in range(3)]
    assert all(abs(b - a) == 1 for walk in places for a, b in pairwise([0, *walk]))
    assert (path / "places.png").exists()
    assert f"{sorted(map(abs, ends))[1]}." in capsys.readouterr().out


def test_the_recipe_of_a_claim_is_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = imported(recipe("proofs"), tmp_path, monkeypatch).CLAIM
    assert claim.name == "pasted"
    assert [run_check(check).verdict for check in claim.checks] == ["proved", "held"]


def test_the_two_commands_are_there_for_ci_to_run() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert [command.split()[-1] for command in commands] == ["50", "pytest"]


@pytest.mark.slow
def test_the_front_page_shows_what_its_first_command_prints(tmp_path: Path) -> None:
    path = Ufm().run(Settings(temperature=(50.0,), device="cpu", out=tmp_path / "run"))
    runs = read_json(path / "summary.json")["runs"]
    for temperature in (1.0, 50.0):
        own = [run for run in runs if run["temperature"] == temperature]
        cells = [
            f"{temperature:g}",
            f"{100 * median(run['accuracy'] for run in own):g} %",
            *(
                f"{median(run[name] for run in own):.3g}"
                for name in ("logits_norm", "effective_logits_norm")
            ),
            *(
                spread([run[name] for run in own])
                for name in ("rank", "centred_rank", "post_softmax_rank")
            ),
            str(own[0]["neural_collapse_rank"]),
        ]
        assert f"| {' | '.join(cells)} |" in README


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST


def anchors(text: str) -> set[str]:
    """Those that headings make."""
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


PAGES = [
    page
    for page in ROOT.rglob("*.md")
    if not any(
        part.startswith(".") or part in ("runs", "data", "build")
        for part in page.relative_to(ROOT).parts
    )
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not target.startswith(("http", "#")):
            name, _, anchor = target.partition("#")
            linked = page.parent / name
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked.read_text()), target
