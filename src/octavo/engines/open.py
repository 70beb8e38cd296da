"""Opening an engine by its backend's name. Each backend is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
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


# The graph that engines on a GPU run, and how far it may be from the one it was made from, as a share of the largest
# output: fp16 has 11 bits, and rounds some tens of times on the way (docs/gpu.md).
HALF, HALF_BOUND = "fp16", 0.005

# The role of the graph that each backend loads, when the model has it; else the canonical one.
ROLE = {
    Backend.OPENVINO: "canonical",
    Backend.ONNXRUNTIME: "u8",
    Backend.NATIVE: "canonical",
    Backend.TENSORRT: HALF,
    Backend.ONNXRUNTIME_CUDA: HALF,
    Backend.ONNXRUNTIME_TENSORRT: HALF,
}


# What has to be installed, beside Octavo itself, for a GPU to be tried at all.
_GPU_PACKAGE = {
    Backend.TENSORRT: "tensorrt",
    Backend.ONNXRUNTIME_CUDA: "onnxruntime-gpu",
    Backend.ONNXRUNTIME_TENSORRT: "onnxruntime-gpu",
}


def gpu_backends(packages: Mapping[str, str]) -> list[Backend]:
    """Return the GPU's engines that the installed packages might run: whether there is a GPU is seen by opening one."""
    return [backend for backend, package in _GPU_PACKAGE.items() if package in packages]


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
