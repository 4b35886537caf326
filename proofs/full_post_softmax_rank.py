"""The softmax of rank-1 logits has full exact rank.

Let M = a b^T with a in R^m, b in R^n, and S = softmax(s M) over columns, s != 0. Then

    rank S = min(number of distinct a_i, number of distinct b_j),

which is n if m = n and all entries are distinct, however close. If the a_i and b_j are distinct and
ascending and s > 0, every minor of S is positive (S is strictly totally positive). So the singular values
are distinct. For any order of the a_i and b_j, the sign of det S is sign(s)^{n(n-1)/2} times the signs of
the two permutations that sort them. Constants added to rows or columns of M do not affect this.

For logits of rank 2 with distinct rows and columns, S may be singular at some s or at every s.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, product
from math import factorial, prod
from random import Random

import sympy
from flint import arb, arb_mat, ctx, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, step
from proofs.exact import from_columns, gram, to_fmpq

CLAIM = Claim(__name__)

MOST_BITS = 2**16


def softmax_to_base(base: Fraction, M: Sequence[Sequence[int]]) -> fmpq_mat:
    """Softmax over columns of integer logits M at s = ln(base), exactly."""
    columns = [[base**x for x in column] for column in zip(*M, strict=True)]
    return from_columns([[x / sum(column) for x in column] for column in columns])


def outer(a: Sequence[int], b: Sequence[int]) -> list[list[int]]:
    """Rank-1 logits."""
    return [[x * y for y in b] for x in a]


def vandermonde(values: Sequence[fmpq]) -> fmpq:
    """Product of x_j - x_i over i < j."""
    return prod((y - x for x, y in combinations(values, 2)), start=fmpq(1))


def sign_of_determinant(logits: Sequence[Sequence[fmpq]]) -> int | None:
    """Sign of det softmax(logits); None if MOST_BITS do not decide it."""
    bits = 128
    while bits <= MOST_BITS:
        with ctx.workprec(bits):
            det = arb_mat([[arb(x).exp() for x in row] for row in logits]).det()
            if det > 0 or det < 0:
                return 1 if det > 0 else -1
        bits *= 2
    return None


@CLAIM.exhaustive(method="symbolic")
def induction() -> Iterator[Outcome]:
    """a sum of n exponentials has at most n - 1 real zeros, n = 2..5; the sign of det for small s,
    n = 2..4.
    """
    x = sympy.symbols("x", real=True)
    for n in (2, 3, 4, 5):
        a, c = (sympy.symbols(f"{name}1:{n + 1}", real=True) for name in "ac")
        f = sum(z * sympy.exp(y * x) for y, z in zip(a, c, strict=True))
        fewer = sum(
            z * (y - a[0]) * sympy.exp((y - a[0]) * x) for y, z in zip(a[1:], c[1:], strict=True)
        )
        yield step(
            f"(e^(-a_1 x) f)' has {n - 1} terms for f of {n}",
            sympy.simplify(sympy.diff(sympy.expand(sympy.exp(-a[0] * x) * f), x) - fewer) == 0,
        )
    for n in (2, 3, 4):
        a, b = (sympy.symbols(f"{name}1:{n + 1}") for name in "ab")
        terms = [
            (sign, sum(a[i] * b[j] for i, j in enumerate(order)))
            for order, sign in signed_permutations(n)
        ]
        power = n * (n - 1) // 2
        lower = all(sympy.expand(sum(sign * y**q for sign, y in terms)) == 0 for q in range(power))
        lead = sum(sign * y**power for sign, y in terms) / factorial(power)
        product_of_both = prod(
            (a[j] - a[i]) * (b[j] - b[i]) for i, j in combinations(range(n), 2)
        ) / prod(factorial(i) for i in range(n))
        yield step(
            f"n = {n}: det exp(s a b^T) = s^{power} V(a) V(b)/(0! .. {n - 1}!) + higher powers, V of "
            "Vandermonde",
            lower and sympy.expand(lead - product_of_both) == 0,
        )


def signed_permutations(n: int) -> list[tuple[tuple[int, ...], int]]:
    """All permutations of 0 .. n-1 with their signs."""
    orders = [order for order in product(range(n), repeat=n) if len(set(order)) == n]
    return [
        (order, prod(1 if i < j else -1 for i, j in combinations(order, 2))) for order in orders
    ]


@CLAIM.exhaustive(method="exact rationals")
def minors() -> Iterator[Outcome]:
    """every k x k minor of S is positive for s > 0 and has the sign (-1)^{k(k-1)/2} for s < 0: a, b
    ascending in -2..3, k = 1..6, s = +-ln 2.
    """
    for base, k in product((Fraction(2), Fraction(1, 2)), range(1, 7)):
        sign = 1 if base > 1 else (-1) ** (k * (k - 1) // 2)
        for a, b in product(combinations(range(-2, 4), k), repeat=2):
            det = softmax_to_base(base, outer(a, b)).det()
            yield Outcome(sign * det > 0, f"base {base}, a = {a}, b = {b}")


@CLAIM.sampled(method="ball arithmetic", instances=60)
def determinant(random: Random) -> Outcome:
    """det S != 0 with the stated sign: n = 2..30, |s| = 10^-6..100, entries spread out, 10^-6 apart, or
    mixed, in any order.
    """
    n = random.choice([2, 3, 4, 6, 8, 10, 15, 30])
    a, b = (random_distinct(random, n) for _ in range(2))
    s = random.choice([-1, 1]) * random.choice([fmpq(1, 10**6), fmpq(1), fmpq(100)])
    found = sign_of_determinant([[s * x * y for y in b] for x in a])
    expected = 1 if vandermonde(a) * vandermonde(b) > 0 else -1
    if s < 0:
        expected *= (-1) ** (n * (n - 1) // 2)
    return Outcome(None if found is None else found == expected, f"s = {s}, a = {a}, b = {b}")


def random_distinct(random: Random, n: int) -> list[fmpq]:
    """Distinct rationals in random order: spread over -1..1, close to 1, or both."""
    spread = [Fraction(x, 100) for x in random.sample(range(-100, 101), n)]
    near = [1 + Fraction(x, 10**6) for x in random.sample(range(1, 10 * n), n)]
    kind = random.choice(["spread", "near", "mixed"])
    part = {"spread": n, "near": 0, "mixed": n // 2}[kind]
    values = spread[:part] + near[part:]
    return [to_fmpq(x) for x in random.sample(values, n)]


@CLAIM.sampled(method="exact rationals", instances=300)
def rank_with_repeated_entries(random: Random) -> Outcome:
    """rank softmax(s (a b^T + u 1^T + 1 v^T)) = min(number of distinct a_i, number of distinct b_j):
    m, n = 1..8, s = ln of 2, 1/2, 3, 3/2, 101/100.
    """
    m, n = random.randint(1, 8), random.randint(1, 8)
    size = random.choice([1, 2, 5])
    a, b = ([random.randint(-size, size) for _ in range(count)] for count in (m, n))
    shift = random.choice([0, 3])
    u, v = ([random.randint(-shift, shift) for _ in range(count)] for count in (m, n))
    M = [[x * y + p + q for y, q in zip(b, v, strict=True)] for x, p in zip(a, u, strict=True)]
    base = random.choice([Fraction(x) for x in ("2", "1/2", "3", "3/2", "101/100")])
    rank = softmax_to_base(base, M).rank()
    return Outcome(rank == min(len(set(a)), len(set(b))), f"base {base}, a = {a}, b = {b}")


@CLAIM.sampled(method="exact rationals", instances=100)
def distinct_singular_values(random: Random) -> Outcome:
    """the singular values are distinct, as S^T S has a square-free characteristic polynomial: n = 2..6,
    s = +-ln 2.
    """
    n = random.randint(2, 6)
    a, b = (random.sample(range(-4, 5), n) for _ in range(2))
    base = random.choice([Fraction(2), Fraction(1, 2)])
    p = gram(softmax_to_base(base, outer(a, b))).charpoly()
    return Outcome(p.gcd(p.derivative()).degree() == 0, f"base {base}, a = {a}, b = {b}")


@CLAIM.derivation
def rank_two_may_fail() -> Iterator[Outcome]:
    """rank-2 logits with distinct rows and columns whose softmax is singular at every s or at one s."""
    x = sympy.symbols("x", positive=True)  # e^s
    sheared = sympy.Matrix([[0, 1], [1, 2]])
    yield step("(0 1; 1 2) has rank 2", sheared.rank() == 2)
    yield step("and det exp(s M) = 0 for all s", sheared.applyfunc(lambda z: x**z).det() == 0)
    M = sympy.Matrix([[2, 0, -3], [1, 0, -1], [0, 0, 0]])
    P = sympy.eye(3) - sympy.ones(3) / 3
    yield step(
        "(2 0 -3; 1 0 -1; 0 0 0) has rank 2, doubly centred too",
        M.rank() == 2 == (P * M * P).rank(),
    )
    det = sympy.factor(M.applyfunc(lambda z: x**z).det() * x**3)
    yield step(
        "and x^3 det exp(s M) = (x - 1)^2 (x^3 - x - 1), x = e^s",
        sympy.expand(det - (x - 1) ** 2 * (x**3 - x - 1)) == 0,
    )
    cubic = sympy.Poly(x**3 - x - 1, x)
    yield step(
        "which is 0 for s != 0 at one s alone, as x^3 - x - 1 has one real zero, x = 1.3247..",
        cubic.is_irreducible and cubic.count_roots() == 1 and cubic.count_roots(1, 2) == 1,
    )
