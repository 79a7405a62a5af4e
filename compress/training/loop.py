"""The one training loop: AdamW with warm-up and linear decay over length-bucketed batches, kept honest by validation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.core import console, processes
from compress.core.errors import Diverged
from compress.data.batching import training_batches
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.models.device import Batch, to_tensors
from compress.models.family import descend, family_of
from compress.settings import TrainSettings
from compress.training.budget import Budget, Pace, schedule
from compress.training.fast_steps import fast_steps
from compress.training.precision import autocast, choose_precision
from compress.training.resume import Progress, Snapshots, State, identity_of

LossFunction = Callable[[Batch, np.ndarray], torch.Tensor]
MANY_LABELS = 20
RECURRENT_LR = 1e-3  # Adam's own default: a BiLSTM learns from random weights
NO_DECAY_DIMENSIONS = 1  # biases and LayerNorm gains are not decayed


@dataclass(frozen=True)
class FitResult:
    """What training did: enough for a manifest and for a reader."""

    epochs: float  # a whole number, unless a budget ended within an epoch
    steps: int
    best_epoch: int
    loss: float
    score: float | None
    precision: str
    seconds: float
    diverged: Diverged | None = None  # what stopped it after its best epoch

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a JSON document."""
        return {key: value for key, value in asdict(self).items() if key != "diverged"}


def width_lr(model: Any) -> float:
    """Return the learning rate for a model's width: narrow encoders take larger steps."""
    return 1e-4 if getattr(model.config, family_of(model.config.model_type).hidden_key) <= 512 else 3e-5


def default_lr(model: Any) -> float:
    """Return the learning rate for a model's width and labels: many labels take larger steps, too; a BiLSTM 1e-3.

    Measured with MiniLM, three epochs, validation: 77 intents 86.0 with 1e-4 and 91.6 with 3e-4 (n = 1,001, one seed).
    """
    if family_of(model.config.model_type).recurrent:
        return RECURRENT_LR
    base = width_lr(model)
    return 3 * base if model.config.num_labels > MANY_LABELS else base


def fit(
    model: Any,
    data: Encoded,
    loss_of: LossFunction,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    validate: Callable[[], float] | None = None,
    extra: Iterable[nn.Parameter] = (),
    label: str = "training",
    resume: Path | None = None,
    budget: Budget | None = None,
    weigh: Callable[[np.ndarray], float] = len,
    on_step: Callable[[int], None] | None = None,
    lr_option: str = "--lr",
) -> FitResult:
    """Train `model` in place and leave it with the weights of its best epoch, in evaluation mode.

    Killed and called again with the same arguments, it goes on from the last state in `resume`, and ends with the same weights as
    if it had not been killed (in one process on a CPU bit by bit). What a loss function draws at random must come from PyTorch's
    own source.

    Args:
        model: a classifier of a known family.
        data: the encoded training examples.
        loss_of: `(batch, positions) -> scalar`; runs the forward pass itself, under autocast.
        settings: epochs, learning rate, batch size and so on.
        seed: of shuffling and dropout.
        device: where to compute.
        validate: the score of the model as it stands, higher is better; without it the last epoch is kept.
        extra: further parameters to train (projections of a distillation loss).
        label: what the progress bar says.
        resume: the folder of the stage's states; None: nothing is kept.
        budget: the time that there is, in the place of epochs.
        weigh: how many items (by default examples) the loss of a batch is a mean of: its weight among those of several processes.
        on_step: told the number of each step (from 0) before it, in every process, those without an example of the batch included.
        lr_option: the option that sets the learning rate, for the hint of a training that diverged.

    Returns:
        What was done; of a training that diverged after an epoch that was scored, with the error that is to be raised once its best
        weights, which the model then has, are safe.

    Raises:
        Diverged: a loss or a gradient is not finite.
    """
    own_seed = seed + processes.rank()  # of dropout, which differs between processes
    torch.manual_seed(own_seed)
    processes.check_device(device)
    model.to(device)
    if settings.freeze_embeddings:
        freeze_embeddings(model)
    parameters = [*(p for p in model.parameters() if p.requires_grad), *extra]
    lr = settings.lr or default_lr(model)
    optimizer = torch.optim.AdamW(_groups(parameters, settings.weight_decay), lr=lr, fused=True)
    facts = [label, settings.model_dump(mode="json"), seed, data.lengths.tolist()]
    processes.broadcast(parameters)
    snapshots = Snapshots(resume, identity_of([*model.parameters(), *extra], facts) if resume else "")
    with fast_steps(model, device, own_seed) as dropout:
        state = State(parameters, optimizer, np.random.default_rng(seed), dropout, device)
        steps = _Steps(loss_of, lr, weigh, on_step, lr_option)
        training = _Training(model, data, steps, settings, device, state, snapshots, validate, budget)
        with _progress(label, training.pace, training.done) as advance:
            diverged = training.run(advance)
    done = training.done
    if done.best is not None and (diverged or done.best_epoch != done.epoch):
        model.load_state_dict(done.best, strict=False)  # what is not trained is as it was
    epochs = done.epoch if budget is None else round(done.step / training.pace.per_epoch, 2)
    return FitResult(epochs, done.step, done.best_epoch, done.mean_loss, done.best_score, done.precision, training.seconds(), diverged)


@dataclass(frozen=True)
class _Steps:
    """What a step does, as `fit` is told it."""

    loss_of: LossFunction
    lr: float
    weigh: Callable[[np.ndarray], float]
    on_step: Callable[[int], None] | None
    lr_option: str

    def check(self, what: str, value: float, epoch: int, step: int) -> float:
        """Return a loss, or the norm of a gradient, if it is finite.

        Raises:
            Diverged: it is not.
        """
        if not math.isfinite(value):
            hint = f"lower the learning rate (it was {self.lr:g}): {self.lr_option} {self.lr / 3:.1g}"
            raise Diverged(f"the {what} became {value} in epoch {epoch}, step {step + 1}", hint)
        return value


class _Training:
    """A training under way: what it works with, and how far it is."""

    def __init__(
        self, model: Any, data: Encoded, steps: _Steps, settings: TrainSettings, device: torch.device,
        state: State, snapshots: Snapshots, validate: Callable[[], float] | None, budget: Budget | None,
    ) -> None:  # fmt: skip
        self.model, self.data, self.steps, self.settings, self.device = model, data, steps, settings, device
        self.state, self.snapshots, self.validate = state, snapshots, validate
        if saved := snapshots.load():
            state.restore(*saved)
            console.info(f"  going on from step {self.done.step}, in epoch {self.done.epoch + 1}")
            if budget is not None:
                budget.before = self.done.spent
        self.started = time.monotonic() - self.done.seconds
        self.done.precision = self.done.precision or processes.from_main(lambda: choose_precision(model, data, settings, device))
        self.pace = Pace(math.ceil(len(data) / settings.batch_size), settings.epochs, budget, self.done.pace)

    @property
    def done(self) -> Progress:
        """How far it is."""
        return self.state.progress

    def seconds(self) -> float:
        """Return how long it took so far, what was spent before it was killed included."""
        return time.monotonic() - self.started

    def run(self, advance: Callable[[Progress], None]) -> Diverged | None:
        """Train to the end; returns what went wrong where there is a good epoch from before.

        Raises:
            Diverged: there is none.
        """
        try:
            while not self.done.finished:
                self.epoch(advance)
        except Diverged as error:
            if self.done.best is None:
                raise
            self.model.eval()
            return error
        return None

    def epoch(self, advance: Callable[[Progress], None]) -> None:
        """Train for an epoch, or what is left of it, or of the time."""
        done = self.done
        self.state.begin_epoch()
        self.model.train()
        for positions in training_batches(self.data.lengths, self.settings.batch_size, self.state.order)[done.batch :]:
            total = self._total()
            if done.step >= total:
                break
            self._step(positions, total)
            done.step, done.batch = done.step + 1, done.batch + 1
            advance(done)
            if self.snapshots.due():
                self._keep()
            self.pace.end()
        self.model.eval()
        self._end_epoch()
        if self.snapshots.due(epoch_ended=True):
            self._keep()

    def _total(self) -> int:
        """Return how many steps there are, as far as is known; with a budget by the clock of the first process."""
        if self.pace.budget is None:
            return self.pace.total
        return processes.from_main(lambda: self.pace.begin(self.done.step))

    def _step(self, positions: np.ndarray, total: int) -> None:
        optimizer, done = self.state.optimizer, self.done
        for group in optimizer.param_groups:
            group["lr"] = self.steps.lr * schedule(done.step, total, self.settings.warmup)
        if self.steps.on_step:
            self.steps.on_step(done.step)
        value, mine = 0.0, processes.shard(positions)
        if len(mine):
            batch = to_tensors(self.data.batch(mine), self.model, self.device)
            with autocast(done.precision, self.device):
                loss = self.steps.loss_of(batch, mine)
            loss.backward()
            value = float(loss.detach())
        value = processes.all_reduce_gradients(self.state.parameters, value, self.steps.weigh(mine) if len(mine) else 0)
        done.losses.append(self.steps.check("loss", value, done.epoch + 1, done.step))
        norm = nn.utils.clip_grad_norm_(self.state.parameters, self.settings.max_grad_norm)
        self.steps.check("gradient", float(norm), done.epoch + 1, done.step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _end_epoch(self) -> None:
        """Score the model, keep its weights where they are the best so far, and tell whether that was the last epoch."""
        done = self.done
        if done.batch:
            done.epoch, done.batch = done.epoch + 1, 0
            done.mean_loss, done.losses = float(np.mean(done.losses)), []
            done.finished = done.step >= self._total()
        else:  # the time was over before this epoch began
            done.finished = True
            if self.pace.measured["validated"] == done.step:
                return
        score = processes.from_main(self._score)
        if score is not None:
            self.pace.measured["validated"] = done.step
        _announce(done.epoch, done.mean_loss, score, self.seconds())
        if self.validate is None or (score is not None and (done.best_score is None or score > done.best_score)):
            done.best_score, done.best_epoch, done.worse = score, done.epoch, 0
            if self.validate:
                done.best = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        elif score is not None:
            done.worse += 1
            if done.worse == self.settings.patience:
                console.info(f"  no better for {self.settings.patience} epochs: stopped early")
                done.finished = True

    def _score(self) -> float | None:
        """Validate, if it is time to."""
        if not self.validate or not self.pace.validates(self.done.step):
            return None
        before = self.seconds()
        score = float(self.validate())
        self.pace.validated(self.seconds() - before)
        return score

    def _keep(self) -> None:
        self.done.seconds = self.seconds()
        if self.pace.budget is not None:
            self.done.spent = self.pace.budget.spent()
        self.snapshots.save(*self.state.capture())


@contextmanager
def _progress(label: str, pace: Pace, before: Progress) -> Iterator[Callable[[Progress], None]]:
    """Show how far a training is: in steps, or in the seconds of its budget."""
    budget = pace.budget
    shown = round(budget.spent()) if budget else before.step
    name, total = (f"{label}, seconds", round(budget.seconds)) if budget else (label, pace.total)
    with console.progress(name, total, shown) as advance:

        def show(done: Progress) -> None:
            nonlocal shown
            now = round(budget.spent()) if budget else done.step
            advance(now - shown, f"epoch {done.epoch + 1} loss {np.mean(done.losses[-50:] or [math.nan]):.3f}")
            shown = now

        yield show


def freeze_embeddings(model: Any) -> None:
    """Stop training the embeddings of an encoder."""
    encoder = descend(model, family_of(model.config.model_type).encoder)
    for parameter in encoder.embeddings.parameters():
        parameter.requires_grad_(False)


def head_of(model: Any, target: Target) -> list[nn.Module]:
    """Return the modules of a model's head, BERT's pooler among them."""
    return [descend(model, part) for part in family_of(model.config.model_type).head_parts(target)]


def train_only(model: Any, modules: Iterable[nn.Module]) -> None:
    """Train these modules of a model and nothing else."""
    model.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)


def _groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    decayed = [p for p in parameters if p.ndim > NO_DECAY_DIMENSIONS]
    plain = [p for p in parameters if p.ndim <= NO_DECAY_DIMENSIONS]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def _announce(epoch: int, loss: float, score: float | None, seconds: float) -> None:
    shown = "" if score is None else f", validation {100 * score:.2f}"
    console.info(f"  epoch {epoch}: loss {loss:.4f}{shown} ({console.duration(seconds)})")
    console.event("epoch", epoch=epoch, loss=loss, score=score, seconds=seconds)
