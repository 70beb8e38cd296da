"""The shapes that batches are rounded up to, so that shapes recur and engines stop re-preparing kernels.

A shape is (tokens, batch, length). Steps are fine where a query lives and coarse where a step is a small
share: rounding adds fewer than 4 tokens up to 32, and less than a quarter beyond. The number of sequences,
which costs little by itself, grows by less than half.
"""

from __future__ import annotations

from bisect import bisect_left

from octavo.text.batch import TokenBatch

Shape = tuple[int, int, int]


def _steps(*ranges: tuple[int, int, int]) -> tuple[int, ...]:
    return tuple(size for start, stop, step in ranges for size in range(start, stop, step))


_LENGTHS = _steps((4, 32, 4), (32, 64, 8), (64, 128, 16), (128, 256, 32), (256, 513, 64))
_SEQUENCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_TOKENS = _steps((4, 32, 4), (32, 64, 8), (64, 128, 16), (128, 512, 32), (512, 1024, 64), (1024, 4097, 256))


def shape_of(batch: TokenBatch) -> Shape:
    """Return the bucket of a batch: the smallest shape of the grid that holds it."""
    length = _round_up(batch.max_length, _LENGTHS)
    if len(batch) == 1:
        return length, 1, length
    return _round_up(batch.tokens, _TOKENS), _round_up(len(batch), _SEQUENCES), length


def single_shapes(max_length: int) -> list[Shape]:
    """Return every shape that one sequence of up to `max_length` tokens can take."""
    lengths = sorted({_round_up(length, _LENGTHS) for length in range(1, max_length + 1)})
    return [(length, 1, length) for length in lengths]


def _round_up(size: int, steps: tuple[int, ...]) -> int:
    """Return the first step that is not below `size`; beyond the grid, by a quarter of the last one."""
    place = bisect_left(steps, size)
    step = steps[-1] // 4
    return steps[place] if place < len(steps) else -(-size // step) * step
