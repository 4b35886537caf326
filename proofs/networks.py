"""Representations and gradients of small networks in exact rationals or balls.

Columns are samples: Z_l = W_l A_{l-1} + b_l 1^T, A_l = phi(Z_l), and the logits are Z_D.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flint import arb, arb_mat

from proofs.exact import Matrix, softmax_columns, square_root


@dataclass(frozen=True)
class Activation:
    """Activation phi with its backward map from (Z, dL/dphi(Z)) to dL/dZ."""

    name: str
    apply: Callable[[Any], Any] = field(repr=False)
    pull_back: Callable[[Any, Any], Any] = field(repr=False)


def entrywise(function: Callable[..., Any], *matrices: Matrix) -> Matrix:
    """Apply a function to the entries of one or more matrices of the same shape."""
    first = matrices[0]
    entries = zip(*(matrix.entries() for matrix in matrices), strict=True)
    return type(first)(first.nrows(), first.ncols(), [function(*values) for values in entries])


def _is_positive(x: Any) -> Any:
    """1 for x > 0, 0 for x <= 0, and NaN for a ball that contains both."""
    return 1 if x > 0 else 0 if x <= 0 else arb.nan()


def _normalise(Z: arb_mat) -> arb_mat:
    """Scale each column to length 1."""
    return entrywise(lambda z, length: z / length, Z, _lengths(Z))


def _pull_back_normalise(Z: arb_mat, slope: arb_mat) -> arb_mat:
    """(I - a a^T) slope / ||z|| for each column z, with a = z / ||z||."""
    A = _normalise(Z)
    overlaps = _column_sums(entrywise(lambda a, g: a * g, A, slope))
    return entrywise(lambda g, a, o, length: (g - a * o) / length, slope, A, overlaps, _lengths(Z))


def _lengths(Z: arb_mat) -> arb_mat:
    squares = _column_sums(entrywise(lambda z: z * z, Z))
    return entrywise(square_root, squares)


def _column_sums(Z: arb_mat) -> arb_mat:
    """Replace each entry by the sum of its column."""
    return ones(Z, Z.nrows(), Z.nrows()) * Z


LINEAR = Activation("linear", lambda Z: Z, lambda Z, slope: slope)
RELU = Activation(
    "relu",
    lambda Z: entrywise(lambda z: z * _is_positive(z), Z),
    lambda Z, slope: entrywise(lambda z, g: g * _is_positive(z), Z, slope),
)
TANH = Activation(
    "tanh",
    lambda Z: entrywise(lambda z: z.tanh(), Z),
    lambda Z, slope: entrywise(lambda z, g: g * (1 - z.tanh() ** 2), Z, slope),
)
NORMALISED = Activation("normalised", _normalise, _pull_back_normalise)


class Passes(NamedTuple):
    """Inputs A_0 .. A_{D-1} and outputs Z_1 .. Z_D of the layers."""

    inputs: list[Any]
    outputs: list[Any]


def forward(
    weights: Sequence[Matrix], biases: Sequence[Matrix], X: Matrix, activation: Activation
) -> Passes:
    """Compute all representations. `biases` has one column per layer, or is empty."""
    inputs, outputs = [X], []
    for layer, W in enumerate(weights):
        Z = W * inputs[-1]
        if biases:
            Z = Z + biases[layer] * ones(Z, 1, Z.ncols())
        outputs.append(Z)
        inputs.append(activation.apply(Z))
    return Passes(inputs[:-1], outputs)


def backward(
    weights: Sequence[Matrix], passes: Passes, activation: Activation, slope: Matrix
) -> list[Matrix]:
    """Gradients dL/dA_0, dL/dZ_1 .. dL/dZ_D from dL/dZ_D."""
    slopes = [slope]
    for layer in reversed(range(len(weights))):
        below = weights[layer].transpose() * slopes[0]
        slopes.insert(0, activation.pull_back(passes.outputs[layer - 1], below) if layer else below)
    return slopes


def ones(like: Matrix, rows: int, columns: int) -> Matrix:
    """Matrix of ones, with the type of `like`."""
    return type(like)(rows, columns, [1] * (rows * columns))


def softmax(Z: arb_mat) -> arb_mat:
    """Softmax of each column."""
    return softmax_columns(Z.table())


def cross_entropy_slope(logits: arb_mat, labels: Sequence[int], T: Any) -> arb_mat:
    """Gradient (softmax(Z / T) - Y) / (n T) of the mean cross-entropy at temperature T."""
    c, n = logits.nrows(), logits.ncols()
    Y = arb_mat([[int(label == k) for label in labels] for k in range(c)])
    return (softmax(logits * (1 / arb(T))) - Y) * (1 / (n * arb(T)))
