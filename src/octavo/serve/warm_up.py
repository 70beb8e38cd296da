"""The batches that an engine should have run before it serves, beside those that loading a release runs anyway."""

from __future__ import annotations

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
    if model.backend in _SHAPE_BOUND:
        model.engine.warm_up(even_batches(model.config.max_length, max_batch_tokens))


def even_batches(max_length: int, max_batch_tokens: int) -> list[TokenBatch]:
    """Return a batch of two and more sequences of one length for each bucket that such batches fall into."""
    batches: dict[Shape, TokenBatch] = {}
    for _, _, length in single_shapes(max_length):
        longest = min(length, max_length)
        for sequences in range(2, max_batch_tokens // longest + 1):
            batch = TokenBatch.from_sequences([[0] * longest] * sequences)
            batches.setdefault(shape_of(batch), batch)
    return [batches[shape] for shape in sorted(batches)]
