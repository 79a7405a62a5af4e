"""The inputs of a stage: the task, the seed, and the folders of its models."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.data.task import Task

ERRORS_FILE = "errors.jsonl"  # in the folder of an evaluation: examples that some model gets wrong

STUDENTS = {  # names of student SPECs
    "tinybert-4": "layers=4,hidden=312,heads=12,ffn=1200",
    "tinybert-6": "layers=6,hidden=768,heads=12,ffn=3072",
    "distil-6": "layers=6",
    "minilm-6": "layers=6,hidden=384,heads=12,ffn=1536",
    "mini": "layers=4,hidden=256,heads=4,ffn=1024",
    "bilstm": "lstm=150,embedding=300,ffn=200",
    "static": "static=256,bigram=64,buckets=65536,ffn=256",
}


def is_spec(text: str) -> bool:
    """Return whether a text is a student SPEC (`layers=3`), not a model reference."""
    return bool(re.fullmatch(r"\w+=[^/]*", text))


@dataclass(frozen=True)
class Inputs:
    """The folders and context of a stage.

    `sources` maps the name of each model (a stage's name, or the reference as it was written) to its folder, in the order
    of `from`. For `distill`, `teacher` is a folder, `more_teachers` are further ones, and `student` is a folder or a SPEC
    such as `layers=3`. `resume` is the folder where training keeps its state, to resume from after an interruption (it need
    not exist); None: it keeps none.
    """

    sources: dict[str, Path]
    seed: int = 0
    task_or_none: Task | None = None
    teacher: Path | None = None
    student: Path | str | None = None
    more_teachers: tuple[Path, ...] = ()
    resume: Path | None = None

    @property
    def source(self) -> Path:
        """The only (or first) input model."""
        return next(iter(self.sources.values()))

    @property
    def target_or_none(self) -> Target | None:
        """What the task predicts; None without a task: as the model does."""
        return None if self.task_or_none is None else self.task_or_none.spec.target

    @property
    def pooling(self) -> str | None:
        """The pooling that the task names, for encoders whose folders name none."""
        return None if self.task_or_none is None else self.task_or_none.spec.pooling

    @property
    def task(self) -> Task:
        """The task.

        Raises:
            UsageError: the verb needs a task and none was given.
        """
        if self.task_or_none is None:
            raise UsageError("this needs a task", "give --task T, or --kind, --train, --validation, --text and --label")
        return self.task_or_none
