"""The fp16 twin for engines on a GPU: out of the release where it has one, else made from its canonical graph.

Making it takes the package `onnx`; what is cached (a plan) needs neither.
"""

from __future__ import annotations

from octavo.engines.graph import ModelGraph
from octavo.errors import EngineError, MissingExtraError


def fp16_graph(graph: ModelGraph) -> bytes:
    """Return the fp16 twin of a model: its own where it has one, else made from the canonical graph.

    Raises:
        MissingExtraError: the package `onnx` is not installed.
        ModelError: a weight lies outside the fp16 range.
        EngineError: the canonical graph is no ONNX.
    """
    if "fp16" in graph.graphs:
        return graph.graphs["fp16"]
    try:
        import onnx

        from octavo.export.fp16 import fp16_twin
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "onnx", "tensorrt") from None
    try:
        model = onnx.load_model_from_string(graph.graphs["canonical"])
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base class
        raise EngineError(f"TensorRT cannot build the engine: the graph is no ONNX: {error}") from None
    content: bytes = fp16_twin(model).SerializeToString(deterministic=True)
    return content
