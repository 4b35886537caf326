"""Bounds on the norm of W A for given singular values of W and A (equation 2 of the paper).

For W (c x d) and A (d x n) with singular values alpha_i and beta_i, descending and padded by zeros to d,

    sum_i (alpha_i beta_{d+1-i})^2 <= ||W A||_F^2 <= sum_i (alpha_i beta_i)^2.

The right side is attained exactly if, for all k with alpha_k > alpha_{k+1} and all l with
beta_l > beta_{l+1}, one of the spans of the top k right singular vectors of W and of the top l left
singular vectors of A contains the other.

For independent entries of W with mean 0 and variance sigma^2, E ||W A||_F^2 = sigma^2 c ||A||_F^2.

The top singular value of a product of L - 1 aligned factors is at least the (L - 1)-th power of the
smallest top singular value.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement, permutations, product
from random import Random

import sympy
from flint import arb, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, step
from proofs.exact import random_orthogonal, to_fmpq

CLAIM = Claim(__name__)


@CLAIM.exhaustive(method="symbolic")
def deficit() -> Iterator[Outcome]:
    """||W A||_F^2 = sum_ij a_i Q_ij b_j with a_i = alpha_i^2, b_j = beta_j^2, Q_ij = <v_i, u_j>^2 doubly
    stochastic, and sum_i a_i b_i - ||W A||_F^2 is
    sum_kl (a_k - a_{k+1}) (b_l - b_{l+1}) (min(k, l) - sum_{i<=k, j<=l} Q_ij), d = 2..5.
    """
    for d in range(2, 6):
        a, b = (list(sympy.symbols(f"{x}1:{d + 1}")) for x in "ab")
        free = sympy.Matrix(d - 1, d - 1, sympy.symbols(f"q1:{(d - 1) ** 2 + 1}"))
        Q = doubly_stochastic(free)
        mixed = sum(a[i] * Q[i, j] * b[j] for i in range(d) for j in range(d))
        aligned = sum(x * y for x, y in zip(a, b, strict=True))
        drops = [[x - y for x, y in zip(v, [*v[1:], 0], strict=True)] for v in (a, b)]
        total = sum(
            drops[0][k] * drops[1][m] * (min(k, m) + 1 - sum(Q[: k + 1, : m + 1]))
            for k in range(d) for m in range(d)
        )  # fmt: skip
        yield step(f"d = {d}: the deficit", sympy.expand(aligned - mixed - total) == 0)
    V, U = (sympy.Matrix(2, 2, sympy.symbols(f"{x}1:5")) for x in "vu")
    s, t = sympy.symbols("s1:3"), sympy.symbols("t1:3")
    W2, A2 = V * sympy.diag(*s) * V.T, U * sympy.diag(*t) * U.T
    overlaps = (V.T * U).applyfunc(lambda x: x**2)
    expected = sum(s[i] * overlaps[i, j] * t[j] for i in range(2) for j in range(2))
    yield step(
        "tr(W^T W A A^T) = sum_ij a_i <v_i, u_j>^2 b_j",
        sympy.expand((W2 * A2).trace() - expected) == 0,
    )


def doubly_stochastic(free: sympy.Matrix) -> sympy.Matrix:
    """Matrix with row and column sums 1 and the given upper left block."""
    m = free.rows
    rows = [[*free.row(i), 1 - sum(free.row(i))] for i in range(m)]
    last = [1 - sum(row[j] for row in rows) for j in range(m + 1)]
    return sympy.Matrix([*rows, last])


def norm_square(alpha: Sequence[Fraction], Q: fmpq_mat, beta: Sequence[Fraction]) -> fmpq:
    """||W A||_F^2 for W = diag(alpha) and A = Q diag(beta), which outer rotations do not change."""
    d = len(alpha)
    return sum(
        (to_fmpq(alpha[i] * beta[j]) ** 2 * Q[i, j] ** 2 for i in range(d) for j in range(d)),
        fmpq(0),
    )


def is_nested(alpha: Sequence[Fraction], Q: fmpq_mat, beta: Sequence[Fraction]) -> bool:
    """Whether the top spaces are nested: sum_{i<=k, j<=l} Q_ij^2 = min(k, l) for all drops k and l."""
    return all(
        sum((Q[i, j] ** 2 for i in range(k) for j in range(m)), fmpq(0)) == min(k, m)
        for k in drops(alpha) for m in drops(beta)
    )  # fmt: skip


def drops(values: Sequence[Fraction]) -> list[int]:
    """All k with values_k > values_{k+1}, for descending values followed by 0."""
    after = [*values[1:], Fraction(0)]
    return [k for k, (x, y) in enumerate(zip(values, after, strict=True), start=1) if x > y]


def statement_holds(
    alpha: Sequence[Fraction], Q: fmpq_mat, beta: Sequence[Fraction]
) -> tuple[bool, fmpq]:
    """Check both bounds, and equality on the right for nested spaces only; slack: of the upper bound."""
    norm = norm_square(alpha, Q, beta)
    upper, lower = (
        sum((to_fmpq(x * y) ** 2 for x, y in zip(alpha, values, strict=True)), fmpq(0))
        for values in (beta, beta[::-1])
    )
    holds = lower <= norm <= upper and (norm == upper) == is_nested(alpha, Q, beta)
    return holds, upper - norm


@CLAIM.sampled(method="exact rationals", instances=500)
def norm_of_a_product(random: Random) -> Outcome:
    """both bounds, with equality on the right exactly for nested spaces: d = 2..5, V_W^T U_A random,
    block diagonal or a signed permutation, spectra with ties and zeros.
    """
    d = random.randint(2, 5)
    alpha, beta = _random_spectrum(random, d), _random_spectrum(random, d)
    Q = _random_rotation(random, d)
    holds, slack = statement_holds(alpha, Q, beta)
    witness = f"alpha = {alpha}, beta = {beta}, V_W^T U_A = {Q}"
    return Outcome(holds, witness, float(arb(slack)))


def _random_spectrum(random: Random, d: int) -> list[Fraction]:
    values = random.choice([[0, 1], [0, 1, 2], range(10), [1, 10**3, 10**6]])
    return sorted((Fraction(random.choice(values), 3) for _ in range(d)), reverse=True)


def _random_rotation(random: Random, d: int) -> fmpq_mat:
    """Random block diagonal orthogonal matrix with blocks of size 1 (signs) to d, sometimes permuted."""
    Q, start = fmpq_mat(d, d), 0
    while start < d:
        size = random.randint(1, d - start)
        block = random_orthogonal(random, size)
        for i, j in product(range(size), repeat=2):
            Q[start + i, start + j] = block[i, j]
        start += size
    order = list(range(d))
    if random.random() < 0.3:
        random.shuffle(order)
    return fmpq_mat([[Q[order[i], j] for j in range(d)] for i in range(d)])


@CLAIM.exhaustive(method="exact rationals")
def all_signed_permutations() -> Iterator[Outcome]:
    """the same for V_W^T U_A any signed permutation, d = 2, 3, and all spectra with entries 0..2."""
    for d in (2, 3):
        spectra = [
            [Fraction(x) for x in reversed(values)]
            for values in combinations_with_replacement(range(3), d)
        ]
        for order, signs in product(permutations(range(d)), product((1, -1), repeat=d)):
            Q = fmpq_mat([[signs[i] * (order[i] == j) for j in range(d)] for i in range(d)])
            for alpha, beta in product(spectra, spectra):
                yield Outcome(statement_holds(alpha, Q, beta)[0], f"{alpha}, {Q}, {beta}")


@CLAIM.exhaustive(method="exact rationals")
def product_of_top_singular_values() -> Iterator[Outcome]:
    """a product of L - 1 aligned factors has sigma_1 >= (min_i sigma_1^i)^(L-1), with equality for equal
    sigma_1^i; the L-th power is a bound for all factors exactly if the minimum is <= 1: L = 2..5, values
    1/2, 1, 2, 3.
    """
    values = [fmpq(1, 2), fmpq(1), fmpq(2), fmpq(3)]
    for least in values:
        for L in range(2, 6):
            held = True
            for factors in product([x for x in values if x >= least], repeat=L - 1):
                top = fmpq(1)
                for x in factors:
                    top *= x
                equal = len(set(map(str, factors))) == 1
                low = min(factors) ** (L - 1)
                held &= min(factors) != least or top >= least**L
                yield Outcome(top >= low and (top == low) == equal, str(factors))
            yield Outcome(held == (least <= 1), f"L = {L}, least {least}")


@CLAIM.exhaustive(method="exact rationals")
def random_weights() -> Iterator[Outcome]:
    """E ||W A||_F^2 = sigma^2 c ||A||_F^2 over all W (c x d) with entries 3/2 times signs, c, d = 1..3,
    for A of full rank, of rank 1 and zero.
    """
    sigma = fmpq(3, 2)
    for c, d in product(range(1, 4), repeat=2):
        full = fmpq_mat(d, 2, [3 * k * k - 7 * k + 1 for k in range(2 * d)])
        first = fmpq_mat(d, 2, [k // 2 + 1 for k in range(2 * d)])
        for A in (full, first, 0 * full):
            squares = fmpq(0)
            for signs in product((1, -1), repeat=c * d):
                W = fmpq_mat(c, d, list(signs))
                squares += sum((x * x for x in (W * A).entries()), fmpq(0))
            mean = sigma**2 * squares / 2 ** (c * d)
            norm = sum((x * x for x in A.entries()), fmpq(0))
            yield Outcome(mean == sigma**2 * c * norm, f"c = {c}, A = {A}")
