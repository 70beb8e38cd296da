"""The packed layout: where each token of a `TokenBatch` lies when attention spreads the sequences out.

Linear layers run on packed tokens `(tokens, hidden)`. Attention alone sees `(batch, length, hidden)`:
`slots` spreads the tokens out, `rows` takes them back. Every engine builds its inputs here, so they agree by
construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, IntArray

# Finite, so that a sequence made of padding alone gives a uniform softmax instead of NaN, and within fp16.
MASKED = -10_000.0

INPUT_NAMES = ("input_ids", "position_ids", "slots", "mask", "rows", "read")


class Positions(NamedTuple):
    """How rows of a model's position table are counted.

    Attributes:
        offset: row of the first token of a sequence.
        segment_stride: rows between the tables of segment 0 and segment 1; 0 where the model knows no segments.
    """

    offset: int = 0
    segment_stride: int = 0


NO_OFFSET = Positions()


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Inputs of a packed encoder, in the order of `INPUT_NAMES`.

    Attributes:
        input_ids: token ids, (tokens,).
        position_ids: row of the position table for each token, (tokens,).
        slots: index of the token that fills each slot, (batch, length); padding slots repeat token 0.
        mask: 0 for a token, `MASKED` for padding, added to attention scores, (batch, length).
        rows: slot of each token in the flattened (batch * length) slots, (tokens,).
        read: index of each token that the head reads, padded with token 0: (batch,) where it reads one of each
            sequence, else (tokens,).
    """

    input_ids: IntArray
    position_ids: IntArray
    slots: IntArray
    mask: FloatArray
    rows: IntArray
    read: IntArray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Tokens, batch and length: the three sizes that an engine specialises on."""
        return len(self.input_ids), *self.slots.shape


def layout_from_batch(
    batch: TokenBatch, positions: Positions = NO_OFFSET, shape: tuple[int, int, int] | None = None
) -> PackedLayout:
    """Lay out a batch, padded at its end to `shape` = (tokens, batch, length) where one is given.

    Padding tokens and padding sequences come after the real ones and no real token attends to them; the
    caller drops the padding sequences' outputs.

    Raises:
        ValueError: `shape` is smaller than the batch.
    """
    tokens, sequences, length = shape or (batch.tokens, len(batch), batch.max_length)
    if tokens < batch.tokens or sequences < len(batch) or length < batch.max_length:
        raise ValueError(f"shape {shape} cannot hold {batch.tokens} tokens in {len(batch)} sequences")
    lengths = batch.lengths
    place = np.arange(batch.tokens) - np.repeat(batch.offsets[:-1], lengths)
    position = place + positions.offset
    if batch.segments is not None:
        position += batch.segments * positions.segment_stride
    slot = np.repeat(np.arange(len(batch)) * length, lengths) + place

    def padded(values: IntArray, size: int) -> IntArray:
        out = np.zeros(size, np.int64)
        out[: len(values)] = values
        return out

    reads = batch.read_places
    # More reads than tokens: a sequence without special tokens has its first one read twice.
    read_size = sequences if len(reads) == len(batch) else max(tokens, len(reads))
    if shape is None:
        read_size = len(reads)
    slots = np.zeros(sequences * length, np.int64)
    slots[slot] = np.arange(batch.tokens)
    mask = np.full(sequences * length, MASKED, np.float32)
    mask[slot] = 0.0
    return PackedLayout(
        input_ids=padded(batch.ids, tokens),
        position_ids=padded(position, tokens),
        slots=slots.reshape(sequences, length),
        mask=mask.reshape(sequences, length),
        rows=padded(slot, tokens),
        read=padded(reads, read_size),
    )
