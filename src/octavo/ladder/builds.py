"""From a candidate to files and a running engine: export, variants, and the engine that would serve it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from octavo.engines.base import Engine
from octavo.engines.graph import ModelGraph
from octavo.engines.guard import dummy_batch
from octavo.engines.open import ROLE, Backend, open_engine
from octavo.engines.torch import TorchEngine
from octavo.export.onnx_graph import onnx_from_model
from octavo.export.structure import structure_of
from octavo.export.variants import u8_twin
from octavo.ladder.material import Material
from octavo.ladder.rungs import Candidate
from octavo.store.contents import Golden, ReleaseConfig, golden_tolerance, input_json
from octavo.text.buckets import Shape, shape_of, single_shapes
from octavo.text.tokenizer import Tokenizer
from octavo.types import FloatArray, Input, Scheme

CANONICAL = "model.onnx"
U8_TWIN = "variants/model_u8.onnx"
_GOLDEN_ROWS = 32
_MOST_SHAPES = 16


@dataclass(frozen=True, slots=True)
class Build:
    """A candidate's graphs and the engine that would serve it.

    Attributes:
        candidate: what was built.
        graphs: ONNX bytes by path in the release.
        variants: role → path in the release.
        backend: of the engine.
        engine: built from the graph that its backend prefers, warmed up.
        loaded: path of the graph that the engine loaded.
        tokenizer: from text to tokens.
    """

    candidate: Candidate
    graphs: dict[str, bytes]
    variants: dict[str, str]
    backend: Backend
    engine: Engine
    loaded: str
    tokenizer: Tokenizer

    def answer(self, inputs: Sequence[Input]) -> FloatArray:
        """Run inputs, (reads, width): what a service would do for a request."""
        return self.engine.run(self.tokenizer.encode(inputs))

    def sha256(self, path: str) -> str:
        """Return the hash of one of the graphs."""
        return hashlib.sha256(self.graphs[path]).hexdigest()


def build(material: Material, candidate: Candidate, backend: Backend, shapes: Sequence[Shape]) -> Build:
    """Export a candidate, check the graph's structure, and build its engine.

    Raises:
        EngineError: the backend cannot build it.
    """
    tokenizer = material.base.tokenizer
    graph = onnx_from_model(candidate.model)
    graphs, variants = {CANONICAL: graph.SerializeToString(deterministic=True)}, {"canonical": CANONICAL}
    if candidate.precision == "int8":
        _check_structure(graph, candidate.model)
        if candidate.scheme is Scheme.PER_TENSOR:  # the other has no Q/DQ pairs to respell
            graphs[U8_TWIN] = u8_twin(graph).SerializeToString(deterministic=True)
            variants["u8"] = U8_TWIN
    role = ROLE[backend] if ROLE[backend] in variants else "canonical"
    engine = open_engine(
        backend,
        ModelGraph(
            precision=candidate.precision,
            graphs={role: graphs[path] for role, path in variants.items()},
            positions=material.base.positions,
            max_length=tokenizer.max_length,
            key=None,
            shapes=tuple(shapes),
        ),
        tensorrt=material.recipe.tensorrt,
    )
    engine.warm_up([dummy_batch(shape) for shape in (*single_shapes(tokenizer.max_length), *shapes)])
    return Build(candidate, graphs, variants, backend, engine, variants[role], tokenizer)


def traffic_shapes(material: Material) -> list[Shape]:
    """Return the buckets that development rows fall into in batches of 8 and 32, the commonest first."""
    counts: dict[Shape, int] = {}
    for rows in (8, 32):
        for batch in material.dev.batch.split(rows):
            counts[shape_of(batch)] = counts.get(shape_of(batch), 0) + 1
    return sorted(counts, key=lambda shape: (-counts[shape], shape))[:_MOST_SHAPES]


def config_of(material: Material, build_: Build, shapes: Sequence[Shape]) -> ReleaseConfig:
    """Return the release's `config.json`."""
    encoder = material.base.folder.config
    return ReleaseConfig(
        task=material.task.name,
        settings=material.task.settings(),
        precision=build_.candidate.precision,
        backend=build_.backend,
        max_length=build_.tokenizer.max_length,
        position_offset=encoder.positions.offset,
        segment_stride=encoder.positions.segment_stride,
        family=encoder.family,
        hidden_size=encoder.hidden_size,
        layers=encoder.layers,
        heads=encoder.heads,
        shapes=list(shapes),
    )


def golden_of(material: Material, build_: Build) -> Golden:
    """Return inputs with the engine's outputs, spread over the development rows."""
    inputs = material.dev.split.inputs
    rows = np.unique(np.linspace(0, len(inputs) - 1, _GOLDEN_ROWS).astype(int))
    batch = material.dev.batch.select(rows)
    outputs = build_.engine.run(batch)
    reference = TorchEngine(build_.candidate.model, material.base.positions, "reference").run(batch)
    return Golden(
        inputs=[input_json(inputs[row]) for row in rows],
        ids=[ids.tolist() for ids in np.split(batch.ids, batch.offsets[1:-1])],
        outputs=[[float(value) for value in row] for row in outputs],
        tolerance=golden_tolerance(outputs, reference),
    )


def _check_structure(graph: onnx.ModelProto, model: Any) -> None:
    """Assert the placement: an engine that met another graph would fall back to float without a word."""
    structure, layers = structure_of(graph), model.config.layers
    expected = dict.fromkeys(range(layers), 4)
    if model.reads_one:
        expected[layers - 1] = 5  # Q apart from K and V
    assert structure.int8_matmuls == expected, structure
    assert not structure.asymmetric, structure
