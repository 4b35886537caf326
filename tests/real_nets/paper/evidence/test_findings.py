"""Sentences of README.md and FINDINGS.md hold in the records: conditions, directions without a number."""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

import pytest

from rankdeficit.diagnostics.measures.probes import Preset
from rankdeficit.spectrum import Convention
from real_nets.jobs.folder import FINAL, RANKS, JobFolder
from real_nets.paper.measures import collapse
from real_nets.paper.store import job_folder
from tests.conftest import ROOT
from tests.real_nets.paper.evidence.telling import (
    FEWER,
    FINDINGS,
    LOSSLESS,
    OWN,
    PAIRS,
    STORE,
    STORES,
    TENTH,
    Pair,
    accuracy_on_train,
    apart,
    depth,
    distinct_detectors,
    drop,
    drop_on_second,
    drop_on_third,
    neco,
    neco_on_second,
    neco_on_third,
    ortho_dev,
    penultimate_rank,
    rank_at,
)

HUNDRED = ("own.resnet18", "own.resnet34")
"""Networks of a hundred classes on the paper's own images."""

PAGE = " ".join(FINDINGS.read_text().split())
README = " ".join((ROOT / "README.md").read_text().split())


def jobs(*keys: str) -> list[JobFolder]:
    return [one for key in keys for side in (PAIRS[key].cold, PAIRS[key].hot) for one in side]


def only(networks: list[JobFolder], value: Callable[[JobFolder], object]) -> str:
    """What all of them have."""
    (found,) = {value(one) for one in networks}
    return (
        f"{found:g}"
        if isinstance(found, float)
        else f"{found:,}"
        if isinstance(found, int)
        else str(found)
    )


def test_the_conditions_are_those_of_the_jobs() -> None:
    mlp, narrow = jobs("own.mlp"), jobs("resnet20", "resnet18")
    tenth, fewer = jobs("tenth"), jobs("fewer")
    hundred, ten = jobs("own.resnet18"), jobs("own.vgg19", "own.resnet18.ten", "own.resnet34")
    own = [*hundred, *ten]
    others = [*narrow, *tenth, *fewer]
    assert {one.job.optimizer for one in (*mlp, *own)} == {"sgd"}
    assert {(one.job.optimizer, one.job.weight_decay) for one in others} == {("adamw", 0.0)}
    assert {one.job.nesterov for one in own} == {True}
    assert {one.job.augmentation for key in PAIRS for one in jobs(key)} == {"none"}
    assert {one.job.precision for one in (*mlp, *others)} == {"float32"}
    assert {one.job.precision for one in own} == {"bf16"}
    told = [
        f"MLP: width {only(mlp, attribute('width'))}, SGD with peak rate {only(mlp, attribute('lr'))}, "
        f"momentum {only(mlp, attribute('momentum'))}, no weight decay and gradients clipped at norm "
        f"{only(mlp, attribute('clip_norm'))}, {only(mlp, attribute('epochs'))} epochs, float32.",
        f"Other networks: width {only(own, attribute('width'))}, SGD with peak rate "
        f"{only(own, attribute('lr'))} after an epoch of warm-up, Nesterov momentum "
        f"{only(own, attribute('momentum'))}, weight decay 5e-4 and gradients clipped at norm "
        f"{only(own, attribute('clip_norm'))}, {only(hundred, attribute('epochs'))} epochs "
        f"({only(ten, attribute('epochs'))} for CIFAR-10 and ResNet-34), bfloat16",
        f"width {only(others, attribute('width'))}, AdamW with peak rate "
        f"{only(others, attribute('lr'))} and no weight decay",
        f"{only(narrow, attribute('epochs'))} epochs, float32 ({torch_of(others)})",
        f"fixed before the networks of this page were trained ({torch_of([*own, *mlp])})",
        f"{only(tenth, lambda one: one.summary['train_images'] // 10)} train images per class of "
        f"CIFAR-10 for {only(tenth, attribute('epochs'))} epochs",
        f"{only(fewer, lambda one: one.summary['train_images'] // 100)} per class of Tiny "
        f"ImageNet-100 for {only(fewer, attribute('epochs'))} epochs",
        f"at most {only([*mlp, *others, *own], attribute('diagnosed_images'))} images of each split",
    ]
    assert {one.job.weight_decay for one in own} == {5e-4}
    assert {one.job.warmup_epochs for one in own} == {1.0}
    assert {(one.job.weight_decay, one.job.warmup_epochs) for one in mlp} == {(0.0, 0.0)}
    for text in told:
        assert text in PAGE, text


def attribute(name: str) -> Callable[[JobFolder], object]:
    """An option of the job."""
    return lambda one: getattr(one.job, name)


def torch_of(networks: list[JobFolder]) -> str:
    """The version of torch that trained all of them, without its last number."""
    (version,) = {str(one.environment["torch"]).rpartition(".")[0] for one in networks}
    return f"torch {version}"


def test_equal_accuracies_are_those_told() -> None:
    names = {
        "own.resnet34": "ResNet-34",
        "resnet20": "ResNet-20",
        "resnet18": "ResNet-18 on all re-encoded images",
    }
    reached = {key: round(100 * float(pair.milestone.split("-")[1])) for key, pair in PAIRS.items()}
    (usual,) = {reached[key] for key in PAIRS if key not in names}
    listed = ", ".join(f"{reached[key]} % for {name}" for key, name in names.items())
    assert f"train accuracy ({usual} %; {listed})" in PAGE


def moves(pair: Pair, measure: Callable[[JobFolder], float | None], snapshot: str = FINAL) -> int:
    return apart(*pair.values(measure, snapshot))


@pytest.mark.parametrize("key", PAIRS)
def test_the_rank_of_the_last_hidden_layer_falls_everywhere(key: str) -> None:
    for snapshot in (FINAL, PAIRS[key].milestone):
        assert moves(PAIRS[key], penultimate_rank, snapshot) == -1


@pytest.mark.parametrize("key", OWN)
def test_the_rank_of_the_last_hidden_layer_at_a_lower_threshold(key: str) -> None:
    """In residual networks it equals the width."""

    def rank(one: JobFolder) -> float | None:
        return one.measure("penultimate.train.rank")

    cold, hot = PAIRS[key].values(rank)
    if key in ("own.vgg19", "own.mlp"):
        assert max(hot) < min(cold)
    else:
        assert {*cold, *hot} == {128}


@pytest.mark.parametrize("key", OWN)
def test_class_means_have_full_rank_on_the_papers_own_images(key: str) -> None:
    for one in jobs(key):
        ranks = [one.measure(f"neural_collapse.{name}_rank") for name in ("retained", "predicted")]
        assert ranks[0] == ranks[1] is not None


def ends(networks: list[JobFolder], name: str) -> tuple[float, float]:
    """The lowest and the highest end of an interval over test images."""
    found = [end for one in networks for end in one.found(name)]
    return min(found), max(found)


@pytest.mark.parametrize("key", OWN)
def test_intervals_over_test_images_meet_where_that_is_told(key: str) -> None:
    pair = PAIRS[key]
    (low, _), (_, high) = (ends(side, "effective_depth.interval") for side in (pair.cold, pair.hot))
    assert low <= high
    name = "ood_drop.street-characters.interval"
    (_, high), (low, _) = ends(pair.cold, name), ends(pair.hot, name)
    assert (low > high) == (key in HUNDRED)


@pytest.mark.parametrize("key", PAIRS)
def test_directions_are_those_told(key: str) -> None:
    pair = PAIRS[key]
    both = (FINAL, pair.milestone)
    fits = min(pair.values(accuracy_on_train)[1]) > 0.98
    assert (moves(pair, depth) == -1) == (fits or key == "own.resnet34")
    worse = [moves(pair, drop, at) for at in both]
    assert worse == {
        "own.resnet18.ten": [0, 0], "own.vgg19": [0, 0], "resnet18": [1, 0], "own.mlp": [0, -1],
    }.get(key, [1, 1])  # fmt: skip
    assert (moves(pair, neco) == 1) == (key in ("resnet18", "fewer"))
    sides = {
        name: [median(values) for values in pair.values(collapse(name))]
        for name in ("within_to_between", "self_duality", "cosine_deviation")
    }
    fall = [after < before for before, after in sides.values()]
    assert fall == [True, True, key == "own.resnet18.ten"]
    equal = moves(pair, collapse("cosine_deviation"), pair.milestone)
    assert (equal == -1) == (key in ("resnet20", "own.resnet18", "own.resnet18.ten"))


def test_directions_on_the_papers_own_images_are_those_told() -> None:
    names = ("resnet18", "resnet34", "resnet18.ten", "mlp", "vgg19")
    every = [PAIRS[f"own.{name}"] for name in names]
    resnet, deeper, ten = every[:3]
    for pair, sign in zip(every, (0, 0, 0, -1, -1), strict=True):
        assert moves(pair, neco) == moves(pair, neco_on_second) == sign
    assert [moves(deeper, neco_on_third, at) for at in (FINAL, deeper.milestone)] == [0, 0]
    assert moves(deeper, neco, deeper.milestone) == -1
    for pair in (resnet, deeper):
        assert [moves(pair, drop_on_second, at) for at in (FINAL, pair.milestone)] == [1, 1]
    assert not any(value for side in deeper.values(drop_on_third) for value in side)
    assert [moves(pair, ortho_dev) for pair in every] == [-1, -1, -1, 1, 1]
    equal = [moves(pair, ortho_dev, pair.milestone) for pair in every]
    assert equal == [-1, -1, -1, 1, 1]
    cosines = [moves(pair, collapse("cosine_deviation"), pair.milestone) for pair in every]
    assert cosines == [-1, 1, -1, 1, 1]
    assert [moves(pair, depth) for pair in every] == [-1, -1, -1, -1, 0]
    assert [moves(pair, depth, pair.milestone) for pair in every] == [-1, 0, 0, 0, 0]
    assert [moves(ten, drop_on_second, at) for at in (FINAL, ten.milestone)] == [1, 0]


def test_raw_and_centred_ranks_of_a_hundred_classes_are_equal_but_for_a_direction() -> None:
    for key in HUNDRED:
        pair = PAIRS[key]
        for at in (FINAL, pair.milestone):
            raw, centred = (
                pair.values(rank_at(kind, 1e-3), at)
                for kind in ("rank_curve", "centred_rank_curve")
            )
            assert raw[1] == centred[1]
            assert all(
                0 <= own - other <= (key == "own.resnet34")
                for own, other in zip(raw[0], centred[0], strict=True)
            )


def test_networks_of_a_hundred_classes_end_where_that_is_told() -> None:
    """The deeper one does not fit its data at the high temperature, and is less equal at a milestone."""
    shallow, deep = (PAIRS[key].values(accuracy_on_train) for key in HUNDRED)
    assert min(shallow[1]) > 0.98 > 0.86 > max(deep[1])
    cold, hot = PAIRS["own.resnet34"].values(accuracy_on_train, PAIRS["own.resnet34"].milestone)
    assert min(cold) - max(hot) > 0.05


def test_the_drop_of_the_hottest_mlp_is_lower_than_that_of_the_coldest() -> None:
    cold = PAIRS["own.mlp"].cold
    hottest = [replace(one.job, temperature=200.0).key for one in cold]
    hot = [JobFolder(job_folder(LOSSLESS, key)) for key in hottest]
    assert apart(map(drop, cold), map(drop, hot)) == -1
    assert apart(map(depth, cold), map(depth, hot)) == -1


def test_the_alignment_of_the_mlp_is_lower_at_1_than_at_a_lower_and_at_higher_temperatures() -> (
    None
):
    def aligned(T: float) -> list[float | None]:
        keys = [replace(one.job, temperature=T).key for one in PAIRS["own.mlp"].cold]
        return [JobFolder(job_folder(LOSSLESS, key)).measure("alignment") for key in keys]

    assert all(apart(aligned(1.0), aligned(T)) == 1 for T in (0.3, 50.0, 200.0))


@pytest.mark.parametrize("key", PAIRS)
def test_four_of_ten_distinct_detectors_are_variants_of_neco(key: str) -> None:
    scores = distinct_detectors(PAIRS[key])
    assert len(scores) == 10
    assert sum(name.startswith("neco") for name in scores) == 4


@pytest.mark.parametrize("convention", RANKS)
def test_ranks_fall_under_every_convention_and_one_gives_both_anchors(
    convention: Convention,
) -> None:
    def all_ends(networks: list[JobFolder]) -> list[float]:
        name = f"train.rank_sampling.{RANKS[convention]}.interval"
        return sorted(
            end for one in networks for end in one.found(name) or [one.rank_under(convention)]
        )

    resnet, mlp = PAIRS["own.resnet18"], PAIRS["own.mlp"]
    for key in HUNDRED:
        assert moves(PAIRS[key], lambda one: one.rank_under(convention)) == -1
    assert moves(mlp, lambda one: one.rank_under(convention)) == 0
    inside = [
        all_ends(pair.cold)[0] <= anchor <= all_ends(pair.cold)[-1]
        for pair, anchor in ((mlp, 9), (resnet, 99))
    ]
    assert all(inside) == (convention == "class-centred")
    assert not all_ends(resnet.hot)[0] <= 59 <= all_ends(resnet.hot)[-1]
    cold, hot = (all_ends(side) for side in (PAIRS["own.resnet34"].cold, PAIRS["own.resnet34"].hot))
    both = cold[0] <= 99 <= cold[-1] and hot[0] <= 72 <= hot[-1]
    assert both == (convention in ("matrix", "class-centred"))


@pytest.mark.parametrize(
    ("key", "preset", "depths", "drops"),
    [
        ("own.resnet18", "tunnel", 0, 1),
        ("own.resnet18", "kanan", 0, 1),
        ("own.resnet34", "tunnel", -1, 1),
        ("own.resnet34", "kanan", -1, 1),
        ("own.resnet18.ten", "tunnel", -1, 1),
        ("own.resnet18.ten", "kanan", -1, -1),
        ("own.vgg19", "tunnel", 0, 1),
        ("own.vgg19", "kanan", 0, 0),
        ("own.mlp", "tunnel", 0, 1),
        ("own.mlp", "kanan", -1, 1),
    ],
)
def test_directions_under_other_protocols_are_those_told(
    key: str, preset: Preset, depths: int, drops: int
) -> None:
    cold, hot = (
        [JobFolder(one.path, FINAL, preset) for one in side]
        for side in (PAIRS[key].cold, PAIRS[key].hot)
    )
    assert apart(map(depth, cold), map(depth, hot)) == depths
    assert apart(map(drop, cold), map(drop, hot)) == drops


def test_networks_of_rank_two_had_the_time_told() -> None:
    narrow = [
        one
        for store in (LOSSLESS, TENTH)
        for one in map(JobFolder, (store / "jobs").iterdir())
        if one.job.head_rank == 2
    ]
    for model, text in (("mlp", "all {:,} images"), ("resnet18", "of {:,} images wrong")):
        own = [one for one in narrow if one.job.model == model]
        images = {one.summary["train_images"] for one in own}
        assert len(images) == 1
        assert text.format(*images) in PAGE
    (epochs,) = {one.job.epochs for one in narrow if one.job.model == "resnet18"}
    assert f"within {epochs} epochs" in PAGE


@pytest.mark.parametrize("key", PAIRS)
def test_ranks_at_equal_accuracy_are_of_diagnosed_images(key: str) -> None:
    """As told, all images at the end."""
    for side in PAIRS[key].at(PAIRS[key].milestone):
        assert all(one.measure("train.samples") <= 5_000 for one in side)
        for one in side:
            assert one.report is not None
            found = one.report["train"]["logits"]["rank_curve"]
            assert one.ranks("rank_curve")[1e-3] == found["0.001"]
    for one in jobs(key):
        assert one.ranks("rank_curve")[1e-3] == one.summary["rank_curve"]["0.001"]


def test_all_stores_are_told() -> None:
    for store in STORES:
        link = "(README.md)" if store == STORE else f"({store.name}/README.md)"
        assert link in PAGE
    assert FEWER in STORES
