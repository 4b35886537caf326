"""Recurrent, mixed and unusual classifiers of sequences and images in plain torch."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CLASSES, WIDTH, LENGTH, SIDE = 3, 6, 7, 8


class Last(nn.Module):
    """A recurrent network whose last output is classified."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.first = bool(options.get("batch_first", True))
        self.rnn = kind(WIDTH, 8, **({"batch_first": True} | options))  # type: ignore[arg-type]
        self.head = nn.Linear(8 * (2 if options.get("bidirectional") else 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x if self.first else x.transpose(0, 1))
        return self.head(states[:, -1] if self.first else states[-1])


class Attentive(nn.Module):
    """LSTM with attention over its outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(WIDTH, 8, batch_first=True)
        self.score, self.head = nn.Linear(8, 1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x)
        return self.head((self.score(states).softmax(1) * states).sum(1))


class Convolved(nn.Module):
    """Convolution over time, then an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(WIDTH, 8, 3, padding=1)
        self.rnn, self.head = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.convolution(x.mT).relu().mT)[0][:, -1])


class Packed(nn.Module):
    """LSTM over packed sequences of the lengths given; its last states or the mean of its outputs."""

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean
        self.rnn, self.head = nn.LSTM(WIDTH, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, (last, _) = self.rnn(packed)
        if self.mean:
            states, _ = pad_packed_sequence(outputs, batch_first=True)
            return self.head(states.sum(1) / lengths[:, None])
        return self.head(last[-1])


class Cell(nn.Module):
    """An LSTM cell in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(WIDTH, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for now in x.unbind(1):
            state = self.cell(now, state)
        assert state is not None
        return self.head(state[0])


class ConvolutionalCell(nn.Module):
    """ConvLSTM (Shi et al., 2015) over frames, the gates from one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.gates, self.head = nn.Conv2d(3 + 4, 16, 3, padding=1), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4, *x.shape[3:])
        for frame in x.unbind(1):
            i, f, o, g = self.gates(torch.cat([frame, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h.mean((2, 3)))


class Mixer(nn.Module):
    """One block of MLP-Mixer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.tokens = nn.Sequential(nn.Linear(LENGTH, 9), nn.GELU(), nn.Linear(9, LENGTH))
        self.channels = nn.Sequential(nn.Linear(WIDTH, 9), nn.GELU(), nn.Linear(9, WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norms[0](x).mT).mT
        return self.head((x + self.channels(self.norms[1](x))).mean(1))


class Encoder(nn.Module):
    """A transformer encoder of torch, its tokens first or its samples."""

    def __init__(self, first: bool) -> None:
        super().__init__()
        self.first = first
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, batch_first=first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x if self.first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.first else 0))


class TwoTowers(nn.Module):
    """Two inputs, each through its own network, joined before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.text = nn.Sequential(nn.Flatten(), nn.Linear(WIDTH * LENGTH, 5), nn.ReLU())
        self.head = nn.Linear(9, CLASSES)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return self.head(torch.cat([self.image(image), self.text(text)], 1))


SEQUENCES: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: Last(nn.RNN),
    "GRU": lambda: Last(nn.GRU),
    "LSTM": lambda: Last(nn.LSTM),
    "bidirectional LSTM": lambda: Last(nn.LSTM, bidirectional=True),
    "stacked GRU": lambda: Last(nn.GRU, num_layers=3),
    "LSTM, time first": lambda: Last(nn.LSTM, batch_first=False),
    "LSTM with projection": lambda: Projected(),
    "LSTM with attention": Attentive,
    "CNN-LSTM": Convolved,
    "LSTM cell in a loop": Cell,
    "MLP-Mixer": Mixer,
    "transformer encoder": lambda: Encoder(True),
    "transformer encoder, tokens first": lambda: Encoder(False),
}


class Projected(nn.Module):
    """LSTM whose outputs are projected."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(WIDTH, 8, proj_size=5, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def others() -> dict[str, tuple[nn.Module, Callable[[int], tuple[object, Tensor]]]]:
    """Models with other inputs than sequences, and what makes a batch for them."""

    def lengths(n: int) -> tuple[object, Tensor]:
        own = torch.arange(n) % (LENGTH - 2) + 3
        return (torch.randn(n, LENGTH, WIDTH), own), torch.arange(n) % CLASSES

    def frames(n: int) -> tuple[object, Tensor]:
        return torch.randn(n, 4, 3, SIDE, SIDE), torch.arange(n) % CLASSES

    def pairs(n: int) -> tuple[object, Tensor]:
        image, text = torch.randn(n, 3, SIDE, SIDE), torch.randn(n, LENGTH, WIDTH)
        return {"image": image, "text": text}, torch.arange(n) % CLASSES

    return {
        "LSTM over packed sequences, last states": (Packed(mean=False), lengths),
        "LSTM over packed sequences, mean": (Packed(mean=True), lengths),
        "ConvLSTM": (ConvolutionalCell(), frames),
        "two towers": (TwoTowers(), pairs),
    }
