"""The candidates of a search as stages of an ordinary recipe: what can follow what.

Every function adds a stage to a growing recipe and returns its name. Names and settings depend on the task, the model and the serving
point alone, never on the budget or the limit: so another search finds the same stages in the store.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from compress.data.input_spec import Target
from compress.search.objective import ServingPoint

Fields = dict[str, object]  # of a stage in a recipe
Stages = dict[str, Fields]

BASELINE = "teacher"
FAMILY = "slim"
TARGETS = (2.2, 2.9, 3.75, 4.75, 6.0, 8.0)  # speedups of the pruned family in int8, over the baseline in int8
FEWER_TARGETS = (TARGETS, (2.4, 3.75, 6.0), (3.0,))  # the first that there is time for
UNIT_STEPS = 500  # training steps of one unit, at least
UNIT_TEXTS = 48_000  # texts of one unit, at most: of more a sample is drawn, another one for each step of the race
BATCH = 32
FIXED_STEP = 0.25  # share of a training step that does not shrink with the encoder: embeddings, optimizer
INT8_DROP = 1.0  # points; a smaller loss of 872 examples is within the noise, and matmuls in float cost speed
SMALL, SMALL_BATCH = 4000, 16  # fewer training texts than this are fine-tuned on in smaller batches
FEATURE_BYTES = 3 << 30  # of a teacher's hidden states, which distill caches up to this size
VARIANTS: dict[Target, int] = {"class": 3, "labels": 3, "value": 3, "tags": 1, "span": 0, "vector": 0, "mentions": 0}
WHOLE_TEXT: tuple[Target, ...] = ("class", "labels", "value")  # what students without an encoder can predict well


@dataclass(frozen=True)
class TaskFacts:
    """What the space needs to know of the task and of the model that is made smaller.

    Attributes:
        target: what is predicted.
        pairs: whether an example has two texts.
        metric: the main metric.
        train: training examples.
        unlabeled: further texts.
        validation: examples that choose.
        judged: examples that judge the answer, of the split `judge`.
        judge: that split.
        tokens: mean tokens of an example.
        hidden: width of the model.
        layers: layers of the model.
    """

    target: Target
    pairs: bool
    metric: str
    train: int
    unlabeled: int
    validation: int
    judged: int
    judge: str
    tokens: float
    hidden: int
    layers: int


@dataclass(frozen=True)
class Unit:
    """One unit of training, the first rung of the race: `epochs` passes over the texts with `variants` of each."""

    variants: int
    epochs: int
    texts: int  # of an epoch, variants included
    sample: int | None  # training texts that are drawn; None: all
    matches_all: bool  # whether the teacher's hidden states of all layers fit into the cache

    @property
    def steps(self) -> int:
        """Training steps."""
        return self.epochs * math.ceil(self.texts / BATCH)


@dataclass
class Space:
    """Builds stages.

    Attributes:
        facts: of task and model.
        serving: where the answer runs.
        trains_baseline: whether the model must be fine-tuned first; else it is the baseline itself.
        teacher: a bigger teacher, or an empty text.
        unlabeled: a file of further texts, or an empty text.
        device: of training.
        holds_back: whether the examples that judge are a part of the task's validation split.
        seed: of every stage.
        stages: what was added so far.
    """

    facts: TaskFacts
    serving: ServingPoint
    trains_baseline: bool
    teacher: str = ""
    unlabeled: str = ""
    device: str = "auto"
    holds_back: bool = False
    seed: int = 0
    stages: Stages = field(default_factory=dict)

    def _add(self, name: str, verb: str, **fields: object) -> str:
        self.stages[name] = {"do": verb, **{key: value for key, value in fields.items() if value not in (None, "")}}
        return name

    @property
    def baseline(self) -> str:
        """The fine-tuned model that everything is compared with."""
        return BASELINE if self.trains_baseline else "model"

    @property
    def runtime(self) -> str:
        """The runtime in which models are timed while they are pruned."""
        return "openvino" if self.serving.runtime == "openvino" else "onnxruntime"

    @property
    def precision(self) -> str:
        """The precision in which they are timed: OpenVINO has no dynamic int8."""
        return "fp32" if self.runtime == "openvino" else "int8"

    def add_baseline(self, epochs: int, sample: int | None = None) -> str:
        """Fine-tune the model; small data in smaller batches, which make more steps of an epoch."""
        batch = SMALL_BATCH if self.facts.train < SMALL else None
        return self._add(
            BASELINE, "finetune", **{"from": "model"}, epochs=epochs, max_examples=sample, batch_size=batch, device=self.device
        )  # fmt: skip

    @property
    def baseline_steps(self) -> int:
        """Steps of an epoch of fine-tuning."""
        return math.ceil(self.facts.train / (SMALL_BATCH if self.facts.train < SMALL else BATCH))

    def add_family(self, targets: Sequence[float]) -> str:
        """Prune the baseline to several speedups in one run."""
        return self._add(
            FAMILY, "prune", **{"from": self.baseline}, target_speedup=list(targets), precision=self.precision, runtime=self.runtime,
            batch_size=self.serving.batch_size, seq_len=self.serving.seq_len, threads=self.serving.threads, device=self.device,
        )  # fmt: skip

    def member(self, target: float) -> str:
        """Return how a stage refers to a member of the family."""
        return f"{FAMILY}/{target:.3g}x"

    def unit(self, with_variants: bool = True) -> Unit:
        """Return one unit of training; without variants it has as many steps, on the texts alone."""
        facts = self.facts
        sample = UNIT_TEXTS if facts.train > UNIT_TEXTS else None
        texts, variants = min(facts.train, UNIT_TEXTS) + min(facts.unlabeled, sample or facts.unlabeled), VARIANTS[facts.target]
        while variants and not self._fits(texts * (1 + variants)):
            variants -= 1
        steps = max(math.ceil(texts * (1 + variants) / BATCH), UNIT_STEPS)
        used = variants if with_variants else 0
        epochs = max(1, round(steps / math.ceil(texts * (1 + used) / BATCH)))
        return Unit(used, epochs, texts * (1 + used), sample, self._fits(texts * (1 + used)))

    def _fits(self, texts: int) -> bool:
        """Return whether the teacher's hidden states of all layers fit into the cache."""
        return texts * self.facts.tokens * self.facts.hidden * (self.facts.layers + 1) * 2 <= FEATURE_BYTES

    def add_student(self, name: str, start: str, units: int, unit: Unit, is_spec: bool = False, by_layers: bool = True) -> str:
        """Distil the teacher into a model, or into a student of a SPEC.

        If a unit is a sample of the texts, more units are a larger sample, and stages of other lengths draw other ones. `by_layers`: the
        student has layers of its teacher's width, which it learns from, too.
        """
        own = bool(self.teacher)  # another model's tokens cannot be compared
        return self._add(
            name, "distill", **{"student" if is_spec else "from": start}, teacher=self.teacher or self.baseline,
            epochs=unit.epochs * (1 if unit.sample else units), max_examples=unit.sample and units * unit.sample,
            seed=unit.sample and self.seed + units, augment=unit.variants or None, unlabeled=self.unlabeled, device=self.device,
            method=["logits"] if own else None, match="last" if by_layers and not own and not unit.matches_all else None,
        )  # fmt: skip

    def add_graph(self, name: str, source: str) -> str:
        """Export an fp32 graph."""
        return self._add(name, "export", **{"from": source})

    def add_int8(self, name: str, source: str) -> str:
        """Quantize and tune a model; which matmuls must stay float is searched where more than `INT8_DROP` points are lost."""
        point = self.serving
        return self._add(
            name, "quantize", **{"from": source}, max_drop=INT8_DROP, tune=True, runtime=point.runtime,
            batch_size=[point.batch_size], seq_len=[point.seq_len], threads=[point.threads],
        )  # fmt: skip

    def add_shape(self, name: str, source: str) -> str:
        """Quantize a model without any search, to see how fast its shape is."""
        return self._add(name, "quantize", **{"from": source}, method="dynamic")

    def add_int4(self, name: str, source: str) -> str:
        """Write a graph with int4 weights, the smallest form."""
        return self._add(name, "quantize", **{"from": source}, method="int4")

    def add_factorized(self, name: str, source: str, rank: int) -> str:
        """Factorize the token embeddings: a smaller file, the same speed."""
        return self._add(name, "factorize", **{"from": source}, embedding_rank=rank, device=self.device)

    def add_vocabulary(self, name: str, source: str) -> str:
        """Remove unused tokens from the vocabulary: a smaller file, the same predictions on the tokens that are kept."""
        return self._add(name, "prune", **{"from": source}, method="vocab")

    def add_check(self, model: str) -> str:
        """Evaluate a model on validation, paired with the baseline."""
        return self._add(f"check-{_short(model)}", "eval", **{"from": [self.baseline, model]}, split="validation")

    def add_duel(self, first: str, second: str) -> str:
        """Evaluate two models on validation, paired with each other."""
        return self._add(f"duel-{_short(second)}", "eval", **{"from": [first, second]}, split="validation")

    def add_proof(self, model: str) -> str:
        """Evaluate the answer on the split that chose nothing."""
        return self._add("proof", "eval", **{"from": [self.baseline, model]}, split=self.facts.judge)

    def timing_of(self, model: str) -> str:
        """Return the name of the stage that times a model."""
        return f"speed-{_short(model)}"

    def add_timing(self, model: str) -> str:
        """Time a model, interleaved with the baseline."""
        point = self.serving
        return self._add(
            self.timing_of(model), "bench", **{"from": [self.baseline, model]}, batch_size=[point.batch_size], seq_len=[point.seq_len],
            threads=[point.threads], memory=False,
        )  # fmt: skip

    def needed(self, name: str) -> Stages:
        """Return a stage and all stages that it depends on, in the order in which they were added."""
        names = {name}
        for stage in reversed(self.stages):
            if stage in names:
                names |= references(self.stages[stage])
        return {stage: fields for stage, fields in self.stages.items() if stage in names}


def references(fields: Fields) -> set[str]:
    """Return the stages that a stage names as inputs; other models are among them, too."""
    names: list[object] = []
    for key in ("from", "teacher", "student"):
        given = fields.get(key)
        names += given if isinstance(given, list) else [given]
    return {str(name).partition("/")[0] for name in names if name}


def _short(model: str) -> str:
    return re.sub(r"[^\w-]+", "_", model.replace("/", "-"))[:30]


def stage_name(prefix: str, arm: str, units: int = 0) -> str:
    """Return the name of a stage of an arm of the race: `student-2_5x-4`."""
    return f"{prefix}-{_short(arm)}" + (f"-{units}" if units else "")
