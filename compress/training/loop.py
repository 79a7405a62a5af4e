"""The training loop: AdamW with warm-up and linear decay over length-bucketed batches, keeping the best epoch on validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import nn

from compress.core import console, processes
from compress.core.errors import Diverged
from compress.data.batching import training_batches
from compress.data.encoded import Encoded
from compress.models.device import Batch, pick_device, to_tensors
from compress.models.grouped_heads import kept_groups
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.results import TrainingDocument
from compress.settings import TrainSettings
from compress.training.budget import TimeBudget
from compress.training.fast_steps import fast_steps
from compress.training.learning_rate import default_lr, warmup_linear_decay
from compress.training.optimizer import RowwiseAdamW, clip_gradients
from compress.training.precision import autocast, choose_precision
from compress.training.resume import Progress, StateFile, TrainingState, training_fingerprint
from compress.training.step_schedule import StepSchedule
from compress.training.trainable import freeze_embeddings

Validation = Callable[[], float]
StageSettings = TypeVar("StageSettings", bound=TrainSettings, covariant=True)
SHOWN_LOSSES = 50  # recent steps whose mean loss the progress bar shows


@dataclass(frozen=True)
class Loss:
    """What a training minimises.

    Attributes:
        function: `(batch, positions) -> scalar`; runs the forward pass itself, under autocast. Random numbers must come from
            PyTorch's global generator.
        parameters: trained together with the model's (projections of a distillation loss).
        item_count: the number of items, by default examples, that the loss of these positions is a mean of: the weight of its
            gradients when several processes train together.
        before_step: called with the number of each step (from 0), in every process, also without an example of the batch.
    """

    function: Callable[[Batch, np.ndarray], torch.Tensor]
    parameters: Sequence[nn.Parameter] = ()
    item_count: Callable[[np.ndarray], float] = len
    before_step: Callable[[int], None] | None = None


@dataclass(frozen=True)
class TrainingPlan(Generic[StageSettings]):
    """How to train.

    Attributes:
        settings: epochs, learning rate, batch size and so on.
        seed: of shuffling and dropout.
        resume: the folder of the stage's training states, to resume from after a kill; None: no state is written.
        budget: the time limit, instead of epochs.
        label: title of the progress bar.
        lr_option: the option that sets the learning rate, for the hint after a divergence.
        metric: the name of the score on validation, for progress messages.
    """

    settings: StageSettings
    seed: int
    resume: Path | None = None
    budget: TimeBudget | None = None
    label: str = "training"
    lr_option: str = "--lr"
    metric: str = ""

    @property
    def device(self) -> torch.device:
        """The device to train on.

        Raises:
            ResourceError: it is unavailable.
        """
        return pick_device(self.settings.device)


@dataclass(frozen=True)
class TrainingResult:
    """What a training did, for a manifest and for the user."""

    epochs: float  # fractional if a time budget ended within an epoch
    steps: int
    best_epoch: int
    loss: float  # mean of the last epoch
    score: float | None  # of the best epoch
    precision: str
    seconds: float  # with a time budget since the start of the stage, else since that of training
    diverged: Diverged | None = None  # the error that stopped training after its best epoch

    def as_json(self) -> TrainingDocument:
        """Return the fields as a JSON document."""
        return {
            "epochs": self.epochs,
            "steps": self.steps,
            "best_epoch": self.best_epoch,
            "loss": self.loss,
            "score": self.score,
            "precision": self.precision,
            "seconds": self.seconds,
        }


def fit(
    model: TransformersModel, data: Encoded, loss: Loss, plan: TrainingPlan[TrainSettings], validate: Validation | None = None
) -> TrainingResult:
    """Train `model` in place and leave it with the weights of its best epoch, in evaluation mode.

    Killed and called again with the same arguments, it resumes from the last state in `plan.resume` and ends with the same weights
    as without the interruption (bit by bit in one process on a CPU).

    Args:
        model: of a known family, with its head.
        data: the encoded training examples.
        loss: what to minimise.
        plan: how to train.
        validate: returns the score of the current model, higher is better; None: the last epoch is kept.

    Returns:
        What was done. If training diverged after a validated epoch, the model has its best weights and the result has the error,
        which the caller raises once they are saved.

    Raises:
        Diverged: a loss or a gradient is not finite, and no epoch was validated before.
    """
    rank_seed = plan.seed + processes.rank()  # dropout differs between processes
    torch.manual_seed(rank_seed)
    processes.check_device(plan.device)
    model.to(plan.device)
    if plan.settings.freeze_embeddings:
        freeze_embeddings(model)
    parameters = [*(p for p in model.parameters() if p.requires_grad), *loss.parameters]
    processes.broadcast(parameters)
    with kept_groups(model, model_shape(model).head_size), fast_steps(model, plan.device, rank_seed) as dropout:
        optimizer = RowwiseAdamW(_parameter_groups(parameters, plan.settings.weight_decay), fused=True)
        state = TrainingState(parameters, optimizer, np.random.default_rng(plan.seed), dropout, plan.device)
        loop = _Loop(model, data, loss, plan, validate, state)
        with _progress_bar(plan.label, loop.schedule, loop.progress) as advance:
            diverged = loop.run(advance)
        loop.load_best_weights(diverged is not None)
    return loop.result(diverged)


class _Loop:
    """A training in progress."""

    def __init__(
        self,
        model: TransformersModel,
        data: Encoded,
        loss: Loss,
        plan: TrainingPlan[TrainSettings],
        validate: Validation | None,
        state: TrainingState,
    ) -> None:
        self.model, self.data, self.loss, self.plan, self.validate, self.state = model, data, loss, plan, validate, state
        self.settings, self.device = plan.settings, plan.device
        self.lr = plan.settings.lr or default_lr(model)
        facts = [plan.label, plan.settings.model_dump(mode="json"), plan.seed, data.lengths.tolist()]
        weights = [*model.parameters(), *loss.parameters]
        self.file = StateFile(plan.resume, training_fingerprint(weights, facts) if plan.resume else "")
        if saved := self.file.load():
            state.restore(*saved)
            console.info(f"  resuming at step {self.progress.step}, epoch {self.progress.epoch + 1}")
            if plan.budget is not None:
                plan.budget.earlier = self.progress.seconds
        self.started = time.monotonic() - self.progress.seconds
        precision = self.progress.precision or processes.from_main(lambda: choose_precision(model, data, plan.settings, plan.device))
        self.progress.precision = precision
        per_epoch = math.ceil(len(data) / plan.settings.batch_size)
        self.schedule = StepSchedule(per_epoch, plan.settings.epochs, plan.budget, self.progress.step_times)

    @property
    def progress(self) -> Progress:
        """How far the training is."""
        return self.state.progress

    def seconds(self) -> float:
        """Return the seconds used so far, including those before a kill: of the time budget, or else by training."""
        return time.monotonic() - self.started if self.plan.budget is None else self.plan.budget.elapsed()

    def run(self, advance: Callable[[Progress], None]) -> Diverged | None:
        """Train to the end; return the error if training diverged after a validated epoch.

        Raises:
            Diverged: before the first validated epoch.
        """
        try:
            while not self.progress.finished:
                self._epoch(advance)
        except Diverged as error:
            if self.progress.best_weights is None:
                raise
            self.model.eval()
            return error
        return None

    def load_best_weights(self, diverged: bool) -> None:
        """Give the model the weights of its best epoch."""
        best = self.progress.best_weights
        if best is not None and (diverged or self.progress.best_epoch != self.progress.epoch):
            self.model.load_state_dict(best, strict=False)  # frozen parameters did not change

    def result(self, diverged: Diverged | None) -> TrainingResult:
        """Return what was done."""
        done = self.progress
        epochs = done.epoch if self.plan.budget is None else round(done.step / self.schedule.per_epoch, 2)
        return TrainingResult(epochs, done.step, done.best_epoch, done.mean_loss, done.best_score, done.precision, self.seconds(), diverged)

    def _epoch(self, advance: Callable[[Progress], None]) -> None:
        """Train for an epoch, or for the rest of a resumed one, or until the time is over."""
        done = self.progress
        self.state.begin_epoch()
        self.model.train()
        for positions in training_batches(self.data.lengths, self.settings.batch_size, self.state.order)[done.batch :]:
            total = self._total_steps()
            if done.step >= total:
                break
            self._step(positions, total)
            done.step, done.batch = done.step + 1, done.batch + 1
            advance(done)
            if self.file.is_due():
                self._save()
            self.schedule.end_step()
        self.model.eval()
        self._end_epoch()
        if self.file.is_due(epoch_ended=True):
            self._save()

    def _total_steps(self) -> int:
        """Return the number of steps as known now; with a budget by the clock of the first process."""
        if self.plan.budget is None:
            return self.schedule.total
        return processes.from_main(lambda: self.schedule.begin_step(self.progress.step))

    def _step(self, positions: np.ndarray, total: int) -> None:
        optimizer, done = self.state.optimizer, self.progress
        for group in optimizer.param_groups:
            group["lr"] = self.lr * warmup_linear_decay(done.step, total, self.settings.warmup)
        if self.loss.before_step:
            self.loss.before_step(done.step)
        value, local = 0.0, processes.shard(positions)
        if len(local):
            batch = to_tensors(self.data.batch(local), self.model, self.device)
            with autocast(done.precision, self.device):
                loss = self.loss.function(batch, local)
            loss.backward()
            value = float(loss.detach())
        value = processes.all_reduce_gradients(self.state.parameters, value, self.loss.item_count(local) if len(local) else 0)
        done.losses.append(self._finite("loss", value))
        self._finite("gradient", clip_gradients(self.state.parameters, self.settings.max_grad_norm))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _finite(self, what: str, value: float) -> float:
        """Return a loss, or the norm of a gradient, if it is finite.

        Raises:
            Diverged: it is not.
        """
        if not math.isfinite(value):
            hint = f"lower the learning rate (it was {self.lr:g}): {self.plan.lr_option} {self.lr / 3:.1g}"
            raise Diverged(f"the {what} became {value} in epoch {self.progress.epoch + 1}, step {self.progress.step + 1}", hint)
        return value

    def _end_epoch(self) -> None:
        """Validate the model, keep its weights if they are the best so far, and decide whether training is finished."""
        done = self.progress
        if done.batch:
            done.epoch, done.batch = done.epoch + 1, 0
            done.mean_loss, done.losses = float(np.mean(done.losses)), []
            done.finished = done.step >= self._total_steps()
        else:  # the time was over before this epoch began
            done.finished = True
            if done.step_times.last_validated == done.step:
                return
        score = processes.from_main(self._score)
        if score is not None:
            done.step_times.last_validated = done.step
        self._announce(score)
        if self.validate is None or (score is not None and (done.best_score is None or score > done.best_score)):
            self._keep_as_best(score)
        elif score is not None:
            done.scores_since_best += 1
            if done.scores_since_best == self.settings.patience:
                console.info(f"  no improvement for {self.settings.patience} epochs: stopped early")
                done.finished = True

    def _score(self) -> float | None:
        """Validate, if it is time to."""
        if not self.validate or not self.schedule.should_validate(self.progress.step):
            return None
        before = self.seconds()
        score = float(self.validate())
        self.schedule.record_validation(self.seconds() - before)
        return score

    def _keep_as_best(self, score: float | None) -> None:
        done = self.progress
        done.best_score, done.best_epoch, done.scores_since_best = score, done.epoch, 0
        if self.validate:
            done.best_weights = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}

    def _announce(self, score: float | None) -> None:
        epoch, loss, seconds = self.progress.epoch, self.progress.mean_loss, self.seconds()
        validation = "" if score is None else f", validation {self.plan.metric} {100 * score:.2f}"
        console.info(f"  epoch {epoch}: loss {loss:.4f}{validation} ({console.duration(seconds)})")
        console.event("epoch", epoch=epoch, loss=loss, score=score, seconds=seconds)

    def _save(self) -> None:
        self.progress.seconds = self.seconds()
        self.file.save(*self.state.capture())


@contextmanager
def _progress_bar(label: str, schedule: StepSchedule, start: Progress) -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a training in steps, or in the seconds of its time budget."""
    budget = schedule.budget
    shown = round(budget.elapsed()) if budget else start.step
    title, total = (f"{label}, seconds", round(budget.seconds)) if budget else (label, schedule.total)
    with console.progress(title, total, shown) as advance:

        def show(done: Progress) -> None:
            nonlocal shown
            now = round(budget.elapsed()) if budget else done.step
            advance(now - shown, f"epoch {done.epoch + 1} loss {np.mean(done.losses[-SHOWN_LOSSES:] or [math.nan]):.3f}")
            shown = now

        yield show


def _parameter_groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, object]]:
    """Return AdamW's parameter groups: matrices decay, biases and LayerNorm gains do not."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
