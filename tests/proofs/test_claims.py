"""The machinery of proofs: it must refute what is false and leave open what it cannot decide."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from pkgutil import resolve_name
from random import Random
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from flint import arb, fmpq_mat

from proofs import __main__ as program
from proofs.claims import (
    Claim,
    Outcome,
    combine,
    load_claims,
    nonnegative,
    positive,
    run_check,
    step,
)
from proofs.exact import (
    eigenvalues,
    in_order,
    probability_matrices,
    random_probability_matrix,
    singular_values,
)
from tests.conftest import ROOT, assert_one_line_error

Command = Callable[..., CompletedProcess[str]]
CLAIMS = {name: claim for name, claim in load_claims().items() if name != "formal"}
"""All but those that Coq checks (`test_formal.py`)."""
CHECKS = {f"{c.claim} {c.name}": c for claim in CLAIMS.values() for c in claim.checks}
LONG = {
    "circle-spectrum bessel_ratios": 6,
    "full-post-softmax-rank induction": 3,
    "full-post-softmax-rank minors": 500,
    "logits-norm all_signed_permutations": 600,
    "mode-dynamics gradient_at_zero": 10,
    "phase-changes winners_of_ten": 2,
    "proposition-3-1 assignment_matrices": 300,
    "proposition-3-1 equality_cases": 1000,
    "rank-from-norms slope_of_the_norm": 3,
    "rank-two bias_ranks": 80,
    "rank-two rank_one_signs": 600,
    "refined-gap equality_from_below": 1000,
}
"""Checks of more than a quarter of a second, with the number of first outcomes that take a part of it."""
WRONG: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "circle-loss bounds": ("circle_loss", lambda loss: 2 * loss),
    "circle-spectrum bessel_ratios": ("eigenvalues_by_bessel", lambda v: [2 * x for x in v]),
    "extreme-singular-values ovals": ("cassini", lambda bound: bound / 2),
    "full-post-softmax-rank determinant": ("sign_of_determinant", lambda sign: -sign),
    "gibbs hot_distillation": ("softmax", lambda p: [x * x for x in p]),
    "gradient-rank bound": ("dimension_of_meet", lambda dimension: dimension + 1),
    "kernel-limit near_the_kernel": ("distance_bound", lambda bound: bound / 20),
    "linear-heads ranks_of_clusters": ("lie_on_a_sphere", lambda sphere: not sphere),
    "logits-norm norm_of_a_product": ("is_nested", lambda nested: not nested),
    "loss-needs-norm least_loss_for_a_norm": ("least_cross_entropy", lambda loss: 2 * loss),
    "merging-classes merged_is_lower": ("Problem.relaxed", lambda value: -value),
    "mode-dynamics small_logits": ("largest_gap", lambda gap: gap - 20),
    "mse-needs-norm least_loss_for_a_norm": ("least_mse", lambda loss: 2 * loss),
    "phase-changes winners_of_four": ("least", lambda objective: objective + 1),
    "proposition-3-1 bound": ("upper_bound", lambda bound: bound / 2),
    "rank-norm-temperature drop_out": ("excess", lambda value: value - 1),
    "rank-from-norms norm_grows_with_scale": ("slope", lambda slope: -slope),
    "rank-from-norms stable_rank": ("numerical_rank", lambda rank: rank + 1),
    "rank-two rank_one_loss": ("least_rank_one_loss", lambda loss: 2 * loss),
    "refined-gap from_above": ("floor_in_r", lambda bound: bound + 1),
    "singular-value-orders orders_of_positive_logits": ("polynomials", lambda number: number + 1),
    "small-scale sandwich": ("spread", lambda spread: spread / 2),
    "small-overlaps smallest": ("least_square", lambda bound: bound + 1),
    "structures crossover_values": ("crossover", lambda decay: decay + 1),
    "temperature-equivalence linear_heads": ("largest_difference", lambda x: x + 1),
    "two-factor-optimum value_is_attained": ("Model.objective", lambda value: value + 1),
}
"""A check of each claim, a function it uses, and a change of its value that refutes the statement."""
STRICT = {
    "circle-loss bounds", "circle-spectrum order", "merging-classes merged_is_lower",
    "merging-classes merged_is_no_minimum", "linear-heads ratios_of_margins_rise",
    "phase-changes winners_of_four", "proposition-3-1 softmax_is_strict",
    "rank-from-norms norm_grows_with_scale",
    "rank-two rank_one_loss", "small-overlaps two_columns", "small-scale critical_scales",
    "small-scale least_constant",
    "structures no_factorisation_costs_less",
    "temperature-equivalence every_change_is_needed", "two-factor-optimum nothing_is_lower",
}  # fmt: skip
"""Checks of strict inequalities in balls."""


def test_every_claim_has_a_readable_proof_and_statements() -> None:
    claims = CLAIMS
    modules = {path.stem.replace("_", "-") for path in (ROOT / "proofs").glob("[a-z]*.md")}
    assert modules == set(claims)
    for claim in claims.values():
        assert claim.checks
        assert all(check.statement for check in claim.checks)


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_succeeds(name: str) -> None:
    check = CHECKS[name]
    most = LONG.get(name)
    start = replace(check, outcomes=lambda *drawn: islice(check.outcomes(*drawn), most))
    result = run_check(start, instances=min(check.instances or 5, 5), seed=1)
    assert result.verdict == ("proved" if check.covers else "held"), result


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_long_checks_succeed_to_their_end(name: str) -> None:
    result = run_check(CHECKS[name])
    assert result.verdict == "held", result
    assert result.instances > LONG[name]


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_number_is_refuted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, change = WRONG[name]
    module = f"proofs.{CHECKS[name].claim.replace('-', '_')}"
    right = resolve_name(f"{module}:{path}")
    monkeypatch.setattr(
        f"{module}.{path}", lambda *arguments, **named: change(right(*arguments, **named))
    )
    outcomes = [outcome.holds for outcome in islice(CHECKS[name].outcomes(12, 0), 12)]
    assert outcomes.count(False) >= len(outcomes) / 4


def test_a_wrong_number_is_tried_in_every_claim() -> None:
    assert {CHECKS[name].claim for name in WRONG} == set(CLAIMS)


def test_nonnegative_decides_by_raising_the_precision() -> None:
    tiny = Fraction(1, 10**60)
    outcome = nonnegative(
        lambda: arb(2).sqrt() ** 2 - 2 + arb(tiny.numerator) / tiny.denominator, ""
    )
    assert outcome.holds
    assert outcome.slack == pytest.approx(1e-60)
    assert nonnegative(lambda: arb(-1), "here") == Outcome(False, "here", -1.0)
    assert nonnegative(lambda: arb(2).sqrt() ** 2 - 2, "here") == Outcome(None, "here")
    assert nonnegative(arb.nan, "here") == Outcome(None, "here")


def test_a_strict_inequality_does_not_hold_with_equality() -> None:
    assert nonnegative(lambda: arb(0), "here").holds
    assert positive(lambda: arb(0), "here") == Outcome(False, "here", 0.0)
    assert positive(lambda: arb(2).sqrt() ** 2 - 2, "here").holds is None
    assert positive(lambda: arb(2).sqrt() - 1, "here").holds


@pytest.mark.parametrize("name", sorted(STRICT))
def test_strict_statements_are_certified_as_strict(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weak(slack: object, witness: object) -> Outcome:
        raise AssertionError("certified by >= 0")

    module = f"proofs.{CHECKS[name].claim.replace('-', '_')}"
    monkeypatch.setattr(f"{module}.nonnegative", weak, raising=False)
    assert [outcome.holds for outcome in islice(CHECKS[name].outcomes(1, 0), 1)] == [True]


def test_combine_takes_the_worst() -> None:
    good, bad, unknown = Outcome(True, "a", 2.0), Outcome(False, "b", -1.0), Outcome(None, "c")
    assert combine([good, unknown]) == Outcome(None, "c", 2.0)
    assert combine([unknown, bad, good]) == Outcome(False, "b", -1.0)


def test_results_report_slack_counterexample_and_doubt() -> None:
    claim = Claim("somewhere.a_false_claim")

    @claim.sampled(method="exact rationals", instances=50)
    def small(random: Random) -> Outcome:
        """x < 0.9."""
        x = random.random()
        return Outcome(x < 0.9, str(x), 0.9 - x)

    @claim.derivation
    def steps() -> Iterator[Outcome]:
        """one equals one."""
        yield step("1 = 1", True)

    @claim.exhaustive(method="ball arithmetic")
    def doubtful() -> Iterator[Outcome]:
        """nobody knows."""
        yield Outcome(None, "this one")
        yield Outcome(True, "that one")

    refuted, proved, doubt = (run_check(check) for check in claim.checks)
    assert claim.name == "a-false-claim"
    assert refuted.statement == "x < 0.9"
    assert refuted.verdict == "refuted"
    assert float(refuted.witness or 0) >= 0.9
    assert refuted.worst_slack is not None
    assert refuted.worst_slack < 0
    assert refuted == run_check(claim.checks[0])
    assert refuted != run_check(claim.checks[0], seed=5)
    assert (proved.verdict, proved.instances, proved.worst_slack) == ("proved", 1, None)
    assert [result.kind for result in (refuted, proved, doubt)] == [
        "sampled",
        "derivation",
        "cases",
    ]
    assert (doubt.verdict, doubt.instances, doubt.witness) == ("open", 2, "this one")


def test_only_derivations_of_the_statement_prove() -> None:
    claim = Claim("wide")

    def one() -> Iterator[Outcome]:
        """something."""
        yield step("1 = 1", True)

    claim.derivation(one)
    claim.steps(one)
    claim.exhaustive(method="symbolic")(one)
    claim.formal(one)
    claim.sampled(method="exact rationals", instances=1)(lambda random: Outcome(True, ""))
    results = [run_check(check) for check in claim.checks]
    assert [result.verdict for result in results] == ["proved", "held", "held", "proved", "held"]
    assert [result.kind for result in results] == [
        "derivation", "derivation", "cases", "formal", "sampled",
    ]  # fmt: skip
    assert [program.kind_of(result) for result in results][:2] == ["derivation", "steps"]
    assert {result.proof for result in results} == {None}


def test_a_check_without_instances_proves_nothing() -> None:
    claim = Claim("empty")

    @claim.exhaustive(method="exact rationals")
    def nothing() -> Iterator[Outcome]:
        """all elements of the empty set."""
        yield from ()

    assert run_check(claim.checks[0]).verdict == "open"


def test_eigenvalues_hold_the_true_ones_with_multiplicity() -> None:
    matrix = fmpq_mat(3, 3, [2, 1, 1, 1, 2, 1, 1, 1, 2])
    assert [float(v.mid()) for v in eigenvalues(matrix)] == [1, 1, 4]


@pytest.mark.parametrize("seed", range(5))
def test_singular_values_agree_with_numpy(seed: int) -> None:
    S = random_probability_matrix(Random(seed), 5, 5)
    reference = np.linalg.svd([[float(x.p) / float(x.q) for x in row] for row in S.table()])[1]
    ours = [float(value.mid()) for value in singular_values(S)]
    np.testing.assert_allclose(ours, reference, atol=1e-7)


def test_order_statistics_of_overlapping_balls() -> None:
    wide, narrow = arb(1, 0.5), arb(1, 0.1)
    low, high = in_order([wide, narrow])
    assert low.contains(arb(0.5))
    assert low.contains(arb(1.1))
    assert high.contains(arb(0.9))
    assert high.contains(arb(1.5))


def test_random_matrices_have_probability_columns() -> None:
    for seed in range(50):
        S = random_probability_matrix(Random(seed), 4, 3)
        columns = S.transpose().table()
        assert all(sum(column) == 1 and min(column) >= 0 for column in columns)


def test_all_probability_matrices_of_a_grid_by_hand() -> None:
    one, half, other = [Fraction(0), Fraction(1)], [Fraction(1, 2)] * 2, [Fraction(1), Fraction(0)]
    expected = [
        (one, one), (one, half), (one, other), (half, half), (half, other), (other, other),
    ]  # fmt: skip
    assert list(probability_matrices(2, 2)) == expected


def test_command_prints_a_table_and_writes_the_results(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    result = command("proofs", "temperature-equivalence", "--instances", "3", "--out", out)
    assert result.returncode == 0, result.stderr
    assert "temperature-equivalence" in result.stdout
    results = json.loads(out.read_text())
    assert {r["kind"] for r in results} == {"derivation", "cases", "sampled"}
    assert {(r["covers"], r["verdict"]) for r in results} == {(True, "proved"), (False, "held")}
    assert {r["proof"] for r in results} == {"proofs/temperature_equivalence.md"}
    assert 3 in {r["instances"] for r in results}


def test_a_refuted_claim_is_status_one_with_its_counterexample(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    claim = Claim("wishful")

    @claim.exhaustive(method="exact rationals")
    def all_are_small() -> Iterator[Outcome]:
        """all numbers below four are below three."""
        for number in range(4):
            yield Outcome(number < 3, f"the number {number}")

    monkeypatch.setattr(program, "load_claims", lambda: {claim.name: claim})
    with pytest.raises(SystemExit) as stop:
        program.run(program.Settings())
    assert stop.value.code == 1
    printed = capsys.readouterr().out
    assert "refuted" in printed
    assert "the number 3" in printed
    assert "0 proved" in printed


@pytest.mark.parametrize(
    ("names", "words"),
    [((), ["--explain", "--help"]), (("small-scal",), ["small-scale"]), (("xyz",), ["--help"])],
)
def test_explain_needs_known_names(names: tuple[str, ...], words: list[str]) -> None:
    with pytest.raises(ValueError, match=".*".join(words)):
        program.run(program.Settings(claims=names, explain=True))
    unused = program.Settings(claims=names, explain=True).unused()
    assert unused.keys() == {"instances", "seed", "out"}
    assert not program.Settings().unused()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["propositon-31"], ["propositon-31", "proposition-3-1"]),
        (["--instances", "0"], ["instances is 0"]),
        (["--out", "/"], ["--out /", "file"]),
        (["--out", "/dev/null/results.json"], ["--out", "/dev/null "]),
    ],
)
def test_bad_input_is_one_line(command: Command, arguments: list[str], words: list[str]) -> None:
    assert_one_line_error(command("proofs", *arguments), *words)
