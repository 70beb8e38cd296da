"""Reading the canonical graph: all of it, and nothing else."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from octavo.engines.graph import ModelGraph
from octavo.engines.native import available
from octavo.engines.native.engine import NativeEngine
from octavo.engines.native.graph_reader import weights_from_onnx
from octavo.engines.native.graph_walk import UnknownGraphError
from octavo.engines.native.weights import Activation, StatesRead
from octavo.errors import EngineError
from octavo.text.layout import INPUT_NAMES, NO_OFFSET, layout_from_batch

needs_extension = pytest.mark.skipif(not available(), reason="the native extension was not built")


@pytest.fixture(scope="module")
def exported(make_quantized):
    """Return a model and its graph, exported once."""
    from octavo.export.onnx_graph import onnx_from_model

    built = {}

    def export(head="classify", **options):
        key = head, *options.items()
        if key not in built:
            model = make_quantized("bert", head, **options)
            built[key] = model, onnx_from_model(model)
        return built[key]

    return export


@pytest.fixture
def graph(exported):
    """A graph to spoil."""
    return copy.deepcopy(exported()[1])


def read(graph):
    return weights_from_onnx(graph.SerializeToString())


def of_type(graph, op_type, place=0):
    return [node for node in graph.graph.node if node.op_type == op_type][place]


def constant(graph, name):
    return next(tensor for tensor in graph.graph.initializer if tensor.name == name)


def replace_constant(graph, name, values):
    constant(graph, name).CopyFrom(numpy_helper.from_array(np.asarray(values), name))


def test_every_number_is_taken(exported):
    model, graph = exported()
    weights = read(graph)
    layer = weights.layers[0]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, linear in (("qkv", layer.qkv[0]), ("ffn1", layer.ffn1), ("ffn2", layer.ffn2)):
        for part in ("weight", "weight_scale", "bias"):
            assert np.array_equal(getattr(linear, part), stored[f"encoder.layers.0.{name}.parts.0.{part}"])
    assert layer.ffn1.input_scale == pytest.approx(model.encoder.layers[0].ffn1.input_quantizer.scale.item())
    assert np.array_equal(layer.ffn1.input_factor, stored["encoder.layers.0.ffn1.parts.0.input_factor"])
    assert layer.ffn2.input_factor is None
    assert np.array_equal(weights.words, model.encoder.embeddings.words.weight.detach().numpy())
    assert [len(layer.qkv) for layer in weights.layers] == [1, 2]
    assert weights.heads == 4
    assert weights.norm.epsilon == pytest.approx(1e-12)
    assert np.array_equal(weights.output.weight, model.head.output.weight.detach().numpy())


@pytest.mark.parametrize(
    ("head", "options", "expected"),
    [
        ("classify", {}, {"reads": StatesRead.ONE, "activation": Activation.GELU, "normalize": False}),
        ("classify", {"layers": 1, "heads": 1}, {"heads": 1}),
        ("words", {"activation": "gelu_new"}, {"reads": StatesRead.WORDS, "activation": Activation.GELU_TANH}),
        ("mean", {"activation": "relu"}, {"reads": StatesRead.MEAN, "activation": Activation.RELU, "normalize": True}),
        ("last", {"smoothing": 0.0}, {"reads": StatesRead.ONE, "normalize": True, "dense": None, "output": None}),
    ],
)
def test_settings(exported, head, options, expected):
    weights = read(exported(head, **options)[1])
    assert {name: getattr(weights, name) for name in expected} == expected
    assert (weights.layers[0].qkv[0].input_factor is None) == ("smoothing" in options)


def test_float_graphs_are_refused_by_name(make_model):
    from octavo.export.onnx_graph import onnx_from_model

    content = onnx_from_model(make_model(layers=1)).SerializeToString()
    with pytest.raises(EngineError, match=r"layers\.0\.ffn2\.parts\.0\.weight is a float weight.*INT8 alone"):
        NativeEngine(ModelGraph("fp32", {"canonical": content}, NO_OFFSET, 512, None))


def rename_op(op_type, to, place=0):
    def spoil(graph):
        of_type(graph, op_type, place).op_type = to

    return spoil


def set_attribute(op_type, name, value):
    def spoil(graph):
        node = of_type(graph, op_type)
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return spoil


def swap_inputs(op_type, place, first, second):
    def spoil(graph):
        node = of_type(graph, op_type, place)
        node.input[first], node.input[second] = node.input[second], node.input[first]

    return spoil


def set_constant(ending, values):
    def spoil(graph):
        name = next(tensor.name for tensor in graph.graph.initializer if tensor.name.endswith(ending))
        replace_constant(graph, name, values)

    return spoil


def add_node(graph):
    graph.graph.node.append(helper.make_node("Relu", ["layer_norm"], ["unused"], name="extra"))


def residual_of_another_layer(graph):
    node = next(node for node in graph.graph.node if node.op_type == "Add" and node.input[0] == "layer_norm_1")
    node.input[0] = "layer_norm"


def cycle(graph):
    """A layer whose input is its own output."""
    for node in graph.graph.node:
        for place, name in enumerate(node.input):
            if name == "layer_norm":
                node.input[place] = "layer_norm_2"


def swap_query_and_key(graph):
    split = of_type(graph, "Split")
    split.output[0], split.output[1] = split.output[1], split.output[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rename_op("Erf", "Sin"), "comes from Sin"),
        (rename_op("Softmax", "LogSoftmax"), "comes from LogSoftmax"),
        (rename_op("Tanh", "Sigmoid"), "Sigmoid"),
        (set_attribute("Softmax", "axis", 1), "axis = 1, not -1"),
        (set_attribute("LayerNormalization", "axis", 0), "axis = 0, not -1"),
        (set_attribute("Gemm", "alpha", 2.0), "alpha = 2.0"),
        (set_attribute("Transpose", "perm", [0, 1, 2, 3]), "perm"),
        (swap_inputs("MatMul", 2, 0, 1), "not from"),
        (swap_inputs("Gather", 0, 0, 1), "is not the input input_ids"),
        (swap_query_and_key, "is not part 0"),
        (residual_of_another_layer, "layer_norm stands where layer_norm_1 should|where layer_norm should"),
        (cycle, "made of itself"),
        (add_node, "Relu extra is not part of the model"),
        (set_constant("val_81", np.float32(1.5)), "constant val_81 is 1.5, not 1.414"),
        (set_constant("ffn2.parts.0.weight", np.zeros((48, 32), np.float32)), "is float32 of rank 2, not int8"),
        (set_constant("ffn2.parts.0.weight", np.zeros(48, np.int8)), "is int8 of rank 1, not int8 of rank 2"),
        (set_constant("ffn1.parts.0.weight_zero", np.ones(48, np.int8)), "zero point .* is not zero"),
        (set_constant("input_zero", np.int8(1)), "zero point .* is not zero"),
        (set_constant("view_5/shape", np.array([-1, 16])), "shape view_5/shape is"),
        (set_constant("val_29", np.array([16])), "heads of 16"),
        (lambda graph: graph.graph.ClearField("node"), "comes from an input or a constant"),
        (lambda graph: graph.graph.ClearField("output"), r"outputs \[\]"),
        (lambda graph: graph.graph.ClearField("initializer"), "is no constant|not from"),
        (lambda graph: graph.graph.node.append(of_type(graph, "Erf")), "made twice"),
        (lambda graph: graph.ClearField("opset_import"), "operator set is None"),
    ],
)
def test_other_graphs_are_refused(graph, spoil, message):
    before = graph.SerializeToString()
    spoil(graph)
    assert graph.SerializeToString() != before
    with pytest.raises(UnknownGraphError, match=message):
        read(graph)


def test_weights_in_another_file_are_refused(graph, tmp_path):
    tensor = constant(graph, "encoder.embeddings.words.weight")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(UnknownGraphError, match="lies in another file"):
        read(graph)


def test_a_tensor_shorter_than_its_shape_is_refused(graph):
    tensor = constant(graph, "encoder.layers.0.ffn1.parts.0.weight")
    tensor.raw_data = tensor.raw_data[:-1]
    with pytest.raises(UnknownGraphError, match=r"ffn1\.parts\.0\.weight cannot be read"):
        read(graph)


@needs_extension
def test_random_damage_is_an_error_or_no_damage(graph):
    """Whatever is read, is read in bounds; whatever is refused, is refused as an `EngineError`."""
    content = graph.SerializeToString()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        spoilt = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            spoilt[place] = rng.integers(0, 256)
        cut = bytes(spoilt[: rng.integers(1, len(content))] if rng.random() < 0.3 else spoilt)
        try:
            NativeEngine(ModelGraph("int8", {"canonical": cut}, NO_OFFSET, 512, None), threads=1).close()
        except EngineError:
            refused += 1
    assert 0 < refused < 40


@needs_extension
@pytest.mark.parametrize("head", ["classify", "words"])
def test_scales_for_each_token(exported, make_batch, reaction_to_flips, inputs_of, head):
    model, graph = exported(head, scheme="per-token")
    content = graph.SerializeToString()
    assert read(graph).layers[0].ffn1.input_scale is None
    batch = make_batch([3, 1, 17, 40], head=head)
    layout = layout_from_batch(batch)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    expected = session.run(None, {name: getattr(layout, name) for name in INPUT_NAMES})[0]
    engine = NativeEngine(ModelGraph("int8", {"canonical": content}, NO_OFFSET, 512, None), threads=1)
    tolerance = reaction_to_flips(model, inputs_of(batch))
    np.testing.assert_allclose(engine.run(batch), expected, atol=tolerance)


def test_nothing_of_the_graph_is_kept(exported):
    """Arrays are the reader's own or read-only views of bytes that they keep alive; none is a memory map."""

    def arrays(value):
        if is_dataclass(value):
            for field in fields(value):
                yield from arrays(getattr(value, field.name))
        elif isinstance(value, list):
            for one in value:
                yield from arrays(one)
        elif isinstance(value, np.ndarray):
            yield value

    found = list(arrays(read(exported()[1])))
    assert len(found) > 20
    assert all(array.flags.c_contiguous and not isinstance(array, np.memmap) for array in found)
