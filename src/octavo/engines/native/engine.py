"""The native engine: fused INT8 kernels in C++ over packed batches, with no padding and no work per shape."""

from __future__ import annotations

import os
from dataclasses import fields
from typing import Any

import numpy as np

import octavo
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import check_finite, closed_error
from octavo.engines.native import available
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
        if not available():
            raise EngineError(
                "The native engine was not built when Octavo was installed. Install a C++ compiler (g++ 11 or newer,"
                " or Clang 14 or newer) and install Octavo again, or use the openvino engine."
            )
        from octavo.engines.native import _native
        from octavo.engines.native.graph_walk import UnknownGraphError
        from octavo.engines.native.weights import ModelWeights, weights_from_onnx

        def built(weights: ModelWeights) -> Any:
            settings = {field.name: getattr(weights, field.name) for field in fields(weights)}
            return _native.model(
                **settings
                | {
                    "norm": _part(_native.layer_norm, weights.norm),
                    "layers": [_layer(_native, layer) for layer in weights.layers],
                    "activation": _native.Activation[weights.activation.name],
                    "reads": _native.Reads[weights.reads.name],
                    "dense": weights.dense and _part(_native.dense, weights.dense),
                    "dense_activation": _native.Activation[weights.dense_activation.name],
                    "output": weights.output and _part(_native.dense, weights.output),
                },
                position_offset=graph.positions.offset,
                segment_stride=graph.positions.segment_stride,
                max_length=graph.max_length,
            )

        try:
            model = built(weights_from_onnx(graph.graphs["canonical"]))
            encoder = _native.Encoder(model, isa or os.environ.get(ISA_VARIABLE, ""), threads or _usable_cores())
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
        """Run the batches once, so that workspaces have their size."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Drop the model; calls in flight finish."""
        self._encoder = None


def _int64(values: IntArray | None) -> IntArray | None:
    """Return the values as the extension takes them, which costs nothing where they are int64 already."""
    return None if values is None else np.ascontiguousarray(values, np.int64)


def _part(make: Any, weights: Any) -> Any:
    """Hand the fields of a dataclass to the function of the extension that takes them by name."""
    return make(**{field.name: getattr(weights, field.name) for field in fields(weights)})


def _layer(native: Any, layer: Any) -> Any:
    parts = {}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, list):
            parts[field.name] = [_part(native.linear, one) for one in value]
        else:
            parts[field.name] = _part(native.layer_norm if field.name.endswith("norm") else native.linear, value)
    return native.layer(**parts)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container may have been given fewer cores than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
