"""The packed encoder: linear layers see the real tokens only, attention alone is laid out per sequence.

Shapes in comments: `tokens` is the sum of the sequences' lengths, `batch` their number, `length` the longest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.encoder.config import EncoderConfig

# (query, key, value, additive mask) → context, each (batch, heads, length, head)
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


class Linear(nn.Linear):
    """A linear layer that can compute a slice of its outputs: the last layer asks QKV for K and V alone."""

    def forward(self, x: Tensor, outputs: slice = slice(None)) -> Tensor:
        """Map (rows, in) to (rows, out), or to the columns of `outputs`."""
        return F.linear(x, self.weight[outputs], self.bias[outputs])


class Embeddings(nn.Module):
    """Word, position and segment embeddings, summed and normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocabulary_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        if config.type_vocabulary_size:
            self.segments = nn.Embedding(config.type_vocabulary_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def position_table(self) -> Tensor:
        """Return position embeddings with the segment's added, (positions, hidden). Every token is in segment 0."""
        table = self.positions.weight
        # One addition to a small table, in place of one per token.
        return table + self.segments.weight[0] if hasattr(self, "segments") else table

    def forward(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Return embeddings, (tokens, hidden)."""
        embedded = self.words(input_ids) + F.embedding(position_ids, self.position_table())
        return self.dropout(self.norm(embedded))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One transformer layer: attention and feed-forward, each with a residual and a LayerNorm after it."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads, self.head_size = config.heads, config.head_size
        self.qkv = Linear(hidden, 3 * hidden)
        self.attention_output = Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.ffn1 = Linear(hidden, inner)
        self.ffn2 = Linear(inner, hidden)
        self.ffn_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.activation = _ACTIVATIONS[config.activation]
        self.attention: Attention = F.scaled_dot_product_attention
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, slots: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Map (tokens, hidden) to (tokens, hidden)."""
        query, key, value = self._spread(self.qkv(x), slots)  # 3 × (batch, heads, length, head)
        context = self._attend(query, key, value, mask)  # (batch, length, hidden)
        context = context.flatten(0, 1).index_select(0, rows)  # (tokens, hidden)
        return self._finish(x, context)

    def forward_first(self, x: Tensor, slots: Tensor, mask: Tensor, first: Tensor) -> Tensor:
        """Compute only each sequence's first token, (batch, hidden): exact, as nothing later reads more."""
        hidden = x.shape[-1]
        firsts = x.index_select(0, first)  # (batch, hidden)
        query = self.qkv(firsts, slice(0, hidden))  # (batch, hidden)
        query = query.unflatten(-1, (self.heads, 1, self.head_size))  # (batch, heads, 1, head)
        key, value = self._spread(self.qkv(x, slice(hidden, None)), slots)
        context = self._attend(query, key, value, mask).flatten(0, 1)  # (batch, hidden)
        return self._finish(firsts, context)

    def _spread(self, packed: Tensor, slots: Tensor) -> list[Tensor]:
        """(tokens, n * hidden) → n × (batch, heads, length, head)."""
        flat = packed.index_select(0, slots.flatten())  # (batch * length, n * hidden)
        spread = flat.unflatten(0, slots.shape)  # type: ignore[no-untyped-call]  # (batch, length, n * hidden)
        parts = spread.split(self.heads * self.head_size, dim=-1)
        return [part.unflatten(-1, (self.heads, self.head_size)).transpose(1, 2) for part in parts]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
        """Attend per sequence and join the heads, (batch, length of query, hidden)."""
        context = self.attention(query, key, value, mask[:, None, None, :])
        return context.transpose(1, 2).flatten(2)

    def _finish(self, x: Tensor, context: Tensor) -> Tensor:
        """Apply what follows attention, row by row."""
        x = self.attention_norm(x + self.dropout(self.attention_output(context)))
        inner = self.activation(self.ffn1(x))
        return self.ffn_norm(x + self.dropout(self.ffn2(inner)))  # type: ignore[no-any-return]


class PackedEncoder(nn.Module):
    """Embeddings and layers of a BERT-family encoder over packed tokens."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, input_ids: Tensor, position_ids: Tensor, slots: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
        """Return the last hidden state of every token, (tokens, hidden)."""
        x = self.embeddings(input_ids, position_ids)
        for layer in self.layers:
            x = layer(x, slots, mask, rows)
        return x  # type: ignore[no-any-return]

    def forward_first(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        mask: Tensor,
        rows: Tensor,
        first: Tensor,
    ) -> Tensor:
        """Return the last hidden state of each sequence's first token, (batch, hidden)."""
        x = self.embeddings(input_ids, position_ids)
        for layer in self.layers[:-1]:
            x = layer(x, slots, mask, rows)
        return self.layers[-1].forward_first(x, slots, mask, first)  # type: ignore[no-any-return, operator]


class ClassificationHead(nn.Module):
    """Dense, activation, logits: the head of all three families, which differ in the activation only."""

    def __init__(self, hidden_size: int, outputs: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, outputs)
        self.activation = torch.tanh if activation == "tanh" else F.relu
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor) -> Tensor:
        """Map first-token states (batch, hidden) to logits (batch, outputs)."""
        return self.output(self.dropout(self.activation(self.dense(first))))  # type: ignore[no-any-return]


class SequenceClassifier(nn.Module):
    """A packed encoder with a classification head on each sequence's first token."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.encoder = PackedEncoder(config)
        activation = "relu" if config.family == "distilbert" else "tanh"
        self.head = ClassificationHead(config.hidden_size, outputs, activation, config.dropout)

    @property
    def config(self) -> EncoderConfig:
        """The encoder's configuration."""
        return self.encoder.config

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        mask: Tensor,
        rows: Tensor,
        first: Tensor,
    ) -> Tensor:
        """Return logits, (batch, outputs). Arguments as in `octavo.text.layout.PackedLayout`."""
        return self.head(self.encoder.forward_first(input_ids, position_ids, slots, mask, rows, first))  # type: ignore[no-any-return]
