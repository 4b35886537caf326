"""Measures of the logits alone: ranks before and after the softmax, and norm."""

from typing import Any, NamedTuple

import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.gram import Gram
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import (
    GAMMA,
    GAMMAS,
    Convention,
    Spectrum,
    centre,
    resolved_spectrum,
    root,
)


class LogitsMeasures(NamedTuple):
    """Measures of a batch of logits matrices; ranks at the threshold asked for."""

    rank: Int64[Tensor, "*batch"]
    rank_interval: Int64[Tensor, "*batch 2"]
    rank_curve: Int64[Tensor, "*batch gammas"]
    centred_rank: Int64[Tensor, "*batch"]
    centred_rank_interval: Int64[Tensor, "*batch 2"]
    centred_rank_curve: Int64[Tensor, "*batch gammas"]
    post_softmax_rank: Int64[Tensor, "*batch"]
    post_softmax_rank_curve: Int64[Tensor, "*batch gammas"]
    stable_rank: Float64[Tensor, "*batch"]
    effective_rank: Float64[Tensor, "*batch"]
    logits_norm: Float64[Tensor, "*batch"]
    effective_logits_norm: Float64[Tensor, "*batch"]
    singular_values: Float64[Tensor, "*batch k"]

    def record(self, *index: int) -> dict[str, Any]:
        """One matrix's measures as plain numbers; the rank curves keyed by gamma."""
        plain = {name: value[index].tolist() for name, value in self._asdict().items()}
        for name in ("rank_curve", "centred_rank_curve", "post_softmax_rank_curve"):
            plain[name] = dict(zip(map(str, GAMMAS), plain[name], strict=True))
        return plain


def measure_logits(
    logits: Float[Tensor, "*batch n c"], temperature: float | Tensor = 1.0, gamma: float = GAMMA
) -> LogitsMeasures:
    """Ranks of M, of M centred over classes and of softmax_T(M), and the norms of M and M / T.

    logits: samples first. temperature: the T of training, a number or a tensor of the batch shape.
    The raw norm is ||M||_F / sqrt(n), the effective one ||M||_F / (sqrt(n) T): during training at
    high T the first grows while the second sets the loss.
    Raises ValueError as `softmax` and `numerical_rank`.
    """
    T = torch.as_tensor(temperature, dtype=torch.float64, device=logits.device)
    probabilities = softmax(logits.double(), T[..., None])
    gammas = (*GAMMAS, gamma)
    raw = resolved_spectrum(logits, gammas)
    centred = resolved_spectrum(logits, gammas, centred=True)
    softened = resolved_spectrum(probabilities, gammas)
    return _measures(raw, centred, softened, logits.shape[-2], T, gamma)


class LogitsStatistics:
    """Streaming state from which the same measures come, for logits that arrive in batches.

    Three Gram matrices: memory classes^2. Ranks resolve to about 1e-7 of the largest singular value.
    """

    def __init__(
        self, classes: int, temperature: float = 1.0, *, device: torch.device | str | None = None
    ) -> None:
        self.temperature = temperature
        self._raw, self._centred, self._softened = (Gram(classes, device=device) for _ in range(3))

    def update(self, logits: Float[Tensor, "n classes"]) -> None:
        """Add samples. Raises ValueError as `Gram.update`."""
        logits = logits.double()
        self._raw.update(logits)
        self._centred.update(centre(logits))
        self._softened.update(softmax(logits, self.temperature))

    def spectrum(self, convention: Convention) -> Spectrum:
        """Spectrum of the logits in another convention; see `Gram.spectrum`."""
        return self._raw.spectrum(convention)

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs."""
        for gram in (self._raw, self._centred, self._softened):
            gram.all_reduce(group)

    def measures(self, gamma: float = GAMMA) -> LogitsMeasures:
        """`measure_logits` of all samples seen."""
        T = torch.as_tensor(self.temperature, dtype=torch.float64, device=self._raw.matrix.device)
        states = (self._raw, self._centred, self._softened)
        raw, centred, softened = (state.spectrum() for state in states)
        return _measures(raw, centred, softened, self._raw.rows, T, gamma)


def _measures(
    raw: Spectrum, centred: Spectrum, softened: Spectrum, samples: int, T: Tensor, gamma: float
) -> LogitsMeasures:
    norm = root(raw.singular_values.square().sum(dim=-1)) / samples**0.5
    return LogitsMeasures(
        rank=raw.rank(gamma),
        rank_interval=torch.stack(raw.rank_interval(gamma), dim=-1),
        rank_curve=raw.rank_curve(),
        centred_rank=centred.rank(gamma),
        centred_rank_interval=torch.stack(centred.rank_interval(gamma), dim=-1),
        centred_rank_curve=centred.rank_curve(),
        post_softmax_rank=softened.rank(gamma),
        post_softmax_rank_curve=softened.rank_curve(),
        stable_rank=raw.stable_rank(),
        effective_rank=raw.effective_rank(),
        logits_norm=norm,
        effective_logits_norm=norm / T,
        singular_values=raw.singular_values,
    )
