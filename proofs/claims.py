"""Claims, their checks, and the results of running them.

A module of this package that defines `CLAIM = Claim(__name__)` is a claim, and `load_claims` finds it.
Its checks are functions that return or yield `Outcome`s. The docstring of a check is the statement that
it checks. There are four kinds:

    @CLAIM.derivation
    def check() -> Iterator[Outcome]: ...              # symbolic, for all sizes that the statement names;
                                                       # one outcome per step, `step(text, holds)`
    @CLAIM.steps
    def check() -> Iterator[Outcome]: ...              # a derivation of steps of the proof on the page,
                                                       # which do not cover the statement
    @CLAIM.exhaustive(method="exact rationals")
    def check() -> Iterator[Outcome]: ...              # all cases of a finite range, which it names

    @CLAIM.sampled(method="ball arithmetic", instances=500)
    def check(random: Random) -> Outcome: ...          # one random instance

    @CLAIM.formal
    def check() -> Iterator[Outcome]: ...              # proofs checked by Coq, an outcome per theorem

Derivations that cover their statement and formal checks prove it. Other checks show that it held: in all
cases, on the instances drawn, or in the steps checked. Its general proof is on the claim's page, if there
is one.
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
from proofs.pages import proof_of

Method = Literal["symbolic", "exact rationals", "ball arithmetic", "Coq"]
Kind = Literal["derivation", "cases", "sampled", "formal"]
Verdict = Literal["proved", "held", "refuted", "open"]
PRECISIONS = (64, 128, 256, 512, 1024, 2048)
"""Precisions in bits, tried in turn until a ball decides the sign."""


class Outcome(NamedTuple):
    """Outcome of one instance, case or step."""

    holds: bool | None
    """None if the highest precision does not decide."""
    witness: str
    """Description of the instance, for inspection of counterexamples."""
    slack: float | None = None
    """Rounded margin of an inequality; None for other statements and open outcomes."""
    assumes: tuple[str, ...] = ()
    """Axioms that a formal proof rests on."""


def step(text: str, holds: object) -> Outcome:
    """Outcome of one step of a derivation."""
    return Outcome(bool(holds), text)


def nonnegative(slack: Callable[[], flint.arb], witness: object) -> Outcome:
    """Check slack() >= 0 in ball arithmetic, with growing precision until the sign is certain.

    A slack of exactly zero stays open unless its ball is exact, so equality cases need exact algebra.
    """
    return _decided(slack, witness, lambda ball: ball >= 0, lambda ball: ball < 0)


def positive(slack: Callable[[], flint.arb], witness: object) -> Outcome:
    """Check slack() > 0, for statements with a strict inequality, as `nonnegative` does for >= 0."""
    return _decided(slack, witness, lambda ball: ball > 0, lambda ball: ball <= 0)


def _decided(
    slack: Callable[[], flint.arb],
    witness: object,
    holds: Callable[[flint.arb], bool],
    fails: Callable[[flint.arb], bool],
) -> Outcome:
    for bits in PRECISIONS:
        with flint.ctx.workprec(bits):
            ball = slack()
            if holds(ball):
                return Outcome(True, str(witness), float(ball.lower()))
            if fails(ball):
                return Outcome(False, str(witness), float(ball.upper()))
    return Outcome(None, str(witness))


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """Conjunction of several statements about one instance: the worst outcome, with the least slack."""
    seen = list(outcomes)
    worst = min(seen, key=lambda outcome: (0, 2, 1)[(False, True, None).index(outcome.holds)])
    slacks = [outcome.slack for outcome in seen if outcome.slack is not None]
    return worst._replace(slack=min(slacks, default=None))


@dataclass(frozen=True)
class Check:
    """A statement and the method that checks it."""

    claim: str
    name: str
    """Name of its function."""
    statement: str
    kind: Kind
    method: Method
    instances: int | None
    """Default number of random instances; None for derivations and exhaustive checks."""
    outcomes: Callable[[int, int], Iterator[Outcome]]
    """Outcomes for a number of instances and a seed, which are ignored if `instances` is None."""
    covers: bool = False
    """Whether the outcomes together prove the statement."""


@dataclass(frozen=True)
class Result:
    """Summary of the outcomes of a check."""

    claim: str
    statement: str
    kind: Kind
    covers: bool
    """Whether a success proves the whole statement."""
    method: Method
    instances: int
    worst_slack: float | None
    verdict: Verdict
    """"proved" by a derivation that covers the statement or by Coq; "held" in all that was checked."""
    witness: str | None
    """The first counterexample or, if there is none, the first open instance."""
    assumes: tuple[str, ...] = ()
    """Axioms of formal proofs."""
    proof: str | None = None
    """Page with the general proof for readers, relative to the repository; None if there is none."""


Cases = Callable[[], Iterator[Outcome]]


class Claim:
    """A claim, named after its module, with its checks in order of definition."""

    def __init__(self, module: str) -> None:
        self.name = module.rpartition(".")[2].replace("_", "-")
        self.checks: list[Check] = []

    def derivation(self, steps: Cases) -> None:
        """Register a symbolic derivation of the statement."""
        self._add(steps, "derivation", "symbolic", None, lambda *_: steps(), covers=True)

    def steps(self, steps: Cases) -> None:
        """Register a symbolic derivation of steps of the proof, which do not cover the statement."""
        self._add(steps, "derivation", "symbolic", None, lambda *_: steps())

    def formal(self, theorems: Cases) -> None:
        """Register proofs that Coq checks."""
        self._add(theorems, "formal", "Coq", None, lambda *_: theorems(), covers=True)

    def exhaustive(self, *, method: Method) -> Callable[[Cases], None]:
        """Register a check of all cases."""

        def register(cases: Cases) -> None:
            self._add(cases, "cases", method, None, lambda *_: cases())

        return register

    def sampled(
        self, *, method: Method, instances: int
    ) -> Callable[[Callable[[Random], Outcome]], None]:
        """Register a check of random instances; the seed and the index determine an instance."""

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
        covers: bool = False,
    ) -> None:
        name = check.__name__
        statement = " ".join((check.__doc__ or "").split()).removesuffix(".")
        self.checks.append(
            Check(self.name, name, statement, kind, method, instances, outcomes, covers)
        )


def run_check(
    check: Check,
    instances: int | None = None,
    seed: int = 0,
    seen: Callable[[int], object] = int,
) -> Result:
    """Run a check up to the first counterexample.

    instances: number of instances of a sampled check [default: its own].
    seen: called with the count after each outcome.
    """
    count, slacks = 0, [math.inf]
    assumes: dict[str, None] = {}
    success: Verdict = "proved" if check.covers else "held"
    verdict, witness = success, None
    for outcome in check.outcomes(instances or check.instances or 0, seed):
        count += 1
        seen(count)
        assumes |= dict.fromkeys(outcome.assumes)
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
        check.claim,
        check.statement,
        check.kind,
        check.covers,
        check.method,
        count,
        worst,
        verdict,
        witness,
        tuple(assumes),
        f"proofs/formal/{check.name}.v" if check.claim == "formal" else proof_of(check.claim),
    )


def load_claims() -> dict[str, Claim]:
    """All claims of this package by name, in alphabetical order."""
    claims = {}
    for module in pkgutil.iter_modules(proofs.__path__):
        if not module.name.startswith("_"):
            found = getattr(importlib.import_module(f"proofs.{module.name}"), "CLAIM", None)
            if found:
                claims[found.name] = found
    return claims
