"""The ONNX Runtime engine on CPU: runs the u8 twin, the spelling that it fuses."""

from __future__ import annotations

import numpy as np
import onnxruntime

from octavo.engines.graph import ModelGraph
from octavo.engines.guard import bucketed_layout, check_finite, closed_error
from octavo.engines.hardware import this_hardware
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray


class OnnxRuntimeEngine:
    """Runs the u8 twin where there is one, else the canonical graph. ONNX Runtime itself is thread-safe."""

    def __init__(self, graph: ModelGraph, *, threads: int | None = None) -> None:
        """Create the session.

        Args:
            graph: the model.
            threads: CPU threads; None for all.

        Raises:
            EngineError: ONNX Runtime cannot load the graph.
        """
        self._positions = graph.positions
        role = "u8" if "u8" in graph.graphs else "canonical"
        self._id = f"onnxruntime-{onnxruntime.__version__}/{graph.precision}{'-u8' if role == 'u8' else ''}"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised as well
        if threads is not None:
            options.intra_op_num_threads = threads
        if not {"avx512_vnni", "avx_vnni"} & set(this_hardware().flags):
            # Without VNNI the u8 by s8 kernels add pairs in 16 bits and saturate: slower exact ones instead.
            options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
                graph.graphs[role], options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no base class
            raise EngineError(f"ONNX Runtime cannot build the engine: {error}") from None
        self._width = int(self._session.get_outputs()[0].shape[1])

    @property
    def engine_id(self) -> str:
        """Backend, version and graph."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width)."""
        session = self._session
        if session is None:
            raise closed_error(self._id)
        if not len(batch):
            return np.zeros((0, self._width), np.float32)
        layout = bucketed_layout(batch, self._positions)
        try:
            (output,) = session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})
        except Exception as error:  # its errors share no base class
            raise EngineError(f"{self._id} failed: {error}") from None
        return check_finite(np.asarray(output[: len(batch.read_places)], np.float32), self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Run the batches once, so that buffers are allocated."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Drop the session; calls in flight finish."""
        self._session = None
