"""The rank of the representations bounds the rank of the gradient, but not its numerical rank.

With Z = W A, samples as columns of A, and E = dL/dZ, the gradient is dL/dW = E A^T, and

    rank(dL/dW) = rank(A) - dim(row space of A within ker E) <= min(rank(E), rank(A)).

A loss that is invariant to a common shift of a sample's logits, such as any loss of the softmax, has
1^T E = 0 in the last layer, so the rank there is at most c - 1. For numerical ranks
N_gamma = #{sigma_i > gamma sigma_1} the bound fails at equal gamma. The correct bound is

    N_gamma(E A^T) <= min(N_t(E), N_t(A)),  t = gamma sigma_1(E A^T) / (sigma_1(E) sigma_1(A)).
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from random import Random

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, combine, nonnegative, step
from proofs.exact import Matrix, diagonal, eigenvalues, gram, identity, in_order, to_fmpq
from proofs.networks import (
    LINEAR,
    RELU,
    backward,
    cross_entropy_slope,
    forward,
    ones,
)

CLAIM = Claim(__name__)


@CLAIM.exhaustive(method="symbolic")
def formula() -> Iterator[Outcome]:
    """dL/dW = E A^T (A transposed, as the shapes require), and 1^T E = 0 for a loss of the softmax:
    E (2 x 4), A (3 x 4), three classes.
    """
    rows, width, samples = 2, 3, 4
    E = sympy.Matrix(rows, samples, sympy.symbols("e:8"))
    W = sympy.Matrix(rows, width, sympy.symbols("w:6"))
    A = sympy.Matrix(width, samples, sympy.symbols("a:12"))
    Z = W * A
    linearised = sum(E[i, j] * Z[i, j] for i in range(rows) for j in range(samples))
    slope = sympy.Matrix(rows, width, lambda i, k: sympy.diff(linearised, W[i, k]))
    yield step("d <E, W A> / dW = E A^T", (slope - E * A.T).expand() == sympy.zeros(rows, width))
    z = sympy.symbols("z1:4", real=True)
    shift = sympy.Symbol("t", real=True)
    loss = sympy.Function("loss")
    shifted = loss(*(x + shift for x in z)).diff(shift).subs(shift, 0).doit()
    total = sum(loss(*z).diff(x) for x in z)
    yield step("d/dt loss(z + t 1) is the column sum of E", sympy.expand(shifted - total) == 0)
    exponentials = [sympy.exp(x) for x in z]
    p = [x / sum(exponentials) for x in exponentials]
    yield step("softmax: sum_k (p_k - y_k) = 0", sympy.simplify(sum(p) - 1) == 0)


def random_low_rank(random: Random, rows: int, columns: int) -> fmpq_mat:
    """Matrix of random rank, sometimes zero, as a product of small integer matrices."""
    rank = random.randint(0, min(rows, columns))
    return _random_matrix(random, rows, rank) * _random_matrix(random, rank, columns)


def _random_matrix(random: Random, rows: int, columns: int) -> fmpq_mat:
    return fmpq_mat(rows, columns, [random.randint(-3, 3) for _ in range(rows * columns)])


def dimension_of_meet(A: fmpq_mat, E: fmpq_mat) -> int:
    """Dimension of the intersection of the row space of A with ker E, from a basis of each."""
    kernel = kernel_basis(E)
    both = stack(A, kernel.transpose())
    return A.rank() + kernel.ncols() - both.rank()


def kernel_basis(E: fmpq_mat) -> fmpq_mat:
    """Columns that span ker E, from the reduced row echelon form."""
    reduced, rank = E.rref()
    n = E.ncols()
    pivots = [next(j for j in range(n) if reduced[i, j] != 0) for i in range(rank)]
    free = [j for j in range(n) if j not in pivots]
    basis = fmpq_mat(n, len(free))
    for k, j in enumerate(free):
        basis[j, k] = 1
        for i, pivot in enumerate(pivots):
            basis[pivot, k] = -reduced[i, j]
    return basis


def stack(upper: fmpq_mat, lower: fmpq_mat) -> fmpq_mat:
    """Stack two matrices vertically."""
    rows = upper.tolist() + lower.tolist()
    return fmpq_mat(len(rows), upper.ncols(), [x for row in rows for x in row])


@CLAIM.sampled(method="exact rationals", instances=400)
def bound(random: Random) -> Outcome:
    """linear and ReLU networks, 1..4 layers, planted ranks: in every layer rank E + rank A - n <=
    rank(dL/dW) = rank(A) - dim(row(A) within ker E) <= min(rank E, rank A), with equality on the right if
    E or A has rank n.
    """
    depth, n = random.randint(1, 4), random.randint(1, 6)
    sizes = [random.randint(1, 5) for _ in range(depth + 1)]
    weights = [random_low_rank(random, b, a) for a, b in pairwise(sizes)]
    activation = random.choice([LINEAR, RELU])
    passes = forward(weights, [], random_low_rank(random, sizes[0], n), activation)
    slope = random_low_rank(random, sizes[-1], n)
    _, *slopes = backward(weights, passes, activation, slope)
    holds = all(_rank_statements_hold(E, A) for E, A in zip(slopes, passes.inputs, strict=True))
    return Outcome(holds, f"{weights}, {passes.inputs[0]}, {slope}, {activation}")


def _rank_statements_hold(E: fmpq_mat, A: fmpq_mat) -> bool:
    rank, n, (e, a) = (E * A.transpose()).rank(), A.ncols(), (E.rank(), A.rank())
    below, above = e + a - n, min(e, a)
    attained = n not in (e, a) or rank == above
    return rank == a - dimension_of_meet(A, E) and below <= rank <= above and attained


@CLAIM.sampled(method="exact rationals", instances=300)
def losses_of_the_softmax(random: Random) -> Outcome:
    """zero column sums of E in the last layer: rank(dL/dW) <= c - 1 in that layer, and in every layer of
    networks without activation functions, c = 2..5, 1..4 layers.
    """
    depth, n, c = random.randint(1, 4), random.randint(1, 8), random.randint(2, 5)
    sizes = [random.randint(1, 6) for _ in range(depth)] + [c]
    weights = [_random_matrix(random, b, a) for a, b in pairwise(sizes)]
    activation = random.choice([LINEAR, RELU])
    passes = forward(weights, [], _random_matrix(random, sizes[0], n), activation)
    slope = centred(_random_matrix(random, c, n))
    _, *slopes = backward(weights, passes, activation, slope)
    gradients = [E * A.transpose() for E, A in zip(slopes, passes.inputs, strict=True)]
    bounded = gradients if activation is LINEAR else gradients[-1:]
    holds = all(gradient.rank() <= c - 1 for gradient in bounded)
    return Outcome(holds, f"{weights}, {passes.inputs[0]}, {slope}, {activation}")


def centred(E: fmpq_mat) -> fmpq_mat:
    """Subtract its mean from each column."""
    c = E.nrows()
    return E - ones(E, c, c) * E * fmpq(1, c)


@CLAIM.exhaustive(method="exact rationals")
def relu_raises_the_rank() -> Iterator[Outcome]:
    """below a ReLU the rank of the gradient can exceed c - 1: rank n for c = 2, width n = 2..6."""
    for n in range(2, 7):
        one = identity(n)
        slope = stack(ones(one, 1, n), -1 * ones(one, 1, n))
        weights = [one, slope]
        X = (n + 1) * one - ones(one, n, n)  # one positive entry per column
        passes = forward(weights, [], X, RELU)
        _, hidden, last = backward(weights, passes, RELU, slope)
        gradient = hidden * passes.inputs[0].transpose()
        yield Outcome(last.rank() == 1 and gradient.rank() == n, f"n = {n}")


def squared_singular_values(S: Matrix) -> list[arb]:
    """sigma_i^2, descending, with zeros up to the number of columns."""
    return eigenvalues(gram(S))[::-1]


def count_above(values: list[arb], threshold: arb | fmpq) -> int | None:
    """Number of values above a threshold; None if a ball does not decide it."""
    above = [x > threshold for x in values]
    at_most = [x <= threshold for x in values]
    return sum(above) if sum(above) + sum(at_most) == len(values) else None


def numerical_rank(S: Matrix, gamma: Fraction) -> int | None:
    """N_gamma(S); None if the precision does not decide it."""
    squares = squared_singular_values(S)
    return count_above(squares, to_fmpq(gamma) ** 2 * squares[0])


@CLAIM.exhaustive(method="ball arithmetic")
def numerical_rank_can_exceed_both() -> Iterator[Outcome]:
    """gamma = 1/1000: N_gamma(E) = N_gamma(A) = 1 but N_gamma(E A^T) = n for geometric spectra in
    opposite order, n = 2..6; and 1, 1 and 2 for the cross-entropy of finite logits W A, c = 3.
    """
    gamma = Fraction(1, 1000)
    for n in range(2, 7):
        falling = [to_fmpq((gamma / 2) ** i) for i in range(n)]
        A, E = diagonal(falling), diagonal(falling[::-1])
        yield Outcome(_counts(E, A, gamma) == [1, 1, n], f"n = {n}")
    A, W, labels = fitted_and_unfitted()
    slope = cross_entropy_slope(arb_mat(W) * arb_mat(A), labels, 1)
    yield Outcome(_counts(slope, arb_mat(A), gamma) == [1, 1, 2], f"W = {W}, A = {A}")


def _counts(E: Matrix, A: Matrix, gamma: Fraction) -> list[int | None]:
    return [numerical_rank(X, gamma) for X in (E, A, E * A.transpose())]


def fitted_and_unfitted() -> tuple[fmpq_mat, fmpq_mat, list[int]]:
    """A, W and labels: a fitted sample has a long representation and an unfitted one a short one."""
    A = fmpq_mat([[1, 0], [0, fmpq(1, 5000)]])
    W = fmpq_mat([[10, 0], [0, 0], [0, 0]])
    return A, W, [0, 1]


@CLAIM.exhaustive(method="symbolic")
def product_of_singular_values() -> Iterator[Outcome]:
    """sigma_i(X Y) <= sigma_1(X) sigma_i(Y), as sigma_1(X)^2 Y^T Y - (X Y)^T (X Y) = Y^T K Y with
    K = sigma_1(X)^2 I - X^T X >= 0; sigma_i(X Y) > gamma sigma_1(X Y) implies sigma_i(Y) > t sigma_1(Y):
    3 x 3 matrices.
    """
    X, Y = (sympy.MatrixSymbol(name, 3, 3).as_explicit() for name in "XY")
    s = sympy.Symbol("s", positive=True)
    K = s**2 * sympy.eye(3) - X.T * X
    difference = s**2 * Y.T * Y - (X * Y).T * (X * Y) - Y.T * K * Y
    yield step("the identity", difference.expand() == sympy.zeros(3, 3))
    gamma, top, x1, y1 = sympy.symbols("gamma top x1 y1", positive=True)
    alignment = top / (x1 * y1)  # t = gamma times this
    yield step("gamma sigma_1(XY) / sigma_1(X) = t sigma_1(Y)",
               sympy.simplify(gamma * top / x1 - gamma * alignment * y1) == 0)  # fmt: skip


def random_spectrum_matrix(random: Random, rows: int, columns: int) -> fmpq_mat:
    """Random integers with rows and columns rescaled over many orders of magnitude.

    The integers are large, as small ones sometimes give orthogonal matrices with a slack of exactly zero.
    """
    base = random.choice([2, 10, 100])
    left = [fmpq(1, base ** random.randint(0, 3)) for _ in range(rows)]
    right = [fmpq(1, base ** random.randint(0, 3)) for _ in range(columns)]
    entries = [
        x * y * random.choice([-1, 1]) * random.randint(1, 10**6) for x in left for y in right
    ]
    return fmpq_mat(rows, columns, entries)


@CLAIM.sampled(method="ball arithmetic", instances=150)
def aligned_numerical_rank(random: Random) -> Outcome:
    """sigma_i(E A^T) <= min(sigma_1(E) sigma_i(A), sigma_i(E) sigma_1(A)) and N_gamma(E A^T) <=
    min(N_t(E), N_t(A)), sizes 2..4, gamma = 1/10 .. 10^-4 (slack: of squares, relative to the largest).
    """
    rows, width, n = (random.randint(2, 4) for _ in range(3))
    E, A = random_spectrum_matrix(random, rows, n), random_spectrum_matrix(random, width, n)
    product, gamma = E * A.transpose(), Fraction(1, 10 ** random.randint(1, 4))
    rank = product.rank()
    if rank == 0:  # both sides vanish
        return Outcome(True, "product 0")

    def slack() -> arb:
        e, a, p = map(squared_singular_values, (E, A, product))
        differences = [e[0] * a[i] - p[i] for i in range(rank)]
        differences += [e[i] * a[0] - p[i] for i in range(rank)]
        return in_order(differences)[0] / (e[0] * a[0])

    def spare_counts() -> arb:
        e, a, p = map(squared_singular_values, (E, A, product))
        t = to_fmpq(gamma) ** 2 * p[0] / (e[0] * a[0])
        above = count_above(p, to_fmpq(gamma) ** 2 * p[0])
        allowed = [count_above(values, t * values[0]) for values in (e, a)]
        if above is None or None in allowed:
            return arb.nan()
        return arb(min(x for x in allowed if x is not None) - above)

    witness = f"E = {E}, A = {A}"
    counts = nonnegative(spare_counts, witness)._replace(slack=None)
    return combine([nonnegative(slack, witness), counts])
