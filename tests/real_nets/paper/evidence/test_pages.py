"""Every number in README.md and FINDINGS.md that comes from a record is what the records give.

A page marks a table with `<!-- table: NAME -->` ... `<!-- end -->`, and a number in the text with a named
anchor, `<a id="NAME">NUMBER</a>`.
"""

import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import get_args

import pytest

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.experiments.network_figures.when_trained import trade_off_points
from rankdeficit.page.numbers import format_norm
from real_nets.jobs.folder import FINAL, JobFolder
from real_nets.paper.compare import correlation
from real_nets.paper.grid import Cell
from real_nets.paper.measures import initial_norm, initial_norm_in_evaluation
from real_nets.paper.store import Results, read_targets
from real_nets.paper.targets.target import figure_run, networks
from real_nets.paper.targets.trade_off import ALL, by_kind
from tests.conftest import ROOT
from tests.real_nets.paper.evidence.telling import (
    FINDINGS,
    FORMER,
    LOSSLESS,
    OWN,
    PAIRS,
    STORE,
    TENTH,
    Measure,
    Pair,
    accuracy_on_test,
    accuracy_on_train,
    beside_table,
    decimals,
    depth,
    depth_of_best,
    drop,
    findings_table,
    headline_table,
    integer,
    known,
    moved_detectors,
    moved_with_ranges,
    neco,
    pair_of,
    percent,
    rank_at,
    spelled,
)

PAGES = [ROOT / "README.md", FINDINGS]


def outcomes_of(store: Path, target: str) -> list[list[JobFolder]]:
    (record,) = read_targets(store, [target])
    return [Results(store).outcomes(cell) for cell in record.cells]


def layer_ranks(step: int, side: list[JobFolder], gamma: str = "0.001") -> str:
    """Rank of the last hidden layer after some steps."""
    rows = [{row["step"]: row for row in one.rows}[step] for one in side]
    return spelled((row["layer_ranks"][gamma][-2] for row in rows), integer)


def most_after(step: int, side: list[JobFolder]) -> str:
    """Highest rank of the last hidden layer after more steps."""
    rows = [[row for row in one.rows if row["step"] > step] for one in side]
    return spelled((max(row["layer_ranks"]["0.001"][-2] for row in own) for own in rows), integer)


def adaptive_vgg() -> list[JobFolder]:
    """VGG-19 at T = 1 with AdamW, on re-encoded images."""
    return pair_of(STORE, "VGG-19", "VGG-19").cold


def correlated(key: str) -> str:
    pair = PAIRS[key]
    points = [(drop(one), neco(one)) for one in (*pair.cold, *pair.hot)]
    found = correlation(points)  # type: ignore[arg-type]
    assert found is not None
    return f"{found.rho:.2f}, p = {found.p:.2g}"


def within_networks(ood: str) -> str:
    """Correlation of rho and the AUROC of NECO over all networks on the paper's own images."""
    (record,) = read_targets(LOSSLESS, ["trade-off"])
    runs = map(figure_run, networks(record.cells, Results(LOSSLESS)))
    found = by_kind(trade_off_points(list(runs)))[ood, ALL]
    assert found is not None
    return f"{found.rho:.2f}, p = {found.p:.2g}, n = {found.n}"


def detectors(key: str) -> str:
    """How many of the ten distinct detectors move beyond the spread: at the end, at equal accuracy."""
    pair = PAIRS[key]
    both = [moved_detectors(pair, snapshot) for snapshot in (FINAL, pair.milestone)]
    assert [len(moves) for moves in both] == [10, 10]
    return ", ".join(f"{moves.count(1)} / {moves.count(-1)}" for moves in both)


def squared_error(
    measure: Callable[[JobFolder], float | None], form: Callable[[float], str]
) -> str:
    return " to ".join(spelled(map(measure, side), form) for side in outcomes_of(LOSSLESS, "mse"))


def hidden_rank(one: JobFolder) -> float:
    return float(one.summary["train_layer_ranks"]["0.01"][-2])


def wrong_images(one: JobFolder) -> float:
    return round((1 - one.summary["accuracy"]) * one.summary["train_images"])


def initial_norms(network: str) -> str:
    """Effective norms at the start on CIFAR-10 with batch statistics, then with running averages."""
    (record,) = read_targets(LOSSLESS, ["fig8"])
    (cell,) = [one for one in record.cells if (one.dataset, one.network) == ("CIFAR-10", network)]
    networks = Results(LOSSLESS).outcomes(cell)
    assert len(networks) == 10
    both = (initial_norm, initial_norm_in_evaluation)
    told = dict.fromkeys(spelled(map(norm, networks), format_norm) for norm in both)
    return ", ".join(told)


def own_and_narrow(store: Path) -> list[list[JobFolder]]:
    own, narrow = outcomes_of(store, "rank-two")
    assert {one.rank for one in narrow} == {2}
    return [own, narrow]


def over_temperatures(
    measure: Callable[[JobFolder], float | None], form: Callable[[float], str] = percent
) -> str:
    """A measure of the MLP at each of its temperatures on the paper's own images."""
    (record,) = read_targets(LOSSLESS, ["table1"])
    cells = [cell for cell in record.cells if cell.network == "MLP"]
    by_temperature = sorted(cells, key=lambda cell: cell.temperature)
    told = [
        spelled(map(measure, Results(LOSSLESS).outcomes(cell)), form) for cell in by_temperature
    ]
    return f"{', '.join(told[:-1])} and {told[-1]}"


def protocols_table() -> str:
    """kappa and rho on the paper's own images with the probes of every preset."""
    presets: tuple[Preset, ...] = get_args(Preset)
    lines = [
        f"| network | measure | {' | '.join(f'`{preset}`' for preset in presets)} |",
        "|---" * (2 + len(presets)) + "|",
    ]
    for pair in OWN.values():
        for name, measure in (("κ", depth), ("ρ", drop)):
            cells = [probed(pair, preset, measure) for preset in presets]
            lines.append(f"| {pair.name} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def probed(pair: Pair, preset: Preset, measure: Measure) -> str:
    """How a measure moves with the probes of a preset."""
    cold, hot = (
        known(measure(JobFolder(one.path, FINAL, preset)) for one in side)
        for side in (pair.cold, pair.hot)
    )
    return moved_with_ranges(cold, hot)


def of_classes(dataset: str) -> dict[str, Pair]:
    """The pairs on one of the paper's own data sets."""
    return {key: pair for key, pair in OWN.items() if pair.name.endswith(f", {dataset}")}


TABLES: dict[str, Callable[[], str]] = {
    "hundred": lambda: findings_table(of_classes("CIFAR-100")),
    "ten": lambda: findings_table(of_classes("CIFAR-10")),
    "former": lambda: findings_table(FORMER),
    "beside": beside_table,
    "headline": headline_table,
    "protocols": protocols_table,
}


VALUES: dict[str, Callable[[], str]] = {
    **{
        f"{key}.rank.equal": lambda key=key: PAIRS[key].moved(  # type: ignore[misc]
            rank_at("centred_rank_curve", 1e-3), integer, PAIRS[key].milestone
        )
        for key in ("own.resnet18", "own.resnet34")
    },
    "own.resnet34.train": lambda: spelled(map(accuracy_on_train, PAIRS["own.resnet34"].hot)),
    "own.mlp.raw": lambda: spelled(
        map(rank_at("rank_curve", 1e-3), PAIRS["own.mlp"].cold), integer
    ),
    "own.covariance": lambda: spelled(
        (one.rank_under("covariance") for one in PAIRS["own.resnet18"].cold), integer
    ),
    "own.mlp.depths": lambda: over_temperatures(depth),
    "own.mlp.drops": lambda: over_temperatures(drop),
    "own.mlp.alignments": lambda: over_temperatures(lambda one: one.measure("alignment"), decimals),
    "resnet18.rank": lambda: PAIRS["resnet18"].moved(rank_at("rank_curve", 1e-3), integer),
    "resnet18.centred": lambda: PAIRS["resnet18"].moved(
        rank_at("centred_rank_curve", 1e-3), integer
    ),
    "resnet18.centred.equal": lambda: PAIRS["resnet18"].moved(
        rank_at("centred_rank_curve", 1e-3), integer, PAIRS["resnet18"].milestone
    ),
    "fewer.centred": lambda: PAIRS["fewer"].moved(rank_at("centred_rank_curve", 1e-3), integer),
    "tenth.depth": lambda: PAIRS["tenth"].moved(depth),
    "tenth.depth.best": lambda: PAIRS["tenth"].moved(depth_of_best),
    "fewer.bar": lambda: spelled(
        (
            float(accuracies[-1] / accuracies.max())
            for accuracies in (one.probe_accuracies for one in PAIRS["fewer"].hot)
            if accuracies is not None
        ),
    ),
    **{f"{key}.detectors": lambda key=key: detectors(key) for key in PAIRS},  # type: ignore[misc]
    **{
        f"own.within.{ood}": lambda ood=ood: within_networks(ood)  # type: ignore[misc]
        for ood in ("street-characters", "cifar100", "cifar10")
    },
    "resnet18.correlation": lambda: correlated("resnet18"),
    "own.vgg19.start": lambda: layer_ranks(0, PAIRS["own.vgg19"].hot),
    "own.vgg19.early.cold": lambda: layer_ranks(256, PAIRS["own.vgg19"].cold),
    "own.vgg19.early.hot": lambda: layer_ranks(256, PAIRS["own.vgg19"].hot),
    "own.vgg19.most.hot": lambda: most_after(256, PAIRS["own.vgg19"].hot),
    "own.vgg19.coarse.cold": lambda: layer_ranks(256, PAIRS["own.vgg19"].cold, "0.01"),
    "own.vgg19.coarse.hot": lambda: layer_ranks(256, PAIRS["own.vgg19"].hot, "0.01"),
    "own.vgg19.end.cold": lambda: layer_ranks(5865, PAIRS["own.vgg19"].cold),
    "own.vgg19.end.hot": lambda: layer_ranks(5865, PAIRS["own.vgg19"].hot),
    "vgg19.start": lambda: layer_ranks(0, adaptive_vgg()),
    "vgg19.early": lambda: layer_ranks(16, adaptive_vgg()),
    **{
        f"own.norm.{network}": lambda network=network: initial_norms(network)  # type: ignore[misc]
        for network in ("VGG-19", "ResNet-18", "ResNet-20", "ResNet-34", "MLP")
    },
    "mse.rank": lambda: squared_error(hidden_rank, integer),
    "mse.accuracy": lambda: squared_error(accuracy_on_train, percent),
    "two.mlp.epochs": lambda: spelled(
        (one.summary["epoch"] for one in own_and_narrow(LOSSLESS)[1]), integer
    ),
    "two.mlp.test": lambda: " and ".join(
        spelled(map(accuracy_on_test, side)) for side in own_and_narrow(LOSSLESS)[::-1]
    ),
    "two.resnet18.wrong": lambda: integer(max(map(wrong_images, own_and_narrow(TENTH)[1]))),
    "two.resnet18.fits": lambda: integer(
        sum(one.train_accuracy == 1 for one in own_and_narrow(TENTH)[1])
    ),
}


@pytest.mark.parametrize("dataset", ["CIFAR-10", "CIFAR-100"])
@pytest.mark.parametrize("norm", [initial_norm, initial_norm_in_evaluation])
def test_vgg_starts_with_lower_logits_than_all_resnets(dataset: str, norm: Measure) -> None:
    (record,) = read_targets(LOSSLESS, ["fig8"])
    found = {
        cell.network: known(map(norm, Results(LOSSLESS).outcomes(cell)))
        for cell in record.cells
        if cell.dataset == dataset
    }
    resnets = [own for network, own in found.items() if network.startswith("ResNet")]
    assert len(resnets) == 3
    assert all(max(found["VGG-19"]) < min(own) for own in resnets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_what_the_records_give(page: Path) -> None:
    found = re.findall(r"<!-- table: (\w+) -->\n+(.*?)\n+<!-- end -->", page.read_text(), re.S)
    assert found
    for name, table in found:
        assert table == TABLES[name](), name


def test_every_table_is_in_a_page() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert set(re.findall(r"<!-- table: (\w+) -->", text)) == set(TABLES)


ANCHORS = [
    (name, number)
    for page in PAGES
    for name, number in re.findall(r'<a id="([^"]+)">([^<]+)</a>', page.read_text())
]


@pytest.mark.parametrize(("name", "number"), ANCHORS, ids=[name for name, _ in ANCHORS])
def test_a_number_with_an_anchor_is_what_the_records_give(name: str, number: str) -> None:
    assert " ".join(number.split()) == VALUES[name]()


def test_every_value_has_its_anchor() -> None:
    assert sorted(name for name, _ in ANCHORS) == sorted(VALUES)


@pytest.mark.parametrize("key", PAIRS)
def test_pairs_differ_in_temperature_alone(key: str) -> None:
    pair = PAIRS[key]
    jobs = [
        {**one.job.record(), "temperature": None, "seed": None} for one in (*pair.cold, *pair.hot)
    ]
    assert all(job == jobs[0] for job in jobs)
    assert {one.job.temperature for one in pair.cold} == {1.0}


@pytest.mark.parametrize("network", ["own.mlp", "own.vgg19", "resnet20", "resnet18"])
def test_correlations_of_detection_and_generalisation_may_be_chance(network: str) -> None:
    p = float(correlated(network).split("p = ")[1])
    assert p >= 0.05


def test_the_features_of_vgg_collapse_when_a_hot_one_leaves_its_start() -> None:
    start, early, end = ((own, PAIRS["own.vgg19"]) for own in (0, 256, 5865))
    cold, hot = (
        [
            [
                {row["step"]: row for row in one.rows}[step]["layer_ranks"]["0.001"][-2]
                for one in side
            ]
            for step, _ in (start, early, end)
        ]
        for side in (PAIRS["own.vgg19"].cold, PAIRS["own.vgg19"].hot)
    )
    assert max(hot[1]) < min(hot[2]) <= max(hot[2]) < min(cold[2]) <= min(cold[1])
    assert max(hot[2]) < min(hot[0])


def test_ten_classes_leave_no_room_in_the_centred_logits() -> None:
    for key in ("own.mlp", "own.vgg19", "resnet20", "tenth"):
        cold, hot = PAIRS[key].values(rank_at("centred_rank_curve", 1e-3))
        assert median(cold) == median(hot) == 9


def test_cells_name_three_seeds() -> None:
    records = read_targets(STORE, ["table1", "table3"])
    cells: list[Cell] = [cell for record in records for cell in record.cells]
    assert all(len(known(one.rank for one in Results(STORE).outcomes(c))) == 3 for c in cells)


def test_correlations_on_the_papers_own_images_may_be_chance() -> None:
    sets = ("street-characters", "cifar100", "cifar10")
    p = [float(re.findall(r"p = ([\d.e-]+)", within_networks(ood))[0]) for ood in sets]
    assert min(p) >= 0.05
