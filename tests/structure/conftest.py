"""Graphs that TensorRT builds plans of: real sizes of heads and layers, so that fusions are those of real models."""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import pytest

# MiniLM's sizes, with two layers.
SIZES = {"hidden_size": 384, "heads": 12, "intermediate_size": 1536}


@pytest.fixture(scope="session")
def rtx() -> Any:
    """Return TensorRT-RTX, which builds plans without a GPU; the summary says so where it is not installed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT structure is NOT verified here: pip install 'octavo[tensorrt-rtx]'")
    from octavo.engines.tensorrt_plan import RTX, tensorrt_package

    return tensorrt_package(RTX)


@pytest.fixture(scope="session")
def graph_of(rtx: Any, make_model: Any, make_quantized: Any) -> Any:
    """Return the canonical graph of a random two-layer model, built once."""
    from octavo.export.onnx_graph import onnx_from_model

    @cache
    def graph(head: str, precision: str = "int8") -> Any:
        if precision == "fp32":
            return onnx_from_model(make_model("bert", head, **SIZES))
        scheme = "per-token" if precision == "per-token" else "per-tensor"
        return onnx_from_model(make_quantized("bert", head, scheme=scheme, **SIZES))

    return graph


@pytest.fixture(scope="session")
def structure_for(rtx: Any) -> Any:
    """Return what a plan of a graph's twin consists of, on one compute capability."""
    from octavo.engines.plan_layers import layers_from_log, structure_from_layers
    from octavo.engines.tensorrt_plan import build_plan, profiles_from_shapes
    from octavo.export.fp16 import fp16_twin
    from octavo.recipe import TensorRt

    def structure(graph: Any, capability: int) -> Any:
        twin = fp16_twin(graph)
        profiles = profiles_from_shapes([], 128, 2)
        plan = build_plan(rtx, twin.SerializeToString(), profiles, TensorRt(), capability=capability)
        return structure_from_layers(layers_from_log(plan.log), twin)

    return structure
