"""The temperature T of attention, softmax(Q K^T / (sqrt(d) T)) V: fixed, or learned for each head."""

import math
import re
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rankdeficit.checks import check_temperature

QUERIES = ("query", "q_proj", "q_lin")
"""Names of the linear layer that makes the queries, as transformers calls it."""
KEYS = ("key", "k_proj", "k_lin")
NORMS = re.compile(r"q_norm|q_layer_?norm|query_(layer_?)?norm|norm_q|logit_scale")
"""Attributes of an attention that normalises queries after that layer, which undoes a temperature."""
HEADS = ("num_heads", "num_attention_heads", "n_heads")
"""Attributes with the number of heads, of an attention or of its config."""


class HeadTemperature(nn.Module):
    """One temperature for each head: a buffer, or the parameter ln T, which stays positive."""

    temperature: Float[Tensor, " heads"]
    log_temperature: Float[Tensor, " heads"]

    def __init__(self, heads: int, like: Tensor) -> None:
        """`heads` temperatures of 1, on the device and in the precision of a weight."""
        super().__init__()
        self.register_buffer("temperature", like.detach().new_ones(heads))
        self.learnable = False

    def set(self, temperature: float, learnable: bool) -> None:
        """Give all heads this temperature."""
        ones = torch.ones_like(self().detach())
        for name in ("temperature", "log_temperature"):
            if hasattr(self, name):
                delattr(self, name)
        if learnable:
            self.log_temperature = nn.Parameter(ones * math.log(temperature))
        else:
            self.register_buffer("temperature", ones * temperature)
        self.learnable = learnable

    def forward(self) -> Float[Tensor, " heads"]:
        """T of each head."""
        return self.log_temperature.exp() if self.learnable else self.temperature


class QueryRows(nn.Module):
    """Parametrisation of a weight or bias whose first rows make the queries, head after head."""

    def __init__(self, temperature: HeadTemperature, rows: int, owner: bool) -> None:
        """rows: width of all queries together. owner: whether the state_dict has the temperature here.

        A weight and its bias share it, and files of weights hold no tensor twice.
        """
        super().__init__()
        self.rows, self.shared = rows, (temperature,)
        if owner:
            self.own = temperature

    @property
    def temperature(self) -> HeadTemperature:
        """Of the heads."""
        return self.shared[0]

    def forward(self, weight: Float[Tensor, "rows *columns"]) -> Float[Tensor, "rows *columns"]:
        """The rows of the queries over the temperatures of their heads, the others as they are."""
        T = self.temperature()
        queries = weight[: self.rows].unflatten(0, (len(T), -1))
        queries = queries / T.view(-1, *[1] * (queries.ndim - 1))
        return torch.cat([queries.flatten(0, 1), weight[self.rows :]])


class Queries(nn.Module):
    """The normalisation of queries in timm's attention, and their temperature."""

    def __init__(self, norm: nn.Module, temperature: HeadTemperature) -> None:
        """norm: what the attention had, nn.Identity where it has none."""
        super().__init__()
        self.norm, self.temperature = norm, temperature

    def forward(
        self, queries: Float[Tensor, "n heads tokens d"]
    ) -> Float[Tensor, "n heads tokens d"]:
        """Normalised queries over T. Raises ValueError where axis 1 is not that of the heads."""
        T = self.temperature()
        if queries.ndim != 4 or queries.shape[1] != len(T):
            raise ValueError(
                f"queries have shape {tuple(queries.shape)}; a temperature of attention needs (n, heads, "
                f"tokens, d) with {len(T)} heads"
            )
        found: Tensor = self.norm(queries) / T[:, None, None]
        return found


def set_attention_temperature(
    model: nn.Module, temperature: float, learnable: bool = False
) -> list[str]:
    """Let every attention of the model compute softmax(Q K^T / (sqrt(d) T)), and return their names.

    temperature: T, the same for all heads. learnable: train ln T of each head with the other parameters;
    otherwise T is fixed. Calling it again replaces T. Changed are nn.MultiheadAttention, timm's Attention
    (modules with num_heads, q_norm and k_norm, after whose normalisation T acts), and attention with
    linear layers for queries and keys as in transformers' BERT and ViT; other forms stay as they are.
    The model is changed in place: queries are divided by T through a parametrisation, so the weights
    keep their values, and names in its state_dict change. Raises ValueError unless T is positive and
    finite, and for a model without such an attention.
    """
    check_temperature(temperature)
    known = attention_temperatures_of(model)
    if not known:
        known = dict(_tempered(model))
    if not known:
        raise ValueError(
            f"model is a {type(model).__name__} without attention that a temperature can be set of; give "
            "one with nn.MultiheadAttention, timm's Attention (num_heads, q_norm, k_norm) or linear "
            f"layers called {' or '.join(QUERIES)}"
        )
    for own in known.values():
        own.set(temperature, learnable)
    return list(known)


def attention_temperatures(model: nn.Module) -> dict[str, Float[Tensor, " heads"]]:
    """T of each head, by the name of the attention; empty where none was set."""
    return {name: own().detach().clone() for name, own in attention_temperatures_of(model).items()}


def attention_temperatures_of(model: nn.Module) -> dict[str, HeadTemperature]:
    """The temperatures that were set, by the name of the attention."""
    found: dict[str, HeadTemperature] = {}
    for name, module in model.named_modules():
        owner = name if isinstance(module, nn.MultiheadAttention) else name.rpartition(".")[0]
        for own in (module, *_parametrisations(module)):
            if isinstance(own, Queries) or (isinstance(own, QueryRows) and own is not module):
                found[owner] = own.temperature
    return found


def _parametrisations(module: nn.Module) -> Iterator[nn.Module]:
    if parametrize.is_parametrized(module):
        for several in module.parametrizations.values():  # type: ignore[operator]
            yield from several


def _tempered(model: nn.Module) -> Iterator[tuple[str, HeadTemperature]]:
    """Put temperatures of 1 into every attention."""
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.MultiheadAttention):
            weight = "in_proj_weight" if module.in_proj_weight is not None else "q_proj_weight"
            own = HeadTemperature(module.num_heads, getattr(module, weight))
            _parametrise(module, (weight, "in_proj_bias"), own, module.embed_dim)
        elif _normalises(module):
            own = HeadTemperature(int(module.num_heads), next(module.parameters()))
            module.q_norm = Queries(module.q_norm, own)
        elif (heads := _heads(module)) and (queries := _separate_queries(module)):
            own = HeadTemperature(heads, queries.weight)
            _parametrise(queries, ("weight", "bias"), own, queries.out_features)
        else:
            continue
        yield name, own


def _parametrise(
    module: nn.Module, parts: tuple[str, str], temperature: HeadTemperature, rows: int
) -> None:
    """Divide the queries' rows of a weight, and of its bias where it has one."""
    for place, part in enumerate(parts):
        if getattr(module, part) is not None:
            own = QueryRows(temperature, rows, owner=place == 0)
            parametrize.register_parametrization(module, part, own)


def _normalises(module: nn.Module) -> bool:
    """Whether it has the parts of timm's attention, whose norms are identities by default."""
    norms = (getattr(module, name, None) for name in ("q_norm", "k_norm"))
    return hasattr(module, "num_heads") and all(isinstance(own, nn.Module) for own in norms)


def _separate_queries(module: nn.Module) -> nn.Linear | None:
    """The layer of the queries, in an attention of transformers that does not normalise them later."""
    parts = (
        *module.named_children(),
        *module.named_parameters(recurse=False),
        *module.named_buffers(recurse=False),
    )
    if any(NORMS.fullmatch(name) for name, _ in parts):
        return None
    queries, keys = (
        next(
            (own for name in names if isinstance(own := getattr(module, name, None), nn.Linear)),
            None,
        )
        for names in (QUERIES, KEYS)
    )
    return None if keys is None else queries


def _heads(module: nn.Module) -> int | None:
    """Number of heads in an attribute of the module or of its config."""
    holders = (module, getattr(module, "config", None))
    found = (getattr(holder, name, None) for holder in holders for name in HEADS)
    return next((own for own in found if isinstance(own, int)), None)
