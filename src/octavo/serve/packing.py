"""Rows out of token batches, laid end to end into another one: views where nothing has to move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from octavo.text.batch import TokenBatch


def rows_between(batch: TokenBatch, start: int, stop: int) -> TokenBatch:
    """Return consecutive rows of a batch; the ids are views."""
    if start == 0 and stop == len(batch):
        return batch
    offsets = batch.offsets[start : stop + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    reads = None
    if batch.reads is not None:
        reads = batch.reads[batch.read_offsets[start] : batch.read_offsets[stop]] - first
    segments = None if batch.segments is None else batch.segments[first:last]
    return TokenBatch(batch.ids[first:last], offsets - first, segments, reads)


def concatenated(batches: Sequence[TokenBatch]) -> TokenBatch:
    """Return the rows of at least one batch, in order."""
    if len(batches) == 1:
        return batches[0]
    starts = np.cumsum([0, *(batch.tokens for batch in batches)])
    moved = list(zip(batches, starts[:-1].tolist(), strict=True))
    offsets = np.concatenate([*(batch.offsets[:-1] + start for batch, start in moved), starts[-1:]])
    segments = reads = None
    if any(batch.segments is not None for batch in batches):
        zeros = (np.zeros(batch.tokens, np.int64) if batch.segments is None else batch.segments for batch in batches)
        segments = np.concatenate(list(zeros))
    if any(batch.reads is not None for batch in batches):
        reads = np.concatenate([batch.read_places + start for batch, start in moved])
    return TokenBatch(np.concatenate([batch.ids for batch in batches]), offsets, segments, reads)
