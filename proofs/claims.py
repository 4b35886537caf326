"""What a claim is, how its checks run, and what they report.

A module of this package that defines `CLAIM = Claim(__name__)` is a claim: `load_claims` finds it.
Its checks are functions that return `Outcome`s. The docstring of each is the statement that it checks.
There are three kinds:

    @CLAIM.derivation
    def check() -> Iterator[Outcome]: ...              # symbolic, for all sizes that the statement names;
                                                       # one outcome per step, `step(text, holds)`
    @CLAIM.exhaustive(method="exact rationals")
    def check() -> Iterator[Outcome]: ...              # every case of a finite range, which it names

    @CLAIM.sampled(method="ball arithmetic", instances=500)
    def check(random: Random) -> Outcome: ...          # one random instance

Derivations and exhaustive checks prove their statements; a sampled check shows that its statement held on
the instances drawn, each certified.
"""

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

import flint

import proofs

Method = Literal["symbolic", "exact rationals", "ball arithmetic"]
Kind = Literal["derivation", "cases", "sampled"]
Verdict = Literal["proved", "held", "refuted", "open"]
PRECISIONS = (64, 128, 256, 512, 1024, 2048)
"""Bits tried in turn until a ball leaves no doubt."""


class Outcome(NamedTuple):
    """What one instance, case or step showed."""

    holds: bool | None
    """None where the highest precision still left it open."""
    witness: str
    """The instance, so that a counterexample can be looked at."""
    slack: float | None = None
    """By how much an inequality holds, rounded; None for equalities, yes or no, and open outcomes."""


def step(text: str, holds: object) -> Outcome:
    """One step of a derivation."""
    return Outcome(bool(holds), text)


def nonnegative(slack: Callable[[], flint.arb], witness: object) -> Outcome:
    """Whether slack() >= 0, evaluated in balls of growing precision until the sign is certain.

    A slack of exactly zero stays open unless its ball is exact: equality cases need exact algebra.
    """
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            ball = slack()
            if ball >= 0:
                return Outcome(True, str(witness), float(ball.lower()))
            if ball < 0:
                return Outcome(False, str(witness), float(ball.upper()))
    return Outcome(None, str(witness))


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """All of several statements about one instance: the worst of them, with the least slack."""
    seen = list(outcomes)
    worst = min(seen, key=lambda outcome: (0, 2, 1)[(False, True, None).index(outcome.holds)])
    slacks = [outcome.slack for outcome in seen if outcome.slack is not None]
    return worst._replace(slack=min(slacks, default=None))


@dataclass(frozen=True)
class Check:
    """One statement with the way to check it."""

    claim: str
    statement: str
    kind: Kind
    method: Method
    instances: int | None
    """Default number of random instances; None for derivations and exhaustive checks."""
    outcomes: Callable[[int, int], Iterator[Outcome]]
    """From a number of instances and a seed; both are ignored where instances is None."""


@dataclass(frozen=True)
class Result:
    """What a check's outcomes amount to."""

    claim: str
    statement: str
    kind: Kind
    method: Method
    instances: int
    worst_slack: float | None
    verdict: Verdict
    """proved: by a derivation, or for all cases named; held: on all instances drawn, if sampled."""
    witness: str | None
    """The first counterexample, or the first instance left open."""


Cases = Callable[[], Iterator[Outcome]]


class Claim:
    """A claim, named after the module that states it, and its checks in order of definition."""

    def __init__(self, module: str) -> None:
        self.name = module.rpartition(".")[2].replace("_", "-")
        self.checks: list[Check] = []

    def derivation(self, steps: Cases) -> None:
        """Register a symbolic derivation."""
        self._add(steps, "derivation", "symbolic", None, lambda instances, seed: steps())

    def exhaustive(self, *, method: Method) -> Callable[[Cases], None]:
        """Register a check that goes through every case."""

        def register(cases: Cases) -> None:
            self._add(cases, "cases", method, None, lambda instances, seed: cases())

        return register

    def sampled(
        self, *, method: Method, instances: int
    ) -> Callable[[Callable[[Random], Outcome]], None]:
        """Register a check of random instances; instance i of a seed is the same in every run."""

        def register(instance: Callable[[Random], Outcome]) -> None:
            def outcomes(instances: int, seed: int) -> Iterator[Outcome]:
                for i in range(instances):
                    yield instance(Random(f"{self.name} {instance.__name__} {seed} {i}"))

            self._add(instance, "sampled", method, instances, outcomes)

        return register

    def _add(
        self,
        check: Callable[..., object],
        kind: Kind,
        method: Method,
        instances: int | None,
        outcomes: Callable[[int, int], Iterator[Outcome]],
    ) -> None:
        statement = " ".join((check.__doc__ or "").split()).removesuffix(".")
        self.checks.append(Check(self.name, statement, kind, method, instances, outcomes))


def run_check(
    check: Check,
    instances: int | None = None,
    seed: int = 0,
    seen: Callable[[int], object] = int,
) -> Result:
    """Check all outcomes up to the first counterexample.

    instances: overrides the default of a sampled check; seen: called with the count after each.
    """
    count, slacks = 0, [math.inf]
    success: Verdict = "held" if check.kind == "sampled" else "proved"
    verdict, witness = success, None
    for outcome in check.outcomes(instances or check.instances or 0, seed):
        count += 1
        seen(count)
        if outcome.slack is not None:
            slacks.append(outcome.slack)
        if outcome.holds is None and verdict == success:
            verdict, witness = "open", outcome.witness
        if outcome.holds is False:
            verdict, witness = "refuted", outcome.witness
            break
    if not count:
        verdict, witness = "open", "no instance was checked"
    worst = None if len(slacks) == 1 else min(slacks)
    return Result(
        check.claim, check.statement, check.kind, check.method, count, worst, verdict, witness
    )


def load_claims() -> dict[str, Claim]:
    """Every claim of this package, by name, in alphabetical order."""
    claims = {}
    for module in pkgutil.iter_modules(proofs.__path__):
        if not module.name.startswith("_"):
            found = getattr(importlib.import_module(f"proofs.{module.name}"), "CLAIM", None)
            if found:
                claims[found.name] = found
    return claims
