"""Coq accepts the formal proofs, and no false variant of them."""

import re

import pytest

from proofs import formal
from proofs.__main__ import Settings, choose
from proofs.claims import run_check

needs_coq = pytest.mark.skipif(formal.why_missing() is not None, reason=str(formal.why_missing()))

UNPROVED = re.compile(r"\b(Admitted|admit|Axiom|Parameter|Conjecture|Abort)\b")

FALSE = [
    ("proposition_3_1", "<= Num.sqrt (1 + r) - Num.sqrt (Num", "<= Num.sqrt r - Num.sqrt (Num"),
    ("proposition_3_1", "Num.max (n%:R^-1 - r) 0 <= a <= 1 + r.", "n%:R^-1 <= a <= 1 + r."),
    (
        "proposition_3_1",
        "Num.max (n%:R^-1 - r) 0 <= a <= 1 + r.",
        "Num.max (n%:R^-1 - r) 0 <= a <= 1.",
    ),
    ("equality_cases", "= a * \\sum_i x 0 i ^+ 2)", "<= a * \\sum_i x 0 i ^+ 2)"),
    ("equality_cases", "Hypothesis n_ge2 : (2 <= n)%N.", "Hypothesis n_ge2 : (1 <= n)%N."),
    ("equality_cases", "[/\\ (2 <= #|copies S k|)%N,", "[/\\ (3 <= #|copies S k|)%N,"),
    (
        "equality_cases",
        "forall i, overlap S i <= #|copies S k|%:R - 1].",
        "forall i, overlap S i <= #|copies S k|%:R].",
    ),
    ("proposition_3_2", "Hypothesis c_ge3 : (3 <= c)%nat.", "Hypothesis c_ge3 : (2 <= c)%nat."),
    (
        "proposition_3_2",
        "(y < c)%nat -> loss rho T y <= eps.",
        "(y < c)%nat -> loss rho T y <= eps / 2.",
    ),
    ("proposition_3_2", "Definition Delta : R := 1 - cos", "Definition Delta : R := 2 - cos"),
    (
        "diagonal",
        "1 - overlap i - sum n overlap / 2 <= d i.",
        "1 - overlap i - sum n overlap / 4 <= d i.",
    ),
    ("diagonal", "1 - overlap i - sum n overlap / 2 <= d i.", "1 - sum n overlap / 2 <= d i."),
    ("diagonal", "1 - (1 + INR n / 2) * r <= d i.", "1 - INR n / 2 * r <= d i."),
    (
        "logits_norm",
        "Theorem norm_le : norm_squared (W *m A) <= \\sum_(i < d) a i * b i.",
        "Theorem norm_le : norm_squared (W *m A) <= \\sum_(i < d) a i * b (n - i)%N.",
    ),
    (
        "logits_norm",
        "count. *)\nHypothesis a_descends : forall k, a k.+1 <= a k.",
        "count. *)\nHypothesis a_descends : forall k, a k <= a k.+1.",
    ),
    ("logits_norm", "Theorem aligned : V = U -> norm_squared", "Theorem aligned : norm_squared"),
    ("gradient_rank", "(\\rank gradient <= \\rank A)%N", "(\\rank gradient < \\rank A)%N"),
    ("gradient_rank", "(\\rank gradient <= \\rank A)%N", "(\\rank A <= \\rank gradient)%N"),
    ("gibbs", "F q - F p = T * KL q.", "F q - F p = KL q."),
    ("gibbs", "+ T * sum_f_R0", "- T * sum_f_R0"),
    ("gibbs", "Hypothesis T_pos : 0 < T.", "Hypothesis T_pos : T < 0."),
    ("two_factor_optimum", "minimum d : (c <= S d)%nat", "minimum d : (c <= S (S d))%nat"),
    ("two_factor_optimum", "  T * logit d W h k j i = margin", "  logit d W h k j i = margin"),
    ("two_factor_optimum", "p * ln p - (INR c - 1) * (tau", "p * ln p - INR c * (tau"),
    (
        "two_factor_optimum",
        "lower_bound_hot d W h : 1 / INR c <= tau",
        "lower_bound_hot d W h : 1 / (INR c + 1) <= tau",
    ),
]
"""File, a part of a statement or definition, and what makes it false."""


def test_assumptions_are_the_axioms_that_coq_prints() -> None:
    printed = (
        "Axioms:\nA.b : forall P, P\nlong\n  : nat ->\n    nat\nClosed under the global context\n"
    )
    assert formal.assumptions(printed) == [("A.b", "long"), ()]


def test_each_file_is_checked_and_prints_what_it_assumes() -> None:
    files = {path.stem for path in formal.FOLDER.glob("*.v")}
    assert files == {check.name for check in formal.CLAIM.checks}
    for name in files:
        source = (formal.FOLDER / f"{name}.v").read_text()
        assert formal.theorems(source)
        assert not UNPROVED.search(source)
        assert f"{name}.v" in (formal.FOLDER / "README.md").read_text()
    for path in formal.SHARED.glob("*.v"):
        assert not UNPROVED.search(path.read_text())


def test_without_coq_the_other_claims_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formal.shutil, "which", lambda name: None)
    assert "formal" not in {claim.name for claim in choose(Settings())}
    with pytest.raises(ValueError, match="apt-get install coq"):
        choose(Settings(claims=("formal",)))


@needs_coq
def test_a_file_that_coq_refuses_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formal, "compiled", lambda source: (False, "Error: no\n luck"))
    (result, *_) = map(run_check, formal.CLAIM.checks)
    assert result.verdict == "open"
    assert "no luck" in str(result.witness)


@needs_coq
def test_a_proof_that_takes_too_long_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formal, "TIMEOUT", 0.01)
    accepted, output = formal.compiled("Goal True. trivial. Qed.")
    assert not accepted
    assert "0.01 seconds" in output


@needs_coq
@pytest.mark.slow  # seconds of Coq for each
@pytest.mark.parametrize("check", formal.CLAIM.checks, ids=lambda check: check.name)
def test_coq_accepts_the_proofs(check: object) -> None:
    assert run_check(check).verdict == "proved"  # type: ignore[arg-type]


@needs_coq
@pytest.mark.slow
@pytest.mark.parametrize(("name", "true", "false"), FALSE)
def test_coq_refuses_false_variants(name: str, true: str, false: str) -> None:
    source = (formal.FOLDER / f"{name}.v").read_text()
    assert source.count(true) == 1
    accepted, output = formal.compiled(source.replace(true, false))
    assert not accepted
    assert "Error" in output
