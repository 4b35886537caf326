"""Search for the strongest acceptable compression: exploring images make candidates, others decide.

Candidates, from mild to strong, are made with the exploring images alone. On the deciding images they are
tested in the order of their p-values on the exploring images (fixed sequence testing: Angelopoulos et
al., 2021, arXiv 2110.01052; Laufer-Goldshtein et al., 2023, arXiv 2210.07913). A chain of candidates ends
at its second failure. The first false acceptance is therefore that of the first or second candidate
tested whose loss is too large, and each test has half of the chain's error (Bonferroni). The strongest
candidate that passed is kept. Chains have equal shares of the error.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from rankdeficit.control.compression.bases import Method
from rankdeficit.control.compression.parts import OnProgress, Part, Runner
from rankdeficit.control.compression.probing import Probed, Prober, cut_at
from rankdeficit.control.compression.promise import Paired, loss_p_value
from rankdeficit.control.compression.record import Plan, Step, Trial
from rankdeficit.control.compression.repair import Repair, repaired
from rankdeficit.control.compression.stages import Stage, read_stage
from rankdeficit.control.compression.structure import Edit, Factor
from rankdeficit.diagnostics.reading.inputs import Inputs
from rankdeficit.diagnostics.reading.taps import Layer


class Rung(NamedTuple):
    """Limit on the loss of a candidate on the exploring images."""

    level: float
    """Largest p-value, for a margin multiplied by `slack`, at which a candidate passes."""
    slack: float = 1.0


RUNGS = tuple(Rung(level) for level in (0.0015, 0.003, 0.006, 0.015, 0.04, 0.1, 0.25, 0.5))
"""From mild to strong candidates."""

REPAIRED = (Rung(0.0015), Rung(0.015), Rung(0.1), Rung(0.1, 2.0), Rung(0.3, 4.0))
"""Rungs before a repair, which recovers some of the loss."""

THRESHOLDS = (
    1e-3, 2e-3, 5e-3, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4,
)  # fmt: skip
"""Thresholds of the spectra of layers, relative to the largest singular value."""

FAILURES = 2
"""Number of failures at which a chain ends."""

PATIENCE = 2
"""Number of successive layers with failing probes after which no earlier layer is probed."""


@dataclass(frozen=True)
class Candidate:
    """A compressed network."""

    model: nn.Module
    edits: tuple[Edit, ...]
    plan: Plan


@dataclass(frozen=True)
class Kept:
    """An accepted candidate with its trial."""

    candidate: Candidate
    trial: Trial


@dataclass
class Search:
    """Search for one network. Probes and stages are computed once, when first needed."""

    model: nn.Module
    head: str
    narrowed: str | None
    hidden: tuple[Layer, ...]
    """Layers after which the network can be cut."""
    runner: Runner
    fit: Part
    explore: Part
    decide: Part
    prober: Prober
    sample: Inputs
    margin: float
    method: Method
    gamma: float | None
    repair: Repair
    factored: bool
    """Whether layers may be factored, which needs their activations."""
    on_progress: OnProgress
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._explored = self._correct(self.model, self.explore, "accuracy on exploring images")
        self._decided = self._correct(self.model, self.decide, "accuracy on deciding images")
        self._rungs = REPAIRED if self.repair.epochs else RUNGS
        self._probed: list[Probed] | None = None
        self._stages: dict[str | None, Stage] = {}
        self._factored: dict[Plan, Tensor] = {}

    @property
    def accuracy(self) -> float:
        """Accuracy of the original on the deciding images."""
        return float(self._decided.double().mean())

    def can_be_cut(self) -> bool:
        """Whether a cut passes the strongest rung on the exploring images."""
        return any(self._passes(own.correct, self._rungs[-1]) for own in self._probes())

    def chain(
        self,
        steps: frozenset[Step],
        error: float,
        strength: Callable[[Candidate], tuple[int, ...]],
    ) -> Kept | None:
        """The strongest candidate of these steps accepted before the last failure, if any."""
        kept: Kept | None = None
        failed = 0
        for plan in sorted(dict.fromkeys(self._plans(steps)), key=self._risk):
            candidate = self._candidate(plan)
            after = self._correct(candidate.model, self.decide, "deciding")
            share = error / FAILURES
            trial = Trial(plan, Paired.of(self._decided, after, self.margin, share), share)
            self.trials.append(trial)
            failed += not trial.accepted
            if failed == FAILURES:
                break
            if trial.accepted and (kept is None or strength(candidate) > strength(kept.candidate)):
                kept = Kept(candidate, trial)
        return kept

    def _plans(self, steps: frozenset[Step]) -> Iterator[Plan]:
        """Plans from mild to strong; all of them cut if that is one of the steps."""
        previous = Plan()
        for rung in self._rungs:
            plan = self._plan(steps, rung)
            if "cut" in steps and plan.cut is None:
                continue
            for step in self._between(previous, plan):
                if not step.empty and step != previous:
                    yield step
                    previous = step

    def _between(self, previous: Plan, plan: Plan) -> list[Plan]:
        """Plans with the cut and rank of `plan`, of growing thresholds, that end with `plan`."""
        stage = self._stage(plan.cut)
        reached = previous.threshold if previous.cut == plan.cut else None
        found = [replace(plan, threshold=reached)] if (plan.threshold or 0) > (reached or 0) else []
        for threshold in THRESHOLDS:
            inside = (reached or 0) < threshold < (plan.threshold or 0)
            if inside and stage.ranks(threshold) != stage.ranks(found[-1].threshold):
                found.append(replace(plan, threshold=threshold))
        return [*found, plan]

    def rival(self, candidate: Candidate, method: Method) -> nn.Module:
        """The network compressed by another method, with the same cut and equal dimensions."""
        stage = self._stage(candidate.plan.cut)
        other = self._read(stage.model, stage.edits, stage.head, stage.narrowed, method)
        own = candidate.edits[len(stage.edits) :]
        ranks = {edit.module: edit.rank for edit in own if isinstance(edit, Factor)}
        ranks.pop(stage.head, None)
        model, _ = other.compressed(candidate.plan.rank, ranks)
        return repaired(model, self.fit, self.runner, self.repair, self.on_progress)

    def _plan(self, steps: frozenset[Step], rung: Rung) -> Plan:
        plan = Plan()
        if "cut" in steps:
            reached = [own.layer.name for own in self._probes() if self._passes(own.correct, rung)]
            plan = replace(plan, cut=reached[-1] if reached else None)
        if "project" in steps:
            plan = replace(plan, rank=self._rank(plan.cut, rung))
        if "factor" in steps:
            plan = replace(plan, threshold=self._threshold(plan, rung))
        return plan

    def _probes(self) -> list[Probed]:
        """Probes from the last layer backwards, until PATIENCE of them fail the strongest rung."""
        if self._probed is None:
            self._probed = []
            failed = 0
            for own in self.prober.backwards(self.hidden):
                self._probed.append(own)
                failed = 0 if self._passes(own.correct, self._rungs[-1]) else failed + 1
                if failed == PATIENCE:
                    break
        return self._probed

    def _rank(self, cut: str | None, rung: Rung) -> int | None:
        """Rank of the features at gamma, or the least that passes; None for all dimensions."""
        stage = self._stage(cut)
        if self.gamma is not None:
            rank = stage.features.rank(self.gamma)
        else:

            def passes(rank: int) -> bool:
                return self._passes(stage.correct(rank), rung)

            rank = first_passing(passes, 1, stage.features.most)
        return rank if rank < stage.width else None

    def _threshold(self, plan: Plan, rung: Rung) -> float | None:
        """The largest of THRESHOLDS that passes; None if none does or no layer would be factored."""
        stage = self._stage(plan.cut)

        def passes(weakness: int) -> bool:
            weaker = replace(plan, threshold=THRESHOLDS[-1 - weakness])
            return self._passes(self._on_exploring(weaker), rung)

        weakness = first_passing(passes, 0, len(THRESHOLDS))
        if weakness == len(THRESHOLDS):
            return None
        threshold = THRESHOLDS[-1 - weakness]
        _, edits = stage.compressed(plan.rank, stage.ranks(threshold))
        layers = {own.module for own in edits if isinstance(own, Factor)} - {stage.head}
        return threshold if layers else None

    def _candidate(self, plan: Plan) -> Candidate:
        stage = self._stage(plan.cut)
        model, edits = stage.compressed(plan.rank, stage.ranks(plan.threshold))
        model = repaired(model, self.fit, self.runner, self.repair, self.on_progress)
        return Candidate(model, edits, plan)

    def _stage(self, cut: str | None) -> Stage:
        if cut in self._stages:
            return self._stages[cut]
        model, head, narrowed = self.model, self.head, self.narrowed
        made: tuple[Edit, ...] = ()
        if cut is not None:
            probed = next(own for own in self._probes() if own.layer.name == cut)
            model, edit = cut_at(self.model, probed, self.prober.grid, self.sample)
            made, head, narrowed = (edit,), "head", None
        stage = self._read(model, made, head, narrowed, self.method)
        if narrowed is not None and not self._narrows(stage):
            stage = replace(stage, narrowed=None)
        self._stages[cut] = stage
        return stage

    def _read(
        self,
        model: nn.Module,
        edits: tuple[Edit, ...],
        head: str,
        narrowed: str | None,
        method: Method,
    ) -> Stage:
        return read_stage(
            model, edits, head, self.runner, self.fit, self.explore, method,
            factored=self.factored, narrowed=narrowed, on_progress=self.on_progress,
        )  # fmt: skip

    def _narrows(self, stage: Stage) -> bool:
        """Whether the layer before the head can compute its features in another basis."""
        made, _ = stage.compressed(stage.features.most, {})
        with torch.no_grad():
            try:
                found = self.runner.logits(made, self.sample)
            except Exception:  # of any kind: another part of the network reads that layer
                return False
            expected = self.runner.logits(stage.model, self.sample)
        return bool((found - expected).norm() <= 1e-4 * expected.norm())

    def _correct(self, model: nn.Module, part: Part, what: str) -> Bool[Tensor, " n"]:
        self.on_progress(what, 0, 0)
        return self.runner.correct(model, part)

    def _on_exploring(self, plan: Plan) -> Bool[Tensor, " n"]:
        """Which exploring images the plan's network classifies correctly, before a repair."""
        if plan.threshold is None and plan.rank is not None:
            return self._stage(plan.cut).correct(plan.rank)
        if plan.threshold is None:
            return next(own.correct for own in self._probes() if own.layer.name == plan.cut)
        if plan not in self._factored:
            stage = self._stage(plan.cut)
            model, _ = stage.compressed(plan.rank, stage.ranks(plan.threshold))
            what = f"factors at {plan.threshold:g}"
            self._factored[plan] = self._correct(model, self.explore, what)
        return self._factored[plan]

    def _risk(self, plan: Plan) -> float:
        """p-value of the plan on the exploring images."""
        return self._p(self._on_exploring(plan), 1.0)

    def _passes(self, correct: Bool[Tensor, " n"], rung: Rung) -> bool:
        """Whether these correct predictions on the exploring images satisfy the rung."""
        return self._p(correct, rung.slack) <= rung.level

    def _p(self, correct: Bool[Tensor, " n"], slack: float) -> float:
        before = self._explored
        lost, won = int((before & ~correct).sum()), int((correct & ~before).sum())
        return loss_p_value(lost, won, len(before), min(0.9, slack * self.margin))


def first_passing(passes: Callable[[int], bool], low: int, high: int) -> int:
    """The least number in low..high-1 that passes, else `high`, by bisection.

    Every number above one that passes must pass too.
    """
    while low < high:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle + 1
    return low
