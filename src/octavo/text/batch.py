"""`TokenBatch`: several sequences laid end to end, with no padding between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from octavo.types import IntArray


@dataclass(frozen=True)
class TokenBatch:
    """Packed sequences: row `i` is `ids[offsets[i]:offsets[i + 1]]`. Every sequence has at least one token.

    The arrays may be memory-mapped and of narrower integers: `select` and `split` read the chosen rows alone and
    return int64. Of the rest, `lengths` and `read_offsets` cost 8 bytes per sequence; nothing costs that per token.

    Attributes:
        ids: token ids, (tokens,).
        offsets: where each sequence starts, and the end, (batch + 1,).
        segments: 0 or 1 for each token: of which text of a pair it is, (tokens,); None for 0 everywhere.
        reads: places in `ids` of the tokens whose hidden states a head reads, never descending, at least one for
            each sequence, (reads,); None for the first token of each. A token may be read twice: a sequence without
            special tokens starts with its first word.
    """

    ids: IntArray
    offsets: IntArray
    segments: IntArray | None = None
    reads: IntArray | None = None

    @classmethod
    def from_sequences(
        cls,
        sequences: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        reads: Sequence[Sequence[int]] | None = None,
    ) -> TokenBatch:
        """Pack token-id sequences, keeping their order; `reads` are places within each sequence.

        Raises:
            ValueError: a sequence is empty (the layout would answer it with its neighbour's first token), or has
                nothing to read.
        """
        if not all(map(len, sequences)) or not all(map(len, reads or ())):
            raise ValueError("every sequence must have at least one token, and one to read")
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum([len(s) for s in sequences], out=offsets[1:])
        placed = None
        if reads is not None:
            starts = np.repeat(offsets[:-1], [len(places) for places in reads])
            placed = _joined(reads, len(starts)) + starts
        tokens = int(offsets[-1])
        return cls(_joined(sequences, tokens), offsets, None if segments is None else _joined(segments, tokens), placed)

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

    @property
    def read_places(self) -> IntArray:
        """Places of the tokens that a head reads, (reads,)."""
        return self.offsets[:-1] if self.reads is None else self.reads

    @cached_property
    def read_offsets(self) -> IntArray:
        """Where each sequence's reads start in `read_places`, and the end, (batch + 1,)."""
        if self.reads is None:
            return np.arange(len(self.offsets))
        return np.searchsorted(self.reads, self.offsets).astype(np.int64)

    def select(self, rows: Sequence[int] | IntArray) -> TokenBatch:
        """Return the sequences at `rows`, in that order."""
        rows = np.asarray(rows, np.int64)
        places, offsets = _gathered(self.offsets, rows)
        ids = np.asarray(self.ids[places], np.int64)
        segments = None if self.segments is None else np.asarray(self.segments[places], np.int64)
        if self.reads is None:
            return TokenBatch(ids, offsets, segments)
        chosen, read_offsets = _gathered(self.read_offsets, rows)
        moved = np.repeat(offsets[:-1] - self.offsets[rows], np.diff(read_offsets))
        return TokenBatch(ids, offsets, segments, self.reads[chosen] + moved)

    def split(self, rows: int) -> Iterator[TokenBatch]:
        """Yield consecutive batches of at most `rows` sequences."""
        for start in range(0, len(self), rows):
            yield self.select(np.arange(start, min(start + rows, len(self))))


def _joined(sequences: Sequence[Sequence[int]], count: int) -> IntArray:
    return np.fromiter(chain.from_iterable(sequences), np.int64, count=count)


def _gathered(offsets: IntArray, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Return where the members of the chosen runs lie, run by run, and the runs' new offsets."""
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    new = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=new[1:])
    # A member's place: its run's start plus its place in the run.
    return np.arange(new[-1]) + np.repeat(starts - new[:-1], lengths), new
