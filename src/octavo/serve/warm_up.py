"""The batches that an engine should have run before it serves, beside those that loading a release runs anyway."""

from __future__ import annotations

from octavo.engines.open import Backend
from octavo.store.model import Model
from octavo.text.batch import TokenBatch
from octavo.text.buckets import Shape, shape_of, single_shapes

# Engines that prepare kernels for each shape, which the first batch of a shape waits for.
_SHAPE_BOUND = frozenset({Backend.OPENVINO})


def warm_up(model: Model, max_batch_tokens: int) -> None:
    """Run batches in which every number of tokens, and every number and length of sequences, comes up.

    OpenVINO prepares kernels for the linear layers by the first, and for attention by the others. All buckets are the
    thousands of ways to put them together: one whose parts were met costs its first batch a tenth more, and warming
    them all would cost every swap minutes. Engines without shapes need none of it.
    """
    if model.backend in _SHAPE_BOUND:
        model.engine.warm_up(even_batches(model.config.max_length, max_batch_tokens))


def even_batches(max_length: int, max_batch_tokens: int) -> list[TokenBatch]:
    """Return batches of two and more sequences of one length, up to `max_batch_tokens`, for all parts of buckets."""
    batches: dict[Shape, TokenBatch] = {}
    met: set[int | tuple[int, int]] = set()  # numbers of tokens; numbers of sequences with their lengths
    for _, _, length in single_shapes(max_length):
        longest = min(length, max_length)
        for sequences in range(2, max_batch_tokens // longest + 1):
            batch = TokenBatch.from_sequences([[0] * longest] * sequences)
            shape = shape_of(batch)
            parts: set[int | tuple[int, int]] = {shape[0], shape[1:]}
            if not parts <= met:
                met |= parts
                batches[shape] = batch
    return [batches[shape] for shape in sorted(batches)]
