"""Networks that work on windows of an image, (samples x windows, ...)."""

import pytest
import torch
from torch import Tensor, nn

import rankdeficit as rd
from rankdeficit.diagnostics.reading.unfolding import input_rows

SIDE, CHANNELS = 4, 2


class Quadrants(nn.Module):
    """A convolution or linear layer within each quarter of an image, then a classifier."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.head = inner, nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = quarters(images)
        if isinstance(self.inner, nn.Linear):
            maps = self.inner(maps.flatten(2).mT).mT
        else:
            maps = self.inner(maps)
        return self.head(maps.flatten(2).mean(dim=2).unflatten(0, (len(images), -1)).mean(dim=1))


def quarters(images: Tensor) -> Tensor:
    """(n, channels, 2 side, 2 side) as (4 n, channels, side, side)."""
    parts = images.unflatten(3, (2, SIDE)).unflatten(2, (2, SIDE))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


@pytest.mark.parametrize("kernel", [1, 3])
def test_rows_of_convolutions_stay_within_their_window(kernel: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = quarters(torch.randn(3, CHANNELS, 2 * SIDE, 2 * SIDE, generator=generator))
    module = nn.Conv2d(CHANNELS, 3, kernel, padding=kernel // 2)
    unfolded = nn.functional.unfold(maps, kernel, padding=kernel // 2).mT  # (12, 16, width)
    expected = unfolded.reshape(3, 4 * SIDE**2, -1)
    positions = torch.tensor([[0, 63, 17], [5, 40, 16], [15, 31, 32]])
    rows = input_rows(module, maps, positions, windows=4)
    assert torch.equal(rows.reshape(3, 3, -1), expected[torch.arange(3)[:, None], positions])


@pytest.mark.parametrize("inner", [nn.Conv2d(CHANNELS, 3, 1), nn.Linear(CHANNELS, 3)], ids=type)
def test_a_layer_without_neighbours_reads_windows_as_it_reads_the_whole(inner: nn.Module) -> None:
    """Features are equal, and so is the alignment of all rows."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(24, CHANNELS, 2 * SIDE, 2 * SIDE, generator=generator)
    data = [(images, torch.arange(24) % 3)]
    windows = Quadrants(inner)
    whole = nn.Sequential(
        nn.Conv2d(CHANNELS, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)
    )
    with torch.no_grad():
        whole[0].weight.copy_(inner.weight.reshape(3, CHANNELS, 1, 1))  # type: ignore[operator]
        whole[0].bias.copy_(inner.bias)  # type: ignore[arg-type]
    whole[3].load_state_dict(windows.head.state_dict())
    one, other = (
        rd.diagnose(
            model, data, data, grid=1, rows_per_sample=64,
            measures=["layer_ranks", "alignment", "gradient_ranks", "effective_depth"],
        )["layers"]
        for model in (windows, whole)
    )  # fmt: skip
    assert len(one) == len(other) == 2
    for mine, theirs in zip(one, other, strict=True):
        assert mine["alignment"] == pytest.approx(theirs["alignment"])
        assert mine["probe"]["accuracy"] == theirs["probe"]["accuracy"]
        assert mine["gradient"]["rank"] == theirs["gradient"]["rank"]
