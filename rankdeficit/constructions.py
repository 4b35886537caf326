"""Codes: c class directions of rank at most c - 1 whose logits classify every sample correctly.

Class k has a unit direction u_k, used both as its feature vector and as its row of the classifier.
The logits of a sample of class y at scale s are s <u_y, u_k>. All codes are unit-norm tight frames, so
one sample per class gives `rank` equal singular values s c / rank. The margin is the difference
between the true logit and the largest other logit at scale 1. It is positive, so the accuracy is 1 at
every scale and a large scale reaches any loss. Garrod, Keating and Thrampoulidis (2026, arXiv
2605.23087) study such codes as minimisers of the softmax loss.
"""

import math
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import scipy.linalg
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from torch.nn.utils import skip_init

from rankdeficit.checks import check_floating, check_magnitudes, check_positive, check_temperature


@dataclass(frozen=True)
class Code:
    """Unit directions (c, rank) of the classes and the margin of their logits at scale 1."""

    name: str
    directions: Float64[Tensor, "c rank"]
    margin: float

    @property
    def classes(self) -> int:
        """Number of classes c."""
        return self.directions.shape[0]

    @property
    def rank(self) -> int:
        """Rank of the logits when all classes occur. It can be lower for a subset of the classes."""
        return self.directions.shape[1]

    def logits(
        self, labels: Int64[Tensor, " n"], scale: float = 1.0
    ) -> Float64[Tensor, "n {self.classes}"]:
        """Logits scale * <u_y, u_k> of samples with the given labels.

        Raises ValueError for labels outside 0..c-1, and unless the scale is positive and finite.
        """
        _check_labels(labels, self.classes)
        check_positive(scale=scale)
        directions = self.directions.to(labels.device)
        return scale * directions[labels] @ directions.mT

    def scale_for_loss(self, loss: float, temperature: float = 1.0) -> float:
        """Scale at which the cross-entropy of every sample is at most `loss`.

        It follows from l <= ln(1 + (c - 1) exp(-scale margin / T)). Raises ValueError unless loss > 0.
        """
        check_temperature(temperature)
        check_positive(loss=loss)
        log_expm1 = loss + math.log(-math.expm1(-loss))
        margin = max(math.log(self.classes - 1) - log_expm1, 1.0)  # large losses allow any scale
        return temperature / self.margin * margin


def simplex_etf(classes: int) -> Code:
    """Simplex equiangular tight frame: rank c - 1, cosines -1/(c-1), margin c/(c-1).

    The geometry of Neural Collapse (Papyan, Han and Donoho, 2020).
    """
    _check_classes(classes, 2)
    basis = torch.from_numpy(scipy.linalg.helmert(classes)).mT
    directions = basis * math.sqrt(classes / (classes - 1))
    return Code("simplex ETF", directions.contiguous(), classes / (classes - 1))


def circle(classes: int) -> Code:
    """Directions at angles 2 pi k / c: rank 2 for every c >= 3, margin 1 - cos(2 pi / c).

    The rank-2 solution of the paper's Proposition 3.2; its loss tends to 0 as the scale grows.
    """
    _check_classes(classes, 3)
    angles = 2 * math.pi * torch.arange(classes, dtype=torch.float64) / classes
    directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return Code("circle", directions, 1 - math.cos(2 * math.pi / classes))


def pairs(classes: int) -> Code:
    """Classes 2k and 2k + 1 at +e_k and -e_k: rank c/2, margin 1 (2 for c = 2).

    Raises ValueError for odd c.
    """
    _check_classes(classes, 2)
    if classes % 2:
        raise ValueError(f"classes is {classes}; pairs need an even number of classes")
    signs = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    directions = torch.kron(torch.eye(classes // 2, dtype=torch.float64), signs)
    return Code("pairs", directions, 1.0 if classes > 2 else 2.0)


def petersen() -> Code:
    """Ten classes at rank 4: cosines -2/3 between neighbours in the Petersen graph, otherwise 1/6.

    The classes are the 2-subsets of five elements, and disjoint subsets are neighbours. The Gram matrix
    is a multiple of the projector onto the eigenspace of eigenvalue -2. The margin is 5/6.
    """
    subsets = list(combinations(range(5), 2))
    cosines = torch.tensor(
        [[(1, 1 / 6, -2 / 3)[2 - len({*a} & {*b})] for b in subsets] for a in subsets],
        dtype=torch.float64,
    )
    values, vectors = torch.linalg.eigh(cosines)
    directions = vectors[:, -4:] * values[-4:].sqrt()
    return Code("Petersen code", directions, 5 / 6)


def icosahedron() -> Code:
    """Twelve classes at rank 3: the vertices of an icosahedron, cosines +-1/sqrt(5) and -1.

    The margin is 1 - 1/sqrt(5).
    """
    golden = (1 + math.sqrt(5)) / 2
    rows = [[0.0, x, y * golden] for x in (1, -1) for y in (1, -1)]
    vertices = torch.tensor(rows, dtype=torch.float64)
    turned = torch.cat([vertices.roll(k, dims=1) for k in range(3)])
    directions = turned / math.sqrt(1 + golden**2)
    return Code("icosahedron", directions, 1 - 1 / math.sqrt(5))


def half_cube() -> Code:
    """Sixteen classes at rank 5: every second vertex of a cube, cosines 1/5 (ten) and -3/5 (five).

    The Clebsch graph joins the classes with cosine -3/5. The margin is 4/5.
    """
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64)] * 5)
    directions = signs[signs.prod(dim=1) > 0] / math.sqrt(5)
    return Code("half cube", directions, 4 / 5)


SPECIAL = {10: petersen, 12: icosahedron, 16: half_cube}
"""Codes of one number of classes."""


def named_codes(classes: int) -> dict[str, Code]:
    """All codes of so many classes by name, highest rank first, each geometry once.

    The circle of three classes is their simplex ETF, and that of four is their pairs.
    Raises ValueError for fewer than 2 classes.
    """
    codes = [simplex_etf(classes)]
    if classes % 2 == 0 and classes > 2:
        codes.append(pairs(classes))
    if classes in SPECIAL:
        codes.append(SPECIAL[classes]())
    if classes > 4:
        codes.append(circle(classes))
    return {code.name: code for code in codes}


def realise(
    code: Code,
    inputs: Float[Tensor, "n p"],
    labels: Int64[Tensor, " n"],
    scale: float = 1.0,
    seed: int = 0,
) -> nn.Sequential:
    """ReLU network of widths (p, n, rank, c) whose logits on the given inputs are those of the code.

    The network projects the inputs onto a random line and interpolates the targets scale * u_y
    piecewise linearly with one ReLU per sample (Zhang et al., 2017). Its last layer has the code's
    directions as weights and no bias. Any data set of distinct inputs is thus fitted at the code's rank.
    Parameters are float64; with thousands of samples the steep segments lose digits.

    Raises ValueError for repeated inputs, and for labels and scale as `Code.logits`.
    """
    _check_labels(labels, code.classes)
    check_positive(scale=scale)
    check_floating("inputs", inputs, dimensions=2)
    check_magnitudes("inputs", inputs)
    if inputs.shape[0] != labels.shape[0] or len(labels) < 2:
        raise ValueError(
            f"inputs has {inputs.shape[0]} rows and labels {labels.shape[0]}; "
            "both must have the same number, at least 2"
        )
    x = inputs.double()
    generator = torch.Generator().manual_seed(seed)
    line = torch.randn(x.shape[1], generator=generator, dtype=torch.float64).to(x.device)
    position, order = (x @ line).sort()
    gaps = position.diff()
    if bool((gaps == 0).any()):
        raise ValueError("inputs must be distinct; remove repeated rows or change the seed")
    directions = code.directions.to(x.device)
    targets = scale * directions[labels[order]]
    slopes = targets.diff(dim=0) / gaps.unsqueeze(-1)
    changes = torch.cat([slopes[:1], slopes.diff(dim=0)])

    linear = partial(skip_init, nn.Linear, dtype=torch.float64, device=x.device)
    knots, interpolate = linear(x.shape[1], len(gaps)), linear(len(gaps), code.rank)
    classify = linear(code.rank, code.classes, bias=False)
    with torch.no_grad():
        knots.weight.copy_(line.expand(len(gaps), -1))
        knots.bias.copy_(-position[:-1])
        interpolate.weight.copy_(changes.mT)
        interpolate.bias.copy_(targets[0])
        classify.weight.copy_(directions)
    return nn.Sequential(knots, nn.ReLU(), interpolate, classify)


def _check_classes(classes: int, least: int) -> None:
    if classes < least:
        raise ValueError(f"classes is {classes}; this code needs at least {least}")


def _check_labels(labels: Tensor, classes: int) -> None:
    if labels.ndim != 1 or labels.is_floating_point() or labels.numel() == 0:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; "
            "they must be a non-empty vector of integers"
        )
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= classes:
        raise ValueError(f"labels range from {low} to {high}; they must lie in 0..{classes - 1}")
