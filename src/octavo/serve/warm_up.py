"""The batches that an engine should have run before it serves, beside those that loading a release runs anyway."""

from __future__ import annotations

from octavo.engines.guard import dummy_batch
from octavo.engines.open import Backend
from octavo.store.model import Model
from octavo.text.batch import TokenBatch
from octavo.text.buckets import Shape, shape_of, single_shapes

# Engines that prepare kernels for each shape, which the first batch of a shape waits for.
_SHAPE_BOUND = frozenset({Backend.OPENVINO})


def warm_up(model: Model, max_batch_tokens: int) -> None:
    """Run a batch of every bucket that equally long sequences fill, up to `max_batch_tokens`.

    Mixed lengths fall into further buckets, thousands of them: each costs its first batch some milliseconds, and
    warming them all would cost every swap minutes. Engines without shapes need none of it.
    """
    if model.backend not in _SHAPE_BOUND:
        return
    model.engine.warm_up([dummy_batch(shape) for shape in batch_shapes(model.config.max_length, max_batch_tokens)])


def batch_shapes(max_length: int, max_batch_tokens: int) -> list[Shape]:
    """Return the buckets of two and more sequences of one length that have `max_batch_tokens` at most, in order."""
    shapes = set()
    for _, _, length in single_shapes(max_length):
        longest = min(length, max_length)
        for sequences in range(2, max_batch_tokens // longest + 1):
            shapes.add(shape_of(TokenBatch.from_sequences([range(longest)] * sequences)))
    return sorted(shapes)
