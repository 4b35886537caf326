"""Measures of a network while it trains, with alarms: README.md shows the use."""

from rankdeficit.diagnostics.watch.alarms import Alarm, Thresholds
from rankdeficit.diagnostics.watch.callbacks import lightning_callback, trainer_callback
from rankdeficit.diagnostics.watch.watch import Watch

__all__ = ["Alarm", "Thresholds", "Watch", "lightning_callback", "trainer_callback"]
