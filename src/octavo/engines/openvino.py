"""The OpenVINO engine on CPU: the default and the reference for speed."""

from __future__ import annotations

import io
import threading
from typing import Any

import numpy as np
import openvino

from octavo.engines.cache import cached_blob
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import Layout, check_finite, closed_error, laid_out
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray

# OpenVINO keeps prepared kernels per shape; room for every bucket that search traffic visits.
_PREPARED_SHAPES = 10_000


class OpenVinoEngine:
    """Runs the canonical graph. One call at a time uses every thread it was given; other callers wait."""

    def __init__(
        self,
        graph: ModelGraph,
        *,
        threads: int | None = None,
        precision: str | None = None,
        layout: Layout = Layout.BUCKETED,
    ) -> None:
        """Compile the graph, or take it out of the cache.

        Args:
            graph: the model.
            threads: CPU threads; None for all.
            precision: `f32`, or `bf16` to let OpenVINO use bfloat16 for what is float (other numbers); None for what
                the graph's precision says.
            layout: how batches are padded; which one is fastest depends on the traffic.

        Raises:
            EngineError: OpenVINO cannot compile the graph, or this CPU has no bfloat16 and it is asked for.
        """
        precision = precision or ("bf16" if graph.precision == "bf16" else "f32")
        if precision == "bf16" and not computes_bf16():
            raise EngineError(
                "This CPU does not compute bfloat16, and OpenVINO would use float32 without a word. "
                "Serve the FP32 or an INT8 release here."
            )
        self._positions = graph.positions
        self._layout = layout
        self._id = f"openvino-{openvino.__version__.split('-')[0]}/{graph.precision}/{precision}"
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "CPU_RUNTIME_CACHE_CAPACITY": _PREPARED_SHAPES,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()

        def compile_() -> Any:
            return core.compile_model(core.read_model(io.BytesIO(graph.graphs["canonical"])), "CPU", options)

        def export(compiled: Any) -> bytes:
            stream = io.BytesIO()
            compiled.export_model(stream)
            return stream.getvalue()

        def import_(blob: bytes) -> Any:
            return core.import_model(io.BytesIO(blob), "CPU", options)

        try:
            self._compiled = cached_blob(
                graph.key, f"{self._id}/{openvino.__version__}/{threads}", compile_, export, import_
            )
            self._request = self._compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot build the engine: {_first_line(error)}") from None
        self._width = int(self._compiled.output(0).get_partial_shape()[1].get_length())
        # A graph need not use all of them: with one layer, a head that reads one token needs no `rows`.
        self._inputs = [name for name in INPUT_NAMES if any(name in port.names for port in self._compiled.inputs)]
        self._lock = threading.Lock()
        self._open = True

    @property
    def engine_id(self) -> str:
        """Backend, version, graph and float precision."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width)."""
        if self._open and not len(batch):
            return np.zeros((0, self._width), np.float32)
        layout = laid_out(batch, self._positions, self._layout)
        inputs = {name: getattr(layout, name) for name in self._inputs}
        with self._lock:
            if not self._open:
                raise closed_error(self._id)
            try:
                self._request.infer(inputs, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"{self._id} failed: {_first_line(error)}") from None
            output = np.array(self._request.get_output_tensor(0).data[: len(batch.read_places)], np.float32)
        return check_finite(output, self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Prepare the kernels of the batches' shapes."""
        for batch in batches:
            self.run(batch)

    def close(self) -> None:
        """Free the compiled model."""
        with self._lock:
            self._open = False
            self._request = self._compiled = None


def computes_bf16() -> bool:
    """Return whether the CPU multiplies in bfloat16 (AVX512_BF16 or AMX)."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _first_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
