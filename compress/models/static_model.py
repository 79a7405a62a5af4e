"""A static model: the mean of token embeddings and of hashed token bigrams, a hidden layer, and the head.

fastText (Joulin et al. 2017, arXiv 1607.01759, section 2.1), with the tokens of the teacher instead of words, two tables instead of
one, and a hidden layer. A token's embedding does not depend on its neighbours; only bigrams know an order.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import SequenceClassifierOutput

from compress.models.family import STATIC

EXACT = 1 << 24  # integers up to here are exact in float32, in which OpenVINO computes a remainder
LARGEST = 8191  # multiplier


class StaticConfig(PreTrainedConfig):
    """The sizes of a static model.

    Args:
        vocab_size: rows of the token embeddings.
        embedding_size: width of the token embeddings.
        bigram_size: width of the bigram embeddings.
        bigram_buckets: rows of the bigram embeddings; bigrams share them by hash.
        intermediate_size: width of the hidden layer.
        texts: 1, or 2: an input is two texts, whose means are compared.
        max_position_embeddings: longest input in tokens; the model itself has no limit.
        pad_token_id: id of the padding token.
        sep_token_id: id of the token after which the second text begins.
        others: entries that every config may have: labels, other special tokens.
    """

    model_type = STATIC.model_type

    def __init__(
        self, vocab_size: int = 30_522, embedding_size: int = 256, bigram_size: int = 64, bigram_buckets: int = 65_536,
        intermediate_size: int = 256, texts: int = 1, max_position_embeddings: int = 512, pad_token_id: int | None = 0,
        sep_token_id: int | None = None, **others: Any,
    ) -> None:  # fmt: skip
        self.vocab_size, self.embedding_size = vocab_size, embedding_size
        self.bigram_size, self.bigram_buckets = bigram_size, bigram_buckets
        self.intermediate_size, self.texts = intermediate_size, texts
        self.max_position_embeddings, self.pad_token_id, self.sep_token_id = max_position_embeddings, pad_token_id, sep_token_id
        super().__init__(**others)


class Static(nn.Module):
    """Embeddings, their means and the hidden layer: everything before the head."""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__()
        self.config = config
        tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        bigrams = nn.Embedding(config.bigram_buckets, config.bigram_size)
        self.embeddings = nn.ModuleDict({"word_embeddings": tokens, "bigram_embeddings": bigrams})
        width = config.embedding_size + config.bigram_size
        self.dense = nn.Linear(width if config.texts == 1 else 4 * width, config.intermediate_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Return the output of the hidden layer per example, (batch, ffn).

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for padding; by default there is no padding.
        """
        means = self.means(input_ids, torch.ones_like(input_ids) if attention_mask is None else attention_mask)
        return torch.relu(self.dense(means if self.config.texts == 1 else compare_texts(means)))

    def token_states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what an embedder pools: one state for each text, (batch, 1, ffn), and its mask, (batch, 1)."""
        states = self.forward(input_ids, attention_mask).unsqueeze(1)
        return states, torch.ones_like(input_ids[:, :1])

    def means(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return the mean embeddings of each text and of its bigrams, (batch, texts * (embedding + bigram)).

        Both sums are divided by the number of tokens. A bigram belongs to the text of its second token.
        """
        mask = attention_mask.bool()
        groups = torch.arange(len(mask), device=mask.device).unsqueeze(1).expand_as(mask)
        if self.config.texts == 2:
            groups = 2 * groups + second_text(input_ids, mask, self.config.sep_token_id).long()
        count = torch.bincount(groups[mask], minlength=len(mask) * self.config.texts)
        both = mask[:, 1:] & mask[:, :-1]
        codes = bigram_buckets(input_ids, bigram_multiplier(self.config.vocab_size), self.config.bigram_buckets)
        tokens, bigrams = (cast("nn.Embedding", self.embeddings[name]) for name in ("word_embeddings", "bigram_embeddings"))
        sums = [
            group_sums(tokens.weight, input_ids[mask], count),
            group_sums(bigrams.weight, codes[both], torch.bincount(groups[:, 1:][both], minlength=len(count))),
        ]
        return (torch.cat(sums, 1) / count.clamp_min(1).unsqueeze(1)).reshape(len(mask), -1)


def bigram_multiplier(vocab_size: int) -> int:
    """Return the odd factor of a bigram's first token, as large as exact arithmetic allows for the largest ids.

    >>> bigram_multiplier(30_522)
    547
    """
    return (min(LARGEST, (EXACT - vocab_size) // vocab_size) - 1) | 1


def bigram_buckets(input_ids: torch.Tensor, multiplier: int, buckets: int) -> torch.Tensor:
    """Return the bucket of each pair of neighbouring tokens, (batch, length - 1), for ids (batch, length)."""
    return (input_ids[:, :-1] * multiplier + input_ids[:, 1:]) % buckets


def second_text(input_ids: torch.Tensor, mask: torch.Tensor, separator: int | None) -> torch.Tensor:
    """Return which tokens come after the first separator, (batch, length) bool; the separator itself belongs to the first text."""
    separators = ((input_ids == separator) & mask).long()
    return (separators.cumsum(1) - separators) > 0


def group_sums(table: torch.Tensor, rows: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Sum rows of a table in consecutive groups; the gradient of the table is sparse.

    Args:
        table: (rows of the table, width).
        rows: (n,) int64.
        counts: the number of rows of each group, (groups,), which sum up to n.

    Returns:
        (groups, width).
    """
    return nn.functional.embedding_bag(rows, table, counts.cumsum(0) - counts, mode="sum", sparse=True)


def compare_texts(means: torch.Tensor) -> torch.Tensor:
    """Return u, v, |u - v| and u v, (batch, 4 width), for the means u and v of two texts, (batch, 2 width)."""
    first, second = means.chunk(2, 1)
    return torch.cat([first, second, (first - second).abs(), first * second], 1)


class StaticForSequenceClassification(PreTrainedModel):
    """Predicts a class, several labels or a value for one or two texts."""

    config_class = StaticConfig
    base_model_prefix = STATIC.encoder

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        self.static = Static(config)
        self.classifier = nn.Linear(config.intermediate_size, config.num_labels)  # pyright: ignore[reportArgumentType]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights as PyTorch does."""
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits, (batch, labels)."""
        return SequenceClassifierOutput(logits=self.classifier(self.static(input_ids, attention_mask)))
