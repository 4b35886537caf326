"""Spread, entropy and numerical rank of attention, before and after its softmax, by head."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from rich.table import Table
from torch import Tensor

from rankdeficit.diagnostics.reading.attention import Attention, reading_attention
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.needs import Needs, Samples
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.reading.taps import undisturbed
from rankdeficit.diagnostics.registry import Blank, Column, Measure, Row, Values, measure
from rankdeficit.diagnostics.report.cells import make_table, number
from rankdeficit.diagnostics.study import Study
from rankdeficit.experiments.figure_style import set_rank_scale, with_legend_below
from rankdeficit.spectrum import GAMMA, numerical_rank

INPUTS = 8
"""Test samples whose attention is read, at most."""

RANKED_TOKENS, RANKED_WINDOWS = 1024, 16
"""Ranks are those of matrices of so many queries and keys at most, in so many windows of a sample."""

UNIFORM, NARROW = 0.95, 0.2
"""Shares of ln(keys): attention with more entropy is almost uniform, with less it is narrow."""


class Heads(NamedTuple):
    """Numbers of the heads of one attention, of one sample; NaN where there is none."""

    spread: Float64[Tensor, " heads"]
    """Standard deviation of the logits over the keys, mean over queries."""
    entropy: Float64[Tensor, " heads"]
    """In nats, mean over queries."""
    entropy_share: Float64[Tensor, " heads"]
    """Of ln(keys), mean over queries with two keys or more."""
    logits_rank: Float64[Tensor, " heads"]
    """Numerical rank of Q K^T / sqrt(d)."""
    softmax_rank: Float64[Tensor, " heads"]
    """Numerical rank of the attention matrix."""


def attention_heads(own: Attention, gamma: float = GAMMA) -> Heads | None:
    """Numbers of each head, medians (ranks) and means over windows; None where all keys are masked.

    Masked keys are left out, and so are queries without any key and those at positions that nothing
    attends to (padding). A causal mask does not change Q K^T, whose rank is that with all keys.
    """
    allowed, keys = own.allowed, own.allowed.sum(dim=-1)
    rows, seen = keys > 0, allowed.any(dim=-2)
    if allowed.shape[-2] == allowed.shape[-1]:
        rows = rows & seen
    if not bool(rows.any()):
        return None

    def over_rows(values: Tensor, chosen: Tensor = rows) -> Tensor:
        kept = torch.where(chosen, values, 0.0)
        return kept.sum(dim=(0, -1)) / chosen.sum(dim=(0, -1))

    count = keys.clamp(min=1)
    values = torch.where(allowed, own.logits, 0.0)
    deviations = torch.where(allowed, values - (values.sum(dim=-1) / count)[..., None], 0.0)
    spread = (deviations.square().sum(dim=-1) / count).sqrt()
    weights = own.logits.masked_fill(~allowed, -math.inf).softmax(dim=-1)
    weights = torch.where(rows[..., None], weights, 0.0)
    entropy = torch.special.entr(weights).sum(dim=-1)
    several = rows & (keys > 1)
    share = over_rows(entropy / count.clamp(min=2).log(), several)
    products = own.products * rows[..., None] * seen[..., None, :]
    ranks = [_ranks(matrices, gamma) for matrices in (products, weights)]
    return Heads(*(x.cpu() for x in (over_rows(spread), over_rows(entropy), share, *ranks)))


def _ranks(
    matrices: Float64[Tensor, "windows heads queries keys"], gamma: float
) -> Float64[Tensor, " heads"]:
    """Medians over windows; NaN where the matrices are too large."""
    windows, heads, *sides = matrices.shape
    if max(sides) > RANKED_TOKENS:
        return torch.full((heads,), math.nan, dtype=torch.float64)
    some = matrices[:: -(-windows // RANKED_WINDOWS)].cpu()
    return numerical_rank(some, gamma).double().quantile(0.5, dim=0)


class Found(NamedTuple):
    """What was read of a network."""

    rows: list[Row]
    """A row per attention."""
    unread: dict[str, str]
    """Classes of modules that are attention by name, but of another form, by the module's name."""


def attention(network: Network, samples: Sequence[Inputs], gamma: float = GAMMA) -> Found:
    """Numbers of all attentions of the network: lists over heads of medians over samples, with ranges.

    samples: one by one. A network without attention is left after the first.
    """
    found: dict[str, list[Heads]] = {}
    sizes: dict[str, Counter[str]] = {}

    def read(own: Attention) -> None:
        heads = attention_heads(own, gamma)
        if heads is None:
            return
        before = found.setdefault(own.name, [])
        if not before or len(before[0].spread) == len(heads.spread):
            before.append(heads)
            largest = sizes.setdefault(own.name, Counter())
            for name, size in zip(
                ("windows", "heads", "queries", "keys"), own.logits.shape, strict=True
            ):
                largest[name] = max(largest[name], size)

    unread: dict[str, str] = {}
    with torch.no_grad(), undisturbed(network.model):
        for sample in samples:
            with reading_attention(network.model, read) as modules:
                network.logits(sample)
            unread = modules.unread(network.model)
            if not found:
                break
    return Found(
        [
            {"name": name, **sizes[name], "inputs": len(own), **_over_samples(own)}
            for name, own in found.items()
        ],
        unread,
    )


def _over_samples(samples: list[Heads]) -> Row:
    row: Row = {}
    for name in Heads._fields:
        values = torch.stack([getattr(own, name) for own in samples])
        ends = torch.stack([values.amin(dim=0), values.amax(dim=0)], dim=1)
        row |= {name: values.quantile(0.5, dim=0).tolist(), f"{name}_range": ends.tolist()}
    return row


def draw(record: Row) -> Figure | None:
    """Spread of the logits, entropy, and ranks before and after the softmax, of attention heads."""
    rows = _rows(record)
    if not rows:
        return None
    figure = Figure(figsize=(10.5, 3.9))
    spread, entropy, ranks = figure.subplots(1, 3)
    _points(spread, rows, "spread", "0.35", "a head")
    spread.set_ylabel("spread of the logits over the keys")
    spread.set_ylim(0, 1.08 * spread.get_ylim()[1])
    _points(entropy, rows, "entropy_share", "0.35", "a head")
    entropy.set(ylabel="entropy / ln(keys)", ylim=(0, 1.03))
    gamma = f"γ = {record['conditions']['gamma']:g}"
    _points(ranks, rows, "softmax_rank", "C3", "a head, after the softmax", "s", 0.12)
    _points(ranks, rows, "logits_rank", "C0", "a head, of the logits", "o", -0.12)
    keys = [min(row["keys"], row["queries"]) for row in rows]
    places = range(1, len(rows) + 1)
    ranks.plot(places, keys, "_", color="0.6", markersize=9, label="most possible")
    ranks.set_ylabel(f"numerical rank, {gamma}")
    set_rank_scale(ranks)
    ranks.set_ylim(0, 1.4 * max(keys))
    for axes in (spread, entropy, ranks):
        axes.set(xlabel="attention, from input to output", xlim=(0.5, len(rows) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return with_legend_below(figure, columns=4)


def _points(
    axes: Axes,
    rows: Sequence[Row],
    name: str,
    colour: str,
    label: str,
    marker: str = "o",
    shift: float = 0.0,
) -> None:
    """A point per head, and a line through the medians over heads."""
    points = [
        (place + shift, value)
        for place, row in enumerate(rows, start=1)
        for value in row[name]
        if value is not None
    ]
    if not points:
        return
    style: Row = {"color": colour, "markersize": 4, "alpha": 0.6, "markeredgewidth": 0}
    axes.plot(*zip(*points, strict=True), marker, label=label, **style)
    places = [place + shift for place in range(1, len(rows) + 1)]
    medians = [_middle(row[name]) for row in rows]
    axes.plot(places, medians, color=colour, linewidth=1, label=label.replace("a head", "median"))


@measure("attention", place=45)
class AttentionMeasure(Measure):
    """Spread, entropy and ranks before and after the softmax of every attention head."""

    needs = Needs(test=(Samples(),))
    blank = Blank(sections={"attention": None})
    figures = (("attention", draw),)

    def values(self, study: Study) -> Values:
        """Rows of `attention`; a note names what is attention by its name and was not read."""
        assert study.test.subset is not None
        found = attention(study.network, study.test.subset.inputs[:INPUTS], study.options.gamma)
        for kind, count in Counter(found.unread.values()).items():
            first = next(name for name, own in found.unread.items() if own == kind)
            study.notes.append(
                f'attention of class {kind} is not read ({count} modules, "{first}" for one): it has no '
                "softmax over the last axis of products of queries and keys"
            )
        if not found.rows:
            return Values()
        if any(max(row["queries"], row["keys"]) > RANKED_TOKENS for row in found.rows):
            study.notes.append(f"no ranks of attention over more than {RANKED_TOKENS:,} tokens")
        return Values(sections={"attention": {"layers": found.rows}})

    def tables(self, record: Row) -> list[Table]:
        """A row per attention: medians over heads with their range."""
        rows = _rows(record)
        if not rows:
            return []
        inputs, gamma = max(row["inputs"] for row in rows), record["conditions"]["gamma"]
        note = (
            f"Medians over heads (lowest to highest head) of medians over {inputs} test samples. Spread: "
            "standard deviation of the logits of a query over its keys. Entropy in nats, and as share of "
            f"ln(keys). Ranks of Q K^T / sqrt(d) and of the attention matrix at gamma = {gamma:g} "
            "(convention: matrix)."
        )
        columns = [
            Column("layer", lambda row: str(row["name"])),
            Column("heads", lambda row: str(row["heads"])),
            Column("keys", lambda row: str(row["keys"])),
            Column("spread", partial(_over_heads, "spread"), note),
            Column("entropy", lambda row: number(_middle(row["entropy"]))),
            Column("of ln(keys)", partial(_over_heads, "entropy_share")),
            Column("rank of logits", partial(_over_heads, "logits_rank")),
            Column("after softmax", partial(_over_heads, "softmax_rank")),
        ]
        return [make_table("Attention", columns, rows)]

    def sentences(self, record: Row) -> list[str]:
        """How many heads are almost uniform, and how many narrow."""
        shares = [own for row in _rows(record) for own in row["entropy_share"] if own is not None]
        if not shares:
            return []
        uniform, narrow = sum(own > UNIFORM for own in shares), sum(own < NARROW for own in shares)
        return [
            f"Of {len(shares)} attention heads {uniform} attend almost uniformly (entropy above "
            f"{UNIFORM:.0%} of ln(keys)) and {narrow} to few keys (below {NARROW:.0%})."
        ]


def _rows(record: Row) -> list[Row]:
    found = record.get("attention")
    return found["layers"] if found else []


def _middle(values: Iterable[float | None]) -> float:
    known = [own for own in values if own is not None]
    return median(known) if known else math.nan


def _over_heads(name: str, row: Row) -> str | None:
    known = [own for own in row[name] if own is not None]
    if not known:
        return None
    low, high = number(min(known)), number(max(known))
    told = f"{number(_middle(known))}"
    return told if low == high else f"{told} ({low}-{high})"
