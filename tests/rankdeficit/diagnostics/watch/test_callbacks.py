"""Callbacks of other trainers open, step and close a watch."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import rankdeficit as rd
from rankdeficit.diagnostics.watch import lightning_callback, trainer_callback
from tests.rankdeficit.diagnostics.diagnose.problems import batches, blobs

INPUTS, LABELS = blobs(40, torch.eye(4))


def watch_of(model: nn.Module) -> rd.Watch:
    return rd.Watch(model, batches(INPUTS, LABELS), every=2, measures=["logits"])


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    """A package of that name, with this content."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(own := ".".join(parts[:end]))
        module.__spec__ = ModuleSpec(own, None, is_package=True)
        module.__path__ = []
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, own, module)


class Logger:
    def __init__(self) -> None:
        self.logged: dict[int, dict[str, Any]] = {}

    def log_metrics(self, metrics: dict[str, Any], step: int) -> None:
        self.logged[step] = metrics


def test_lightning_steps_with_the_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "lightning.pytorch", Callback=object)
    watch, logger = watch_of(nn.Linear(4, 4)), Logger()
    callback = lightning_callback(watch)
    trainer = SimpleNamespace(global_step=3, loggers=[logger], accumulate_grad_batches=2)
    callback.on_train_start(trainer, None)
    for number in range(10):  # two batches to a step of the optimiser, each with half of its loss
        trainer.global_step += number % 2
        callback.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.25)}, None, number)
    callback.on_train_end(trainer, None)
    assert [row["step"] for row in watch.rows] == [3, 4, 6, 8] == list(logger.logged)
    callback.on_train_start(trainer, None)  # fit once more
    trainer.global_step += 1
    callback.on_train_batch_end(trainer, None, {}, None, 0)  # manual optimisation has no loss
    callback.on_train_end(trainer, None)
    assert [row["step"] for row in watch.rows] == [3, 4, 6, 8, 9]
    assert len(watch.loggers) == 1
    assert logger.logged[6]["train_loss"] == 0.5
    assert logger.logged[6]["logits.rank"] == watch.rows[2]["logits.rank"]


def test_lightning_closes_the_watch_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "pytorch_lightning", Callback=object)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: sys.modules.get(name) and object()
    )
    watch = watch_of(nn.Linear(4, 4))
    callback, trainer = lightning_callback(watch), SimpleNamespace(global_step=0, loggers=[])
    trainer.accumulate_grad_batches = 1
    callback.on_train_start(trainer, None)
    callback.on_train_batch_end(trainer, None, torch.tensor(0.5), None, 0)
    callback.on_exception(trainer, None, KeyboardInterrupt())
    assert [row["step"] for row in watch.rows] == [0]


def test_the_trainer_of_transformers_gives_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, "transformers", TrainerCallback=object)
    watch = watch_of(nn.Linear(4, 4))
    callback, state = trainer_callback(watch), SimpleNamespace(global_step=5)
    callback.on_train_begin(None, state, None, model=None)
    for _ in range(4):
        callback.on_step_end(None, state, None)
    callback.on_train_end(None, state, None)
    assert [row["step"] for row in watch.rows] == [5, 6, 8, 9]
    for _ in range(2):  # a training that fails ends without a callback
        callback.on_train_begin(None, state, None)
    assert [row["step"] for row in watch.rows] == [5]


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(ImportError, match="lightning"):
        lightning_callback(watch_of(nn.Linear(4, 4)))


@pytest.mark.slow
def test_the_trainer_of_transformers_itself(tmp_path: Any) -> None:
    transformers = pytest.importorskip("transformers")

    class Model(nn.Linear):
        def forward(self, x: torch.Tensor, labels: Any = None) -> Any:  # type: ignore[override]
            logits = super().forward(x)
            loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
            return {"loss": loss, "logits": logits} if loss is not None else {"logits": logits}

    model = Model(4, 4)
    watch = watch_of(model)
    data = [{"x": x, "labels": y} for x, y in zip(INPUTS, LABELS, strict=True)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=5, report_to=[], save_strategy="no", use_cpu=True,
        per_device_train_batch_size=8, disable_tqdm=True,
    )  # fmt: skip
    transformers.Trainer(
        model=model, args=arguments, train_dataset=data, callbacks=[trainer_callback(watch)]
    ).train()
    assert [row["step"] for row in watch.rows] == [0, 2, 4, 5]
    assert watch.rows[-1]["loss"] != watch.rows[0]["loss"]


@pytest.mark.slow  # the import alone takes seconds
@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, from within Lightning
def test_the_trainer_of_lightning_itself(tmp_path: Any) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    loggers = pytest.importorskip("lightning.pytorch.loggers")

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> Any:
            return self.layer(x)

        def training_step(self, batch: Any, _: int) -> Any:
            if self.global_step == self.fails_at:
                raise RuntimeError("own")
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader = torch.utils.data.DataLoader(batches(INPUTS, LABELS, 5), batch_size=None)
    steps, logged = [], []
    for fails_at in (None, 3):
        module, logger = Module(), loggers.CSVLogger(tmp_path, name=str(fails_at))
        module.fails_at = fails_at
        watch = watch_of(module)
        trainer = lightning.Trainer(
            max_steps=5, accelerator="cpu", logger=logger, callbacks=[lightning_callback(watch)],
            accumulate_grad_batches=2, enable_progress_bar=False, enable_checkpointing=False,
            enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1,
        )  # fmt: skip
        if fails_at is None:
            trainer.fit(module, loader)
            assert watch.rows[-1]["loss"] < watch.rows[0]["loss"]
            assert module.training
            logged = [own["step"] for own in logger.experiment.metrics if "logits.rank" in own]
        else:
            with pytest.raises(RuntimeError, match="own"):
                trainer.fit(module, loader)
        steps.append([row["step"] for row in watch.rows])
    assert steps == [[0, 2, 4, 5], [0, 2]]
    assert logged in ([], steps[0])  # empty once they are written to the file
    written = (tmp_path / "None" / "version_0" / "metrics.csv").read_text().splitlines()
    assert "logits.effective_logits_norm" in written[0]
