"""`TokenBatch`: several sequences laid end to end, with no padding between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.types import IntArray


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Packed sequences: row `i` is `ids[offsets[i]:offsets[i + 1]]`. Every sequence has at least one token.

    Attributes:
        ids: token ids, (tokens,).
        offsets: where each sequence starts, and the end, (batch + 1,).
    """

    ids: IntArray
    offsets: IntArray

    @classmethod
    def from_sequences(cls, sequences: Sequence[Sequence[int]]) -> TokenBatch:
        """Pack token-id sequences, keeping their order.

        Raises:
            ValueError: a sequence is empty; the layout would answer it with its neighbour's first token.
        """
        if not all(map(len, sequences)):
            raise ValueError("every sequence must have at least one token")
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum([len(s) for s in sequences], out=offsets[1:])
        ids = np.fromiter((i for s in sequences for i in s), np.int64, count=int(offsets[-1]))
        return cls(ids, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Number of tokens in all sequences together."""
        return len(self.ids)

    @property
    def lengths(self) -> IntArray:
        """Tokens per sequence, (batch,)."""
        return np.diff(self.offsets)

    @property
    def max_length(self) -> int:
        """Tokens in the longest sequence; 0 for an empty batch."""
        return int(self.lengths.max(initial=0))

    def select(self, rows: Sequence[int] | IntArray) -> TokenBatch:
        """Return the sequences at `rows`, in that order."""
        rows = np.asarray(rows, np.int64)
        lengths = self.lengths[rows]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Where each chosen token lies in self.ids: its sequence's start plus its place in the sequence.
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return TokenBatch(self.ids[places], offsets)

    def split(self, rows: int) -> Iterator[TokenBatch]:
        """Yield consecutive batches of at most `rows` sequences."""
        for start in range(0, len(self), rows):
            offsets = self.offsets[start : start + rows + 1]
            yield TokenBatch(self.ids[offsets[0] : offsets[-1]], offsets - offsets[0])
