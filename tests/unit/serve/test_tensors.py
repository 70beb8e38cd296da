import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from octavo.serve.refusals import BadRequest
from octavo.serve.tensors import BYTES, FP32, Tensor, check_tensor, raw_from_texts, texts_from_raw


@given(st.lists(st.text()))
def test_texts_come_back_from_their_bytes(texts):
    assert texts_from_raw(raw_from_texts(texts), "text") == texts


@given(st.binary(max_size=40))
def test_bytes_are_texts_or_refused(raw):
    try:
        texts = texts_from_raw(raw, "text")
    except BadRequest:
        return
    assert raw_from_texts(texts) == raw


def test_bytes_are_those_of_the_protocol():
    assert raw_from_texts(["é", ""]) == b"\x02\x00\x00\x00\xc3\xa9\x00\x00\x00\x00"
    assert Tensor("x", (1, 2), np.array([[1.0, -2.0]], np.float32)).raw() == b"\x00\x00\x80?\x00\x00\x00\xc0"


def test_a_tensor_knows_its_datatype():
    assert Tensor("label", (1,), ["a"]).datatype == BYTES
    assert Tensor("score", (1,), np.zeros(1, np.float32)).datatype == FP32


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_lists_of_texts_may_have_a_dimension_of_1_behind(shape):
    check_tensor("text", "BYTES", shape, 2)


@pytest.mark.parametrize(
    ("datatype", "shape", "elements", "part"),
    [
        ("FP32", [2], 2, "datatype FP32"),
        ("BYTES", [], 1, r"shape \[\]"),
        ("BYTES", [2, 2], 4, r"shape \[2, 2\]"),
        ("BYTES", [1, 1, 1], 1, "shape"),
        ("BYTES", [0], 0, r"from 1 on"),
        ("BYTES", [-1], 1, r"from 1 on"),
        ("BYTES", [3], 2, "2 elements came"),
    ],
)
def test_other_tensors_are_refused(datatype, shape, elements, part):
    with pytest.raises(BadRequest, match=part):
        check_tensor("text", datatype, shape, elements)
