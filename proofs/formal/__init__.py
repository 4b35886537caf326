"""Statements whose proofs Coq has checked, down to the axioms that each assumes."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from proofs.claims import Claim, Outcome

CLAIM = Claim(__name__)

FOLDER = Path(__file__).parent
SHARED = FOLDER / "shared"
"""Lemmas that files take with `Load`."""
TIMEOUT = 300
"""Seconds for one file."""

INSTALL = (
    "install Coq 8.16 and mathcomp 1.15: apt-get install coq libcoq-mathcomp (Debian, Ubuntu), or opam "
    "install coq.8.16.1 coq-mathcomp-algebra.1.15.0"
)


def why_missing() -> str | None:
    """Reason why the proofs cannot be checked here, with the remedy; None if they can."""
    if shutil.which("coqc") is None:
        return f"coqc is not installed; {INSTALL}"
    return None


def theorems(source: str) -> list[str]:
    """Theorems of a file whose assumptions it prints."""
    return re.findall(r"^Print Assumptions (\w+)\.", source, re.M)


def assumptions(output: str) -> list[tuple[str, ...]]:
    """Names of the axioms in each answer of `Print Assumptions`; empty for a proof without axioms."""
    found: list[tuple[str, ...]] = []
    for line in output.splitlines():
        if line.startswith(("Closed under the global context", "Axioms:")):
            found.append(())
        elif found and line and not line[0].isspace():
            found[-1] += (line.split()[0],)
    return found


def compiled(source: str) -> tuple[bool, str]:
    """Whether Coq accepts a file, and what it prints; errors are the end of that."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file.v").write_text(source)
        try:
            done = subprocess.run(
                ["coqc", "-q", "-R", str(SHARED), "", "file.v"],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, f"Error: coqc was stopped after {TIMEOUT} seconds"
    return done.returncode == 0, done.stdout + done.stderr


def outcomes(name: str) -> Iterator[Outcome]:
    """One outcome for each theorem of a file, or an open one with Coq's message."""
    source = (FOLDER / f"{name}.v").read_text()
    accepted, output = compiled(source)
    if not accepted:
        yield Outcome(None, f"{name}.v: {' '.join(output.split())[-200:]}")
        return
    for theorem, axioms in zip(theorems(source), assumptions(output), strict=True):
        yield Outcome(True, theorem, assumes=axioms)


@CLAIM.formal
def proposition_3_1() -> Iterator[Outcome]:
    """Proposition 3.1 of the paper: 0 <= sigma_1 - sigma_n <= sqrt(1 + r) - sqrt([1/n - r]_+)."""
    yield from outcomes("proposition_3_1")


@CLAIM.formal
def equality_cases() -> Iterator[Outcome]:
    """In proposition 3.1, sigma_1 = sigma_n exactly for permutation matrices; for n >= 2, the right
    side is attained exactly if m >= 2 columns are equal to one e_k, all others are 0 in row k, and
    r = m - 1.
    """
    yield from outcomes("equality_cases")


@CLAIM.formal
def proposition_3_2() -> Iterator[Outcome]:
    """Proposition 3.2 of the paper: circle logits of rank exactly 2 reach any loss in (0, ln c) with
    accuracy 1, and logits of rank 1 never classify three classes or more.
    """
    yield from outcomes("proposition_3_2")


@CLAIM.formal
def diagonal() -> Iterator[Outcome]:
    """d_i >= 1 - R_i - (1/2) sum_j R_j >= 1 - (1 + n/2) r for probability vectors as columns."""
    yield from outcomes("diagonal")


@CLAIM.formal
def logits_norm() -> Iterator[Outcome]:
    """Equation 2 of the paper: sum_i alpha_i^2 beta_{d+1-i}^2 <= ||W A||_F^2 = sum_ij alpha_i^2
    <v_i, u_j>^2 beta_j^2 <= sum_i alpha_i^2 beta_i^2, with equality on the right if v_i = u_i for all i.
    """
    yield from outcomes("logits_norm")


@CLAIM.formal
def gradient_rank() -> Iterator[Outcome]:
    """Equation 3 of the paper: rank(dL/dW) <= rank(A), and <= rank(dL/dZ), for Z = W A."""
    yield from outcomes("gradient_rank")


@CLAIM.formal
def gibbs() -> Iterator[Outcome]:
    """The softmax alone minimises the free energy: F(q) - F(p) = T KL(q || p) >= 0, and 0 for q = p
    alone; F(p) = -T ln Z.
    """
    yield from outcomes("gibbs")


@CLAIM.formal
def two_factor_optimum() -> Iterator[Outcome]:
    """Cross-entropy of W H / T with decay of both factors, tau = T sqrt(N lw lh) and p = 1 - (c - 1) tau:
    if tau < 1/c, it is at least -p ln p - (c - 1) tau ln tau, which is attained for d >= c - 1, and
    there wrong classes have probability tau and the logits of class y are T ln(p/tau) (e_y - 1/c); if
    tau >= 1/c, it is at least ln c, which is attained at W = H = 0 alone.
    """
    yield from outcomes("two_factor_optimum")
