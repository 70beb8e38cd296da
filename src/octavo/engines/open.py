"""Opening an engine by its backend's name. Each backend is imported only when it is asked for."""

from __future__ import annotations

from enum import StrEnum

from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph


class Backend(StrEnum):
    """Engines that can serve a release. The torch engine is a reference and serves nothing."""

    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"
    NATIVE = "native"


# The role of the graph that each backend loads, when the model has it; else the canonical one.
ROLE = {Backend.OPENVINO: "canonical", Backend.ONNXRUNTIME: "u8", Backend.NATIVE: "canonical"}


def open_engine(backend: Backend, graph: ModelGraph, *, threads: int | None = None) -> Engine:
    """Build an engine for `graph`, or take it out of the cache.

    Raises:
        EngineError: the backend cannot build it here.
    """
    match backend:
        case Backend.OPENVINO:
            from octavo.engines.openvino import OpenVinoEngine

            return OpenVinoEngine(graph, threads=threads)
        case Backend.ONNXRUNTIME:
            from octavo.engines.onnxruntime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(graph, threads=threads)
        case Backend.NATIVE:
            from octavo.engines.native.engine import NativeEngine

            return NativeEngine(graph, threads=threads)
