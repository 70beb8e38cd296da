"""Opening an engine by its backend's name. Each backend is imported only when it is asked for."""

from __future__ import annotations

from enum import StrEnum

from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph
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


def open_engine(
    backend: Backend, graph: ModelGraph, *, threads: int | None = None, tensorrt: TensorRt | None = None
) -> Engine:
    """Build an engine for `graph`, or take it out of the cache.

    Args:
        backend: which.
        graph: the model.
        threads: CPU threads; None for all.
        tensorrt: how TensorRT builds its plan; None for the defaults.

    Raises:
        MissingExtraError: the backend's package is not installed.
        EngineError: the backend cannot build it here.
    """
    match backend:
        case Backend.OPENVINO:
            from octavo.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(graph, threads=threads)
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
