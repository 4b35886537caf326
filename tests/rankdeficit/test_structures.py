"""Planted structures in any order of the classes, with noise, and what is no structure."""

import math
from itertools import combinations

import pytest
import torch

from rankdeficit import constructions, structures
from rankdeficit.structures import recognise, templates
from rankdeficit.toys.minima import known_minimum


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted(G: torch.Tensor, noise: float, seed: int, samples: int = 1) -> torch.Tensor:
    """Logits of a structure with shuffled classes, at some scale, with a shift of each sample."""
    c, random = len(G), generator(seed)
    order = torch.randperm(c, generator=random)
    shuffled = G[order][:, order].repeat_interleave(samples, dim=0)
    disturbance = torch.randn(c * samples, c, generator=random, dtype=torch.float64) / c
    shift = 9 * torch.randn(c * samples, 1, generator=random, dtype=torch.float64)
    return 17 * (shuffled + noise * disturbance) + shift


@pytest.mark.parametrize("classes", [3, 4, 5, 6, 10, 12, 16])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_planted_structures_are_recognised(classes: int, noise: float) -> None:
    for seed, (name, G) in enumerate(templates(classes)):
        found = recognise(planted(G, noise, seed), torch.arange(classes))
        assert (found.name, found.closest) == (name, name)
        assert found.distance < 0.03
        assert noise or found.distance < 1e-12


def test_class_means_count() -> None:
    G, labels = constructions.pairs(6), torch.arange(6).repeat_interleave(200)
    logits = planted(G.directions @ G.directions.mT, 0.3, 0, 200)
    assert recognise(logits, labels).name == "pairs"
    assert recognise(logits[::200], labels[::200]).name == "none"


def test_distances_by_hand() -> None:
    # Pairs of four classes and their ETF: <G, P>/(||G|| ||P||) = 4/sqrt(8 * 3).
    four = constructions.pairs(4)
    logits = four.directions @ four.directions.mT
    (etf,) = [G for name, G in templates(4) if name == "simplex ETF"]
    distance = structures._distance(logits / logits.norm(), etf)
    assert distance == pytest.approx(math.sqrt(2 - 2 * 4 / math.sqrt(24)))


def test_the_rank_three_arrangements_have_their_symmetry() -> None:
    for factors in structures.ORBITS:
        M = structures.rank_three_logits(factors)
        assert torch.linalg.matrix_rank(M) == 3
        assert (M.argmax(dim=1) == torch.arange(10)).all()
        turn = torch.tensor([0, 2, 3, 1, 5, 6, 4, 8, 9, 7])
        torch.testing.assert_close(M[turn][:, turn], M)
        assert not torch.allclose(M, M.mT, atol=0.5)


@pytest.mark.parametrize(
    ("factors", "objective"), [(4, 0.0407024), (5, 0.0353571), (6, 0.0331058), (7, 0.0322663)]
)
def test_the_rank_three_arrangements_have_their_objectives(factors: int, objective: float) -> None:
    M = structures.rank_three_logits(factors)
    loss = torch.logsumexp(M, dim=1) - M.diagonal()
    cost = factors / 2 * 1e-3 * torch.linalg.svdvals(M)[:3].pow(2 / factors).sum()
    assert (loss.mean() + cost).item() == pytest.approx(objective, abs=2e-7)


def test_class_logits_are_means_less_their_mean() -> None:
    labels = torch.tensor([2, 0, 1, 0, 0])
    logits = torch.tensor([[1.0, 2, 9], [3, 0, 0], [0, 6, 0], [5, -2, 1], [1, 2, -1]])
    expected = [[2.0, -1, -1], [-2, 4, -2], [-3, -2, 5]]
    assert structures.class_logits(logits, labels).tolist() == expected


def test_each_property_of_a_code_is_needed() -> None:
    corners = torch.tensor([[a, b, c] for a in (1, -1) for b in (1, -1) for c in (1, -1)]).double()
    M, labels = corners @ corners.mT, torch.arange(8)
    assert recognise(M, labels).name == "equal-margin code"
    turn = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]]).double()  # keeps norms and margins
    turned = corners @ (torch.eye(3).double() + 0.3 * turn) @ corners.mT
    share = 0.3 * 2**0.5 / (3 + 2 * 0.3**2) ** 0.5
    assert structures.code_defect(turned) == pytest.approx(share)
    assert recognise(turned, labels).name == "none"
    flat = corners * torch.tensor([1.0, 1.0, 0.8])  # equal norms and margins as well
    assert recognise(flat @ flat.mT, labels).name == "equal-margin code"
    apart = corners.clone()
    apart[0] = torch.tensor(
        [1.5, 0.7, 0.26**0.5], dtype=torch.float64
    )  # of the same norm, off its corner
    assert (apart.norm(dim=1) - 3**0.5).abs().max() < 1e-12
    assert recognise(apart @ apart.mT, labels).name == "none"
    longer = corners.clone()
    longer[0] *= 1.4
    assert recognise(longer @ longer.mT, labels).name == "none"


def test_codes_of_full_rank_have_no_name() -> None:
    V = torch.tensor([[1, 1, 0.5], [-1, -1, 0.5], [1, -1, -0.5], [-1, 1, -0.5]]).double()
    assert recognise(V @ V.mT, torch.arange(4)).name == "none"


def test_codes_without_a_name_are_told_from_no_structure() -> None:
    eight = known_minimum(8, 4).logits  # two squares, one turned by 45 degrees
    found = recognise(planted(eight, 0.0, 1), torch.arange(8))
    assert found.name == "equal-margin code"
    assert found.distance > 0.4
    V = constructions.icosahedron().directions
    stretched = V * torch.tensor([1.0, 1.0, 1.5])
    assert recognise(stretched @ stretched.mT, torch.arange(12)).name == "none"
    one_sided = V @ torch.diag(torch.tensor([1.0, 1.0, 2.0]).double()) @ V.mT
    assert recognise(one_sided, torch.arange(12)).name == "none"
    unlike = torch.randn(8, 8, generator=generator()).double()
    assert recognise(unlike + 3 * torch.eye(8), torch.arange(8)).name == "none"
    assert recognise(torch.full((3, 3), 7.0), torch.arange(3)).name == "zero"


def test_the_petersen_code_from_overlaps_of_subsets_and_a_circle_twice_around() -> None:
    pairs_of_five = list(combinations(range(5), 2))
    overlap = torch.tensor(
        [[float(len({*a} & {*b})) for b in pairs_of_five] for a in pairs_of_five]
    ).double()
    found = recognise(overlap - overlap.mean(), torch.arange(10))
    assert found.name == "Petersen code"
    circle = constructions.circle(10).directions
    twice = circle[(2 * torch.arange(10)) % 10]  # a pentagon, each vertex two classes
    assert recognise(twice @ twice.mT, torch.arange(10)).name == "none"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("logits", "labels", "tolerance", "words"),
    [
        (torch.eye(3), torch.tensor([0, 1, 1]), 0.05, "class 2"),
        (torch.eye(3), torch.tensor([0, 1, 3]), 0.05, "labels are"),
        (torch.eye(3), torch.tensor([0, 1]), 0.05, "labels are 2"),
        (torch.eye(3), torch.arange(3), 0.0, "tolerance is 0"),
        (torch.eye(2), torch.arange(2), 0.05, "classes is 2"),
        (torch.eye(3) * math.nan, torch.arange(3), 0.05, "NaN"),
    ],
)
def test_bad_input(
    logits: torch.Tensor, labels: torch.Tensor, tolerance: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        recognise(logits, labels, tolerance)
