"""Tables of NETWORKS.md; python -m tests.rankdeficit.diagnostics.architectures.listing writes them."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import rankdeficit as rd
from tests.rankdeficit.diagnostics.architectures import recurrent

PATH = Path(rd.diagnostics.__file__).parent / "NETWORKS.md"
Made = tuple[nn.Module, list[Any], list[Any]]
"""A model with its train and test batches."""


def outcome(model: nn.Module, train: list[Any], test: list[Any]) -> str:
    """Layers found, and those with a weight matrix; or why the model is refused."""
    try:
        layers = rd.diagnose(model, train, test, gradient_samples=8)["layers"]
    except ValueError as error:
        return f"refused: {str(error).partition(': ')[2] or error}"
    with_matrix = sum(own["alignment"] is not None for own in layers)
    return f"{len(layers)} layers, {with_matrix} with alignment"


def plain_torch() -> Iterator[tuple[str, Callable[[], Made]]]:
    """Recurrent and mixed networks."""

    def sequences(make: Callable[[], nn.Module]) -> Made:
        torch.manual_seed(0)
        size = recurrent.LENGTH, recurrent.WIDTH
        made = make()
        train, test = (
            [(torch.randn(n, *size), torch.arange(n) % recurrent.CLASSES)] * 2 for n in (8, 6)
        )
        return made, train, test

    def other(name: str) -> Made:
        torch.manual_seed(0)
        model, batch = recurrent.others()[name]
        return model, [batch(8), batch(6)], [batch(6)]

    for name, make in recurrent.SEQUENCES.items():
        yield name, lambda make=make: sequences(make)
    for name in recurrent.others():
        yield name, lambda name=name: other(name)


def hugging_face() -> Iterator[tuple[str, Callable[[], Made]]]:
    """Classifiers of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        from tests.rankdeficit.diagnostics.architectures import hugging_face as own

    def images(name: str) -> Made:
        side = own.side_of(name)
        return own.image_model(name), own.image_batches(24, 0, side), own.image_batches(16, 1, side)

    for name in own.TEXT:
        yield (
            name,
            lambda name=name: (
                own.text_model(name), own.text_batches(24, 0), own.text_batches(16, 1)
            ),
        )  # fmt: skip
    for name in own.IMAGES:
        yield name, lambda name=name: images(name)


TABLES = {"plain torch": plain_torch, "transformers": hugging_face}


def table(kind: str) -> str:
    """Outcomes of one kind of networks, in Markdown."""
    lines = ["| network | outcome |", "|---|---|"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries' own deprecations
        lines += [f"| {name} | {outcome(*make())} |" for name, make in TABLES[kind]()]
    return "\n".join(lines)


def written(kind: str) -> str:
    """The table as the file has it."""
    return _parts(kind)[1]


def write() -> None:
    """Replace the tables by new ones."""
    for kind in TABLES:
        replace_table(kind, table(kind))


def replace_table(kind: str, new: str) -> None:
    """Put a table in the place of the one that the file has."""
    before, _, after = _parts(kind)
    PATH.write_text(f"{before}{new}{after}", encoding="utf-8")


def _parts(kind: str) -> tuple[str, str, str]:
    """What comes before the table, the table, and what comes after it."""
    before, _, rest = PATH.read_text(encoding="utf-8").partition(f"<!-- {kind} -->\n")
    found, end, after = rest.partition("\n<!-- end -->")
    return f"{before}<!-- {kind} -->\n", found, f"{end}{after}"


if __name__ == "__main__":
    write()
