"""Dividing an ONNX file: nothing is lost, nothing is invented, and damage is an error."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from octavo.engines.native.raw_tensors import without_large_tensors

SIZES = st.lists(st.integers(0, 3000), max_size=6)


def model_with(tensors):
    node = helper.make_node("Relu", ["x"], ["y"], name="a node")
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy"]
    graph = helper.make_graph([node], "graph", value[:1], value[1:], initializer=tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def floats(size, name="w"):
    return numpy_helper.from_array(np.arange(size, dtype=np.float32), name)


def message(number, content):
    """A field of some bytes, fewer than 16,384 of them."""
    length = [len(content)] if len(content) < 0x80 else [len(content) & 0x7F | 0x80, len(content) >> 7]
    return bytes([number << 3 | 2, *length]) + content


def put_back(structure, taken):
    model = onnx.load_model_from_string(structure)
    for tensor, raw in zip(model.graph.initializer, taken, strict=True):
        if raw is not None:
            assert not tensor.HasField("raw_data")
            tensor.raw_data = bytes(raw)
    return model


@given(sizes=SIZES)
def test_what_is_put_back_is_the_model(sizes):
    model = model_with([floats(size, f"w{i}") for i, size in enumerate(sizes)])
    structure, taken = without_large_tensors(model.SerializeToString())
    assert put_back(structure, taken) == model
    assert [raw is not None for raw in taken] == [4 * size >= 4096 for size in sizes]


def test_the_rest_is_small():
    content = model_with([floats(100_000)]).SerializeToString()
    structure, taken = without_large_tensors(content)
    assert (
        len(structure) == len(content) - 400_000 - 4 - 2 * 2
    )  # the tag and the length of it, and what two lengths lose
    assert taken[0].obj is content


def test_numbers_of_other_fields_stay():
    whole = helper.make_tensor("w", TensorProto.FLOAT, [2000], [0.5] * 2000)  # in float_data
    content = model_with([whole]).SerializeToString()
    assert without_large_tensors(content) == (content, [None])


def test_a_tensor_with_numbers_twice_stays():
    """Protobuf takes the last one, also where messages are joined."""
    tensor = floats(2000).SerializeToString() + TensorProto(raw_data=bytes(8000)).SerializeToString()
    content = message(7, message(5, tensor))
    assert without_large_tensors(content) == (content, [None])
    assert onnx.load_model_from_string(content).graph.initializer[0].raw_data == bytes(8000)


def test_graphs_that_are_joined():
    """A file may state its graph in two pieces: initializers go on counting."""
    content = b"".join(model_with([floats(size)]).SerializeToString() for size in (2000, 10, 3000))
    structure, taken = without_large_tensors(content)
    assert put_back(structure, taken) == onnx.load_model_from_string(content)
    assert [raw is None for raw in taken] == [False, True, False]


@pytest.mark.parametrize(
    "content",
    [b"\x3a\x05\x01", b"\x3a", b"\xff" * 11, b"\x3b", b"\x09\x01", b"\x3a\x02\x2a\x04", b"\x3a\xff\xff\xff\xff\x7f"],
)
def test_damage_is_an_error(content):
    with pytest.raises(ValueError, match=r"a (field|number)"):
        without_large_tensors(content)


@given(content=st.binary(max_size=60))
def test_what_the_parser_reads_is_read_alike(content):
    """Whatever bytes: an error, or the same model in small."""
    try:
        structure, taken = without_large_tensors(content)
    except ValueError:
        return
    assert not any(taken)
    assert _parsed(structure) == _parsed(content)


def _parsed(content):
    try:
        return onnx.load_model_from_string(content).SerializeToString(deterministic=True)
    except Exception as error:
        return type(error)
