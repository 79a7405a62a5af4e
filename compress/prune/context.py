"""What every pruning method works on: the dense model, its calibration data, the device, and scores on validation."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path

from compress.core import console
from compress.core.errors import UsageError
from compress.distill.augment import check_augmentation
from compress.editing.calibration import LossOf
from compress.editing.dense_model import load_dense_model
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.device import pick_device
from compress.models.inputs import MAX_TOKENS
from compress.models.token_reduction import reduces_tokens, refuse_token_reduction, set_token_shares
from compress.models.types import TransformersModel
from compress.prune.methods import REFITTING
from compress.prune.refitter import Refitter
from compress.prune.serving_clock import Serving, check_serving
from compress.prune.uniform import check_plain
from compress.settings import PruneSettings
from compress.stage import Inputs

TIMED_LENGTH = 32  # tokens of the timed texts, by default
TEXTS, TEXTS_PER_CLASS = 2048, 80  # that are calibrated on by default: many classes need more (docs/results/pruning.md)
MANY_CLASSES_TOKENS = 2 * MAX_TOKENS  # of these texts; scores and fits of single layers take a share of them
MAX_VECTOR_TOKENS = 8 * MAX_TOKENS  # of texts whose vectors are fitted jointly: each gives one vector, however long it is

MIN_VECTOR_TEXTS = 1000  # of an embedder (docs/results/embedders.md)


class PruneContext:
    """The dense model of a run with its data and settings.

    Raises:
        UsageError: a model or a setting that the method does not take.
        DataError: the model does not fit the task, or the calibration texts are unusable.
        ResourceError: the runtime is not installed.
    """

    def __init__(self, inputs: Inputs, settings: PruneSettings) -> None:
        self.inputs, self.settings = inputs, settings
        if settings.method == "layers" and settings.unlabeled and inputs.task.spec.target != "vector":
            raise UsageError("method layers judges by labels, and --unlabeled has none", "leave --unlabeled out")
        if settings.method == "hidden" and inputs.task.spec.target == "vector":
            raise UsageError(
                "method hidden does not support the kind sentence-embedding yet: narrower vectors cannot be compared with the dense ones",
                "use method obs, or distill a narrower student",
            )
        check_augmentation(settings.augment, inputs.task.spec.target)
        self.dense = load_dense_model(inputs.source, inputs.task, inputs.seed, "prune")
        if settings.method == "hidden" and reduces_tokens(self.dense.model):
            raise UsageError("method hidden does not support models that drop tokens", "narrow the model first, then drop its tokens")
        if settings.uniform:
            check_plain(self.dense.shape, self.dense.source.name)
        fits_vectors = inputs.task.spec.target == "vector" and self.refits and settings.refit_epochs > 0
        labels = len(self.dense.classes) if inputs.task.spec.target in ("class", "labels") else 0
        many = settings.calib_samples is None and TEXTS_PER_CLASS * labels > TEXTS
        texts = TEXTS_PER_CLASS * labels if many else settings.calib_samples or TEXTS
        tokens = MAX_VECTOR_TOKENS if fits_vectors else MANY_CLASSES_TOKENS if many else MAX_TOKENS
        self.calibration = self.dense.calibration(settings.unlabeled, texts, tokens)
        if inputs.task.spec.target == "vector" and len(self.calibration.data) < MIN_VECTOR_TEXTS:
            console.warn(
                f"an embedder is pruned on {len(self.calibration.data)} texts only, which costs accuracy: give {MIN_VECTOR_TEXTS:,} or more"
            )
        self.token_shares = shares_of(settings.tokens, len(self.dense.shape.layers)) if settings.tokens not in ("auto", "off") else []
        if settings.tokens != "off":
            refuse_token_reduction(self.dense.model)
        self.device = pick_device(settings.device)
        self.seq_len = settings.seq_len or self.calibration.mean_length
        self.serving = Serving(
            settings.runtime, settings.precision, settings.batch_size, settings.seq_len or TIMED_LENGTH, settings.threads
        )
        check_serving(self.serving)
        self.refitter = Refitter(self.dense, self.calibration, settings.refit_epochs, self.device)
        self._evaluators: dict[int | None, Evaluator] = {}  # by the number of examples

    def starting_model(self) -> TransformersModel:
        """Return a copy of the dense model whose layers keep the shares of tokens that the settings name."""
        model = copy.deepcopy(self.dense.model)
        if self.token_shares:
            set_token_shares(model, self.token_shares)
        return model

    @property
    def drops_tokens(self) -> bool:
        """Whether layers of this run's models see different numbers of tokens."""
        return self.settings.tokens != "off" or any(share < 1 for share in self.dense.shape.token_shares)

    @property
    def refits(self) -> bool:
        """Whether models are refitted after they were cut."""
        return self.settings.refit and self.settings.method in REFITTING

    def loss(self, model: TransformersModel, summed: bool = True) -> LossOf:
        """Return the loss of a model on calibration texts: on sampled labels for obs and fisher, or else on the data's."""
        return self.calibration.loss(model, sampled=self.settings.method in REFITTING, summed=summed)

    @staticmethod
    def set_origins(model: TransformersModel, origins: list[int]) -> None:
        """Note on a model without some layers which positions the others have in the dense model."""
        object.__setattr__(model, "origins", origins)  # no module or tensor, for which torch's own method is

    def origins(self, model: TransformersModel) -> list[int]:
        """Return the positions that a model's layers have in the dense model."""
        return getattr(model, "origins", None) or list(range(len(self.dense.shape.layers)))

    def validate(self, model: TransformersModel, limit: int | None = None, tokenizer: Path | None = None) -> dict[str, float]:
        """Return `n` and the task's metrics on validation, or on its first examples; empty if the task has no such split."""
        if "validation" not in self.dense.task.available:
            return {}
        if limit not in self._evaluators:
            dense = self.dense
            reference = torch_forward(dense.model), dense.source
            self._evaluators[limit] = Evaluator(dense.task, "validation", dense.source, dense.classes, limit, reference=reference)
        evaluator = self._evaluators[limit]
        data = None if tokenizer is None else evaluator.encoded(tokenizer)
        return {"n": len(evaluator), **evaluator.score(torch_forward(model.to("cpu")), data)}

    @cached_property
    def dense_score(self) -> float:
        """The dense model's main metric on validation.

        Raises:
            UsageError: the task has no such split.
        """
        metrics = self.validate(self.dense.model)
        if not metrics:
            raise UsageError("--max-drop needs labels to measure the drop on", "give --validation, or another target")
        return metrics[self.main_metric]

    @property
    def main_metric(self) -> str:
        """The name of the metric that a drop is measured in."""
        return self.dense.task.spec.main_metric


def shares_of(text: str, layers: int) -> list[float]:
    """Return the shares of tokens that a setting names, one for each layer.

    Raises:
        UsageError: not as many as there are layers.
    """
    shares = [float(part) for part in text.split(",")]
    if len(shares) != layers:
        raise UsageError(f"--tokens has {len(shares)} shares, and the model {layers} layers", "give one share for each layer")
    return shares
