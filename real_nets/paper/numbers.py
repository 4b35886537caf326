"""The paper's numbers as data, for comparison with measured ones.

Masarczyk et al., "Unpacking Softmax: How Logits Norm Drives Representation Collapse, Compression and
Generalization" (a later submission of arXiv 2506.01562, 2025): Tables 1 to 3 as printed, and what each
table and figure claims, phrased so that a measurement can contradict it. Percentages are stored as
fractions.
"""

from dataclasses import dataclass

TEMPERATURES = (1.0, 10.0, 50.0, 100.0, 1000.0)
"""Temperatures of the paper's study; 1 is the baseline. The rows of its tables call the others "low logit
norm" without naming the value."""

BASELINE_TEMPERATURE = TEMPERATURES[0]

CLASSES = {"CIFAR-10": 10, "CIFAR-100": 100, "ImageNet-100": 100, "ImageNet-1k": 1000}
"""Number of classes of its training sets."""

LAYERS = {
    "MLP": 8,
    "ResNet-18": 18,
    "ResNet-20": 20,
    "ResNet-34": 34,
    "ResNet-50": 50,
    "VGG-19": 19,
}
"""Number of weight layers of each network with an effective depth in the tables. All kappas are multiples
of 1 / layers up to rounding; the depth of the MLP is inferred from that."""


@dataclass(frozen=True)
class Representation:
    """Numbers of Tables 1 and 3 for one trained network."""

    effective_depth: float
    """kappa, rounded to 0.01."""
    ood_drop: float
    """rho, rounded to 0.01. The tables leave the OOD data unnamed; Figure 1 has SVHN for CIFAR-100."""
    rank: int
    """SR, the numerical rank of the logits."""
    bounded_by_classifier: bool = False
    """The dagger: the width of the classifier bounds the rank."""


@dataclass(frozen=True)
class RepresentationRow:
    """A row of Table 1 or 3: the same network at T = 1 and at low logit norm."""

    architecture: str
    data: str
    baseline: Representation
    low_norm: Representation


@dataclass(frozen=True)
class Detection:
    """OOD detection by NECO, rounded to 0.0001."""

    auroc: float
    fpr: float
    """False positive rate at 95 % true positives."""


@dataclass(frozen=True)
class DetectionRow:
    """A network of Table 2 with one ID and one OOD set, at T = 1 and at low logit norm."""

    architecture: str
    data: str
    ood: str
    baseline: Detection
    low_norm: Detection
    pretrained_on: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper."""

    name: str
    title: str
    shows: str
    """Its content, as the caption of a figure or the second line of a list of targets."""
    claim: str
    """One testable sentence."""
    networks: tuple[tuple[str, str], ...] = ()
    """(architecture, data) of the experiment; empty if the paper names none."""


def _percent(*numbers: float | int) -> tuple[float, ...]:
    return tuple(round(number / 100, 6) for number in numbers)


def _row(
    data: str,
    architecture: str,
    baseline: tuple[int, int, int],
    low_norm: tuple[int, int, int],
    bounded: bool = False,
) -> RepresentationRow:
    """A row as printed: (kappa in percent, rho in percent, rank) per condition; bounded: the dagger."""
    (kappa, rho), (low_kappa, low_rho) = _percent(*baseline[:2]), _percent(*low_norm[:2])
    return RepresentationRow(
        architecture,
        data,
        baseline=Representation(kappa, rho, baseline[2], bounded),
        low_norm=Representation(low_kappa, low_rho, low_norm[2]),
    )


def _detections(
    architecture: str, *printed: float, pretrained_on: str | None = None
) -> tuple[DetectionRow, ...]:
    """A line of Table 2 as printed: AUROC and FPR at T = 1, then at low logit norm, for both ID sets."""
    rates = (Detection(*_percent(*printed[i : i + 2])) for i in range(0, len(printed), 2))
    hundred, hundred_low, ten, ten_low = rates
    return (
        DetectionRow(architecture, "CIFAR-100", "CIFAR-10", hundred, hundred_low, pretrained_on),
        DetectionRow(architecture, "CIFAR-10", "CIFAR-100", ten, ten_low, pretrained_on),
    )


TABLE_1 = (
    _row("CIFAR-10", "MLP", (75, 67, 9), (38, 78, 9)),
    _row("CIFAR-10", "ResNet-18", (100, 29, 9), (67, 54, 9)),
    _row("CIFAR-10", "ResNet-20", (100, 10, 9), (75, 34, 9)),
    _row("CIFAR-100", "ResNet-18", (100, 19, 99), (83, 50, 59)),
    _row("CIFAR-100", "ResNet-34", (100, 16, 99), (68, 51, 72)),
    _row("ImageNet-100", "ResNet-34", (100, 6, 99), (85, 52, 42)),
    _row("ImageNet-100", "ResNet-50", (100, 5, 99), (78, 50, 27)),
    _row("ImageNet-1k", "ResNet-34", (100, 5, 512), (82, 23, 122), bounded=True),
    _row("ImageNet-1k", "ResNet-50", (100, 5, 947), (78, 22, 128)),
)

TABLE_2 = (
    *_detections("ResNet-18", 63.66, 90.44, 77.04, 80.13, 77.75, 73.29, 87.53, 55.87),
    *_detections("ResNet-34", 62.36, 91.13, 76.37, 79.27, 73.96, 73.60, 86.18, 57.23),
    *_detections(
        "ViT-B", 92.38, 40.01, 93.96, 30.92, 98.09, 9.51, 98.33, 8.87, pretrained_on="ImageNet-21k"
    ),
)

TABLE_3 = (
    _row("CIFAR-10", "VGG-19", (47, 64, 9), (53, 64, 9)),
    _row("CIFAR-100", "VGG-19", (58, 58, 73), (58, 53, 45)),
)

_MLP = (("MLP", "CIFAR-10"),)
_RESNET = (("ResNet-34", "CIFAR-100"),)

EXHIBITS = (
    Exhibit(
        "Table 1",
        "effective depth, OOD drop and rank of the logits",
        "Nine pairs of networks, MLP and ResNets, beside the paper's numbers.",
        "At low logit norm kappa is lower and rho higher in every pair, and the rank is lower wherever "
        "there are a hundred classes or more.",
        tuple((row.architecture, row.data) for row in TABLE_1),
    ),
    Exhibit(
        "Table 2",
        "OOD detection by NECO",
        "CIFAR-100 against CIFAR-10 in both directions, beside the paper's numbers.",
        "At low logit norm the AUROC is higher and the false positive rate at 95 % true positives "
        "lower, for every network in both directions.",
        tuple((row.architecture, row.data) for row in TABLE_2),
    ),
    Exhibit(
        "Table 3",
        "VGG-19",
        "The measures of Table 1 on CIFAR-10 and CIFAR-100.",
        "VGG-19 has a low kappa and a high rho at T = 1 already, and a lower logit norm changes its "
        "rank on CIFAR-100 but hardly anything else.",
        tuple((row.architecture, row.data) for row in TABLE_3),
    ),
    Exhibit(
        "Figure 1",
        "accuracy of linear probes by layer",
        "Probes after every layer, on ID and on OOD data.",
        "At low logit norm an earlier layer's probe reaches 99 % of the last layer's accuracy, and the "
        "last layer's OOD probe falls further below the best layer's.",
        _RESNET,
    ),
    Exhibit(
        "Figure 2",
        "norm of the logits during training",
        "The norm at several temperatures, raw and divided by T.",
        "The norm of the logits grows more, and sooner, at high temperature than at T = 1.",
        _RESNET,
    ),
    Exhibit(
        "Figure 3",
        "alignment and collapse during training",
        "Alignment of weights with their inputs, mean over layers (top); rank and five largest singular "
        "values of the representations (bottom).",
        "At high temperature the alignment rises above the baseline's within the first epochs, and the "
        "rank of the representations falls below the baseline's as their top singular values grow.",
        _MLP,
    ),
    Exhibit(
        "Figure 4",
        "ranks of representations and gradients",
        "Rank of each layer's input and of the gradient of the loss in its weight.",
        "At high temperature both ranks are lower than the baseline's in the deeper layers, and no "
        "gradient's rank exceeds that of its layer's input.",
        _MLP,
    ),
    Exhibit(
        "Figure 5",
        "ranks before and after the softmax during training",
        "Both ranks, and the norm of the logits.",
        "At high temperature the rank after the softmax saturates early, in step with the growth of "
        "the norm, while the rank of the logits stays well below it.",
        _RESNET,
    ),
    Exhibit(
        "Figure 6",
        "rank after the softmax of random low-rank matrices",
        "Matrices of rank 1 to 5 against the factor they are scaled by; trains nothing.",
        "The rank after the softmax grows with the factor although the rank of the matrix is constant.",
    ),
    Exhibit(
        "Figure 7",
        "OrthoDev during training",
        "Mean |cosine| of class means and OOD mean.",
        "At high temperature OrthoDev ends lower than the baseline's.",
        _RESNET,
    ),
    Exhibit(
        "Figure 8",
        "norm of the logits of untrained networks",
        "VGG-19, ResNets and MLP, several seeds each; trains nothing.",
        "The logits of an untrained VGG-19 have a lower norm than those of untrained ResNets.",
    ),
)
"""Tables 1 to 3 and Figures 1 to 8, in this project's words."""


def exhibit(name: str) -> Exhibit:
    """The table or figure of that name, "Figure 3" for example. Raises ValueError for others."""
    for found in EXHIBITS:
        if found.name == name:
            return found
    raise ValueError(
        f"exhibit is {name!r}; it must be one of {', '.join(e.name for e in EXHIBITS)}"
    )


def representation_row(architecture: str, data: str) -> RepresentationRow | None:
    """The row of Table 1 or 3 of a network on a data set; None if there is none."""
    rows = (*TABLE_1, *TABLE_3)
    return next((r for r in rows if (r.architecture, r.data) == (architecture, data)), None)


def detection_row(architecture: str, data: str, ood: str) -> DetectionRow | None:
    """The row of Table 2 of a network with an ID and an OOD set; None if there is none."""
    key = (architecture, data, ood)
    return next((r for r in TABLE_2 if (r.architecture, r.data, r.ood) == key), None)
