"""What a diagnosis will take, told before its first pass over the data."""

from collections.abc import Collection
from dataclasses import dataclass

from rankdeficit.diagnostics.reading.needs import Wanted
from rankdeficit.diagnostics.reading.network import Network
from rankdeficit.diagnostics.states.alignment import group_count

BYTES = 8
"""Of a number in float64."""


@dataclass(frozen=True)
class Budget:
    """Layers, passes over data, and the memory of the matrices that they fill."""

    layers: int
    widest_input: int
    """Numbers that the widest weight matrix multiplies; 0 where no layer has one."""
    passes: int
    memory: int
    """Bytes of Gram matrices at most; those of fewer rows than their width take less."""

    @classmethod
    def of(cls, network: Network, passes: Collection[Wanted], grid: int) -> "Budget":
        """From the layers' weights, and what the passes are to leave behind.

        Of layers without a weight matrix of their own nothing is known before they have run.
        """
        weights = [(own.kind, network.weight(own)) for own in network.layers.chosen]
        shapes = [(kind, *own.shape) for kind, own in weights if own is not None]
        features = sum(
            (rows * (grid**2 if kind == "convolution" else 1)) ** 2 for kind, rows, _ in shapes
        )
        inputs = sum(group_count(width) * width**2 for *_, width in shapes)
        streamed = [stream.of for own in passes for stream in own.streams]
        numbers = features * streamed.count("features") + inputs * streamed.count("rows")
        widest = max((width for *_, width in shapes), default=0)
        return cls(len(network.layers.chosen), widest, len(passes), BYTES * numbers)

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.layers} layers (inputs of up to {self.widest_input} numbers), {self.passes} passes "
            f"over data, up to {self.memory / 2**20:,.0f} MiB of matrices"
        )
