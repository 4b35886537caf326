"""Networks of one and of two classifiers, on images of 8 x 8."""

import torch
from torch import Tensor, nn


class TwoHeads(nn.Module):
    """Mean logits of two classifiers, as of distilled transformers."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU())
        self.one, self.other = nn.Linear(16, classes), nn.Linear(16, classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.body(images)
        return (self.one(features) + self.other(features)) / 2  # type: ignore[no-any-return]


class OneHead(nn.Module):
    """One classifier, behind a layer of `width`; logits have a gain and a shift of their own."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.ReLU())
        self.head = nn.Linear(width, classes)
        self.gain, self.shift = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(classes))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images)) * self.gain + self.shift  # type: ignore[no-any-return]


class WithBypass(OneHead):
    """Whose logits the images reach past the classifier, too."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + images.mean(dim=(1, 2, 3))[:, None]
