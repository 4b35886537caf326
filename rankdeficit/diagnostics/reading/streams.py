"""The streams that several measures share."""

from rankdeficit.diagnostics.reading.needs import Stream
from rankdeficit.diagnostics.states.alignment import InputDirections
from rankdeficit.diagnostics.states.class_statistics import ClassStatistics
from rankdeficit.diagnostics.states.logits import LogitsStatistics
from rankdeficit.diagnostics.states.loss import MeanLoss
from rankdeficit.gram import Gram

LOSS = Stream("logits", lambda own: MeanLoss(own.temperature, device=own.device), ("labels",))
"""Mean cross-entropy at the temperature."""

LOGITS = Stream(
    "logits", lambda own: LogitsStatistics(own.classes, own.temperature, device=own.device)
)
"""Gram matrices of the logits, raw, centred, and after the softmax."""

FEATURES = Stream(
    "features", lambda own: Gram(own.width, device=own.device, memory=own.matrix_memory)
)
"""Gram matrix of the representation after every layer."""

PENULTIMATE = Stream(
    "penultimate", lambda own: Gram(own.width, device=own.device, memory=own.matrix_memory)
)
"""Gram matrix of what the classifier reads."""

CLASSES = Stream(
    "penultimate",
    lambda own: ClassStatistics(
        own.width, own.classes, device=own.device, memory=own.matrix_memory
    ),
    ("labels",),
)
"""Class statistics of what the classifier reads."""

INPUTS = Stream(
    "rows",
    lambda own: InputDirections(own.width, device=own.device, memory=own.matrix_memory),
    ("keys",),
)
"""Gram matrices of some rows of what every layer with a weight matrix reads, by group of samples."""

DIRECTIONS = Stream(
    "rows",
    lambda own: InputDirections(own.width, groups=1, device=own.device, memory=own.matrix_memory),
    ("keys",),
)
"""The same of all samples together, for an alignment without its error."""
