"""The seam between Octavo and whatever multiplies the matrices."""

from __future__ import annotations

from typing import Protocol

from octavo.text.batch import TokenBatch
from octavo.types import FloatArray


class Engine(Protocol):
    """Runs one model. Thread-safe: `run` may be called from several threads at once.

    Knows nothing about text, labels or tasks.
    """

    @property
    def engine_id(self) -> str:
        """Backend, version, graph and numeric choices, such as `openvino-2026.4.1/int8/f32`."""

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, one row per token that it reads (`TokenBatch.read_places`), (reads, width).

        Raises:
            EngineError: the engine is closed, or produced NaN or infinity.
        """

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run shapes that will recur, so that the first user does not wait for their preparation."""

    def close(self) -> None:
        """Free what the engine holds. Running it afterwards raises `EngineError`."""
