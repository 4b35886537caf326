"""Exact rational matrices, their singular values as balls, and random instances.

fmpq and fmpq_mat are exact rationals. An arb is a real interval (ball) that contains the value.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations_with_replacement, pairwise, product
from random import Random
from typing import Any, TypeVar

from flint import acb_mat, arb, arb_mat, fmpq, fmpq_mat, fmpq_poly

Matrix = TypeVar("Matrix", fmpq_mat, arb_mat)


def to_fmpq(value: Fraction | int) -> fmpq:
    """Convert a Python rational to flint."""
    return fmpq(value.numerator, value.denominator)


def from_columns(columns: Sequence[Sequence[Fraction | int]]) -> fmpq_mat:
    """Matrix with the given columns."""
    rows = list(zip(*columns, strict=True))
    return fmpq_mat(len(rows), len(columns), [to_fmpq(value) for row in rows for value in row])


def identity(n: int) -> fmpq_mat:
    """Identity matrix."""
    return diagonal([fmpq(1)] * n)


def diagonal(values: Sequence[fmpq]) -> fmpq_mat:
    """Diagonal matrix diag(values)."""
    n = len(values)
    return fmpq_mat(n, n, [values[i] if i == j else 0 for i in range(n) for j in range(n)])


def probability_matrices(n: int, parts: int) -> Iterator[tuple[list[Fraction], ...]]:
    """Columns of all n x n probability matrices with entries in multiples of 1/parts, up to order."""
    grid = [
        [Fraction(count, parts) for count in counts]
        for counts in product(range(parts + 1), repeat=n)
        if sum(counts) == parts
    ]
    return combinations_with_replacement(grid, n)


def random_probability_vector(random: Random, length: int) -> list[Fraction]:
    """Random probability vector: one-hot, sparse, peaked, nearly uniform or dense."""
    kind = random.choice(["one-hot", "sparse", "peaked", "uniform", "dense"])
    if kind == "one-hot":
        weights = [0] * length
    elif kind == "sparse":
        weights = [random.choice([0, 0, random.randint(1, 20)]) for _ in range(length)]
    elif kind == "peaked":
        weights = [random.randint(0, 3) for _ in range(length)]
        weights[random.randrange(length)] = random.choice([10**2, 10**4, 10**8])
    elif kind == "uniform":
        weights = [10**4 + random.randint(-10, 10) for _ in range(length)]
    else:
        weights = [random.randint(1, 100) for _ in range(length)]
    if not any(weights):
        weights[random.randrange(length)] = 1
    return [Fraction(weight, sum(weights)) for weight in weights]


def random_probability_matrix(random: Random, rows: int, columns: int) -> fmpq_mat:
    """Random matrix of probability columns, some of them equal or nearly equal."""
    vectors = [random_probability_vector(random, rows) for _ in range(columns)]
    for i in range(1, columns):
        if random.random() < 0.2:
            mix, other = Fraction(random.choice([1, 1, 99]), random.choice([1, 100])), vectors[0]
            if mix <= 1:
                vectors[i] = [
                    mix * a + (1 - mix) * b for a, b in zip(other, vectors[i], strict=True)
                ]
    return from_columns(vectors)


def gram(S: Matrix) -> Matrix:
    """Gram matrix G = S^T S."""
    return S.transpose() * S


def eigenvalues(symmetric: fmpq_mat | arb_mat) -> list[arb]:
    """All eigenvalues of a symmetric matrix, ascending, as balls at the current precision.

    For an exact matrix they are the roots of the characteristic polynomial, isolated by flint, with
    repeated roots from its square-free factors. For a matrix of balls they are certified by flint, or
    NaN (neither >= 0 nor < 0) if the precision does not isolate them.
    """
    if isinstance(symmetric, fmpq_mat):
        return real_roots(symmetric.charpoly())
    try:
        return in_order([x.real for x in acb_mat(symmetric).eig(multiple=True)])
    except ValueError:
        return [arb.nan()] * symmetric.nrows()


def real_roots(p: fmpq_poly) -> list[arb]:
    """Roots, ascending, of a polynomial with only real roots."""
    roots: Any = p.numer().complex_roots()  # the stub declares another type
    return in_order([arb(getattr(x, "real", x)) for x, count in roots for _ in range(count)])


def in_order(balls: Sequence[arb]) -> list[arb]:
    """Balls of the order statistics, ascending; valid even if the given balls overlap."""
    lower = sorted(ball.lower() for ball in balls)
    upper = sorted(ball.upper() for ball in balls)
    return [low.union(high) for low, high in zip(lower, upper, strict=True)]


def singular_values(S: Matrix) -> list[arb]:
    """All singular values of a matrix with rows >= columns, descending, as balls."""
    return [square_root(value) for value in reversed(eigenvalues(gram(S)))]


def square_root(value: arb) -> arb:
    """Square root of a number >= 0 whose ball may extend below 0."""
    return value.nonnegative_part().sqrt()


def softmax_columns(logits: Sequence[Sequence[fmpq | arb]]) -> arb_mat:
    """Softmax of each column of the logits, which are given as rows, in balls."""
    exponentials = [[arb(x).exp() for x in row] for row in logits]
    sums = [sum(column, arb(0)) for column in zip(*exponentials, strict=True)]
    return arb_mat([[x / t for x, t in zip(row, sums, strict=True)] for row in exponentials])


def shifted(symmetric: fmpq_mat, shift: fmpq) -> fmpq_mat:
    """Shifted matrix X - shift I."""
    return symmetric - diagonal([shift] * symmetric.nrows())


def inertia(symmetric: fmpq_mat) -> tuple[int, int, int]:
    """Exact numbers of negative, zero and positive eigenvalues.

    Descartes' rule of signs is exact for polynomials with only real roots. Whether a rational bounds an
    eigenvalue is therefore decided with certainty, including equality.
    """
    coefficients = symmetric.charpoly().coeffs()
    zero = next(i for i, x in enumerate(coefficients) if x != 0)
    signs = [x > 0 for x in coefficients if x != 0]
    positive = sum(a != b for a, b in pairwise(signs))
    return symmetric.nrows() - zero - positive, zero, positive


def random_orthogonal(random: Random, n: int) -> fmpq_mat:
    """Random rational orthogonal matrix: Cayley transform (I - K)(I + K)^-1 of a skew K, with signs."""
    skew, signs = fmpq_mat(n, n), fmpq_mat(n, n)
    for i in range(n):
        signs[i, i] = random.choice([-1, 1])
        for j in range(i):
            skew[i, j] = fmpq(random.randint(-3, 3), random.choice([1, 2, 100]))
            skew[j, i] = -skew[i, j]
    return signs * (identity(n) - skew) * (identity(n) + skew).inv()
