"""What every engine is held against: tiny models as torch modules and as graphs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from octavo.engines.graph import ModelGraph


@dataclass(frozen=True)
class Subject:
    """One model, float or quantized, in the forms that engines are built from.

    `react` returns how far outputs may lie apart on a batch: float error, and for a quantized model its reaction
    to flipped roundings.
    """

    name: str
    head: str
    model: Any
    graph: ModelGraph
    react: Any

    def tolerance(self, batch: Any) -> float:
        return 2e-5 if self.name == "fp32" else max(1e-4, self.react(batch))

    def with_nan(self) -> Subject:
        """The same model with NaN in the last bias before its outputs."""
        model = copy.deepcopy(self.model)
        name = "head.output.bias" if self.model.head.has_output else "encoder.layers.1.ffn_norm.bias"
        model.get_parameter(name).data[-1] = float("nan")

        def spoilt(content: bytes) -> bytes:
            graph = onnx.load_model_from_string(content)
            tensor = next(t for t in graph.graph.initializer if t.name == name)
            bias = np.array(numpy_helper.to_array(tensor))
            bias[-1] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))
            return graph.SerializeToString()

        graphs = {role: spoilt(content) for role, content in self.graph.graphs.items()}
        return replace(self, model=model, graph=replace(self.graph, graphs=graphs, key=self.graph.key + "nan"))


@pytest.fixture(scope="session")
def subjects(make_model, make_quantized, inputs_of, reaction_to_flips):
    """Return the subject of a precision and a head, built once."""
    from octavo.export.onnx_graph import onnx_from_model
    from octavo.export.variants import u8_twin

    @cache
    def subject(name: str, head: str = "classify") -> Subject:
        # RoBERTa's positions start at 2: an engine that forgets the offset is found out. BERT knows segments.
        model = (make_quantized if name == "int8" else make_model)("bert" if head == "pairs" else "roberta", head)
        canonical = onnx_from_model(model)
        graphs = {"canonical": canonical.SerializeToString()}
        if name == "int8":
            graphs["u8"] = u8_twin(canonical).SerializeToString()
        positions = model.config.positions
        key = sha256(graphs["canonical"]).hexdigest()
        return Subject(
            name,
            head,
            model,
            ModelGraph(name, graphs, positions, model.config.max_length, key),
            lambda batch: reaction_to_flips(model, inputs_of(batch, positions)),
        )

    return subject


@pytest.fixture(params=["fp32", "int8"])
def subject(request, subjects):
    return subjects(request.param)


@pytest.fixture(params=["fp32", "int8"])
def precision(request):
    return request.param


@pytest.fixture(params=["classify", "pairs", "words", "mean", "last", "first"])
def each(request, precision, subjects):
    """A subject with each head."""
    return subjects(precision, request.param)


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(autouse=True)
def _own_cache(session_cache, monkeypatch):
    """Keep compiled engines of tests out of the user's cache."""
    monkeypatch.setenv("OCTAVO_CACHE", str(session_cache))
