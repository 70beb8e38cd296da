"""A graph whose middle layer is repeated is the graph that tracing every layer gives."""

import numpy as np
import onnx
import onnxruntime
import pytest

from octavo.export import onnx_graph, repeat
from octavo.quantize.placement import linears
from octavo.text.layout import INPUT_NAMES, layout_from_batch

LAYERS = 5


def outputs(graph, layout):
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})[0]


@pytest.fixture
def traced(monkeypatch):
    """Export without what was traced before, and note how many layers were traced."""
    monkeypatch.setattr(onnx_graph, "_traces", {})
    whole, found = onnx_graph._traced_whole, []

    def tracing(form):
        found.append(len(form.encoder.layers))
        return whole(form)

    monkeypatch.setattr(onnx_graph, "_traced_whole", tracing)
    return found


@pytest.mark.parametrize(("head", "scheme"), [("classify", "per-tensor"), ("mean", "per-token"), ("words", None)])
def test_a_repeated_graph_is_the_traced_one(head, scheme, make_model, make_quantized, make_batch, traced, monkeypatch):
    sizes = {"layers": LAYERS}
    model = make_quantized("bert", head, scheme=scheme, **sizes) if scheme else make_model("bert", head, **sizes)
    repeated = onnx_graph.onnx_from_model(model)
    monkeypatch.setattr(onnx_graph, "TRACED", LAYERS)
    onnx_graph._traces.clear()
    whole = onnx_graph.onnx_from_model(model)
    assert traced == [repeat.TRACED, LAYERS]
    assert [node.op_type for node in repeated.graph.node] == [node.op_type for node in whole.graph.node]
    parameters = [{t.name for t in one.graph.initializer if t.name.startswith("enc")} for one in (repeated, whole)]
    assert parameters[1] <= parameters[0]  # equal zero points may be merged, and lie there once more
    assert all(name.endswith("_zero") for name in parameters[0] - parameters[1])
    layout = layout_from_batch(make_batch([3, 9, 17, 1], 0, head), model.config.positions)
    np.testing.assert_array_equal(outputs(repeated, layout), outputs(whole, layout))


def test_names_are_not_used_twice(make_quantized, traced):
    graph = onnx_graph.onnx_from_model(make_quantized("bert", "classify", layers=LAYERS)).graph
    for names in (
        [node.name for node in graph.node],
        [name for node in graph.node for name in node.output],
        [tensor.name for tensor in graph.initializer],
        [info.name for info in graph.value_info],
    ):
        assert len(names) == len(set(names))


def test_layers_that_differ_are_all_traced(make_quantized, make_batch, traced):
    model = make_quantized("bert", "classify", layers=LAYERS)
    linears(model.encoder.layers[2])["ffn1"].smoothing = None
    graph = onnx_graph.onnx_from_model(model)
    assert traced == [LAYERS]
    onnx.checker.check_model(graph)


def test_the_model_is_left_as_it_was(make_model, traced):
    model = make_model("bert", "classify", layers=LAYERS)
    before = list(model.encoder.layers)
    onnx_graph.onnx_from_model(model)
    assert list(model.encoder.layers) == before


def test_what_leaves_the_middle_layer_otherwise_is_refused(make_model, traced):
    graph = onnx_graph.onnx_from_model(make_model("bert", "classify", layers=repeat.TRACED))
    nodes = graph.graph.node
    inside = next(node for node in nodes if "encoder.layers.1.ffn1.parts.0.weight" in node.input).output[0]
    nodes[-1].input[0] = inside
    with pytest.raises(ValueError, match="used beyond it"):
        repeat.with_layers(graph, LAYERS)
