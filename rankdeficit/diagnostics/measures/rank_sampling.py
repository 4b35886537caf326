"""Ranks of the logits over samples: intervals, growth with n, ranks of single classes."""

import math
from statistics import median

import torch
from jaxtyping import Float, Float64, Int64
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table
from torch import Tensor

from rankdeficit.diagnostics.reading.needs import Needs, Rows
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, text
from rankdeficit.diagnostics.report.intervals import LEVEL
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import with_legend_below
from rankdeficit.spectrum import Convention, accumulate_gram, centre, spectrum

PARTS = 64
"""Groups of samples, of which resamples and subsets are made; fewer where memory asks for it."""

LEAST_PARTS = 20
"""Fewest groups for an interval."""

RESAMPLES = 100
"""Bootstrap resamples."""

MOST_CLASSES = 2000
"""Largest number of classes: each resample takes an eigenproblem of this size."""

SLACK = 1e-9
"""Rounding of positions among resamples."""

CONVENTIONS: dict[Convention, tuple[str, ...]] = {
    "matrix": ("rank",),
    "class-centred": ("centred_rank",),
    "sample-centred": ("sample_centred_rank", "covariance_rank"),
}
"""Ranks that come from the singular values of each matrix."""


def group_grams(rows: Float[Tensor, "n c"], parts: int) -> Float64[Tensor, "parts c c"]:
    """Gram matrices of consecutive groups of rows, whose sizes differ by one at most; symmetric."""
    c = rows.shape[1]
    found = torch.zeros(parts, c, c, dtype=torch.float64, device=rows.device)
    for gram, group in zip(found, rows.tensor_split(parts), strict=True):
        accumulate_gram(gram, group.double())
    return found.triu() + found.triu(1).mT


def gram_values(
    grams: Float64[Tensor, "m k k"], sample_centred: bool = False
) -> Float64[Tensor, "m c"]:
    """Eigenvalues of Gram matrices in ascending order.

    sample_centred: the first column of the rows is 1 and tells their number and sums; the eigenvalues
    are those of the others less their means over these rows.
    """
    if sample_centred:
        sums = grams[:, 0, 1:]
        means = sums[:, :, None] * sums[:, None, :] / grams[:, :1, :1]
        grams = grams[:, 1:, 1:] - means
    return torch.stack([torch.linalg.eigvalsh(own) for own in grams])


def ranks_of(values: Float64[Tensor, "m c"], gamma: float) -> Int64[Tensor, " m"]:
    """Numerical ranks of matrices from the eigenvalues of their Gram matrices."""
    return (values > gamma**2 * values[:, -1:]).sum(dim=1)


def resampled_values(
    grams: Float64[Tensor, "parts k k"],
    seed: int,
    resamples: int = RESAMPLES,
    sample_centred: bool = False,
) -> Float64[Tensor, "{resamples} c"]:
    """`gram_values` of bootstrap resamples, which draw the groups with replacement."""
    parts = len(grams)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(parts, (resamples, parts), generator=generator)
    weights = torch.zeros(resamples, parts, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    found = [
        gram_values((own @ grams.flatten(1)).unflatten(1, grams.shape[1:]), sample_centred)
        for own in weights.to(grams.device).split(parts)  # as much memory as the groups
    ]
    return torch.cat(found)


def percentiles(ranks: Int64[Tensor, " m"], level: float = LEVEL) -> list[int]:
    """The central interval of this level, rounded outwards to values that occur."""
    ascending = ranks.sort().values
    last = len(ascending) - 1
    low, high = (
        math.floor((1 - level) / 2 * last + SLACK),
        math.ceil((1 + level) / 2 * last - SLACK),
    )
    return [int(ascending[low]), int(ascending[high])]


def growing_values(
    grams: Float64[Tensor, "parts k k"], samples: int, sample_centred: bool = False
) -> dict[int, Float64[Tensor, "1 c"]]:
    """`gram_values` of the first n samples, n doubling up to all of them."""
    parts = len(grams)
    counts = [parts]
    while counts[-1] > 1:
        counts.append((counts[-1] + 1) // 2)
    sizes = torch.arange(samples).tensor_split(parts)
    return {
        sum(len(own) for own in sizes[:count]): gram_values(
            grams[:count].sum(dim=0)[None], sample_centred
        )
        for count in reversed(counts)
    }


def settled_at(ranks: dict[int, int]) -> int | None:
    """Fewest samples from which on the rank stays that of all; None where it is that of all alone."""
    sizes = sorted(ranks)
    final = ranks[sizes[-1]]
    settled = None
    for size in reversed(sizes[:-1]):
        if ranks[size] != final:
            break
        settled = size
    return settled


def class_ranks(rows: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], gamma: float) -> list[int]:
    """Rank of the class-centred logits of each class that has samples."""
    return [int(spectrum(rows[labels == own], centred=True).rank(gamma)) for own in labels.unique()]


def balanced_rank(rows: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], gamma: float) -> int:
    """Rank of the class-centred logits if all classes had equally many samples: row i over sqrt(n_y)."""
    counts = labels.bincount().clamp(min=1).double()
    return int(spectrum(centre(rows) / counts[labels, None].sqrt()).rank(gamma))


def draw(record: Row) -> Figure | None:
    """Rank of the logits over the number of train samples, with its interval at all of them."""
    found = (record["train"] or {}).get("rank_sampling")
    if not found:
        return None
    figure = Figure(figsize=(6, 4))
    axes = figure.subplots()
    for kind, name in (("centred_rank", "class-centred"), ("rank", "raw")):
        own = found[kind]
        sizes = [float(size) for size in own["samples_curve"]]
        (line,) = axes.plot(sizes, list(own["samples_curve"].values()), "o-", label=name)
        low, high = own["interval"]
        axes.vlines(sizes[-1], low, high, colors=line.get_color(), linewidths=4, alpha=0.4)
    axes.set_xscale("log")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set(xlabel="train samples", ylabel="rank of the logits")
    with_legend_below(figure, columns=2)
    return figure


@measure("rank_sampling", place=15)
class RankSampling(Measure):
    """Sampling intervals of the ranks of the train logits, their growth with n, ranks within classes."""

    needs = Needs(train=(Rows("logits"),))
    blank = Blank(data={"rank_sampling": None})
    figures = (("rank_sampling", draw),)

    def values(self, study: Study) -> Values:
        """Of the train samples; a note where there are too many classes, too few samples or no memory."""
        rows, labels = study.logits("train"), study.train.labels
        n, c = rows.shape
        if c > MOST_CLASSES:
            study.notes.append(
                f"no sampling interval of ranks for more than {MOST_CLASSES} classes"
            )
            return Values()
        room = study.train.wanted.matrix_memory // (8 * c**2)
        parts = min(PARTS, n, room)
        if parts < LEAST_PARTS:
            reason = f"{n} samples" if n < LEAST_PARTS else "matrix_memory"
            study.notes.append(f"no sampling interval of ranks: {reason} allows too few groups")
            return Values()
        gamma, seed = study.options.gamma, study.options.seed
        found: Row = {"samples": n, "resamples": RESAMPLES, "groups": parts}
        for convention, kinds in CONVENTIONS.items():
            own, centred = rows, convention == "sample-centred"
            if convention == "class-centred":
                own = centre(rows)
            elif centred:  # means are subtracted in every resample; these keep what is left small
                own = rows.double() - rows.double().mean(dim=0)
                own = torch.cat([torch.ones_like(own[:, :1]), own], dim=1)
            grams = group_grams(own, parts)
            growing = growing_values(grams, n, centred)
            drawn = resampled_values(grams, seed, sample_centred=centred)
            for kind in kinds:
                covariance = kind == "covariance_rank"
                threshold = math.sqrt(gamma) if covariance else gamma
                sizes = {m: int(ranks_of(own, threshold)) for m, own in growing.items()}
                found[kind] = {
                    "value": sizes[n],
                    "interval": percentiles(ranks_of(drawn, threshold)),
                    "convention": "covariance" if covariance else convention,
                    "settled_at": settled_at(sizes),
                    "samples_curve": {str(size): rank for size, rank in sizes.items()},
                }
        single = class_ranks(rows, labels, gamma)
        found["class_rank"] = {"median": median(single), "least": min(single), "most": max(single)}
        found["balanced_rank"] = balanced_rank(rows, labels, gamma)
        return Values(data={"train": {"rank_sampling": found}})

    def tables(self, record: Row) -> list[Table]:
        """A row for each convention."""
        found = record["train"].get("rank_sampling")
        if not found:
            return []
        single = found["class_rank"]
        note = (
            f"{LEVEL:.0%} interval of {found['resamples']} bootstrap resamples of {found['groups']} "
            "groups of samples. Settled at: number of samples from which on the rank is that of all. "
            f"Classes have ranks {single['least']} to {single['most']}."
        )
        columns = [
            Column("train logits", lambda row: row[0], note),
            Column("rank", lambda row: text(row[1]["value"])),
            Column("over samples", lambda row: _range(row[1].get("interval"))),
            Column("settled at", lambda row: _settled(row[1])),
        ]
        rows = [
            ("matrix", found["rank"]),
            ("class-centred", found["centred_rank"]),
            *(
                (found[kind]["convention"], found[kind])
                for kind in CONVENTIONS["sample-centred"]
                if kind in found  # not in records of earlier versions
            ),
            ("class-centred, classes weighted equally", {"value": found["balanced_rank"]}),
            ("class-centred, of one class (median)", {"value": single["median"]}),
        ]
        return [make_table("Ranks over samples", columns, rows)]

    def sentences(self, record: Row) -> list[str]:
        """Where the class-centred rank still grows with the number of samples."""
        found = (record["train"].get("rank_sampling") or {}).get("centred_rank")
        if not found or found["settled_at"] is not None:
            return []
        *_, (size, rank), _ = found["samples_curve"].items()
        return [
            f"The class-centred rank of the train logits has not settled: {found['value']} with all "
            f"samples, {rank} with {size} of them."
        ]


def _range(ends: list[int] | None) -> str | None:
    return None if ends is None else f"{ends[0]}–{ends[1]}"


def _settled(found: Row) -> str | None:
    return text(found["settled_at"] or "not yet") if "settled_at" in found else None
