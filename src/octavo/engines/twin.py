"""The fp16 twin for engines on a GPU: out of the release where it has one, else made from its canonical graph."""

from __future__ import annotations

from octavo.engines.graph import ModelGraph
from octavo.errors import EngineError


def fp16_graph(graph: ModelGraph) -> bytes:
    """Return the ONNX bytes of a model's fp16 twin.

    Raises:
        ModelError: a weight lies outside the fp16 range.
        EngineError: the canonical graph is no ONNX.
    """
    if "fp16" in graph.graphs:
        return graph.graphs["fp16"]
    import onnx  # here, as an engine whose plan lies in the cache needs neither

    from octavo.export.fp16 import fp16_twin

    try:
        model = onnx.load_model_from_string(graph.graphs["canonical"])
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and the checker's errors share no base class
        raise EngineError(f"Octavo cannot build the engine: its graph is no ONNX: {error}") from None
    content: bytes = fp16_twin(model).SerializeToString(deterministic=True)
    return content
