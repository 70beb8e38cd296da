"""Opening an engine by its backend's name. Each backend is imported only when it is asked for."""

from __future__ import annotations

from enum import StrEnum

from octavo.engines import native
from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import Layout
from octavo.recipe import TensorRt


class Backend(StrEnum):
    """Engines that can serve a release. The torch engine is a reference and serves nothing."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    NATIVE = "native"
    TENSORRT = "tensorrt"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"


# The role of the graph that each backend loads, when the model has it; else the canonical one.
ROLE = {
    Backend.OPENVINO: "canonical",
    Backend.ONNXRUNTIME: "u8",
    Backend.NATIVE: "canonical",
    Backend.TENSORRT: "fp16",
    Backend.ONNXRUNTIME_CUDA: "fp16",
    Backend.ONNXRUNTIME_TENSORRT: "fp16",
}


def default_backend() -> Backend:
    """Return the engine that serves where nothing was measured: the native one, or OpenVINO in its place."""
    return Backend.NATIVE if native.available() else Backend.OPENVINO


def open_engine(
    backend: Backend,
    graph: ModelGraph,
    *,
    threads: int | None = None,
    layout: Layout = Layout.BUCKETED,
    tensorrt: TensorRt | None = None,
) -> Engine:
    """Build an engine for `graph`, or take it out of the cache.

    Args:
        backend: which one.
        graph: the model.
        threads: CPU threads; None for all.
        layout: how batches are padded, in the one backend that leaves it open: OpenVINO.
        tensorrt: how TensorRT builds its plan; None for the defaults.

    Raises:
        EngineError: the backend cannot build it here.
    """
    match backend:
        case Backend.OPENVINO:
            from octavo.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(graph, threads=threads, layout=layout)
        case Backend.ONNXRUNTIME | Backend.ONNXRUNTIME_CUDA | Backend.ONNXRUNTIME_TENSORRT:
            from octavo.engines.onnxruntime import OnnxRuntimeEngine, Provider

            provider = {
                Backend.ONNXRUNTIME_CUDA: Provider.CUDA,
                Backend.ONNXRUNTIME_TENSORRT: Provider.TENSORRT,
            }.get(backend, Provider.CPU)
            return OnnxRuntimeEngine(graph, threads=threads, provider=provider)
        case Backend.TENSORRT:
            from octavo.engines.tensorrt import TensorRtEngine

            return TensorRtEngine(graph, options=tensorrt)
        case Backend.NATIVE:
            from octavo.engines.native.engine import NativeEngine

            return NativeEngine(graph, threads=threads)
