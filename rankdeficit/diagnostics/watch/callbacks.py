"""Callbacks that run a watch in Lightning and in the Trainer of transformers, if these are installed."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

from rankdeficit.diagnostics.watch.watch import Watch

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")
"""Packages of Lightning, of which the first that is installed is used."""


@dataclass(frozen=True)
class LightningLogger:
    """A logger of Lightning that takes rows."""

    logger: Any

    def log(self, row: dict[str, Any], /) -> None:
        """The numbers of a row, at its step."""
        numbers = {name: own for name, own in row.items() if isinstance(own, int | float)}
        self.logger.log_metrics(numbers, step=row["step"])


def lightning_callback(watch: Watch) -> Any:
    """A `lightning.pytorch.Callback` that opens the watch when training begins and closes it at the end.

    Steps are the optimiser's, and the trainer's loggers get the rows. Raises ImportError where Lightning
    is not installed.
    """
    found = [name for name in LIGHTNING if importlib.util.find_spec(name.partition(".")[0])]
    base: Any = importlib.import_module((found or LIGHTNING)[0]).Callback

    class WatchCallback(base):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            others = [own for own in watch.loggers if not isinstance(own, LightningLogger)]
            watch.loggers = [*others, *map(LightningLogger, trainer.loggers)]
            watch.open(trainer.global_step)

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if trainer.global_step > watch.steps:  # not while gradients accumulate
                loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
                # Lightning has divided it by the number of batches to a step
                watch.step(None if loss is None else loss * trainer.accumulate_grad_batches)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            watch.close()

        def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
            watch.release()

    return WatchCallback()


def trainer_callback(watch: Watch) -> Any:
    """A `transformers.TrainerCallback` that opens the watch when training begins and closes it after it.

    Raises ImportError where transformers is not installed.
    """
    base: Any = importlib.import_module("transformers").TrainerCallback

    class WatchCallback(base):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.release()  # no callback is called after an error
            watch.open(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.step()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.close()

    return WatchCallback()
