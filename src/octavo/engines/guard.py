"""What every engine does the same way: lay the batch out, cut the padding off, refuse NaN, refuse work once closed."""

from __future__ import annotations

import numpy as np

from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.buckets import Shape, shape_of
from octavo.text.layout import PackedLayout, layout_from_batch
from octavo.types import FloatArray


def check_finite(output: FloatArray, engine_id: str) -> FloatArray:
    """Return the output, or fail loudly: a NaN that is served with a 200 is worse than an error.

    Raises:
        EngineError: NaN or infinity in the output.
    """
    if not np.isfinite(output).all():
        row = int(np.argwhere(~np.isfinite(output).all(axis=1))[0, 0])
        raise EngineError(f"{engine_id} produced NaN or infinity for row {row} of the batch. The release is not usable here.")
    return output


def bucketed_layout(batch: TokenBatch, position_offset: int) -> PackedLayout:
    """Lay out a batch, padded to its bucket."""
    return layout_from_batch(batch, position_offset, shape_of(batch))


def dummy_batch(shape: Shape) -> TokenBatch:
    """Return a batch of token 0 whose bucket is `shape`: full sequences first, then sequences of one token."""
    tokens, sequences, length = shape
    lengths = []
    for left in range(sequences, 0, -1):
        lengths.append(max(1, min(length, tokens - sum(lengths) - (left - 1))))
    return TokenBatch.from_sequences([[0] * n for n in lengths])


def closed_error(engine_id: str) -> EngineError:
    """Return the error of an engine that is used after `close()`."""
    return EngineError(f"{engine_id} is closed.")
