"""What is planned: which networks and diagnoses, of how many seeds, shared by which targets."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rankdeficit.experiments.runs import read_json, write_json
from real_nets import reproduce
from real_nets.data.opening import DataSource
from real_nets.jobs import execute as execution
from real_nets.jobs.folder import FINAL
from real_nets.models import MODELS, Definition, HighTemperatures, mlp
from real_nets.paper.plan import Plan
from real_nets.paper.targets import TARGETS
from real_nets.paper.targets.tables import Table3
from real_nets.reproduce import (
    OVERRIDES,
    Settings,
    chosen_names,
    prepare,
)
from tests.images import write_images
from tests.real_nets.fabricated import Numbers, by_seed, fill, setup_of
from tests.real_nets.reproduce.asking import MLP, TINY, Main


@pytest.mark.parametrize("network", ["mlp", "resnet18", "vit_b16"])
def test_options_change_every_network_of_a_budget(network: str) -> None:
    options = {
        "epochs": 3, "width": 7, "lr": 0.25, "lr_rule": "reparametrised", "momentum": 0.5,
        "clip_norm": 0.75, "batch_size": 9, "image_size": 48, "precision": "bf16",
        "compile": True, "gamma": 0.5, "diagnosed_images": 11, "per_class": 13, "test_per_class": 5,
    }  # fmt: skip
    assert set(options) == set(OVERRIDES)
    job = prepare(Settings(**options), DataSource()).budget.job("glyphs:50", network)
    assert {name: getattr(job, name) for name in OVERRIDES} == options
    plain = prepare(Settings(), DataSource()).budget.job("glyphs:50", network)
    assert not any(getattr(plain, name) == value for name, value in options.items())


@pytest.mark.parametrize(
    ("asked", "budget", "fig8", "quick"),
    [(None, "smoke", 10, 1), (2, "smoke", 2, 2), (3, "small", 3, 3), (12, "paper", 12, 12)],
)
def test_as_many_seeds_are_planned_as_were_asked_for(
    asked: int | None, budget: str, fig8: int, quick: int
) -> None:
    setup = prepare(Settings(seeds=asked, budget=budget), DataSource())  # type: ignore[arg-type]
    setup = replace(setup, why_missing=lambda name: None)
    for target, seeds in (("fig8", fig8), ("quick", quick)):
        grid = TARGETS[target].cells(setup)
        assert {len(cell.keys) for cell in grid.cells} == {seeds}


def test_planning_trains_nothing_and_leaves_nothing(
    main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert main("table1", *TINY, *MLP, "--data", root, "--plan", "--out", store) == 0
    captured = capsys.readouterr()
    assert "2 of 2 networks" in captured.err
    assert "About " in captured.err
    assert captured.out == ""
    assert not store.exists()


def test_networks_are_diagnosed_at_equal_accuracy_once_all_have_reached_one(
    main: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that are finished already, with the weights they kept; what is asked of them next."""
    root, store = tmp_path / "root", tmp_path / "store"
    for name in ("cifar10", "cifar100", "svhn"):
        write_images(root / name, classes=2, train=2, test=2)
    setup = setup_of(pick=["CIFAR-10/ResNet-18"])
    kept = Numbers(kept={0.2: None, 0.5: None})
    low = [Numbers(kept={0.2: Numbers()}), *[Numbers(kept={0.2: None})] * 2]
    fill(store, ["table1"], by_seed(baseline=[kept] * 3, low=low), setup)
    for file in store.glob("jobs/*/settings.json"):
        written = read_json(file)
        write_json(file, written | {"settings": written["settings"] | {"root": str(root)}})
    jobs = TARGETS["table1"].cells(setup).jobs
    done = next(key for key, job in jobs.items() if job.temperature > 1 and job.seed == 0)
    asked = []

    def note(work: list[execution.Work], *how: object) -> None:
        asked.extend((item.job.key, item.snapshots) for item in work)

    monkeypatch.setattr(reproduce, "execute", note)
    arguments = ["table1", "table2", "--budget", "small", "--cells", "CIFAR-10/ResNet-18"]
    assert main(*arguments, "--data", root, "--out", store) == 0
    assert sorted(asked) == sorted((key, ("accuracy-0.2",)) for key in jobs if key != done)


def test_targets_that_compare_nothing_at_equal_accuracy_ask_for_nothing(tmp_path: Path) -> None:
    setup = setup_of()
    kept = Numbers(kept={0.5: None})
    fill(tmp_path, ["quick"], lambda job: kept, setup)
    for name, asked in (("ortho-dev", 0), ("quick", 6), ("table1", 6)):
        plan = Plan.of([TARGETS[name]], setup, tmp_path)
        assert len(plan.at_equal_accuracy()) == asked


def test_only_targets_that_need_diagnoses_ask_for_them(tmp_path: Path) -> None:
    plan = Plan.of([TARGETS[name] for name in ("fig3", "table3")], setup_of(), tmp_path)
    asked = {(item.job.model, item.snapshots) for item in plan.work}
    assert asked == {("mlp", ()), ("vgg19", (FINAL,))}


def test_targets_share_their_jobs_but_not_what_was_left_out(tmp_path: Path) -> None:
    setup = setup_of(missing=("imagenet", "svhn"))
    plan = Plan.of([TARGETS[name] for name in ("table1", "fig3", "fig6")], setup, tmp_path)
    first, second, third = (part.grid for part in plan.parts)
    assert len(first.left_out) == 3
    assert second.left_out == {"out-of-distribution set svhn": "no svhn here"}
    assert third.left_out == {}
    assert plan.grid.jobs.keys() == {key for cell in first.cells for key in cell.keys}
    assert plan.grid.left_out == first.left_out


def test_a_target_without_a_picked_cell_is_told(tmp_path: Path) -> None:
    setup = replace(setup_of(), pick=("*/ResNet-20",))
    plan = Plan.of([TARGETS[name] for name in ("table1", "fig2", "fig6")], setup, tmp_path)
    assert plan.left_out == {
        "fig2": "--cells picks none of its cells, which are CIFAR-100/ResNet-34",
    }


def test_cells_and_plans_have_networks_and_targets_from_outside(
    main: Main,
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A network and a target that are registered by nobody of the project."""

    class Outside(Table3):
        """Table 3 of the other network."""

        name = "outside"
        networks = (("Own Network", "CIFAR-10"),)

    options: dict[str, Any] = {"small": {"lr": 0.125}}
    own = Definition(mlp.mlp, "Own Network", False, options, {"small": HighTemperatures(7.0, "so")})
    monkeypatch.setitem(MODELS, "own", own)
    monkeypatch.setitem(TARGETS, "outside", Outside())
    plan = Plan.of([TARGETS["outside"]], setup_of("small"), tmp_path)
    found = {(item.job.model, item.job.lr, item.job.temperature) for item in plan.work}
    assert found == {("own", 0.125, 1.0), ("own", 0.125, 7.0)}
    for cells, status in (("CIFAR-10/Own Network", 0), ("CIFAR-10/MLP", 2)):
        flags = [*TINY, "--cells", cells, "--data", root, "--plan", "--out", tmp_path / "store"]
        assert main("outside", *flags) == status
    told = capsys.readouterr().err
    assert "2 of 2 networks" in told
    assert "there are CIFAR-10/Own Network" in told


@pytest.mark.parametrize("executor", ["local", "slurm"])
def test_a_plan_of_tasks_tells_their_time_and_needs_no_cluster(
    executor: str, main: Main, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["table1", *TINY, *MLP, "--data", root, "--executor", executor, "--plan"]
    assert main(*arguments, "--out", tmp_path / "store") == 0
    assert re.search(r"2 tasks: about \d+ (s|min) ", capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["--list"], []])
def test_targets_are_listed(
    arguments: list[str], main: Main, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(*arguments) == 0
    text = capsys.readouterr().out
    assert all(f" {name} " in text for name in TARGETS)


def test_each_target_is_done_once_and_all_means_all() -> None:
    assert chosen_names(("fig1", "table1", "fig1")) == ["fig1", "table1"]
    assert chosen_names(("fig1", "all")) == list(TARGETS)
