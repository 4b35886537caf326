"""Classifiers of timm and torchvision, small ones of each family, with random weights.

python -m tests.rankdeficit.diagnostics.architectures.zoo writes the table of NETWORKS.md.
"""

import re
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
import torchvision
from torch import nn

import rankdeficit as rd
from tests.rankdeficit.diagnostics.architectures import listing

KIND = "timm and torchvision"
CLASSES, SAMPLES = 4, 4
PER_FAMILY = 3
LARGEST = 30_000_000
"""Parameters of the networks tried, at most."""

SIZES = (
    "test femto atto pico nano pixel _tiny _mini xxtiny xtiny tiny _xxs xxsmall _xs xsmall _s0 _t0 _b0 "
    "b0 _t_ _t small _s _18 18 _050 050 _035".split()
)
"""What small networks of a family have in their names, the smallest first."""


def names() -> Iterator[tuple[str, str]]:
    """Family and name of the networks to try, the small ones of each family first."""
    import timm  # takes seconds, and is not needed to read the table

    for family in sorted(timm.list_modules()):
        known = timm.list_models(module=family)
        for name in sorted(known, key=_size)[:PER_FAMILY]:
            yield family, f"timm:{name}"
    families: dict[str, list[str]] = {}
    for name in torchvision.models.list_models(module=torchvision.models):
        families.setdefault(re.sub(r"[\d_].*", "", name), []).append(name)
    for family, known in sorted(families.items()):
        for name in sorted(known, key=_size)[:PER_FAMILY]:
            yield family, f"torchvision:{name}"


def outcome(name: str) -> str:
    """What a diagnosis of a network comes to: "diagnosed", "too large", or the reason why not."""
    model = build(name)
    if sum(own.numel() for own in model.parameters()) > LARGEST:
        return "too large"
    side = side_of(model)
    generator = torch.Generator().manual_seed(0)
    data = [
        (torch.randn(SAMPLES, 3, side, side, generator=generator), torch.arange(SAMPLES) % CLASSES)
    ]
    wanted = ["logits", "layer_ranks", "penultimate", "alignment", "gradient_ranks"]
    try:
        rd.diagnose(model, data, data, measures=wanted, grid=1, gradient_samples=2)
    except ValueError as error:
        return f"refused: {str(error).splitlines()[0]}"
    return "diagnosed"


def build(name: str) -> nn.Module:
    """The network with random weights."""
    torch.manual_seed(0)
    library, _, own = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(own, num_classes=CLASSES)
    options = {"init_weights": True} if own in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(own, weights=None, num_classes=CLASSES, **options)


def side_of(model: nn.Module) -> int:
    """Pixels per side of images that it takes: its own where they are fixed, else few."""
    own = getattr(model, "pretrained_cfg", None)
    fixed = isinstance(own, dict) and own.get("fixed_input_size")
    if own is None:  # torchvision
        return 224 if hasattr(model, "image_size") or "Vit" in type(model).__name__ else 96
    return own["input_size"][-1] if fixed else min(own["input_size"][-1], 128)


def table(outcomes: Iterable[tuple[str, str, str]]) -> str:
    """A row per library and family of (family, name, outcome), in Markdown."""
    rows: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for family, name, found in outcomes:
        library, _, own = name.partition(":")
        kind, _, reason = re.split("[,;]", found)[0].partition(": ")
        rows[library, family][kind].append(f"`{own}`" + (f" ({reason})" if reason else ""))
    lines = ["| library | family | diagnosed | refused | not tried |", "|---|---|---|---|---|"]
    for (library, family), cells in rows.items():
        listed = (", ".join(cells[kind]) for kind in ("diagnosed", "refused", "too large"))
        lines.append(f"| {library} | {family} | {' | '.join(listed)} |")
    return "\n".join(lines)


def told() -> Iterator[tuple[str, str]]:
    """Names of networks with the outcomes that the table has: "diagnosed" or "refused"."""
    for line in listing.written(KIND).splitlines()[2:]:
        library, _, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for kind, cell in zip(("diagnosed", "refused"), cells, strict=False):
            for name in re.findall(r"`([\w.]+)`(?:, | \(|$)", cell):
                yield f"{library}:{name}", kind


def outcomes() -> Iterator[tuple[str, str, str]]:
    """Family, name and outcome of all networks, which takes a quarter of an hour."""
    for family, name in names():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries' own
            found = outcome(name)
        print(f"{name}: {found}", file=sys.stderr)
        yield family, name, found


def _size(name: str) -> tuple[int, str]:
    small = [rank for rank, word in enumerate(SIZES) if word in name]
    return min(small, default=len(SIZES)), name


if __name__ == "__main__":
    listing.replace_table(KIND, table(outcomes()))
