"""Attention in a forward pass: each softmax over the products of queries and keys.

No cooperation of the network is needed. Torch's fused attention is replaced by its plain formula, and
a dispatch mode follows every product of two tensors, neither of them a weight, to the softmax.
"""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from rankdeficit.diagnostics.reading.branches import layer_name
from rankdeficit.diagnostics.reading.trace import Place

MASKED = -64.0
"""Keys to whose logit this or less is added are masked; Swin's mask is -100 besides its position bias."""

PRODUCTS = frozenset(["bmm", "baddbmm"])
SOFTMAX = frozenset(["_softmax", "_safe_softmax"])
MOVES = frozenset(
    "view _unsafe_view reshape _reshape_copy unsqueeze squeeze expand permute transpose clone detach "
    "alias _to_copy contiguous".split()
)
"""Operations that keep the values."""
FACTORS = frozenset(["mul", "div"])
ADDED = frozenset(["add", "sub", "masked_fill", "where"])
"""How position biases and masks come to the products."""
BENT = frozenset(["tanh", "clamp", "clamp_min", "clamp_max"])
"""Functions of the products that some networks put before the softmax."""
NAMES = re.compile("(?i:attention|attn)|MLA")
"""Of classes that are attention, of whatever form."""

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
"""Where torch keeps what an operation is made of."""


class Attention(NamedTuple):
    """One attention of one sample. Windows are the parts of an image that attend to themselves alone."""

    name: str
    """Of the module, with the number of its call."""
    products: Float64[Tensor, "windows heads queries keys"]
    """Q K^T / sqrt(d), without position bias and mask."""
    logits: Float64[Tensor, "windows heads queries keys"]
    """What the softmax reads."""
    allowed: Bool[Tensor, "windows heads queries keys"]
    """Whether the query may attend to the key."""


@dataclass
class Modules:
    """Which module runs, and which ones have run."""

    running: list[str] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    """Of each module so far."""
    found: dict[str, int] = field(default_factory=dict)
    """Attentions by `layer_name`."""
    readable: set[str] = field(default_factory=set)
    """Modules in which an attention was read."""

    def name(self) -> str:
        """Of the attention that is read now."""
        module = self.running[-1]
        self.readable.add(module)
        name = layer_name(Place(module, self.calls[module] - 1, "output"))
        self.found[name] = self.found.get(name, 0) + 1
        return name if self.found[name] == 1 else f"{name}, attention {self.found[name]}"

    def unread(self, model: nn.Module) -> dict[str, str]:
        """Outermost modules that are attention by the name of their class and were not read, with it."""
        found: dict[str, str] = {}
        for name, module in model.named_modules():
            kind = type(module).__name__
            related = any(_within(own, name) or _within(name, own) for own in self.readable)
            known = related or any(_within(name, own) for own in found)
            if name in self.calls and NAMES.search(kind) and not known:
                found[name] = kind
        return found


@contextmanager
def reading_attention(model: nn.Module, read: Callable[[Attention], None]) -> Iterator[Modules]:
    """Show `read` every attention of forward passes of a single sample, while the context is open.

    The passes must be without gradients. Read are softmaxes over the last axis of Q K^T, however they
    are written: scaled_dot_product_attention, nn.MultiheadAttention, matmul or einsum and softmax. Not
    read are forms without that softmax (linear, additive, sigmoid or sparse attention, gates over
    channels), kernels of other packages than torch, softmaxes with extra logits (attention sinks), and
    products with a parameter, as in mixtures of experts. The keys of cross-covariance attention are
    channels.
    """
    modules = Modules()

    def before(name: str, *_: Any) -> None:
        modules.running.append(name)
        modules.calls[name] = modules.calls.get(name, 0) + 1

    def after(*_: Any) -> None:
        modules.running.pop()

    def begin(*_: Any) -> None:
        for count in (modules.running, modules.calls, modules.found):
            count.clear()

    def show(products: Tensor, logits: Tensor, shift: Tensor | None) -> None:
        read(_attention(modules.name(), products, logits, shift))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if not isinstance(module, nn.Softmax):
                handle = module.register_forward_pre_hook(partial(before, name))
                stack.callback(handle.remove)
                stack.callback(module.register_forward_hook(after).remove)
        stack.callback(model.register_forward_pre_hook(begin, prepend=True).remove)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_Products({_storage(own) for own in model.parameters()} - {0}, show))
        yield modules


class _Products(TorchDispatchMode):
    """Follows products of queries and keys to their softmax."""

    def __init__(
        self, weights: set[int], show: Callable[[Tensor, Tensor, Tensor | None], None]
    ) -> None:
        """weights: storages of the parameters.

        show: gets the products, the input of the softmax, and its part that is the same for all keys of
        a query, such as minus the maximum, or None.
        """
        super().__init__()
        self._weights, self._show = weights, show
        self._plain = WeakTensorKeyDictionary()
        """Of each tensor made of products: these without bias and mask, None where it is the same."""
        self._shifts = WeakTensorKeyDictionary()
        """Of some of these tensors: what was added to all keys of a query alike."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.has_kernel_for_dispatch_key(COMPOSITE):  # of tensors made in inference mode
            with self:
                return func.decompose(*args, **kwargs)
        written = func.overloadpacket.__name__
        name = written.rstrip("_")
        if name in PRODUCTS:
            return self._product(func, name, args, kwargs)
        own = [x for x in args if isinstance(x, Tensor) and x in self._plain]
        if not own:
            return func(*args, **kwargs)
        first = own[0]
        if name in SOFTMAX and args[1] in (-1, first.ndim - 1):
            self._show(self._plain_of(first), first, self._shifts.get(first))
            return func(*args, **kwargs)
        if len(own) > 1 or name in BENT or (name in FACTORS and not _is_scale(first, args)):
            plain = None
        elif name in ADDED:
            in_place = written.endswith("_") and self._plain[first] is None
            plain = first.clone() if in_place else self._plain_of(first)
        elif name in MOVES | FACTORS:
            plain = self._plain[first]
            if plain is not None:
                plain = _same(func, name, plain, first, args, kwargs)
        else:
            return func(*args, **kwargs)
        shift = self._shift(func, name, first, args, kwargs)
        result = func(*args, **kwargs)
        self._plain[result] = plain
        if shift is not None:
            self._shifts[result] = shift
        return result

    def _shift(
        self, func: Any, name: str, first: Tensor, args: tuple[Any, ...], kwargs: Any
    ) -> Tensor | None:
        shift: Tensor | None = self._shifts.get(first)
        if name in ("add", "sub") and args[0] is first and first.shape[-1] > 1:
            other = args[1]
            if not isinstance(other, Tensor) or other.shape[-1:] in ((), (1,)):
                added = func(torch.zeros_like(first), *args[1:], **kwargs)
                return added if shift is None else shift + added
        if shift is None or name not in MOVES | FACTORS:
            return shift
        return _same(func, name, shift, first, args, kwargs)

    def _product(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any) -> Tensor:
        queries, keys = args[-2:]
        result: Tensor = func(*args, **kwargs)
        if not {_storage(queries), _storage(keys)} & self._weights:
            biased = name == "baddbmm"
            self._plain[result] = (
                kwargs.get("alpha", 1) * torch.bmm(queries, keys) if biased else None
            )
        return result

    def _plain_of(self, tensor: Tensor) -> Tensor:
        plain: Tensor | None = self._plain[tensor]
        return tensor if plain is None else plain


def _same(
    func: Any, name: str, plain: Tensor, first: Tensor, args: tuple[Any, ...], kwargs: Any
) -> Tensor:
    """What the operation makes of the products without bias and mask."""
    result: Tensor
    if name in ("view", "_unsafe_view"):
        result = plain.reshape(args[1])
    elif name in FACTORS:
        other = args[1] if args[0] is first else args[0]
        result = plain * other if name == "mul" else plain / other
    else:
        result = func(plain, *args[1:], **kwargs)
    return result


def _is_scale(first: Tensor, args: tuple[Any, ...]) -> bool:
    """Whether the other factor is one number for each head or sample."""
    others = [own for own in args if isinstance(own, Tensor) and own is not first]
    return all(math.prod(own.shape[-2:]) == 1 for own in others)


def _attention(name: str, products: Tensor, logits: Tensor, shift: Tensor | None) -> Attention:
    """In float64, with the axes of windows and heads apart.

    shift: part of the logits that is the same for all keys of a query, and so masks none.
    """
    masked = logits if shift is None else logits - shift
    added = _four_axes(masked).double() - _four_axes(products).double()
    products, logits = (_four_axes(own).double() for own in (products, logits))
    products = products.broadcast_to(logits.shape)
    allowed = (logits > -math.inf) & ~(added <= MASKED)
    return Attention(name, products, logits, allowed)


def _four_axes(matrices: Tensor) -> Tensor:
    """Windows, heads, queries and keys of one sample. Of three axes, the first is that of heads."""
    if matrices.ndim == 3:
        return matrices[None]
    return matrices.flatten(1, -3)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _within(inner: str, outer: str) -> bool:
    return inner == outer or not outer or inner.startswith(f"{outer}.")
