"""The README on networks that fit their train images, and on Neural Collapse."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

from real_nets.jobs.folder import FINAL
from real_nets.jobs.outcomes import Outcome
from real_nets.paper.store import Results, read_targets
from real_nets.paper.targets.appendices_i_to_m import collapse
from real_nets.paper.targets.parts import pairs
from tests.real_nets.paper.evidence.telling import (
    FEWER,
    GAMMAS,
    OOD,
    README,
    SENTENCES,
    STORE,
    STORES,
    TENTH,
    apart,
    decimals,
    depth_of_best,
    moved_detectors,
    penultimate_rank,
    percent,
    spelled,
)

Column = Callable[[list[Outcome], str], str]


def logits_ranks(found: list[Outcome], ood: str) -> str:
    curves = [one.ranks("rank_curve") for one in found]
    return " / ".join(
        spelled((curve[gamma] for curve in curves), "{:.0f}".format) for gamma in GAMMAS
    )


def penultimate_ranks(found: list[Outcome], ood: str) -> str:
    return spelled(map(penultimate_rank, found), "{:.0f}".format)


def rho(found: list[Outcome], ood: str) -> str:
    return spelled(one.ood_drop(ood) for one in found)


def kappa(found: list[Outcome], ood: str) -> str:
    return spelled(one.effective_depth for one in found)


def kappa_of_best(found: list[Outcome], ood: str) -> str:
    return spelled(map(depth_of_best, found))


def auroc(found: list[Outcome], ood: str) -> str:
    return spelled(one.neco(ood) for one in found)


def deviation(found: list[Outcome], ood: str) -> str:
    return spelled((one.measure(f"ortho_dev.{ood}") for one in found), decimals)


def both_accuracies(found: list[Outcome], ood: str) -> str:
    train, test = (one.train_accuracy for one in found), (one.test_accuracy for one in found)
    return f"{spelled(train)} / {spelled(test)}"


INTERPOLATING: dict[Path, tuple[Column, ...]] = {
    FEWER: (logits_ranks, rho, kappa, kappa_of_best, auroc, deviation, both_accuracies),
    TENTH: (penultimate_ranks, rho, kappa, kappa_of_best, auroc, deviation, both_accuracies),
}
"""Columns of the README's tables of networks that fit their train images."""


def pair_of(store: Path, snapshot: str = FINAL) -> tuple[list[Outcome], list[Outcome]]:
    """Baseline and low logit norm of the one network of Table 1 in a store."""
    (record,) = read_targets(store, ["table1"])
    (pair,) = pairs(record.cells)
    cold, hot = ([one.at(snapshot) for one in Results(store).outcomes(cell)] for cell in pair)
    return cold, hot


def rows(store: Path) -> list[str]:
    found = []
    for snapshot, weights in ((FINAL, "at the end"), ("accuracy-0.9", "first above 90 %")):
        for outcomes in pair_of(store, snapshot):
            job = outcomes[0].job
            told = [column(outcomes, OOD[job["data"]]) for column in INTERPOLATING[store]]
            found.append(" | ".join([f"| {job['temperature']:g}", weights, *told]) + " |")
    return found


@pytest.mark.parametrize("store", INTERPOLATING, ids=lambda store: store.name)
def test_the_readme_has_the_tables_of_networks_that_interpolate(store: Path) -> None:
    assert "\n".join(rows(store)) in README
    for found in pair_of(store):
        assert [one.job["seed"] for one in found] == [0, 1, 2]


@pytest.mark.parametrize(
    ("store", "epochs", "images"), [(FEWER, 50, 10_000), (TENTH, 60, 5_000)], ids=["fewer", "tenth"]
)
def test_the_readme_says_how_they_were_trained(store: Path, epochs: int, images: int) -> None:
    for one in chain(*pair_of(store)):
        assert (one.job["epochs"], one.summary["train_images"]) == (epochs, images)


@pytest.mark.parametrize("store", INTERPOLATING, ids=lambda store: store.name)
def test_the_readme_says_what_they_fit(store: Path) -> None:
    cold, hot = pair_of(store)
    assert {one.train_accuracy for one in cold} == {1.0}
    fitted = percent(median(one.train_accuracy or 0 for one in hot))
    assert f"(all at T = 1, {fitted} % at T = {hot[0].job['temperature']:g})" in SENTENCES


def test_the_readme_says_what_few_images_show() -> None:
    cold, hot = pair_of(FEWER)
    ranks = [f"{median(one.rank or 0 for one in found):.0f}" for found in (cold, hot)]
    assert f"from {' to '.join(ranks)} where it fits its train images" in SENTENCES
    shares = [
        float(accuracies[-1] / accuracies.max())
        for accuracies in (one.probe_accuracies for one in hot)
        if accuracies is not None
    ]
    low_bar = spelled(shares, lambda share: f"{100 * share:.0f}").replace(" ", " % ")
    assert f"the last layer's probe has {low_bar} of the best one's" in SENTENCES


def test_the_readme_says_what_a_tenth_of_cifar_shows() -> None:
    own, best = (
        " to ".join(spelled(map(measure, found)).replace(" ", " % ") for found in pair_of(TENTH))
        for measure in (lambda one: one.effective_depth, depth_of_best)
    )
    assert f"that fits a tenth of the images, from {own} (below)" in SENTENCES
    assert f"that ResNet-20 from {best}" in SENTENCES


def test_the_readme_tells_the_norm_after_four_steps() -> None:
    (_, hot) = pair_of(TENTH)
    norms = [row["logits_norm"] for one in hot for row in one.rows if row["step"] == 4]
    assert f"instead of {spelled(norms, '{:.1f}'.format)}" in SENTENCES
    assert len(norms) == 3


COLLAPSE = {
    "tr S_W / tr S_B goes": "within_to_between",
    "the deviation of cosines": "cosine_deviation",
}


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.name)
def test_neural_collapse_comes_nearer_and_moves_away(store: Path) -> None:
    (record,) = read_targets(store, ["neural-collapse"])
    for baseline, low in pairs(record.cells):
        cold, hot = map(Results(store).outcomes, (baseline, low))
        moves = [
            apart(map(collapse(name), cold), map(collapse(name), hot))
            for name in ("within_to_between", "cosine_deviation", "self_duality", "equinorm")
        ]
        few_or_18 = store != STORE or baseline.network == "ResNet-18"
        norms = {"MLP": -1, "VGG-19": -1}.get(baseline.network, 1 if few_or_18 else 0)
        of_all = [1, 0, -1] if baseline.network == "VGG-19" else [-1, 1, -1]
        assert moves == [*of_all, norms]
    assert "In VGG-19 NC1 moves away, and the deviation of cosines moves within" in SENTENCES


@pytest.mark.parametrize(
    ("store", "better", "worse", "told"),
    [
        (FEWER, 1, 4, "of the ten other detectors one gets better at the end and four worse"),
        (TENTH, 7, 1, "of the ten other detectors seven get better at the end and one worse"),
    ],
    ids=["fewer", "tenth"],
)
def test_the_readme_tells_of_the_other_detectors(
    store: Path, better: int, worse: int, told: str
) -> None:
    cold, hot = pair_of(store)
    moves = moved_detectors(cold, hot, OOD[cold[0].job["data"]])
    del moves["neco-resnet"]
    assert len(moves) == 10
    assert [list(moves.values()).count(way) for way in (1, -1)] == [better, worse]
    assert told in SENTENCES


def test_the_readme_tells_of_neural_collapse() -> None:
    for words, name in COLLAPSE.items():
        middles = (median(collapse(name)(one) or 0 for one in found) for found in pair_of(FEWER))
        assert f"{words} from {' to '.join(f'{middle:.3f}' for middle in middles)}" in SENTENCES


@pytest.mark.parametrize("snapshot", [FINAL, "accuracy-0.9"])
@pytest.mark.parametrize("store", INTERPOLATING, ids=lambda store: store.name)
def test_effects_show_there_beyond_the_spread_of_seeds(store: Path, snapshot: str) -> None:
    cold, hot = pair_of(store, snapshot)
    ood = OOD[cold[0].job["data"]]
    of_tenth_at_equal_accuracy = (store, snapshot) == (TENTH, "accuracy-0.9")
    moves: dict[Callable[[Outcome], float | None], int] = {
        lambda one: one.effective_depth: -1,
        depth_of_best: 0 if of_tenth_at_equal_accuracy else -1,
        penultimate_rank: -1,
        lambda one: one.measure(f"ortho_dev.{ood}"): -1,
        lambda one: one.ood_drop(ood): 1,
        lambda one: one.neco(ood): 1 if store == FEWER else 0,
    }
    if store == FEWER:
        moves[lambda one: one.rank] = -1
    for measure, direction in moves.items():
        assert apart(map(measure, cold), map(measure, hot)) == direction


def test_the_readme_tells_how_near_rank_two_comes_in_resnet18() -> None:
    (record,) = read_targets(TENTH, ["rank-two"])
    own, narrow = (Results(TENTH).outcomes(cell) for cell in record.cells)
    assert [one.job["head_rank"] for one in narrow] == [2, 2, 2]
    assert {one.rank for one in narrow} == {2}
    assert {one.train_accuracy for one in own} == {1.0}
    fits = [one.train_accuracy or 0 for one in narrow]
    assert fits.count(1.0) == 1
    assert max(one.summary["epoch"] for one in narrow) == 180
    wrong = round((1 - min(fits)) * narrow[0].summary["train_images"])
    assert f"at worst {100 * min(fits):.2f} % ({wrong} of 5,000 images wrong)" in SENTENCES
    of_two, of_ten = ([one.test_accuracy for one in found] for found in (narrow, own))
    accuracy = spelled(of_two).replace(" ", " % ")
    assert f"test accuracy {accuracy}, beside {spelled(of_ten).split()[0]} %" in SENTENCES
