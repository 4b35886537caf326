"""Which test samples the network gets right, so that reports on the same samples compare in pairs."""

from base64 import b64decode, b64encode

import numpy as np
from jaxtyping import Bool

from rankdeficit.diagnostics.measures.pairing import identity
from rankdeficit.diagnostics.registry import Blank, Measure, Row, Values, measure
from rankdeficit.diagnostics.study import Study


def pack(correct: Bool[np.ndarray, " n"]) -> str:
    """Bits as text, eight to a byte, in base64."""
    return b64encode(np.packbits(correct).tobytes()).decode()


def unpack(text: str, samples: int) -> Bool[np.ndarray, " n"]:
    """The bits that `pack` wrote. Raises ValueError for text that does not hold so many."""
    packed = np.frombuffer(b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-samples // 8):
        raise ValueError(f"correctness holds {8 * len(packed)} bits for {samples} samples")
    return np.unpackbits(packed, count=samples).astype(bool)


def counts(first: Row, second: Row) -> tuple[int, int] | None:
    """Of records on the same test samples, how many only the first and only the second gets right.

    None where the samples or their labels differ, or a record does not tell them.
    """
    own = [record.get("correctness") or {} for record in (first, second)]
    names = [found.get("samples") if "bits" in found else None for found in own]
    if None in names or names[0] != names[1]:
        return None
    n = int(first["test"]["samples"])
    a, b = (unpack(found["bits"], n) for found in own)
    return int((a & ~b).sum()), int((b & ~a).sum())


@measure("correctness", place=130)
class Correctness(Measure):
    """Which test samples are classified correctly, as bits for comparisons with other reports."""

    blank = Blank(sections={"correctness": None})

    def values(self, study: Study) -> Values:
        """Bits in the order of the samples' keys, and a hash of these keys with the labels."""
        test = study.test
        row = {
            "samples": identity(test.keys, test.labels),
            "bits": pack((test.predictions == test.labels).numpy()),
        }
        return Values(sections={"correctness": row})
