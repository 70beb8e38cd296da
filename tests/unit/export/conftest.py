"""The graphs of tiny models, exported once: an export takes seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx
import pytest

FAMILIES = ("bert", "roberta", "distilbert")


class Exported(NamedTuple):
    """A model and its graph."""

    model: Any
    graph: onnx.ModelProto


@pytest.fixture(scope="session")
def exported(make_classifier, make_quantized):
    """Return the exported form of a family's tiny model, `fp32` or `int8`."""
    from octavo.export.onnx_graph import onnx_from_model

    built = {}

    def export(family, precision):
        if (family, precision) not in built:
            model = (make_quantized if precision == "int8" else make_classifier)(family)
            built[family, precision] = Exported(model, onnx_from_model(model))
        return built[family, precision]

    return export


@pytest.fixture(params=FAMILIES)
def int8(request, exported):
    return exported(request.param, "int8")


@pytest.fixture(params=FAMILIES)
def fp32(request, exported):
    return exported(request.param, "fp32")


@pytest.fixture(params=["int8", "fp32"])
def either(request, exported):
    return exported("bert", request.param)
