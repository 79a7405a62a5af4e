"""A bidirectional LSTM instead of a transformer encoder (Tang et al. 2019, arXiv 1903.12136, section 3.1 and figure 2).

Token embeddings, one LSTM in both directions, a hidden layer with ReLU, and the head. A text's prediction uses the last states of
both directions, a token's prediction uses its own states.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import PreTrainedModel
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput, SequenceClassifierOutput, TokenClassifierOutput

from compress.models.family import BILSTM


class BiLstmConfig(PreTrainedConfig):
    """The sizes of a BiLSTM.

    Args:
        vocab_size: rows of the token embeddings.
        embedding_size: width of the token embeddings.
        hidden_size: width of a token's state in both directions together: twice the LSTM's units.
        intermediate_size: width of the hidden layer after the LSTM.
        max_position_embeddings: longest input in tokens; the LSTM itself has no limit.
        pad_token_id: id of the padding token.
        others: entries that every config may have: labels, special tokens.
    """

    model_type = BILSTM.model_type

    def __init__(
        self, vocab_size: int = 30_522, embedding_size: int = 300, hidden_size: int = 300, intermediate_size: int = 200,
        max_position_embeddings: int = 512, pad_token_id: int | None = 0, **others: Any,
    ) -> None:  # fmt: skip
        self.vocab_size, self.embedding_size = vocab_size, embedding_size
        self.hidden_size, self.intermediate_size = hidden_size, intermediate_size
        self.max_position_embeddings, self.pad_token_id = max_position_embeddings, pad_token_id
        super().__init__(**others)


class BiLstm(nn.Module):
    """Embeddings, LSTM and hidden layer: everything before the head."""

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(config.vocab_size, config.embedding_size)})
        self.lstm = nn.LSTM(config.embedding_size, config.hidden_size // 2, batch_first=True, bidirectional=True)
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, every_token: bool = False) -> torch.Tensor:
        """Return the output of the hidden layer per text, (batch, ffn), or per token, (batch, length, ffn).

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for tokens and 0 for the padding after them; by default there is no padding.
            every_token: return one output per token.
        """
        embedded = self.embeddings["word_embeddings"](input_ids)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        packed = pack_padded_sequence(embedded, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)  # last: (2, batch, units), forward at the last token, backward at the first
        if every_token:
            features, _ = pad_packed_sequence(states, batch_first=True, total_length=input_ids.shape[1])
        else:
            features = last.transpose(0, 1).flatten(1)
        return torch.relu(self.dense(features))

    def token_states(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what an embedder pools, (batch, length, ffn), and its mask, (batch, length)."""
        return self.forward(input_ids, attention_mask, every_token=True), attention_mask


class BiLstmPreTrainedModel(PreTrainedModel):
    """Loading, saving and initial weights."""

    config_class = BiLstmConfig
    base_model_prefix = BILSTM.encoder

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.bilstm = BiLstm(config)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw weights as PyTorch does, with embeddings of variance one: tiny inputs would leave the LSTM's gates half open."""
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


class BiLstmForSequenceClassification(BiLstmPreTrainedModel):
    """Predicts a class, several labels or a value for a text."""

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.intermediate_size, config.num_labels)  # pyright: ignore[reportArgumentType]
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> SequenceClassifierOutput:
        """Return logits, (batch, labels)."""
        logits = self.classifier(self.bilstm(input_ids, attention_mask))
        return SequenceClassifierOutput(logits=logits)


class BiLstmForTokenClassification(BiLstmPreTrainedModel):
    """Predicts a tag for every token."""

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.intermediate_size, config.num_labels)  # pyright: ignore[reportArgumentType]
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> TokenClassifierOutput:
        """Return logits, (batch, length, tags)."""
        logits = self.classifier(self.bilstm(input_ids, attention_mask, every_token=True))
        return TokenClassifierOutput(logits=logits)


class BiLstmForQuestionAnswering(BiLstmPreTrainedModel):
    """Predicts the two ends of a span."""

    def __init__(self, config: BiLstmConfig) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.intermediate_size, 2)
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> QuestionAnsweringModelOutput:
        """Return logits of the first and the last token, (batch, length) each."""
        logits = self.qa_outputs(self.bilstm(input_ids, attention_mask, every_token=True))
        return QuestionAnsweringModelOutput(start_logits=logits[..., 0], end_logits=logits[..., 1])
