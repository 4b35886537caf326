"""Cost of a diagnosis, known before its first pass over the data."""

from collections.abc import Collection
from dataclasses import dataclass

from rankdeficit.diagnostics.reading.needs import Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.states.alignment import group_count
from rankdeficit.diagnostics.states.row_sample import most_rows

BYTES = 8
"""Bytes of a float64 number."""


@dataclass(frozen=True)
class Budget:
    """Layers, passes over data, and the memory of the matrices that they fill."""

    layers: int
    widest_input: int
    """Numbers that the widest weight matrix multiplies; 0 where no layer has one."""
    passes: int
    memory: int
    """Maximum bytes of the Gram matrices; those with fewer rows than their width take less."""
    largest: int
    """Side of the largest matrix whose eigenvalues are all computed."""
    operations: float
    """Multiplications for these eigenvalues: 4/3 side^3 for each of three centrings."""
    beyond: int
    """Number of matrices that do not fit; they have no spectrum unless their samples are few."""

    @classmethod
    def of(
        cls, network: Network, passes: Collection[Wanted], grid: int, matrix_memory: int
    ) -> "Budget":
        """From the layers' weights, and what the passes are to leave behind.

        Layers without a weight matrix are not counted: their width is unknown before they have run.
        """
        weights = [(own.kind, network.weight(own)) for own in network.layers.chosen]
        shapes = [(kind, *own.shape) for kind, own in weights if own is not None]
        streamed = [stream.of for own in passes for stream in own.streams]
        classifier = network.classifier
        own = [rows * (grid**2 if kind == "convolution" else 1) for kind, rows, _ in shapes]
        own = own * streamed.count("features")
        own += ([] if classifier is None else [classifier.in_features]) * streamed.count(
            "penultimate"
        )
        room = [width for width in own if BYTES * width**2 <= matrix_memory]
        memory = BYTES * sum(width**2 for width in room) + matrix_memory * (len(own) - len(room))
        for *_, width in shapes * streamed.count("rows"):
            most = most_rows(width, group_count(width), matrix_memory)
            memory += matrix_memory if most else BYTES * group_count(width) * width**2
        return cls(
            layers=len(network.layers.chosen),
            widest_input=max((width for *_, width in shapes), default=0),
            passes=len(passes),
            memory=memory,
            largest=max(room, default=0),
            operations=float(sum(4 * width**3 for width in room)),
            beyond=len(own) - len(room),
        )

    def __str__(self) -> str:
        """One line."""
        beyond = f"; {self.beyond} matrices are too wide for matrix_memory" if self.beyond else ""
        return (
            f"{self.layers} layers (inputs of up to {self.widest_input} numbers), {self.passes} passes "
            f"over data, up to {self.memory / 2**20:,.0f} MiB of matrices, eigenvalues of up to "
            f"{self.largest:,} rows ({self.operations:.1g} multiplications){beyond}"
        )
