"""What every engine does the same way: lay the batch out, refuse NaN and work once closed."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.buckets import Shape, shape_of
from octavo.text.layout import PackedLayout, Positions, layout_from_batch
from octavo.types import FloatArray


def check_finite(output: FloatArray, engine_id: str) -> FloatArray:
    """Return the output, or fail loudly: a NaN that is served with a 200 is worse than an error.

    Raises:
        EngineError: NaN or infinity in the output.
    """
    if not np.isfinite(output).all():
        row = int(np.argwhere(~np.isfinite(output).all(axis=1))[0, 0])
        raise EngineError(
            f"{engine_id} produced NaN or infinity for row {row} of the batch: the release is no use here."
        )
    return output


class Layout(StrEnum):
    """How a batch is padded before an engine runs it. It moves an answer no further than another batch would."""

    BUCKETED = "bucketed"  # packed, and rounded up to shapes that recur
    PACKED = "packed"  # packed as it is: no padding, but a new shape for nearly every batch
    PADDED = "padded"  # every sequence to the longest one, as engines are usually fed


def laid_out(batch: TokenBatch, positions: Positions, layout: Layout) -> PackedLayout:
    """Lay out a batch, padded as `layout` says."""
    match layout:
        case Layout.BUCKETED:
            return bucketed_layout(batch, positions)
        case Layout.PACKED:
            return layout_from_batch(batch, positions)
        case Layout.PADDED:
            sequences, length = len(batch), batch.max_length
            return layout_from_batch(batch, positions, (sequences * length, sequences, length))


def bucketed_layout(batch: TokenBatch, positions: Positions) -> PackedLayout:
    """Lay out a batch, padded to its bucket."""
    return layout_from_batch(batch, positions, shape_of(batch))


def dummy_batch(shape: Shape) -> TokenBatch:
    """Return a batch of token 0 whose bucket is `shape`: full sequences first, then sequences of one token.

    Raises:
        ValueError: no batch has this bucket.
    """
    most_tokens, most_sequences, longest = shape
    for sequences in range(most_sequences, 0, -1):
        for length in range(longest, 0, -1):
            tokens = min(most_tokens, sequences * length)
            spare = tokens - sequences  # beside the one token that every sequence has
            if spare < length - 1:
                continue
            extra = [min(length - 1, max(0, spare - i * (length - 1))) for i in range(sequences)]
            batch = TokenBatch.from_sequences([[0] * (1 + n) for n in extra])
            if shape_of(batch) == shape:
                return batch
    raise ValueError(f"no batch has the bucket {shape}")


def closed_error(engine_id: str) -> EngineError:
    """Return the error of an engine that is used after `close()`."""
    return EngineError(f"{engine_id} is closed.")
