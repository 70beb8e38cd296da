"""The shapes that batches are rounded up to, so that shapes recur and engines stop re-preparing kernels.

A shape is (tokens, batch, length). Steps are fine where a query lives and coarse where a step is a small share, so
that rounding adds at most about an eighth.
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
    longest = _round_up(max_length, _LENGTHS)
    return [(length, 1, length) for length in _LENGTHS if length <= longest]


def _round_up(size: int, steps: tuple[int, ...]) -> int:
    """Return the first step that is not below `size`; beyond the grid, the next multiple of its last step."""
    place = bisect_left(steps, size)
    return steps[place] if place < len(steps) else -(-size // steps[-1]) * steps[-1]
