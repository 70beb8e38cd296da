"""Outputs that were computed before: bounded, the least recently used go first. Search queries repeat.

The key is what the engine would read, so that a hit is exact: the release, the token ids, and what else the batch says
of the sequence. Knows no text and no answers.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from octavo.text.batch import TokenBatch
from octavo.types import FloatArray

Key = tuple[str, bytes, bytes, bytes]


class OutputCache:
    """Outputs by key. Thread-safe.

    Attributes:
        lookups: inputs that were looked up.
        hits: those that were found.
    """

    def __init__(self, entries: int) -> None:
        self._most = entries
        self._outputs: OrderedDict[Key, FloatArray] = OrderedDict()
        self._lock = threading.Lock()
        self.lookups = 0
        self.hits = 0

    def __len__(self) -> int:
        return len(self._outputs)

    def get(self, keys: Sequence[Key]) -> dict[int, FloatArray]:
        """Return the rows of the inputs that are known, by their place in `keys`."""
        found = {}
        with self._lock:
            for place, key in enumerate(keys):
                output = self._outputs.get(key)
                if output is not None:
                    self._outputs.move_to_end(key)
                    found[place] = output
            self.lookups += len(keys)
            self.hits += len(found)
        return found

    def put(self, key: Key, output: FloatArray) -> None:
        """Remember the rows of an input."""
        kept = np.array(output)  # a view would keep its whole batch in memory
        kept.flags.writeable = False
        with self._lock:
            self._outputs[key] = kept
            self._outputs.move_to_end(key)
            while len(self._outputs) > self._most:
                self._outputs.popitem(last=False)


def keys_of(release: str, batch: TokenBatch, start: int, stop: int) -> list[Key]:
    """Return the keys of some rows of a batch; `release` is the sha256."""
    ends = batch.offsets[start : stop + 1].tolist()
    ids, segments = batch.ids, batch.segments
    reads, read_ends = batch.reads, batch.read_offsets
    return [
        (
            release,
            ids[first:last].tobytes(),
            b"" if segments is None else segments[first:last].tobytes(),
            b"" if reads is None else (reads[read_ends[row] : read_ends[row + 1]] - first).tobytes(),
        )
        for row, first, last in zip(range(start, stop), ends, ends[1:], strict=False)
    ]
