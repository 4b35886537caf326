"""Which tokens of a batch are padding: told by names in the batch, or by the caller."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from rankdeficit.diagnostics.reading.tokens import Mask, mask_of_lengths

TOKENS = ("attention_mask",)
"""Names of masks with 1 or True at tokens."""

PADDING = ("key_padding_mask", "src_key_padding_mask", "padding_mask")
"""Names of masks with 1 or True at padding, as torch has it."""

LENGTHS = ("lengths",)
"""Names of numbers of tokens; the padding is at the end."""

MaskOf = Callable[[Any], Tensor] | str | None
"""From a batch to its mask, 1 or True at tokens; or the mask's name in batches that are mappings."""


def told_mask(tensors: Mapping[str, Tensor]) -> Mask | None:
    """The mask among named tensors; None where none is called so, or it is not one of (n, tokens)."""
    for name in (*TOKENS, *PADDING, *LENGTHS):
        if name in tensors:
            found = named_mask(name, tensors)
            if found.ndim == 2:
                return found
    return None


def named_mask(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """True at tokens, from the tensor of that name."""
    values = tensors[name]
    if name in LENGTHS and values.ndim == 1:
        sizes = (own.shape[1] for key, own in tensors.items() if key != name and own.ndim > 1)
        return mask_of_lengths(values, next(sizes, int(values.max())))
    return values == 0 if name in PADDING else values != 0


def asked_mask(option: MaskOf, batch: Any, samples: int, where: str) -> Mask | None:
    """The mask that the caller's option tells of a batch. Raises ValueError for anything else."""
    if option is None:
        return None
    if isinstance(option, str):
        while isinstance(batch, (tuple, list)) and batch:
            batch = batch[0]
        if not isinstance(batch, Mapping) or option not in batch:
            raise ValueError(
                f"{where} has no {option!r}, which mask names; name one of its tensors"
            )
        named = {str(key): own for key, own in batch.items() if isinstance(own, Tensor)}
        found = named_mask(option, named)
    elif callable(option):
        found = option(batch)
    else:
        raise ValueError(f"mask is {option!r}; it must be a function or the mask's name in batches")
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != samples:
        raise ValueError(
            f"{where}: mask gives {getattr(found, 'shape', found)}; it must be a tensor "
            f"({samples}, tokens), 1 at tokens and 0 at padding"
        )
    return found != 0


def check_mask(mask: Mask | None, where: str) -> None:
    """Raise ValueError for samples without any token."""
    if mask is not None and not bool(mask.any(dim=1).all()):
        empty = (~mask.any(dim=1)).nonzero().flatten().tolist()
        raise ValueError(
            f"{where}: samples {empty[:5]} are padding alone by their mask; remove them, or check that "
            f"it has 1 at tokens ({', '.join(PADDING)}: at padding)"
        )
