"""The graphs of tiny models, exported once: an export takes seconds."""

from __future__ import annotations

from typing import Any, NamedTuple

import onnx
import pytest

# Every family with the commonest head, and every head.
KINDS = (
    ("bert", "classify"),
    ("roberta", "classify"),
    ("distilbert", "classify"),
    ("bert", "pairs"),
    ("roberta", "words"),
    ("bert", "mean"),
    ("roberta", "last"),
    ("bert", "first"),
)


class Exported(NamedTuple):
    """A model, its graph, and the name of its head."""

    model: Any
    graph: onnx.ModelProto
    head: str

    @property
    def products(self) -> dict[int, int]:
        """INT8 products per layer: where the head reads one token, the last layer has Q apart from K and V."""
        return {0: 4, 1: 5 if self.model.reads_one else 4}

    @property
    def quantizers(self) -> int:
        return sum(self.products.values())

    @property
    def head_weights(self) -> list[str]:
        layers = {"classify": ["dense", "output"], "pairs": ["dense", "output"], "words": ["output"]}
        return [f"head.{name}.weight" for name in layers.get(self.head, [])]


@pytest.fixture(scope="session")
def exported(make_model, make_quantized):
    """Return the exported form of a family's tiny model: `fp32`, `int8` or `per-token` (INT8 as well)."""
    from octavo.export.onnx_graph import onnx_from_model

    built = {}

    def export(family, precision, head="classify"):
        key = family, precision, head
        if key not in built:
            if precision == "fp32":
                model = make_model(family, head)
            else:
                model = make_quantized(family, head, scheme="per-token" if precision == "per-token" else "per-tensor")
            built[key] = Exported(model, onnx_from_model(model), head)
        return built[key]

    return export


@pytest.fixture(params=KINDS, ids="-".join)
def int8(request, exported):
    family, head = request.param
    return exported(family, "int8", head)


@pytest.fixture(params=KINDS, ids="-".join)
def per_token(request, exported):
    family, head = request.param
    return exported(family, "per-token", head)


@pytest.fixture(params=[(*kind, scheme) for kind in KINDS for scheme in ("int8", "per-token")], ids="-".join)
def quantized(request, exported):
    """A model with each head and each kind of activation scales."""
    family, head, scheme = request.param
    return exported(family, scheme, head)


@pytest.fixture(params=KINDS, ids="-".join)
def fp32(request, exported):
    family, head = request.param
    return exported(family, "fp32", head)


@pytest.fixture(params=["int8", "per-token", "fp32"])
def either(request, exported):
    return exported("bert", request.param)


@pytest.fixture(params=[*KINDS[:1], *KINDS[3:]], ids="-".join)
def each_head(request, exported):
    """A float model with each head."""
    family, head = request.param
    return exported(family, "fp32", head)
