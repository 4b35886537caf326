"""Changes of a network's structure, as plain values that can be stored and applied again."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rankdeficit.control.compression.early import Early, Side

VERSION = 1
"""Version of descriptions."""

FACTORED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Types of modules that can be factored; subclasses are left as they are."""


@dataclass(frozen=True)
class Cut:
    """The network ends at a representation, which a new linear head reads."""

    kind: ClassVar[str] = "cut"
    layer: str
    """Layer to which the representation belongs."""
    module: str
    side: Side
    grid: int
    channels_last: bool
    features: int
    classes: int
    dropped: tuple[str, ...]
    """Modules that are no longer used and are removed."""

    def made(self, model: nn.Module) -> nn.Module:
        """An `Early` network with this one as `body`, and a new `head`."""
        like = _some_parameter(model)
        for name in self.dropped:
            model = with_module(model, name, nn.Identity())
        head = nn.Linear(self.features, self.classes, device=like.device, dtype=like.dtype)
        return Early(
            model, self.module, self.side, head, grid=self.grid, channels_last=self.channels_last
        )


@dataclass(frozen=True)
class Factor:
    """A linear layer or convolution becomes two, with `rank` dimensions between them."""

    kind: ClassVar[str] = "factor"
    module: str
    rank: int

    def made(self, model: nn.Module) -> nn.Module:
        """The network with a sequence of two layers, named `0` and `1`, in place of the module."""
        old = model.get_submodule(self.module)
        return with_module(model, self.module, nn.Sequential(*_factors(old, self.rank)))


@dataclass(frozen=True)
class Narrow:
    """The number of outputs of a layer, and of inputs of the head, is reduced to `rank`."""

    kind: ClassVar[str] = "narrow"
    module: str
    head: str
    rank: int

    def made(self, model: nn.Module) -> nn.Module:
        """The network with both layers replaced."""
        old, head = model.get_submodule(self.module), model.get_submodule(self.head)
        first = _with_bias(_factors(old, self.rank)[0])
        classes = _outputs(head)
        like = _some_parameter(head)
        reading = nn.Linear(self.rank, classes, device=like.device, dtype=like.dtype)
        return with_module(with_module(model, self.module, first), self.head, reading)


Edit = Cut | Factor | Narrow
KINDS: Mapping[str, Callable[..., Edit]] = {own.kind: own for own in (Cut, Factor, Narrow)}


def restructured(model: nn.Module, edits: Sequence[Edit]) -> nn.Module:
    """A copy of the network with these changes applied in order; new layers have arbitrary weights.

    The states of torch's global generators do not change.
    """
    gpus = {own.device for own in model.parameters() if own.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(gpus)):
        changed = copy.deepcopy(model)
        for edit in edits:
            changed = edit.made(changed)
    return changed.train(model.training)


def describe(edits: Sequence[Edit]) -> dict[str, Any]:
    """Changes as values for JSON."""
    return {"version": VERSION, "edits": [{"kind": own.kind, **asdict(own)} for own in edits]}


def edits_of(description: Any) -> list[Edit]:
    """The changes in a description. Raises ValueError unless `describe` made it."""
    if not isinstance(description, Mapping) or description.get("version") != VERSION:
        raise ValueError(
            f"the description is not one of version {VERSION}; pass the `description` of a `Compression`"
        )
    found: list[Edit] = []
    try:
        for own in description["edits"]:
            values = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in own.items()
                if name != "kind"
            }
            found.append(KINDS[own["kind"]](**values))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the description is damaged ({error}); compress again") from error
    return found


def rebuild(model: nn.Module | Callable[[], nn.Module], description: Any) -> nn.Module:
    """A network of the compressed structure, whose new layers have arbitrary weights.

    model: the original network, with any weights, or a function that returns it.
    Raises ValueError for an invalid description, or one of another network.
    """
    made = model if isinstance(model, nn.Module) else model()
    try:
        return restructured(made, edits_of(description))
    except AttributeError as error:
        raise ValueError(
            f"the description belongs to another network ({error}); pass the network that was compressed"
        ) from error


def save(model: nn.Module, description: Mapping[str, Any], folder: Path) -> None:
    """Write weights.safetensors and structure.json, without pickling, to a folder that exists."""
    weights = {name: own.detach().cpu().contiguous() for name, own in model.state_dict().items()}
    safetensors.torch.save_file(
        {name: own.clone() for name, own in weights.items()}, folder / "weights.safetensors"
    )
    (folder / "structure.json").write_text(json.dumps(description, indent=1) + "\n")


def load(model: nn.Module | Callable[[], nn.Module], folder: Path) -> nn.Module:
    """Load a compressed network from the folder to which `save` wrote it.

    model: the original network, with any weights, or a function that returns it.
    Raises ValueError for files that are missing, damaged, or of another network.
    """
    try:
        description = json.loads((folder / "structure.json").read_text())
        weights = safetensors.torch.load_file(folder / "weights.safetensors")
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(
            f"{folder} holds no readable compressed network ({error}); name a folder that `save` wrote"
        ) from error
    found = rebuild(model, description)
    try:
        found.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the weights in {folder} belong to another network ({reason}); pass the network that was "
            "compressed"
        ) from error
    return found


def with_module(model: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """Replace a module of the network in place; returns the network, or `new` for an empty name."""
    if not name:
        return new
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, new)
    return model


def _factors(old: nn.Module, rank: int) -> tuple[nn.Module, nn.Module]:
    """Two layers in place of one: the first without a bias, the second with one."""
    like = _some_parameter(old)
    options: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
    if isinstance(old, nn.Linear):
        first = nn.Linear(old.in_features, rank, bias=False, **options)
        return first, nn.Linear(rank, old.out_features, **options)
    if not isinstance(old, _ConvNd):
        raise ValueError(f"a {type(old).__name__} cannot be factored")
    kind = type(old)
    shape: dict[str, Any] = {
        name: getattr(old, name)
        for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    }
    first_convolution = kind(old.in_channels, rank, bias=False, **shape, **options)
    ones = (1,) * len(old.kernel_size)
    return first_convolution, kind(rank, old.out_channels, ones, **options)


def _with_bias(layer: nn.Module) -> nn.Module:
    weight = _some_parameter(layer)
    layer.bias = nn.Parameter(weight.new_zeros(len(weight)))
    return layer


def _outputs(layer: nn.Module) -> int:
    return len(_some_parameter(layer))


def _some_parameter(module: nn.Module) -> Tensor:
    return next(iter(module.parameters()))
