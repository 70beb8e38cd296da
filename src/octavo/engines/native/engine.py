"""The native engine: fused INT8 kernels in C++ over packed batches, with no padding and no work per shape."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import octavo
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import check_finite, closed_error
from octavo.engines.hardware import usable_cores
from octavo.engines.native.extension import encoder_from_weights
from octavo.engines.native.graph_reader import weights_from_onnx
from octavo.engines.native.graph_walk import UnknownGraphError
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.types import FloatArray, IntArray

ISA_VARIABLE = "OCTAVO_ISA"


class NativeEngine:
    """Runs the canonical INT8 graph. With one thread, callers run side by side; with more, they take turns."""

    def __init__(self, graph: ModelGraph, *, threads: int | None = None, isa: str | None = None) -> None:
        """Read the graph and pack its weights for this machine.

        Args:
            graph: the model.
            threads: CPU threads; None for all.
            isa: instruction set to use; None for `$OCTAVO_ISA`, or else the fastest that this machine has.

        Raises:
            EngineError: the extension was not built, the graph is not an INT8 graph of Octavo's, or this machine
                lacks the instruction set.
        """
        isa = isa or os.environ.get(ISA_VARIABLE, "")
        try:
            weights = weights_from_onnx(graph.graphs["canonical"])
            encoder = encoder_from_weights(
                weights, graph.positions, graph.max_length, isa=isa, threads=threads or usable_cores()
            )
        except (UnknownGraphError, ValueError, MemoryError) as error:
            raise EngineError(f"The native engine cannot build the engine: {error}.") from None
        self._encoder: Any = encoder
        self._width = int(encoder.width)
        self._id = f"native-{octavo.__version__}/{graph.precision}/{encoder.isa}"

    @property
    def engine_id(self) -> str:
        """Backend, version, precision and instruction set."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width).

        Raises:
            EngineError: the engine is closed, the batch holds values out of range, or the output NaN.
        """
        encoder = self._encoder
        if encoder is None:
            raise closed_error(self._id)
        try:
            output: FloatArray = encoder.run(
                _int64(batch.ids), _int64(batch.offsets), _int64(batch.segments), _int64(batch.reads)
            )
        except ValueError as error:
            raise EngineError(f"{self._id} cannot run this batch: {error}.") from None
        return check_finite(output, self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the largest batch, after which a workspace has its size: no kernel waits for a shape."""
        if batches:
            self.run(max(batches, key=lambda batch: len(batch.ids)))

    def close(self) -> None:
        """Drop the model; calls in flight finish."""
        self._encoder = None


def _int64(values: IntArray | None) -> IntArray | None:
    """Return the values as the extension takes them, which costs nothing where they are int64 already."""
    return None if values is None else np.ascontiguousarray(values, np.int64)
