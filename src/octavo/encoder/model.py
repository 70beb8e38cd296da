"""The packed encoder: linear layers see the real tokens only, attention alone is laid out per sequence.

Shapes in comments: `tokens` is the sum of the sequences' lengths, `batch` their number, `length` the longest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octavo.encoder.config import EncoderConfig
from octavo.tasks.base import Head, Reads

# (query, key, value, additive mask) → context, each (batch, heads, length, head)
Attention = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# Below the squared length of any vector that an encoder puts out.
_LEAST_SQUARE = 1e-12

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
        """Return position embeddings with the segments' added, one table per segment, (segments * positions, hidden).

        Which row a token takes is said by its position id, segment included (`octavo.text.layout.Positions`).
        """
        table = self.positions.weight
        # One addition to a small table, in place of one per token.
        return (self.segments.weight[:, None] + table).flatten(0, 1) if hasattr(self, "segments") else table

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

    def forward_read(self, x: Tensor, slots: Tensor, mask: Tensor, read: Tensor) -> Tensor:
        """Compute one token of each sequence only, (batch, hidden): exact, as nothing later reads more."""
        hidden = x.shape[-1]
        wanted = x.index_select(0, read)  # (batch, hidden)
        query = self.qkv(wanted, slice(0, hidden))  # (batch, hidden)
        query = query.unflatten(-1, (self.heads, 1, self.head_size))  # (batch, heads, 1, head)
        key, value = self._spread(self.qkv(x, slice(hidden, None)), slots)
        context = self._attend(query, key, value, mask).flatten(0, 1)  # (batch, hidden)
        return self._finish(wanted, context)

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

    def forward_read(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        mask: Tensor,
        rows: Tensor,
        read: Tensor,
    ) -> Tensor:
        """Return the last hidden state of one token of each sequence, (batch, hidden)."""
        x = self.embeddings(input_ids, position_ids)
        for layer in self.layers[:-1]:
            x = layer(x, slots, mask, rows)
        return self.layers[-1].forward_read(x, slots, mask, read)  # type: ignore[no-any-return, operator]


class OutputHead(nn.Module):
    """What turns hidden states into outputs: dense and activation where there are any, the output layer, or neither."""

    def __init__(self, hidden_size: int, head: Head, activation: str, dropout: float) -> None:
        super().__init__()
        if head.dense:
            self.dense = nn.Linear(hidden_size, hidden_size)
        if head.outputs is not None:
            self.output = nn.Linear(hidden_size, head.outputs)
        self.has_dense, self.has_output, self.normalize = head.dense, head.outputs is not None, head.normalize
        self.activation = torch.tanh if activation == "tanh" else F.relu
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Map states (reads, hidden) to outputs (reads, width)."""
        if self.has_dense:
            states = self.activation(self.dense(states))
        if self.has_output:
            states = self.output(self.dropout(states))
        if self.normalize:
            # Not F.normalize: a product with the reciprocal root is plain arithmetic in every engine.
            states = states * torch.rsqrt((states * states).sum(-1, keepdim=True).clamp_min(_LEAST_SQUARE))
        return states


class EncoderWithHead(nn.Module):
    """A packed encoder with the head of some task on the hidden states that the head reads."""

    def __init__(self, config: EncoderConfig, head: Head) -> None:
        super().__init__()
        self.encoder = PackedEncoder(config)
        activation = "relu" if config.family == "distilbert" else "tanh"
        self.head = OutputHead(config.hidden_size, head, activation, config.dropout)
        self.reads = head.reads
        self.width = config.hidden_size if head.outputs is None else head.outputs

    @property
    def config(self) -> EncoderConfig:
        """The encoder's configuration."""
        return self.encoder.config

    @property
    def reads_one(self) -> bool:
        """Whether the last layer can leave out all tokens but one of each sequence."""
        return self.reads in (Reads.FIRST, Reads.LAST)

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        slots: Tensor,
        mask: Tensor,
        rows: Tensor,
        read: Tensor,
    ) -> Tensor:
        """Return one output row per read token, or per sequence where their mean is read, (reads, width).

        Arguments as in `octavo.text.layout.PackedLayout`.
        """
        if self.reads_one:
            states = self.encoder.forward_read(input_ids, position_ids, slots, mask, rows, read)
        else:
            tokens = self.encoder(input_ids, position_ids, slots, mask, rows)  # (tokens, hidden)
            states = mean_states(tokens, slots, mask) if self.reads is Reads.MEAN else tokens.index_select(0, read)
        return self.head(states)  # type: ignore[no-any-return]


def mean_states(tokens: Tensor, slots: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each sequence's token states, (batch, hidden)."""
    is_token = (mask == 0).to(tokens.dtype)  # (batch, length)
    spread = tokens.index_select(0, slots.flatten()).unflatten(0, slots.shape)  # type: ignore[no-untyped-call]
    total = (spread * is_token[:, :, None]).sum(1)  # (batch, hidden); a product and a sum, as engines count MatMuls
    # A sequence made of padding alone has no token; its output is dropped, but must not be NaN.
    return total / is_token.sum(1, keepdim=True).clamp_min(1.0)  # type: ignore[no-any-return]
