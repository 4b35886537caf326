"""The results in the repository: complete, drawn from their files, and as the README tells them."""

from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

from rankdeficit.diagnostics import effective_depth
from real_nets import paper
from real_nets.cells import BASELINE, Cell
from real_nets.job_folder import FINAL
from real_nets.outcomes import Outcome, Results
from real_nets.page import render_markdown
from real_nets.report import build_page, figure_files
from real_nets.store import read_targets
from real_nets.targets import TARGETS
from real_nets.targets.appendices_i_to_m import collapse
from real_nets.targets.correlation import correlation
from real_nets.targets.shown import data_name, pairs
from tests.conftest import ROOT

STORE = ROOT / "real_nets" / "results"
FEWER = STORE / "fewer-images"
README = (ROOT / "README.md").read_text()
SENTENCES = " ".join(README.split())
OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}
OOD = {"cifar10": "tiny-imagenet-100", "tiny-imagenet-100": "cifar10"}
GAMMAS = (1e-3, 1e-2)

RECORDS = read_targets(STORE, ["table1", "table3"])
CELLS = [cell for record in RECORDS for cell in record.cells]


def percent(value: float) -> str:
    return f"{100 * value:.1f}".removesuffix(".0")


def decimals(value: float) -> str:
    return f"{value:.2f}"


def spelled(values: Iterable[float | None], form: Callable[[float], str] = percent) -> str:
    """Median and range; a number where all are equal."""
    known = sorted(value for value in values if value is not None)
    middle, low, high = form(median(known)), form(known[0]), form(known[-1])
    return middle if low == high else f"{middle} ({low}-{high})"


def readme_row(cell: Cell) -> str:
    found = Results(STORE).outcomes(cell)
    ood = OOD[found[0].job["data"]]
    row = paper.comparison(cell.network, cell.dataset)
    assert row is not None
    own = row.baseline if cell.condition == BASELINE else row.low_norm
    columns = [
        f"{cell.network}, {data_name(cell)}",
        f"{cell.temperature:g}",
        f"{percent(own.effective_depth)} / {percent(own.ood_drop)} / {own.rank}",
        spelled(one.effective_depth for one in found),
        spelled(one.ood_drop(ood) for one in found),
        " / ".join(
            spelled((one.ranks("rank_curve")[gamma] for one in found), "{:.0f}".format)
            for gamma in GAMMAS
        ),
        spelled((one.measure("alignment") for one in found), decimals),
        spelled(one.neco(ood) for one in found),
        spelled((one.measure(f"ortho_dev.{ood}") for one in found), decimals),
        f"{spelled(one.train_accuracy for one in found)} / "
        f"{spelled(one.test_accuracy for one in found)}",
    ]
    return f"| {' | '.join(columns)} |"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.name} T={cell.temperature:g}")
def test_the_readme_says_what_the_results_hold(cell: Cell) -> None:
    assert [one.job["seed"] for one in Results(STORE).outcomes(cell)] == [0, 1, 2]
    assert readme_row(cell) in README


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.name} T={cell.temperature:g}")
def test_the_readme_says_how_they_were_trained(cell: Cell) -> None:
    name = cell.network if cell.network == "MLP" else "the others"
    for job in (one.job for one in Results(STORE).outcomes(cell)):
        recipe = (
            f"{name}: {OPTIMIZERS[job['optimizer']]}, peak rate {job['lr']:g}, width {job['width']}, "
            f"{job['epochs']} epochs"
        )
        assert recipe in SENTENCES
        assert job["diagnosed_images"] == 5000
        assert job["augmentation"] == "none"
    assert "no augmentation" in SENTENCES
    assert "Probes and detectors saw 5,000 images of each split" in SENTENCES


def last_hidden_ranks(cell: Cell) -> list[int]:
    """Of all train images at gamma = 1e-2, one per seed."""
    outcomes = Results(STORE).outcomes(cell)
    return [one.summary["train_layer_ranks"]["0.01"][-2] for one in outcomes]


@pytest.mark.parametrize("network", ["MLP", "ResNet-20", "ResNet-18"])
def test_the_readme_tells_the_ranks_of_the_last_hidden_layer(network: str) -> None:
    cold, hot = (
        spelled(last_hidden_ranks(cell), "{:.0f}".format)
        for cell in CELLS
        if cell.network == network
    )
    assert f"{network} from {cold} to {hot}" in SENTENCES


def at_equal_accuracy(network: str) -> tuple[str, list[list[Outcome]]]:
    """The accuracy in percent, and the networks of both conditions when they first reached it."""
    results = Results(STORE)
    pair = [cell for cell in CELLS if cell.network == network]
    snapshot = results.common_milestone(pair)
    assert snapshot is not None
    both = [[one.at(snapshot) for one in results.outcomes(cell)] for cell in pair]
    return f"{100 * float(snapshot.removeprefix('accuracy-')):g} %", both


def test_the_readme_compares_resnets_at_equal_accuracy() -> None:
    reached, both = at_equal_accuracy("ResNet-18")
    cold, hot = (median(one.rank or 0 for one in found) for found in both)
    assert f"at equal train accuracy ({reached}) from {cold:.0f} to {hot:.0f}" in SENTENCES
    aurocs = [median(one.neco("cifar10") or 0 for one in found) for found in both]
    cold, hot = (100 * auroc for auroc in aurocs)
    assert f"at equal train accuracy too (AUROC {cold:.0f} to {hot:.0f} %)" in SENTENCES
    reached, both = at_equal_accuracy("ResNet-20")
    drops = [median(one.ood_drop("tiny-imagenet-100") or 0 for one in found) for found in both]
    moved = " to ".join(map(percent, drops))
    assert f"at equal train accuracy ({reached}) too (rho {moved} %)" in SENTENCES


def test_the_readme_correlates_detection_and_generalisation() -> None:
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in CELLS:
        for one in Results(STORE).outcomes(cell):
            ood = OOD[cell.data]
            points.setdefault(cell.network, []).append((one.ood_drop(ood), one.neco(ood)))  # type: ignore[arg-type]
    own = points.pop("ResNet-18")
    alone, *others = (correlation(found) for found in (own, *points.values()))
    assert alone is not None
    assert f"the six ResNet-18 (Spearman's correlation {alone.rho:.2f})" in SENTENCES
    low, high = min(c.rho for c in others if c), max(c.rho for c in others if c)
    assert f"the six networks of each other kind ({low:.2f} to {high:.2f})" in SENTENCES
    together = correlation([*chain.from_iterable(points.values())])
    assert together is not None
    assert f"these eighteen ({together.rho:.2f}) may be chance" in SENTENCES
    assert alone.p < 0.05 < min(c.p for c in (*others, together) if c)


def test_the_readme_tells_of_squared_error() -> None:
    (record,) = read_targets(STORE, ["mse"])
    outcomes = [Results(STORE).outcomes(cell) for cell in record.cells]
    assert {one.job["loss"] for found in outcomes for one in found} == {"mse"}
    ranks = [spelled(last_hidden_ranks(cell), "{:.0f}".format) for cell in record.cells]
    accuracies = [spelled(one.train_accuracy for one in found) for found in outcomes]
    assert f"goes from rank {' to '.join(ranks)} at T = 50" in SENTENCES
    assert f"with train accuracies of {' and '.join(accuracies)} %" in SENTENCES


def depth_of_best(one: Outcome) -> float:
    """kappa against the best layer's probe."""
    assert one.probe_accuracies is not None
    return float(effective_depth(one.probe_accuracies, bar="best"))


def test_the_readme_tells_effective_depth_against_the_best_layer() -> None:
    cold, hot = (
        spelled(map(depth_of_best, Results(STORE).outcomes(cell)))
        for cell in CELLS
        if cell.network == "MLP"
    )
    assert f"kappa still falls, but less: MLP from {cold} to {hot} %" in SENTENCES


def test_the_readme_tells_how_rank_two_fits() -> None:
    (record,) = read_targets(STORE, ["rank-two"])
    own, narrow = (Results(STORE).outcomes(cell) for cell in record.cells)
    assert [one.job["head_rank"] for one in narrow] == [2, 2, 2]
    assert {one.rank for one in narrow} == {2}
    assert {one.train_accuracy for one in narrow} == {1.0}
    epochs = spelled((one.summary["epoch"] for one in narrow), "{:.0f}".format)
    assert f"in all three seeds, after {epochs.replace(' ', ' epochs ')};" in SENTENCES
    (softmax_rank,) = {one.summary["post_softmax_rank"] for one in narrow}
    assert f"the softmax makes rank {softmax_rank} of them" in SENTENCES
    of_two, of_ten = ([one.test_accuracy for one in found] for found in (narrow, own))
    accuracy = spelled(of_two).replace(" ", " % ")
    beside = spelled(of_ten).split()[0]
    assert f"Test accuracy is {accuracy}, beside {beside} % with the network's own" in SENTENCES


def interpolating_row(cell: Cell, snapshot: str, weights: str) -> str:
    """Of a hundred classes with a hundred images each."""
    found = [one.at(snapshot) for one in Results(FEWER).outcomes(cell)]
    columns = [
        f"{cell.temperature:g}",
        weights,
        " / ".join(
            spelled((one.ranks("rank_curve")[gamma] for one in found), "{:.0f}".format)
            for gamma in GAMMAS
        ),
        spelled(one.ood_drop("cifar10") for one in found),
        spelled(one.effective_depth for one in found),
        spelled(map(depth_of_best, found)),
        spelled(one.neco("cifar10") for one in found),
        spelled((one.measure("ortho_dev.cifar10") for one in found), decimals),
        f"{spelled(one.train_accuracy for one in found)} / "
        f"{spelled(one.test_accuracy for one in found)}",
    ]
    return f"| {' | '.join(columns)} |"


def interpolating_rows() -> list[str]:
    (record,) = read_targets(FEWER, ["table1"])
    return [
        interpolating_row(cell, snapshot, weights)
        for snapshot, weights in ((FINAL, "at the end"), ("accuracy-0.9", "first above 90 %"))
        for cell in record.cells
    ]


def test_the_readme_says_what_few_images_show() -> None:
    assert "\n".join(interpolating_rows()) in README
    (record,) = read_targets(FEWER, ["table1"])
    cold, hot = map(Results(FEWER).outcomes, record.cells)
    assert [one.job["seed"] for one in (*cold, *hot)] == 2 * [0, 1, 2]
    assert {(one.job["epochs"], one.summary["train_images"]) for one in (*cold, *hot)} == {
        (50, 10_000)
    }
    ranks = [f"{median(one.rank or 0 for one in found):.0f}" for found in (cold, hot)]
    assert f"from {' to '.join(ranks)} where it fits its train images" in SENTENCES
    fitted = percent(median(one.train_accuracy or 0 for one in hot))
    assert f"(all at T = 1, {fitted} % at T = 30)" in SENTENCES
    assert {one.train_accuracy for one in cold} == {1.0}
    shares = [
        float(accuracies[-1] / accuracies.max())
        for accuracies in (one.probe_accuracies for one in hot)
        if accuracies is not None
    ]
    low_bar = spelled(shares, lambda share: f"{100 * share:.0f}").replace(" ", " % ")
    assert f"the last layer's probe has {low_bar} of the best one's" in SENTENCES


COLLAPSE = {
    "tr S_W / tr S_B goes": "within_to_between",
    "the deviation of cosines": "cosine_deviation",
}


def apart(cold: Iterable[float | None], hot: Iterable[float | None]) -> int:
    """1 if all of the hot are above all of the cold, -1 if below, 0 where they meet."""
    below, above = ([one for one in found if one is not None] for found in (cold, hot))
    return (max(below) < min(above)) - (max(above) < min(below))


@pytest.mark.parametrize("snapshot", [FINAL, "accuracy-0.9"])
def test_all_effects_show_there_beyond_the_spread_of_seeds(snapshot: str) -> None:
    (record,) = read_targets(FEWER, ["table1"])
    cold, hot = (
        [one.at(snapshot) for one in Results(FEWER).outcomes(cell)] for cell in record.cells
    )
    moves: dict[Callable[[Outcome], float | None], int] = {
        lambda one: one.rank: -1,
        lambda one: one.effective_depth: -1,
        depth_of_best: -1,
        lambda one: one.measure("ortho_dev.cifar10"): -1,
        lambda one: one.ood_drop("cifar10"): 1,
        lambda one: one.neco("cifar10"): 1,
    }
    for measure, direction in moves.items():
        assert apart(map(measure, cold), map(measure, hot)) == direction


@pytest.mark.parametrize("store", [STORE, FEWER], ids=["all", "fewer"])
def test_neural_collapse_comes_nearer_and_moves_away(store: Path) -> None:
    (record,) = read_targets(store, ["neural-collapse"])
    for baseline, low in pairs(record.cells):
        cold, hot = map(Results(store).outcomes, (baseline, low))
        moves = [
            apart(map(collapse(name), cold), map(collapse(name), hot))
            for name in ("within_to_between", "cosine_deviation", "self_duality")
        ]
        assert moves == ([0, 0, -1] if baseline.network == "VGG-19" else [-1, 1, -1])
        if store == FEWER:
            for words, name in COLLAPSE.items():
                measure = collapse(name)
                numbers = " to ".join(
                    f"{median(measure(one) or 0 for one in found):.3f}" for found in (cold, hot)
                )
                assert f"{words} from {numbers}" in SENTENCES


@pytest.mark.parametrize("store", [STORE, FEWER], ids=["all", "fewer"])
def test_the_page_is_drawn_from_them(store: Path) -> None:
    page = build_page(store, read_targets(store, list(TARGETS)))
    files = figure_files(page)
    assert (store / "README.md").read_text() == render_markdown(page, files)
    named = {store / file for section in files for file in section}
    assert named == set((store / "figures").iterdir())


def test_they_tell_no_place_of_the_machine_they_come_from() -> None:
    files: list[Path] = [path for path in STORE.rglob("*.json*") if path.is_file()]
    assert len(files) > 30
    for path in files:
        assert '"/' not in path.read_text(), path


@pytest.mark.parametrize("path", sorted(STORE.rglob("*.png")), ids=lambda path: path.name)
def test_figures_are_small(path: Path) -> None:
    assert path.stat().st_size < 200_000
