"""The OpenVINO engine on CPU: the default and the reference for speed."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino

from octavo.engines.cache import cached_blob
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import Layout, check_finite, closed_error, laid_out
from octavo.engines.hardware import usable_cores
from octavo.errors import EngineError
from octavo.text.batch import TokenBatch
from octavo.text.layout import INPUT_NAMES
from octavo.types import FloatArray

# OpenVINO keeps prepared kernels per shape; room for every bucket that search traffic visits.
_PREPARED_SHAPES = 10_000


class OpenVinoEngine:
    """Runs the canonical graph. As many calls run at once as the cores have room for; other callers wait."""

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
            threads: CPU threads of one call; None for all, and one call at a time.
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
        streams = 1
        if threads is not None:
            # A stream runs one call at a time. They share weights; threads and prepared kernels are its own.
            streams = max(1, usable_cores() // threads)
            options |= {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": streams * threads}
            # Pinned, the first threads of all models would share the first core.
            options["ENABLE_CPU_PINNING"] = False
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
                graph.key, f"{self._id}/{openvino.__version__}/{threads}x{streams}", compile_, export, import_
            )
            self._requests: SimpleQueue[Any] = SimpleQueue()  # that are free; None once closed
            self._streams = int(self._compiled.get_property("NUM_STREAMS"))
            for _ in range(self._streams):
                self._requests.put(self._compiled.create_infer_request())
        except RuntimeError as error:
            raise EngineError(f"OpenVINO cannot build the engine: {_first_line(error)}") from None
        self._width = int(self._compiled.output(0).get_partial_shape()[1].get_length())
        # A graph need not use all of them: with one layer, a head that reads one token needs no `rows`.
        self._inputs = [name for name in INPUT_NAMES if any(name in port.names for port in self._compiled.inputs)]
        self._takes_all = threading.Lock()
        self._open = True

    @property
    def engine_id(self) -> str:
        """Backend, version, graph and float precision."""
        return self._id

    def run(self, batch: TokenBatch) -> FloatArray:
        """Return the head's output, (reads, width)."""
        if self._open and not len(batch):
            return np.zeros((0, self._width), np.float32)
        inputs = self._inputs_from(batch)
        with self._taken(1) as (request,):
            try:
                request.infer(inputs, share_inputs=True)
            except RuntimeError as error:
                raise EngineError(f"{self._id} failed: {_first_line(error)}") from None
            output = np.array(request.get_output_tensor(0).data[: len(batch.read_places)], np.float32)
        return check_finite(output, self._id)

    def warm_up(self, batches: list[TokenBatch]) -> None:
        """Prepare the kernels of the batches' shapes, on every stream."""
        for batch in batches:
            inputs = self._inputs_from(batch)
            with self._takes_all, self._taken(self._streams) as requests:
                # All at once: preparing takes so long that no stream is done before each has one.
                for request in requests:
                    request.start_async(inputs, share_inputs=True)
                for request in requests:
                    request.wait()

    def close(self) -> None:
        """Free the compiled model, once the calls in flight have ended."""
        with self._takes_all:
            if self._open:
                self._open = False
                for _ in range(self._streams):
                    self._requests.get()
                self._compiled = None
                self._requests.put(None)

    def _inputs_from(self, batch: TokenBatch) -> dict[str, Any]:
        layout = laid_out(batch, self._positions, self._layout)
        return {name: getattr(layout, name) for name in self._inputs}

    @contextmanager
    def _taken(self, count: int) -> Iterator[list[Any]]:
        """Wait for requests that are free, and give them back afterwards. Who wants several holds the lock."""
        requests = [self._requests.get() for _ in range(count if self._open else 1)]
        try:
            if None in requests:
                raise closed_error(self._id)
            yield requests
        finally:
            for request in requests:
                self._requests.put(request)


def computes_bf16() -> bool:
    """Return whether the CPU multiplies in bfloat16 (AVX512_BF16 or AMX)."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _first_line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
