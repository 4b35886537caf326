"""Per-sample results kept in a report, for paired comparisons of reports on the same samples."""

import hashlib
from base64 import b64decode, b64encode

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

GROUPS = 100
"""Maximum number of groups of samples, formed by key, whose means are kept."""
STEPS = 65535
"""Means of values in [0, 1] are stored in 16 bits."""
CHARACTERS = 32
"""Number of hexadecimal digits kept of a hash."""


def identity(*values: Int64[Tensor, "_"]) -> str:
    """A hash (SHA-256) of keys and labels of samples: equal for equal samples only."""
    found = hashlib.sha256()
    for own in values:
        found.update(len(own).to_bytes(8, "little") + own.numpy().astype("<i8").tobytes())
    return found.hexdigest()[:CHARACTERS]


def pack_means(values: Float[Tensor, " n"]) -> str:
    """Means of at most GROUPS groups of values in [0, 1], as text.

    Samples come in the order of their keys, a hash of their content: a group is a random one, and the
    same in every report on the same samples.
    """
    parts = values.double().tensor_split(min(GROUPS, len(values)))
    means = np.array([float(part.mean()) for part in parts])
    return b64encode(np.rint(STEPS * means).astype("<u2").tobytes()).decode()


def unpack_means(text: str) -> Float[np.ndarray, " groups"]:
    """The means that `pack_means` wrote, to 1e-5. Raises ValueError for other text."""
    packed = b64decode(text, validate=True)
    if not packed or len(packed) % 2:
        raise ValueError(f"placements hold {len(packed)} bytes; they must be pairs of bytes")
    return np.frombuffer(packed, dtype="<u2").astype(np.float64) / STEPS
