"""A training that was killed at any point resumes and ends with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.core import outputs
from compress.settings import FinetuneSettings
from compress.training import resume as module
from compress.training.loop import Loss, TrainingPlan, fit
from compress.training.resume import Progress, StateFile, TrainingState, training_fingerprint
from compress.training.step_schedule import StepTimes
from tests import tiny

CPU = torch.device("cpu")
SETTINGS = {"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 1e-3, "epochs": 3}
STEPS = 9  # 24 examples


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the state after every step."""
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(module, "EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(module, "MAX_SHARE", 1e9)


class Training:
    """A tiny model with an additional projection, and a loss that can end the training at a step."""

    def __init__(self, family: str = "bert", seed: int = 5, scores: tuple[float, ...] = (0.5, 0.9, 0.7), **settings: Any) -> None:
        self.model = tiny.make_static() if family == "static" else tiny.make_model(family)
        torch.manual_seed(11)
        self.projection = nn.Linear(3, 3)
        self.data, self.seed = tiny.encoded("bert" if family == "static" else family, 24), seed
        self.settings = FinetuneSettings(**{**SETTINGS, **settings})
        self.scores = scores
        self.seen: list[list[int]] = []
        self.validated = 0

    def run(self, folder: Path | None, kill_at: int | None = None, kill_validation: int | None = None, first_epoch: int = 0) -> Any:
        """Train; `first_epoch` is the number of epochs that earlier runs scored."""
        labels = torch.from_numpy(self.data.labels)
        epoch = first_epoch

        def loss_of(batch: Any, positions: np.ndarray) -> torch.Tensor:
            if kill_at is not None and len(self.seen) == kill_at:
                raise Killed
            self.seen.append(positions.tolist())
            noise = torch.rand(1)  # PyTorch's generator is restored, too
            return functional.cross_entropy(self.projection(self.model(**batch).logits), labels[positions]) * (1 + 0.1 * noise.sum())

        def validate() -> float:
            nonlocal epoch
            if kill_validation == epoch:
                raise Killed
            epoch += 1
            return self.scores[epoch - 1]

        loss = Loss(loss_of, list(self.projection.parameters()))
        return fit(self.model, self.data, loss, TrainingPlan(self.settings, self.seed, folder), validate)

    def weights(self) -> list[torch.Tensor]:
        """Return every weight."""
        return [tensor.clone() for tensor in (*self.model.state_dict().values(), *self.projection.state_dict().values())]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    """Return whether two lists of weights are bit-identical."""
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def facts(result: Any) -> dict[str, Any]:
    """Return a training's result without its time."""
    return {key: value for key, value in result.as_json().items() if key != "seconds"}


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The result of an uninterrupted training."""
    training = Training()
    result = training.run(None)
    return {"weights": training.weights(), "facts": facts(result), "seen": training.seen}


@pytest.mark.parametrize("step", [0, 2, 3, 5, 8])  # before, within and after epochs
def test_resumed_is_uninterrupted(whole: dict[str, Any], tmp_path: Path, step: int) -> None:
    killed = Training()
    with pytest.raises(Killed):
        killed.run(tmp_path / "state", kill_at=step)
    torch.manual_seed(1234 + step)  # the new process has another random state
    again = Training()
    result = again.run(tmp_path / "state", first_epoch=step // 3)
    assert killed.seen + again.seen == whole["seen"]  # every step once
    assert facts(result) == whole["facts"]
    assert equal(again.weights(), whole["weights"])


@pytest.mark.parametrize("step", [2, 5])
def test_tables_with_sparse_gradients_resume_too(tmp_path: Path, step: int) -> None:
    uninterrupted = Training("static")
    uninterrupted.run(None)
    with pytest.raises(Killed):
        Training("static").run(tmp_path / "state", kill_at=step)
    again = Training("static")
    again.run(tmp_path / "state", first_epoch=step // 3)
    assert equal(again.weights(), uninterrupted.weights())


@pytest.mark.parametrize("validation", [0, 1, 2])
def test_killed_during_validation(whole: dict[str, Any], tmp_path: Path, validation: int) -> None:
    killed = Training()
    with pytest.raises(Killed):
        killed.run(tmp_path / "state", kill_validation=validation)
    again = Training()
    result = again.run(tmp_path / "state", first_epoch=validation)
    assert len(again.seen) == STEPS - 3 * (validation + 1)
    assert facts(result) == whole["facts"]
    assert equal(again.weights(), whole["weights"])


def test_killed_again_and_again(whole: dict[str, Any], tmp_path: Path) -> None:
    seen: list[list[int]] = []
    for _ in range(STEPS - 1):
        training = Training()
        with pytest.raises(Killed):
            training.run(tmp_path / "state", kill_at=1, first_epoch=len(seen) // 3)
        seen += training.seen
    last = Training()
    result = last.run(tmp_path / "state", first_epoch=2)
    assert seen + last.seen == whole["seen"]
    assert facts(result) == whole["facts"]
    assert equal(last.weights(), whole["weights"])


def test_a_finished_training_is_not_repeated(whole: dict[str, Any], tmp_path: Path) -> None:
    Training().run(tmp_path / "state")
    again = Training()
    result = again.run(tmp_path / "state")
    assert again.seen == []
    assert facts(result) == whole["facts"]
    assert equal(again.weights(), whole["weights"])


def test_patience_continues_counting(tmp_path: Path) -> None:
    scores = (0.9, 0.5, 0.4)
    whole = Training(scores=scores, patience=2, epochs=5)
    expected = whole.run(None)
    with pytest.raises(Killed):
        Training(scores=scores, patience=2, epochs=5).run(tmp_path / "state", kill_at=7)
    again = Training(scores=scores, patience=2, epochs=5)
    assert facts(again.run(tmp_path / "state", first_epoch=2)) == facts(expected)
    assert equal(again.weights(), whole.weights())


def first_batch(training: Training, folder: Path | None) -> list[int]:
    """Return the positions of the batch that a training begins with."""
    with pytest.raises(Killed):
        training.run(folder, kill_at=1)
    return training.seen[0]


@pytest.mark.parametrize("other", [{"lr": 2e-3}, {"epochs": 4}, {"seed": 6}, {"batch_size": 4}, {"warmup": 0.2}])
def test_the_state_of_another_training_is_not_used(tmp_path: Path, other: dict[str, Any]) -> None:
    with pytest.raises(Killed):
        Training().run(tmp_path / "state", kill_at=2)
    assert first_batch(Training(**other), tmp_path / "state") == first_batch(Training(**other), None)


@pytest.mark.parametrize("what", ["weights", "texts"])
def test_other_weights_or_texts_are_another_training(tmp_path: Path, what: str) -> None:
    def other() -> Training:
        training = Training()
        if what == "weights":
            with torch.no_grad():
                training.projection.bias.add_(1e-3)
        else:
            training.data = tiny.encoded("bert", 24, seed=9)
        return training

    with pytest.raises(Killed):
        Training().run(tmp_path / "state", kill_at=2)
    assert first_batch(other(), tmp_path / "state") == first_batch(other(), None)


def test_a_damaged_file_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: dict[str, Any]) -> None:
    with pytest.raises(Killed):
        Training().run(tmp_path / "state", kill_at=5)
    (path,) = (tmp_path / "state").iterdir()
    raw = path.read_bytes()
    for damage in (raw[: len(raw) // 2], b"", raw[:100], b"\xff" * 200):
        path.write_bytes(damage)
        again = Training()
        with pytest.raises(Killed):
            again.run(tmp_path / "state", kill_at=0)
        assert "is damaged and ignored" in capsys.readouterr().err
    again = Training()
    again.run(tmp_path / "state")
    assert equal(again.weights(), whole["weights"])


def test_a_partial_write_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: dict[str, Any]) -> None:
    """After a kill during a write the previous state is still there."""
    training, writes = Training(), 0
    original = module.save_file

    def dies(tensors: Any, path: Path, metadata: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 5:
            Path(path).write_bytes(b"half")
            raise Killed
        original(tensors, path, metadata)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", dies)
        with pytest.raises(Killed):
            training.run(tmp_path / "state")
    again = Training()
    again.run(tmp_path / "state", first_epoch=1)
    assert len(again.seen) == STEPS - 3  # the last complete state is from the end of the first epoch
    assert equal(again.weights(), whole["weights"])


def test_temporary_files_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    file = StateFile(tmp_path, "x" * 64)
    (tmp_path / f".{'x' * 32}.safetensors.tmp-123").write_bytes(b"half")
    assert file.load() is None
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_does_not_stop_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: dict[str, Any]
) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    training = Training()
    training.run(tmp_path / "state")
    assert equal(training.weights(), whole["weights"])
    assert capsys.readouterr().err.count("could not be saved") == 1


def test_the_file_is_safetensors_and_json(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Training().run(tmp_path / "state", kill_at=4)
    (path,) = (tmp_path / "state").iterdir()
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["state"])["progress"]["step"] == 4
    assert {name.partition(".")[0] for name in header} == {"__metadata__", "weight", "optimizer", "best", "random"}


@pytest.mark.parametrize("bits", [np.random.PCG64, np.random.SFC64])
def test_generators_survive_json(bits: Any) -> None:
    def state(source: np.random.Generator) -> TrainingState:
        parameter = nn.Parameter(torch.zeros(2))
        return TrainingState([parameter], torch.optim.AdamW([parameter]), np.random.default_rng(0), source, CPU)

    source = np.random.Generator(bits(3))
    source.integers(0, 256, 13, dtype=np.uint8)  # not a multiple of the generator's word
    tensors, document = state(source).capture()
    expected = source.integers(0, 256, 50, dtype=np.uint8)
    other = np.random.Generator(bits(4))
    state(other).restore(tensors, json.loads(json.dumps(document, default=np.ndarray.tolist)))
    assert np.array_equal(other.integers(0, 256, 50, dtype=np.uint8), expected)


def test_progress_survives_json() -> None:
    progress = Progress(3, 1, 2, [0.1, 1 / 3], 0.25, 1, None, 0, 2.5, "bf16", step_times=StepTimes(4, 3, 1.5, 2))
    assert Progress.from_json(json.loads(json.dumps(progress.as_json()))) == progress


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 30.0)
    monkeypatch.setattr(module, "MAX_SHARE", 0.03)
    file = StateFile(tmp_path, "x" * 64)
    now = file.last_write
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    now += 29
    assert not file.is_due()
    now += 2
    assert file.is_due()
    file.write_seconds = 3.0  # a slow disk: at most every 100 seconds
    assert not file.is_due()
    now += 70
    assert file.is_due()
    assert not StateFile(None).is_due()


def test_the_fingerprint_covers_weights_and_facts() -> None:
    parameters = [nn.Parameter(torch.arange(3.0)), nn.Parameter(torch.zeros(0)), nn.Parameter(torch.ones((), dtype=torch.bfloat16))]
    fingerprint = training_fingerprint(parameters, {"lr": 1})
    assert fingerprint == training_fingerprint(parameters, {"lr": 1})
    assert fingerprint != training_fingerprint(parameters, {"lr": 2})
    assert fingerprint != training_fingerprint(parameters[:2], {"lr": 1})


def test_states_of_other_keys_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "tea[ch]er"
    old = outputs.resume_folder(target, "a" * 64)
    old.mkdir()
    other = outputs.resume_folder(tmp_path / "other", "a" * 64)
    other.mkdir()
    assert outputs.resume_folder(target, "a" * 64) == old
    assert old.is_dir()
    assert outputs.resume_folder(target, "b" * 64) != old
    assert not old.exists()
    assert other.is_dir()
