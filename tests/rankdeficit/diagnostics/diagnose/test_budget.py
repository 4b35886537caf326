"""What a diagnosis will take is told before its first pass."""

from typing import Any

import rankdeficit as rd
from rankdeficit.diagnostics.budget import Budget
from tests.rankdeficit.diagnostics.diagnose.problems import small_problem


def budget(**options: Any) -> Budget:
    model, train, test = small_problem()
    heard: list[Any] = []
    rd.diagnose(
        model, train, test, {"a": (train, test), "b": (None, test)}, on_start=heard.append,
        on_progress=lambda name, _: heard.append(name), **options,
    )  # fmt: skip
    assert isinstance(heard[0], Budget)  # before all progress
    return heard[0]


def test_layers_passes_and_memory_are_those_of_the_measures() -> None:
    everything = budget()
    assert (everything.layers, everything.widest_input, everything.passes) == (2, 8, 5)
    features, inputs = 8**2 + 4**2, 16 * (5**2 + 8**2)  # a Gram matrix; one for each of 16 groups
    penultimate = 3 * 8**2  # train and test, and the class statistics of train
    assert everything.memory == 8 * (2 * features + inputs + penultimate)
    assert everything.largest == 8
    assert everything.beyond == 0
    few = budget(measures=["logits"])
    assert (few.passes, few.memory, few.largest) == (2, 0, 0)
