"""A vector for each token of a teacher's vocabulary: its output for the token alone (the idea of model2vec), cached on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from compress.core import caches, console, digests, machine
from compress.core.disk_cache import cached_folder
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.distill.features import forward_with_features
from compress.models.device import to_tensors
from compress.models.inputs import encode_for
from compress.models.low_rank import word_embeddings
from compress.models.model_shape import model_shape
from compress.models.reference import digest_model
from compress.models.tokenizer import load_tokenizer
from compress.models.types import TransformersModel

BATCH = 512
VERSION = 1
FILE = "vectors.npy"
COMMON = 1e-3  # a in a / (a + p)


def token_vectors(teacher: TransformersModel, folder: Path) -> torch.Tensor:
    """Return a vector for each token, (tokens, width) float32: the mean of the teacher's last states for it between special tokens.

    A teacher without layers gives its token embeddings.

    Args:
        teacher: in evaluation mode, on the CPU.
        folder: of its weights, whose digest names the cached vectors, and of its tokenizer.

    Raises:
        ResourceError: the cache's disk is full or not writable.
    """
    count, width = teacher.config.vocab_size, model_shape(teacher).hidden
    if not model_shape(teacher).layers:
        return word_embeddings(teacher)(torch.arange(count)).detach()
    libraries = [machine.version_of(name) for name in ("torch", "transformers")]
    entry = caches.writable_root() / "tokens" / digests.digest_json([VERSION, digest_model(folder), *libraries])

    def compute(temporary: Path) -> dict[str, object]:
        np.save(temporary / FILE, _compute(teacher, load_tokenizer(folder).encode("").ids))
        return {"kind": "token-vectors"}

    with cached_folder(entry, 2 * count * width, compute, "the teacher's tokens"):
        return torch.from_numpy(np.load(entry / FILE).astype(np.float32))


def _compute(teacher: TransformersModel, specials: list[int]) -> np.ndarray:
    """Return the mean of the last states for each token, (tokens, width) float16."""
    shape, count = model_shape(teacher), teacher.config.vocab_size
    feature = ("hidden", len(shape.layers))
    vectors = np.empty((count, shape.hidden), dtype=np.float16)
    with console.progress("the teacher's tokens", -(-count // BATCH)) as advance, torch.inference_mode():
        for start in range(0, count, BATCH):
            tokens = np.arange(start, min(start + BATCH, count))
            ids = np.tile(np.array([*specials[:1], 0, *specials[1:]], dtype=np.int64), (len(tokens), 1))
            ids[:, len(specials[:1])] = tokens
            batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            _, states = forward_with_features(teacher, to_tensors(batch, teacher, torch.device("cpu")), [feature])
            vectors[tokens] = states[feature].float().mean(1).half().numpy()
            advance()
    return vectors


def inverse_frequency(folder: Path, examples: Examples, input_spec: InputSpec, count: int) -> torch.Tensor:
    """Return the weight of each token in a mean, (count,): a / (a + p) by its share p of the texts' tokens.

    Arora et al. 2017, "A simple but tough-to-beat baseline for sentence embeddings", equation 3; a is 1e-3.

    Args:
        folder: of the tokenizer.
        examples: the texts.
        input_spec: how they are cut.
        count: number of tokens in the vocabulary.
    """
    occurrences = np.bincount(np.concatenate(list(encode_for(folder, examples, input_spec).input_ids)), minlength=count)
    return torch.from_numpy(COMMON / (COMMON + occurrences / occurrences.sum())).float()
