"""The README on the networks of the `small` budget."""

from itertools import chain
from statistics import median

import pytest

from real_nets.jobs.outcomes import Outcome
from real_nets.paper import numbers as paper
from real_nets.paper.correlation import correlation
from real_nets.paper.grid import BASELINE, Cell
from real_nets.paper.store import Results, read_targets
from real_nets.paper.targets.parts import data_name
from tests.real_nets.paper.evidence.telling import (
    GAMMAS,
    OOD,
    OPTIMIZERS,
    README,
    SENTENCES,
    STORE,
    apart,
    decimals,
    depth_of_best,
    last_map_rank,
    moved_detectors,
    penultimate_rank,
    percent,
    spelled,
)

RECORDS = read_targets(STORE, ["table1", "table3"])
CELLS = [cell for record in RECORDS for cell in record.cells]


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
    """Of all train images at gamma = 1e-2, one per seed; of ResNets' maps before they are averaged."""
    outcomes = Results(STORE).outcomes(cell)
    return [one.summary["train_layer_ranks"]["0.01"][-2] for one in outcomes]


@pytest.mark.parametrize("network", ["MLP", "ResNet-20", "ResNet-18", "VGG-19"])
def test_the_readme_tells_the_ranks_of_what_the_classifier_reads(network: str) -> None:
    found = [Results(STORE).outcomes(cell) for cell in CELLS if cell.network == network]
    cold, hot = ([penultimate_rank(one) for one in own] for own in found)
    assert apart(cold, hot) == -1
    assert found[0][0].report is not None
    width = found[0][0].report["network"]["penultimate_width"]
    moved = " to ".join(spelled(ranks, "{:.0f}".format) for ranks in (cold, hot))
    assert f"{network} from {moved} of {width}" in SENTENCES
    if network.startswith("ResNet"):
        maps = (spelled(map(last_map_rank, own), "{:.0f}".format) for own in found)
        assert f"{network} from {' to '.join(maps)}" in SENTENCES


def test_the_readme_tells_the_ranks_of_resnet20s_maps_on_all_images() -> None:
    cold, hot = (
        round(median(last_hidden_ranks(cell))) for cell in CELLS if cell.network == "ResNet-20"
    )
    assert f"beside {cold} at T = 1 and {hot} at T = 100" in SENTENCES


def test_the_readme_tells_the_initial_norm_of_resnet20() -> None:
    (cell, _) = (cell for cell in CELLS if cell.network == "ResNet-20")
    norms = [one.rows[0]["logits_norm"] for one in Results(STORE).outcomes(cell)]
    told = spelled(norms, "{:.1f}".format).replace(")", ", three seeds)")
    assert f"the initial logits norm of ResNet-20 on CIFAR-10 is {told}" in SENTENCES


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
    told = f"(Spearman's correlation {alone.rho:.2f}, p = {alone.p:.2g})"
    assert f"the six ResNet-18 {told}" in SENTENCES
    low, high = min(c.rho for c in others if c), max(c.rho for c in others if c)
    assert f"the six networks of each other kind ({low:.2f} to {high:.2f})" in SENTENCES
    together = correlation([*chain.from_iterable(points.values())])
    assert together is not None
    assert f"these eighteen ({together.rho:.2f}), may be chance" in SENTENCES
    assert min(c.p for c in (alone, *others, together) if c) >= 0.05


def test_the_readme_counts_the_detectors_that_move() -> None:
    told = {}
    for network in ("ResNet-18", "MLP", "ResNet-20", "VGG-19"):
        pair = [cell for cell in CELLS if cell.network == network]
        cold, hot = map(Results(STORE).outcomes, pair)
        moves = moved_detectors(cold, hot, OOD[pair[0].data])
        assert len(moves) == 11
        assert moves["neco-resnet"] == (1 if network == "ResNet-18" else -1)
        better, worse = (list(moves.values()).count(way) for way in (1, -1))
        told[network] = f"{network} {better} / {worse}"
    assert f"(better / worse): {', '.join(told.values())}." in SENTENCES


def test_the_readme_tells_how_vgg_collapses_at_first() -> None:
    collapsed, learned = [], []
    for cell in (cell for cell in CELLS if cell.network == "VGG-19"):
        found = Results(STORE).outcomes(cell)
        rows = [{row["step"]: row for row in one.rows} for one in found]
        ranks = [[own[step]["layer_ranks"]["0.001"][-2] for own in rows] for step in (0, 16)]
        start, early = (spelled(own, "{:.0f}".format) for own in ranks)
        collapsed += [f"{early} at T = {cell.temperature:g}"]
        accuracies = sorted(own[16]["accuracy"] for own in rows)
        learned += [f"{100 * accuracies[0]:.0f}-{100 * accuracies[-1]:.0f}"]
        at_the_end = [one.rows[-1]["layer_ranks"]["0.001"][-2] for one in found]
        assert apart(ranks[1], at_the_end) == 1  # then it grows
    told = f"falls from {start} to {' and to '.join(collapsed)}, at train accuracies of "
    assert f"{told}{' and '.join(learned)} %" in SENTENCES


def test_the_readme_tells_of_squared_error() -> None:
    (record,) = read_targets(STORE, ["mse"])
    outcomes = [Results(STORE).outcomes(cell) for cell in record.cells]
    assert {one.job["loss"] for found in outcomes for one in found} == {"mse"}
    ranks = [spelled(last_hidden_ranks(cell), "{:.0f}".format) for cell in record.cells]
    accuracies = [spelled(one.train_accuracy for one in found) for found in outcomes]
    assert f"goes from rank {' to '.join(ranks)} at T = 50" in SENTENCES
    assert f"with train accuracies of {' and '.join(accuracies)} %" in SENTENCES


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
