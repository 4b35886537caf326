"""Appendices I to M, which are not public: what the paper's main text says is in them."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from real_nets.jobs.folder import JobFolder
from real_nets.models import named_in_paper
from real_nets.page import Column, Picture, Section, Table, TableCell
from real_nets.page import figures as drawn
from real_nets.page.numbers import rank, share, spread
from real_nets.paper import numbers as paper
from real_nets.paper.chance import (
    AT_CHANCE,
    Side,
    learned,
    probed_outside,
)
from real_nets.paper.compare import Moves, move, pair_sentences
from real_nets.paper.correlation import Correlation, correlation
from real_nets.paper.grid import Cell as Place
from real_nets.paper.grid import Setup
from real_nets.paper.store import Results
from real_nets.paper.targets.parts import (
    PLACE,
    Measure,
    accuracies,
    claim,
    measured,
    of_probes,
    ortho_dev,
    pairs,
    place,
    where,
)
from real_nets.paper.targets.target import Target, figure_run, networks, register, runs

RANK_TWO = "rank 2"
SLOWER = 3
"""Times the epochs of the network's own classifier: two dimensions are slower to fit."""


def on_cifar(setup: Setup, rows: Sequence[paper.Comparison]) -> list[Place]:
    """Both conditions of the networks that a table of the paper has on CIFAR-10 and CIFAR-100."""
    return [
        cell
        for row in rows
        if row.data.startswith("CIFAR")
        for cell in setup.pair(row.data, row.architecture)
    ]


@register
class NeuralCollapse(Target):
    """Appendix I."""

    name = "neural-collapse"
    title = "Appendix I: measures of Neural Collapse"
    about = "NC1 to NC4 of all networks of Tables 1 and 3 on CIFAR, with the retained rank"

    def cells(self, setup: Setup) -> list[Place]:
        """Networks of Tables 1 and 3 on CIFAR."""
        return on_cifar(setup, (*paper.TABLE_1, *paper.TABLE_3))

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """All of them side by side."""
        measures = {
            "rank of the means": ("retained_rank", rank),
            "predicted": ("predicted_rank", rank),
            "NC1: tr S_W / tr S_B": ("within_to_between", "{:.3g}".format),
            "NC1: class distances": ("class_distance_variance", "{:.3g}".format),
            "NC2: equinorm": ("equinorm", "{:.3f}".format),
            "NC2: |cosine + 1/(c-1)|": ("mean_cosine_gap", "{:.3f}".format),
            "NC2: deviation of cosines": ("cosine_deviation", "{:.3f}".format),
            "NC3: self-duality": ("self_duality", "{:.3f}".format),
            "NC4: agreement": ("nearest_centre_agreement", share),
        }
        columns = [*PLACE, *(Column(title) for title in measures), Column("train accuracy")]
        rows = [
            [
                *place(cell),
                *(
                    measured(results.outcomes(cell), collapse(name), form)
                    for name, form in measures.values()
                ),
                measured(results.outcomes(cell), lambda one: one.train_accuracy, share),
            ]
            for cell in cells
        ]
        said = [
            "The paper's claim: where the rank is deficient the class means cannot form a simplex "
            "equiangular tight frame (NC2). Of the other conditions its main text says nothing. NC1 in "
            "its usual form, tr(S_W S_B^+)/c, falls with the rank itself and is not shown."
        ]
        said += pair_sentences(cells, results, collapse_moves)
        table = Table("Neural Collapse on train images (0 is collapse; NC4: 100 %)", columns, rows)
        return Section(self.name, self.title, said, [table], [], accuracies(cells, results))


def collapse_moves(baseline: Side, low: Side) -> Moves:
    """How NC1 to NC3 move. The paper speaks of the class means, whose angles tell of a lower rank."""
    return [
        move(baseline, low, what, collapse(name), expected, form)
        for what, name, expected, form in (
            ("tr S_W / tr S_B (NC1)", "within_to_between", None, "{:.3g}".format),
            ("the deviation of norms (NC2)", "equinorm", None, "{:.3f}".format),
            ("the deviation of cosines (NC2)", "cosine_deviation", 1, "{:.3f}".format),
            ("the distance from self-duality (NC3)", "self_duality", None, "{:.3f}".format),
        )
    ]


def collapse(name: str) -> Measure:
    """A measure of Neural Collapse, of the diagnosis."""
    return lambda one: one.measure(f"neural_collapse.{name}")


@register
class RankTwo(Target):
    """Appendix K."""

    name = "rank-two"
    title = "Appendix K: rank-2 backbones"
    about = "networks whose logits are factored through two dimensions"

    def cells(self, setup: Setup) -> list[Place]:
        """Each network as it is, and with a classifier of rank 2."""
        found = []
        for network in ("MLP", "ResNet-18"):
            found += setup.cell("CIFAR-10", network)
            found += setup.cell(
                "CIFAR-10",
                network,
                RANK_TWO,
                head_rank=2,
                stop_accuracy=1.0,
                epochs=SLOWER * int(setup.budget.job("cifar10", named_in_paper(network)).epochs),
            )
        return found

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """Ranks and accuracies."""
        measures: dict[str, tuple[Measure, Any]] = {
            "rank of the logits": (lambda one: one.rank, rank),
            "rank after the softmax": (lambda one: one.summary.get("post_softmax_rank"), rank),
            "train accuracy": (lambda one: one.train_accuracy, "{:.3%}".format),
            "test accuracy": (lambda one: one.test_accuracy, share),
            "epochs": (lambda one: one.summary.get("epoch"), "{:.3g}".format),
        }
        columns = [*PLACE, *(Column(title) for title in measures)]
        rows = [
            [*place(cell), *(measured(results.outcomes(cell), *how) for how in measures.values())]
            for cell in cells
        ]
        said = [
            "The paper's claim: typical backbones with an output of rank 2 reach 100 % train accuracy "
            "(Proposition 3.2 says that they can)."
        ]
        for cell in cells:
            outcomes = results.outcomes(cell)
            if cell.condition == RANK_TWO and outcomes:
                said.append(f"{where(cell)} with rank 2 {_fit(outcomes)}.")
        table = Table("Classifiers of rank 2 beside the networks' own", columns, rows)
        return Section(self.name, self.title, said, [table], [], accuracies(cells, results))


def _fit(outcomes: Sequence[JobFolder]) -> str:
    """Whether some networks fit all of their train images, and how well they do on others."""
    images = outcomes[0].summary["train_images"]
    wrong = [round((1 - (one.train_accuracy or 0.0)) * images) for one in outcomes]
    fit = f"reaches 100 % train accuracy in {wrong.count(0)} of {len(wrong)} runs"
    if fewest := min(wrong):
        misses = f"(at best wrong on {fewest:,} of {images:,} images)"
        fit = f"does not reach 100 % train accuracy {misses}"
    return f"{fit}; test accuracy {spread([one.test_accuracy for one in outcomes])}"


@register
class OrthoDev(Target):
    """Appendix L."""

    name = "ortho-dev"
    title = "Appendix L: OrthoDev"
    about = "OrthoDev of all networks of Table 1 on CIFAR, at the end and during training"

    def cells(self, setup: Setup) -> list[Place]:
        """Networks of Table 1 on CIFAR."""
        return on_cifar(setup, paper.TABLE_1)

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """Table of final values, and a figure per network."""
        rows, pictures = [], []
        for baseline, low in pairs(cells):
            cold = results.outcomes(baseline)
            rows += [
                [
                    *place(cell),
                    TableCell(ood),
                    measured(results.outcomes(cell), ortho_dev(ood), "{:.3f}".format),
                ]
                for ood in (cold[0].job.ood if cold else [])
                for cell in (baseline, low)
            ]
            figure = drawn.ortho_dev(runs([baseline, low], results))
            if figure is not None:
                caption = f"{where(baseline)}: OrthoDev during training."
                pictures.append(Picture(figure, caption, caption))
        table = Table(
            "OrthoDev on diagnosed images", [*PLACE, Column("OOD"), Column("OrthoDev")], rows
        )
        return Section(
            self.name,
            self.title,
            [claim("Figure 7"), *pair_sentences(cells, results, ortho_dev_moves)],
            [table],
            pictures,
            accuracies(cells, results),
        )


def ortho_dev_moves(baseline: Side, low: Side) -> Moves:
    """How OrthoDev moves on every OOD set."""
    _, cold = baseline
    return [
        move(baseline, low, f"OrthoDev ({ood})", ortho_dev(ood), -1, "{:.3f}".format)
        for ood in (cold[0].job.ood if cold else [])
    ]


@register
class TradeOff(Target):
    """Appendix M."""

    name = "trade-off"
    title = "Appendix M: OOD generalisation against OOD detection"
    about = "rho against the AUROC of NECO over all networks, with their correlation"

    def cells(self, setup: Setup) -> list[Place]:
        """Networks of Tables 1 and 3."""
        rows = (*paper.TABLE_1, *paper.TABLE_3)
        return [cell for row in rows for cell in setup.pair(row.data, row.architecture)]

    def section(
        self, cells: Sequence[Place], results: Results, computed: dict[str, Any]
    ) -> Section:
        """A dot per network; the rank correlation of all, and of those of each kind."""
        found = networks(cells, results)
        able = [one for one in found if learned(one)]
        rows = drawn.trade_off_points([_judged(one) for one in able])
        said = [
            "The paper's claim: the better a network generalises out of distribution (low ρ), the worse "
            "it detects what is out of distribution (low AUROC), so the two should rise together."
        ]
        correlations = {}
        for name, own in _grouped(rows, "ood").items():
            correlated = _correlated(own)
            if correlated is not None:
                correlations[name] = str(correlated)
                said.append(f"{name}: {correlated}, {correlated.agreement}.")
        if correlations:
            said.append(
                "Networks that share data or architecture are not independent, so p is too small; over "
                "several kinds of network, the correlation is in part that of the kinds."
            )
        if guessing := len(found) - len(able):
            said.append(
                f"Left out of correlations: {guessing} of {len(found)} networks, which {AT_CHANCE}."
            )
        if blind := len(drawn.trade_off_points([figure_run(one) for one in able])) - len(rows):
            said.append(
                f"Left out of correlations: {blind} points of OOD sets on which the best layer's probe "
                "hardly beats guessing."
            )
        tables = _within_kinds(rows)
        figure = drawn.trade_off([figure_run(one) for one in found], correlations=correlations)
        pictures = []
        if figure is not None:
            alt = "AUROC of NECO against OOD drop, a mark per network."
            pictures = [Picture(figure, "A mark per trained network.", alt)]
        return Section(self.name, self.title, said, tables, pictures, of_probes(cells, results))


def _judged(one: JobFolder) -> drawn.FigureRun:
    """A network as figures take it, without rho of OOD sets on which its probes guess."""
    run = figure_run(one)
    if run.report is None:
        return run
    drops = run.report["ood_drop"]
    told = {ood: drop for ood, drop in drops.items() if probed_outside(one, ood)}
    return replace(run, report=run.report | {"ood_drop": told})


def _within_kinds(rows: Sequence[drawn.TradeOffPoint]) -> list[Table]:
    """A table of the correlations over the networks of each kind, where there are any."""
    columns = [Column(title) for title in ("OOD", "network", "Spearman's correlation", "p", "n")]
    found = []
    for (ood, network), own in _grouped(rows, "ood", "network").items():
        one = _correlated(own)
        if one is not None:
            numbers = (f"{one.rho:.2f}", f"{one.p:.2g}", str(one.n))
            found.append([TableCell(text) for text in (ood, network, *numbers)])
    return [Table("Within each kind of network", columns, found)] if found else []


def _correlated(points: Sequence[drawn.TradeOffPoint]) -> Correlation | None:
    return correlation([(point.ood_drop, point.auroc) for point in points])


def _grouped(
    points: Sequence[drawn.TradeOffPoint], *names: str
) -> dict[Any, list[drawn.TradeOffPoint]]:
    """Points by their values of one or several fields."""
    found: dict[Any, list[drawn.TradeOffPoint]] = {}
    for point in points:
        found.setdefault(attrgetter(*names)(point), []).append(point)
    return found
